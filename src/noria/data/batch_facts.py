"""A few numbers about a file and its columns, by which it is compared with the files accepted before."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from noria.kernel.verdict import Reason

if TYPE_CHECKING:
    import polars as pl

HISTORY_MOST = 100  # files beside which one is judged


class BatchColumn(msgspec.Struct, frozen=True, omit_defaults=True):
    """``filled``: rows with a value. Mean and sd: of numbers. ``categories``: distinct texts; ``seen`` counts each by a hash."""

    filled: int
    mean: float | None = None
    sd: float | None = None
    truth: bool = False  # true or false; the mean is the share of true
    categories: int | None = None
    seen: dict[str, int] | None = None  # None where there are too many


class BatchFacts(msgspec.Struct, frozen=True):
    rows: int
    duplicates: int  # rows that repeat another one of the file
    columns: dict[str, BatchColumn] = {}


class PastBatch(msgspec.Struct, frozen=True):
    """An accepted file of the history."""

    facts: BatchFacts
    unusual: bool = False  # whether it was, against the history of then


ReadColumn = Callable[[str], "pl.Series | None"]  # the values of a column of a file, None where it does not have it


class BatchHistory:
    """The accepted files beside one that is judged, and what was measured of it. ``files``: how each is read, by name."""

    def __init__(self, history: Callable[[], Sequence[PastBatch]], files: Callable[[], Mapping[str, ReadColumn]] = dict) -> None:
        self.history = history
        self.files = files
        self.distributions: tuple[Reason, ...] = ()  # what was found of those that the contract bounds
        self.measured: PastBatch | None = None  # once it was judged
        self.found: Reason | None = None
