"""Measurements of a candidate, beside the champion where there is one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from noria.kernel.verdict import GateVerdict, Outcome, Reason
from noria.releases.evidence import Evaluation


class Assessment(msgspec.Struct, frozen=True):
    """How the candidate of a turn was measured and what the gates said of it, whether it was released or not."""

    turn_id: str
    project: str
    run_id: str
    environment: str  # whose champion it was compared with
    evaluation: Evaluation
    outcome: Outcome | None = None  # of all gates; None where the turn was interrupted before them
    reasons: tuple[Reason, ...] = ()
    gates: tuple[GateVerdict, ...] = ()  # each gate, in the project's order
    at: float = 0.0  # wall clock

    def facts(self) -> dict[str, Any]:
        """``evaluation`` and ``gate`` as documents hold them; what could not be measured is null."""
        names = ("outcome", "reasons", "environment", "gates")
        judged = {name: getattr(self, name) for name in names} if self.outcome is not None else None
        found: dict[str, Any] = msgspec.json.decode(msgspec.json.encode({"evaluation": self.evaluation, "gate": judged}))
        return found


def sort_gated_first(metrics: Iterable[str], gated: Sequence[str]) -> list[str]:
    """The names in the order in which people read them: those that gates ask for, in the gates' order, then the others as they
    come. ``validation.roc_auc`` stands where ``roc_auc`` does."""
    places = {name: place for place, name in enumerate(dict.fromkeys(gated))}

    def place(name: str) -> tuple[int, bool]:
        bare = name.removeprefix("validation.")
        return places.get(bare, len(places)), bare != name

    return sorted(metrics, key=place)
