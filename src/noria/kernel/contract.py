"""What a dataset promises; written in contracts/NAME.yaml, judged file by file as data arrives."""

from __future__ import annotations

import msgspec


class ColumnRule(msgspec.Struct, frozen=True):
    name: str
    type: str | None = None  # int, float, string, bool, datetime, date
    nulls: float = 1.0  # largest share of nulls, 0 to 1; `never` is 0
    low: float | None = None  # smallest and largest value, inclusive
    high: float | None = None
    values: tuple[str, ...] | None = None  # the allowed set, as text
    required: bool = True
    format: str | None = None  # how dates and times of a text file are written: %m/%d/%Y


class RowRule(msgspec.Struct, frozen=True):
    """A Polars SQL expression over the file's columns that must hold; null counts as holding."""

    name: str
    expr: str
    at_most: float = 0.0  # tolerated share of failing rows


class Contract(msgspec.Struct, frozen=True):
    columns: tuple[ColumnRule, ...] = ()
    unique: tuple[str, ...] = ()  # columns that together identify a row
    rows_min: int = 1
    rows_max: int | None = None
    fresh_column: str | None = None  # the newest value must lie within `fresh_within_s` of the project clock
    fresh_within_s: float | None = None
    extra_columns: str = "allow"  # or "forbid"
    rules: tuple[RowRule, ...] = ()
    source: str = ""  # the file it was read from
    digest: str = ""
