"""A summary of a table: the reference for drift."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ColumnProfile:
    """Counts over fixed bins (numbers: inner edges at training quantiles) or values (text).

    ``counts`` has len(edges) + 1 entries for numbers, len(values) + 1 for text (the last is 'other');
    nulls are counted apart.
    """

    name: str
    rows: int
    nulls: int
    edges: tuple[float, ...] = ()
    values: tuple[str, ...] = ()
    counts: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Profile:
    rows: int
    columns: dict[str, ColumnProfile] = field(default_factory=dict)
