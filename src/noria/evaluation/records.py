"""Measurements of a candidate, beside the champion where there is one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from noria.kernel.verdict import GateVerdict, Outcome, Reason
from noria.kernel.words import number, plural
from noria.releases.evidence import Evaluation


class HoldoutRows(msgspec.Struct, frozen=True):
    """The rows that a candidate was measured on, and which candidate."""

    candidate: str  # digest of the model, its signature, and the code that it runs
    rows: int
    smallest: tuple[int, ...]  # of the rows' hashes: `stats.row_sketch`
    keyed: bool = False  # whether the hashes are keyed; those of earlier versions are salted by the project's name alone
    unkeyed: tuple[int, ...] = ()  # the smallest hashes as earlier versions made them, to be compared with theirs; never stored

    def beside(self, look: HoldoutRows) -> tuple[int, ...]:
        """The smallest hashes that can be compared with those of ``look``."""
        return self.smallest if look.keyed == self.keyed else self.unkeyed


class HoldoutBudget(msgspec.Struct, frozen=True):
    """How much of its holdout a project has used up. An earlier look counts by the share of today's rows that it saw."""

    looks: float  # this one included: 1 on rows that no verdict saw before
    budget: int | None  # `model.holdout.budget`; None: looks are counted, and nothing is asked
    rows: int
    fresh_rows: int  # that no earlier verdict saw
    repeated: bool = False  # the same candidate on the same rows as before: no new look

    @property
    def spent(self) -> bool:
        """Whether this look is one more than the budget has."""
        return self.budget is not None and self.looks > self.budget + 1e-9

    @property
    def left(self) -> float | None:
        """How many looks are left after this one; None where no budget is set."""
        return None if self.budget is None else max(0.0, self.budget - self.looks)

    @property
    def words(self) -> str:
        """``look 3 of 20 at these 1,000 held-out rows, of which 120 are fresh``."""
        of = f" of {self.budget}" if self.budget is not None else ""
        fresh = "all of them" if self.fresh_rows == self.rows else f"of which {self.fresh_rows:,} are"
        again = ", the same candidate as before" if self.repeated else ""
        return f"look {number(round(self.looks, 1))}{of} at these {plural(self.rows, 'held-out row')}, {fresh} fresh{again}"


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
    holdout: HoldoutBudget | None = None  # None: judged before looks were counted

    def facts(self) -> dict[str, Any]:
        """``evaluation`` and ``gate`` as documents hold them; what could not be measured is null."""
        names = ("outcome", "reasons", "environment", "gates", "holdout")
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
