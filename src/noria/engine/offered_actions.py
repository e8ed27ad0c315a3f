"""What a person may do about a rollout now, of the table of actions: console, command line and control API offer the same.

Offered is what would be taken at this moment; what would be refused (an approval that nothing waits for, a promotion in a freeze)
is not.
"""

from __future__ import annotations

from typing import Any

import msgspec

from noria.delivery.judge_freeze import find_freeze
from noria.delivery.rollout_record import ASKS_APPROVAL, ASKS_DECISION, FROZEN, Rollout, RolloutState
from noria.engine.action_table import ACTIONS
from noria.views.status import RolloutView, StatusView, canary_facts, ended_facts


class OfferedAction(msgspec.Struct, frozen=True):
    verb: str  # POST /api/VERB
    what: str  # it is for
    command: str  # for who copies


def offered_actions(view: RolloutView) -> tuple[OfferedAction, ...]:
    """Returns the actions on offer, the most advisable first."""
    rollout = view.rollout
    asked = rollout.look.code if rollout.look is not None else ""
    end = _offer("abort", f"end it and bar {rollout.release}", rollout)
    if rollout.state is RolloutState.PROBATION:
        return (_offer("rollback", f"return to {rollout.before} at once", rollout),)
    if rollout.state is RolloutState.HELD:
        frozen = find_freeze(view.freezes, view.now) is not None
        stays = frozen or (rollout.resumes is RolloutState.WAITING and asked in (ASKS_APPROVAL, ASKS_DECISION, FROZEN))
        promote = () if stays else (_offer("promote", "promote it to all traffic", rollout),)
        return (_offer("resume", "resume it", rollout), *promote, end)
    approve = (_offer("approve", "approve it", rollout),) if asked == ASKS_APPROVAL else ()
    accept = (_offer("accept", "accept what is left open", rollout),) if asked == ASKS_DECISION else ()
    return (*approve, *accept, _offer("hold", "hold it at this step", rollout), end)


def rollout_facts(view: RolloutView) -> dict[str, Any]:
    """The facts of `views.status`, and ``actions``, each with ``verb``, ``what`` and ``command``."""
    return canary_facts(view) | {"actions": msgspec.to_builtins(offered_actions(view))}


def rollouts_document(view: StatusView) -> dict[str, Any]:
    """For GET /api/rollouts: ``environments`` with something under way, each with ``canary`` and ``probation`` or null; and
    ``ended``, newest first."""
    under_way = {
        e.name: {
            "canary": rollout_facts(e.canary) if e.canary else None,
            "probation": rollout_facts(e.probation) if e.probation else None,
        }
        for e in view.environments
        if e.canary or e.probation
    }
    return {"environments": under_way, "ended": [ended_facts(rollout) for rollout in view.ended]}


def _offer(verb: str, what: str, rollout: Rollout) -> OfferedAction:
    said = {"release": rollout.release, "environment": rollout.environment}
    if any(field.name == "why" and field.required for field in ACTIONS[verb].fields):
        said["why"] = "REASON"
    return OfferedAction(verb, what, ACTIONS[verb].command_line(**said))
