"""Judges whether a breach calls for a new turn, and whether it may start now."""

from __future__ import annotations

import msgspec

from noria.kernel.policy import RetrainPolicy
from noria.kernel.trigger import TriggerKind
from noria.monitor import judge_rate_limit


class Breach(msgspec.Struct, frozen=True):
    """A measure that left its bounds."""

    kind: str  # quality, drift
    release: str  # v12
    text: str  # one sentence


class RetrainDecision(msgspec.Struct, frozen=True):
    """``kind`` is None when nothing shall start; ``wait_until`` (project clock) when it may later."""

    kind: TriggerKind | None
    reason: str
    wait_until: float | None = None


def decide(policy: RetrainPolicy, breaches: tuple[Breach, ...], recent_starts: tuple[float, ...], now: float) -> RetrainDecision:
    """Whether the breaches start a turn. ``recent_starts`` and ``now``: project clock, seconds."""
    if not breaches:
        return RetrainDecision(None, "no breach: no new turn is needed")
    heard = [b for b in breaches if b.kind in policy.on]
    if not heard:
        kinds = ", ".join(sorted({b.kind for b in breaches}))
        return RetrainDecision(
            None, f"{_breach_text(breaches)}; no new turn: retrain.on is {', '.join(policy.on) or 'empty'}, without {kinds}"
        )
    wait = judge_rate_limit.wait_for(policy, {TriggerKind.BREACH}, recent_starts, now)
    if wait is not None:
        return RetrainDecision(None, f"{_breach_text(heard)}; no new turn yet: {wait.text}", now + wait.numbers["free_s"])
    return RetrainDecision(TriggerKind.BREACH, _breach_text(heard))


def _breach_text(breaches: list[Breach] | tuple[Breach, ...]) -> str:
    """Each breach once, in the order they came."""
    return "; ".join(dict.fromkeys(f"{b.release}: {b.text}" for b in breaches))
