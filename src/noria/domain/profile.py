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
class Wander:
    """How far the windows of one length lay from the whole of the table that they are parts of, by column: the stability index
    less what chance gives, ``mean`` over all windows and of the farthest one (``most``)."""

    every_s: float
    windows: int
    mean: dict[str, float] = field(default_factory=dict)
    most: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Profile:
    """``wander``: of tables whose rows have a time, for several lengths of windows, the shortest first."""

    rows: int
    columns: dict[str, ColumnProfile] = field(default_factory=dict)
    wander: tuple[Wander, ...] = ()
