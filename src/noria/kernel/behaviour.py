"""What a project says of its model's behaviour, and what came of each such statement for one candidate."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

from noria.kernel.words import number, percent, plural


class BehaviourKind(StrEnum):
    IGNORES = "ignores"  # another value of an input changes no prediction
    RISES_WITH = "rises_with"  # a greater value of an input lowers no prediction
    FALLS_WITH = "falls_with"  # a greater value of an input raises no prediction
    GIVEN = "given"  # rows of noria.yaml are answered as it says
    CALL = "call"  # a function of the project says of each row whether it holds


class Behaviour(msgspec.Struct, frozen=True):
    """One statement of `checks.behaviours`."""

    name: str
    kind: BehaviourKind
    subject: str = ""  # the input, or module:function
    by: float = 0.0  # a prediction may move by so much
    allow: float = 0.0  # the share of rows that may fail
    rows: tuple[dict[str, Any], ...] = ()  # of GIVEN
    expect: str | None = None  # the class of each of them ...
    between: tuple[float, float] | None = None  # ... or the range of its prediction

    @property
    def words(self) -> str:
        """``another sex changes no prediction by more than 0.01``."""
        more = f" by more than {number(self.by)}" if self.by else ""
        if self.kind is BehaviourKind.CALL:
            return f"{self.subject} holds"
        if self.kind is BehaviourKind.GIVEN:
            due = f"called {self.expect}" if self.between is None else " to ".join(number(one) for one in self.between)
            return f"given rows are {due}"
        if self.kind is BehaviourKind.IGNORES:
            return f"another {self.subject} changes no prediction{more}"
        verb = "lowers" if self.kind is BehaviourKind.RISES_WITH else "raises"
        return f"more {self.subject} {verb} no prediction{more}"


class BehaviourResult(msgspec.Struct, frozen=True):
    """How often a candidate behaved otherwise. ``examples`` name rows by their place, and hold no value of a held-out row."""

    name: str
    words: str
    rows: int  # that were looked at
    failing: int
    allow: float
    examples: tuple[str, ...] = ()
    problem: str = ""  # why it could not be run; empty where it was
    few: str = ""  # why there is nothing to look at

    @property
    def sentence(self) -> str:
        """What came of it, with its numbers."""
        if self.problem:
            return f"could not be run: {self.problem}"
        if self.few:
            return f"could not be judged: {self.few}"
        share = f" ({percent(self.failing / self.rows)})" if self.failing else ""
        allowed = f"; {percent(self.allow)} may" if self.allow else ""
        return f"{self.failing:,} of {plural(self.rows, 'row')}{share} behave otherwise{allowed}"
