"""A summary of a table: the reference for drift."""

from __future__ import annotations

import msgspec


class ColumnProfile(msgspec.Struct, frozen=True):
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


class Wander(msgspec.Struct, frozen=True):
    """How far the windows of one length lay from the whole of the table that they are parts of, by column: the stability index
    less what chance gives, ``mean`` over all windows and of the farthest one (``most``)."""

    every_s: float
    windows: int
    mean: dict[str, float] = {}
    most: dict[str, float] = {}


class Profile(msgspec.Struct, frozen=True):
    """``wander``: of tables whose rows have a time, for several lengths of windows, the shortest first."""

    rows: int
    columns: dict[str, ColumnProfile] = {}
    wander: tuple[Wander, ...] = ()
