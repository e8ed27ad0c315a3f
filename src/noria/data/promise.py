"""One promise of a contract as a judge works with it: what is counted of a table, and what follows from the counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any

import msgspec
import polars as pl

from noria.kernel.contract import Severity
from noria.kernel.verdict import Outcome, Reason

Counts = Mapping[str, Any]


class BrokenPromise(msgspec.Struct, frozen=True):
    """What a judge found; ``rows`` marks the rows that break the promise, and ``words`` says of such a row why."""

    reason: Reason
    rows: pl.Expr | None = None
    words: str = ""
    severity: Severity = Severity.QUARANTINE


class ContractBreach(msgspec.Struct, frozen=True):
    """A broken promise that refuses a file, with the rows that are to blame, true for each; None where no row is."""

    reason: Reason
    rows: pl.Series | None = None
    words: str = ""
    count: int | None = None  # of those rows, where only this is known

    @property
    def row_count(self) -> int | None:
        return self.count if self.rows is None else int(self.rows.sum())


Conclude = Callable[[Counts, int], BrokenPromise | None]


class Merge(StrEnum):
    """How the counts of a table follow from those of its parts."""

    SUM = "sum"
    LARGEST = "largest"


class Promise(msgspec.Struct, frozen=True):
    """``counts``: aggregates that are asked of the table; ``conclude`` makes of them, and of the number of rows, the breach or
    None. A table without rows breaks nothing here: the row count says enough.

    ``distinct``: values of which is asked how many differ. ``merge``: how its counts follow from those of parts of the table,
    judged one after the other; None where they do not: such a promise asks for the table as a whole.
    """

    conclude: Conclude
    counts: Mapping[str, pl.Expr] = {}
    severity: Severity = Severity.QUARANTINE
    distinct: Mapping[str, pl.Expr] = {}
    merge: Merge | None = None


def breach(code: str, text: str, rows: pl.Expr | None = None, words: str = "", **numbers: float) -> BrokenPromise:
    counts = {name: float(number) for name, number in numbers.items()}
    return BrokenPromise(Reason(f"contract.{code}", text, Outcome.FAIL, counts), rows, words or text)


def broken(found: BrokenPromise, severity: Severity = Severity.QUARANTINE) -> Promise:
    """A promise that the table's columns alone break."""
    return Promise(lambda _, rows: found if rows else None, severity=severity)


def some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def is_text(dtype: pl.DataType) -> bool:
    return dtype in (pl.String, pl.Categorical, pl.Enum)
