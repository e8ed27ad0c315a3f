"""Judges whether a turn that no person asked for may start now."""

from __future__ import annotations

from collections.abc import Collection

from noria.kernel.policy import RetrainPolicy
from noria.kernel.trigger import Trigger, TriggerKind
from noria.kernel.verdict import Reason
from noria.kernel.words import duration, lasting, plural

BY_HAND = frozenset({TriggerKind.MANUAL, TriggerKind.WEBHOOK})
AGAIN = "again"  # in a trigger's detail: how often in a row the disk was full
FIRST_REST_S = 60.0  # before a turn that met a full disk is tried again; twice as long after each further one
LONGEST_REST_S = 1800.0


def rest_s(pending: Collection[Trigger], now: float) -> float:
    """Seconds (wall time) until turns are tried again that met a full disk; 0 when anything else asks for one."""
    rests = []
    for trigger in pending:
        times = int(trigger.detail.get(AGAIN, "0"))
        if times == 0:
            return 0.0
        rests.append(trigger.at + min(LONGEST_REST_S, FIRST_REST_S * 2 ** min(times - 1, 10)) - now)
    return max(0.0, max(rests, default=0.0))


def wait_for(policy: RetrainPolicy, kinds: Collection[TriggerKind], starts: Collection[float], now: float) -> Reason | None:
    """Why the pending triggers must wait, or None when a turn may start.

    ``starts`` are the times (project clock, seconds) at which earlier turns started. `at_most` bounds the turns that
    start by themselves; a person is never made to wait.
    """
    if policy.at_most_count is None or policy.at_most_period_s is None or BY_HAND & set(kinds):
        return None
    recent = sorted(s for s in starts if now - policy.at_most_period_s < s <= now)
    if len(recent) < policy.at_most_count:
        return None
    free_s = recent[-policy.at_most_count] + policy.at_most_period_s - now
    text = (
        f"{plural(len(recent), 'turn')} started within {lasting(policy.at_most_period_s)}, and retrain.at_most allows "
        f"{policy.at_most_count}: the next may start in {duration(free_s)}"
    )
    return Reason("retrain.at_most", text, numbers={"free_s": free_s, "recent": len(recent)})
