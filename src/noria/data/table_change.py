"""What lies between two tables: one record for each difference of their content."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class ChangeKind(StrEnum):
    """What differs. The order is that of changes with the same effect."""

    DROPPED = "dropped"  # a column that only the first table has
    ADDED = "added"  # a column that only the second table has
    RETYPED = "retyped"  # a column of another type
    REORDERED = "reordered"  # the same columns stand in another order
    VOLUME = "volume"  # the number of rows
    NULLS = "nulls"  # the share of empty cells; NaN is one
    CATEGORIES = "categories"  # how often each value occurs
    NUMBERS = "numbers"  # the distribution of numbers
    TIMES = "times"  # the distribution of dates or times
    LENGTHS = "lengths"  # of texts that mostly differ from row to row: how long they are


class TableChange(msgspec.Struct, frozen=True):
    """One difference. ``effect`` is 0 for none and 1 for nothing in common; what ``measure`` finds is in ``numbers``."""

    column: str  # empty: of the whole table
    kind: ChangeKind
    measure: str
    effect: float  # the distance, less what chance alone gives on average
    before: str
    after: str
    text: str
    beyond_chance: bool = True
    p_value: float | None = None  # None for what no chance can do, such as a column that is gone
    numbers: dict[str, float] = {}
    came: tuple[str, ...] = ()  # values that only the second table has, the most frequent first
    went: tuple[str, ...] = ()  # values that only the first table has


class TableDifference(msgspec.Struct, frozen=True):
    """All differences, the largest effect first. ``not_compared``: columns whose values were not, and why."""

    rows_before: int
    rows_after: int
    changes: tuple[TableChange, ...]
    equal: tuple[str, ...] = ()  # columns without any difference
    not_compared: dict[str, str] = {}
