"""What a person may do about a rollout now. The page only reads, so each is a command to copy."""

from __future__ import annotations

import msgspec

from noria.delivery.rollout_record import ASKS_APPROVAL, Rollout, RolloutState
from noria.engine.action_table import ACTIONS


class Way(msgspec.Struct, frozen=True):
    what: str
    command: str


def ways(rollout: Rollout) -> tuple[Way, ...]:
    """In the order in which a person should think of them."""
    end = _way(f"end it and bar {rollout.release}", "abort", rollout)
    if rollout.state is RolloutState.PROBATION:
        return (_way(f"put {rollout.before} back at once", "rollback", rollout),)
    if rollout.state is RolloutState.HELD:
        return (_way("go on from here", "resume", rollout), _way("let it serve all", "promote", rollout), end)
    asks = rollout.state is RolloutState.WAITING or (rollout.look is not None and rollout.look.code == ASKS_APPROVAL)
    approve = (_way("approve of it", "approve", rollout),) if asks else ()
    return (*approve, _way("keep it where it is", "hold", rollout), end)


def _way(what: str, verb: str, rollout: Rollout) -> Way:
    return Way(what, ACTIONS[verb].command_line(release=rollout.release, environment=rollout.environment))
