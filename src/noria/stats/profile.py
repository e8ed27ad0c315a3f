"""Summaries of tables, and how far two of them lie apart: the population stability index.

Sources: the index, Siddiqi, Credit Risk Scorecards (Wiley 2006). Its sampling, Yurdakul, Statistical Properties of
Population Stability Index (Western Michigan University 2018): between two samples of n and m rows from one source, over k
categories, the index is distributed as (1/n + 1/m) times a chi-square with k - 1 degrees of freedom. Its mean is subtracted
here, so that small samples do not look like drift.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from noria.domain.profile import ColumnProfile, Profile

BINS = 10  # at most, for numbers: between deciles
VALUES = 20  # most frequent values kept, for text and booleans
SMOOTHING = 0.5  # added to each category's count (Jeffreys), so that an empty one has a logarithm


def build(table: pl.DataFrame, columns: Sequence[str]) -> Profile:
    """The profile of ``columns``: bins at the table's own deciles, or its most frequent values. NaN counts as null."""
    return Profile(table.height, {name: _build(table[name]) for name in columns})


def summarise(table: pl.DataFrame, reference: Profile) -> Profile:
    """The profile of a table over the bins and values of ``reference``; columns that the table lacks are left out."""
    known = [column for column in reference.columns.values() if column.name in table.columns]
    return Profile(table.height, {column.name: _count(table[column.name], column) for column in known})


def distances(reference: Profile, current: Profile) -> dict[str, float]:
    """Population stability index per column that both have, less its mean under no change, not below 0."""
    shared = [name for name in reference.columns if name in current.columns]
    return {name: _distance(reference.columns[name], current.columns[name]) for name in shared}


def _build(column: pl.Series) -> ColumnProfile:
    if _is_number(column.dtype):
        return _count(column, ColumnProfile(column.name, 0, 0, edges=_edges(_numbers(column).drop_nulls().to_numpy())))
    # Ties go by value, so that the same table always gives the same profile.
    frequent = sorted(_occurrences(_texts(column)), key=lambda found: (-found[1], found[0]))
    return _count(column, ColumnProfile(column.name, 0, 0, values=tuple(value for value, _ in frequent[:VALUES])))


def _occurrences(texts: pl.Series) -> list[tuple[str, int]]:
    """Each value with how often it occurs; nulls are left out."""
    return texts.drop_nulls().alias("value").value_counts(name="n").rows()


def _is_number(dtype: pl.DataType) -> bool:
    return dtype.is_numeric() or dtype.is_temporal()


def _numbers(column: pl.Series) -> pl.Series:
    """Float64, NaN as null; text that is no number becomes null."""
    whole = column.to_physical() if column.dtype.is_temporal() else column
    return whole.cast(pl.Float64, strict=False).fill_nan(None)


def _texts(column: pl.Series) -> pl.Series:
    return column.cast(pl.String, strict=False)


def _edges(values: NDArray[np.float64]) -> tuple[float, ...]:
    """Inner edges; a bin holds what is above the edge before it and not above its own. Infinities make no edges: JSON, in
    which a profile is kept, has none."""
    values = values[np.isfinite(values)]
    if len(values) == 0:
        return ()
    inner = np.unique(np.quantile(values, np.arange(1, BINS) / BINS, method="lower"))
    edges = tuple(float(e) for e in inner if e < values.max())
    if not edges:  # one value takes all: a bin of its own, so that a shift to either side is seen
        top = float(values.max())
        return (math.nextafter(top, -math.inf), top)
    return edges


def _count(column: pl.Series, like: ColumnProfile) -> ColumnProfile:
    if like.edges:
        known = _numbers(column)
        bins = np.searchsorted(np.array(like.edges), known.drop_nulls().to_numpy(), side="left")
        counts = np.bincount(bins, minlength=len(like.edges) + 1)
    else:
        known = _texts(column)
        index = {value: i for i, value in enumerate(like.values)}
        counts = np.zeros(len(like.values) + 1, dtype=np.int64)
        for value, number in _occurrences(known):
            counts[index.get(value, len(like.values))] += number
    return ColumnProfile(like.name, len(column), known.null_count(), like.edges, like.values, tuple(int(c) for c in counts))


def _distance(reference: ColumnProfile, current: ColumnProfile) -> float:
    before = np.array([*reference.counts, reference.nulls], dtype=np.float64)
    after = np.array([*current.counts, current.nulls], dtype=np.float64)
    if len(before) != len(after):
        raise ValueError(f"the profiles of {reference.name} have different bins: summarise the table over the reference's")
    if before.sum() == 0 or after.sum() == 0:
        return 0.0
    seen = (before > 0) | (after > 0)
    p, q = _shares(before[seen]), _shares(after[seen])
    index = float(((q - p) * np.log(q / p)).sum())
    chance = float((seen.sum() - 1) * (1 / before.sum() + 1 / after.sum()))
    return max(0.0, index - chance)


def _shares(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    smooth = counts + SMOOTHING
    result: NDArray[np.float64] = smooth / smooth.sum()
    return result
