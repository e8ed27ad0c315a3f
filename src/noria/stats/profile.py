"""Summaries of tables, and how far two of them lie apart: the population stability index.

Sources: the index, Siddiqi, Credit Risk Scorecards (Wiley 2006). Its sampling, Yurdakul, Statistical Properties of
Population Stability Index (Western Michigan University 2018): between two samples of n and m rows from one source, over k
categories, the index is distributed as (1/n + 1/m) times a chi-square with k - 1 degrees of freedom. Its mean is subtracted
here, so that small samples do not look like drift.

For small samples the tail is longer than that: ``chance`` plays the window out. The shares of bins that were cut at the
reference's own quantiles have a Dirichlet distribution (the spacings of order statistics: David and Nagaraja, Order Statistics
2003, section 6.4), and so have, for a person who saw the reference, the shares of categories (Jeffreys' prior); the counts of a
window are then Dirichlet-multinomial.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import polars as pl
from msgspec.structs import replace
from numpy.typing import NDArray

from noria.stats.profile_records import ColumnProfile, Profile, Wander

BINS = 10  # at most, for numbers: between deciles
VALUES = 20  # most frequent values kept, for text and booleans
FEWEST = 5  # rows of the reference that a bin takes: with fewer its share is not known ...
FEWEST_OF_VALUE = 10  # ... and that a value takes: the most frequent ones of a small sample are so by luck
DRAWS = 4000  # windows that are played out for the distribution of chance
DAY_S = 86_400.0
LENGTHS_S = (3600.0, 6 * 3600.0, DAY_S, 7 * DAY_S, 28 * DAY_S)  # of windows whose wandering is measured
WINDOWS_MIN, WINDOWS_MOST = 8, 400  # windows of one length that are measured
WINDOW_ROWS = 50  # windows with fewer rows are passed over
SIGNIFICANT = 3.0  # standard errors that a wandering must have, or it is chance
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


def missing(reference: Profile, current: Profile) -> dict[str, float]:
    """The same of nothing but whether a value is there, beyond what chance gives a window in a thousand."""
    found = {}
    for name, after in current.columns.items():
        before = reference.columns.get(name)
        if before is not None and before.rows and after.rows:
            counts = [np.array([c.rows - c.nulls, c.nulls], dtype=np.float64) for c in (before, after)]
            index, expected = _indexes(counts[0], counts[1][None, :])
            found[name] = max(0.0, float(index[0]) - 10 * float(expected[0]))
    return found


def add_profiles(one: Profile, other: Profile) -> Profile:
    """The profile of both tables together; both were summarised over the same reference, by all or some of its columns."""
    columns = dict(one.columns)
    for name, more in other.columns.items():
        columns[name] = _add_columns(columns[name], more) if name in columns else more
    return Profile(one.rows + other.rows, columns)


def _add_columns(one: ColumnProfile, other: ColumnProfile) -> ColumnProfile:
    counts = tuple(a + b for a, b in zip(one.counts, other.counts, strict=True))
    return replace(one, rows=one.rows + other.rows, nulls=one.nulls + other.nulls, counts=counts)


def chance(reference: ColumnProfile, rows: int, tail: float) -> float:
    """What the distance of a window of so many rows exceeds by chance with probability ``tail``, when nothing has changed.

    The tail is that of a multiple of a chi-square with the mean and the variance of windows played out (Satterthwaite 1946).
    """
    from scipy.special import chdtri  # heavy: kept out of start-up

    before = _join_bins(reference, _count_vector(reference))
    if rows == 0 or before.sum() == 0:
        return 0.0
    rng = np.random.default_rng(DRAWS)
    shares = rng.dirichlet(before + SMOOTHING, DRAWS)
    index, expected = _indexes(before, rng.multinomial(rows, shares).astype(np.float64))
    mean, variance = float(index.mean()), float(index.var())
    if mean <= 0 or variance <= 0:
        return 0.0
    fitted = variance / (2 * mean) * float(chdtri(2 * mean**2 / variance, tail)) - float(expected.mean())
    played = float(np.quantile(index - expected, 1 - max(tail, 10 / DRAWS)))
    return max(0.0, played, fitted)


def wander(table: pl.DataFrame, times_s: NDArray[np.float64], profile: Profile) -> tuple[Wander, ...]:
    """How far windows of the table that ``profile`` is of lie from the whole, for each length of which it has enough.

    A column that follows the calendar, such as the weekday, differs from window to window as much as it can; one that follows the
    weather differs a little. What a column does in its own training is no drift.
    """
    codes = {name: _codes(table[name], column) for name, column in profile.columns.items()}
    found = []
    for length_s in LENGTHS_S:
        number = np.floor(times_s / length_s).astype(np.int64)
        windows, place, rows = np.unique(number, return_inverse=True, return_counts=True)
        kept = np.flatnonzero(rows >= WINDOW_ROWS)
        if len(kept) < WINDOWS_MIN:
            continue
        kept = kept[np.linspace(0, len(kept) - 1, min(len(kept), WINDOWS_MOST)).astype(int)]
        made = Wander(length_s, len(kept))
        for name, column in profile.columns.items():
            size = len(column.counts) + 1
            counts = np.bincount(place * size + codes[name], minlength=len(windows) * size).reshape(-1, size)[kept]
            mean, most = _wandering(column, counts, rows[kept])
            if mean > 0:
                made.mean[name], made.most[name] = mean, most
        found.append(made)
    return tuple(found)


def _wandering(column: ColumnProfile, counts: NDArray[np.int64], rows: NDArray[np.int64]) -> tuple[float, float]:
    """Mean and maximum of the index of windows that are parts of the reference, less what chance gives; 0 where it is chance."""
    before = _join_bins(column, _count_vector(column))
    after = np.stack([_join_bins(column, row.astype(np.float64)) for row in counts])
    index, _ = _indexes(before, after)
    freedom = max(1, int((before > 0).sum()) - 1)
    spread = np.clip(1 / rows - 1 / before.sum(), 0, None)  # a part of the whole differs less from it than a stranger
    apart = index - freedom * spread
    others = (len(rows) / (len(rows) - 1)) ** 2  # the whole holds the window too: from the others it lies further
    mean, noise = float(apart.mean()), math.sqrt(2 * freedom / len(rows)) * float(spread.mean())
    return (mean * others, float(apart.max()) * others) if mean > SIGNIFICANT * noise else (0.0, 0.0)


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
        below = math.nextafter(top, -math.inf)
        return (below, top) if math.isfinite(below) else (top,)
    return edges


def _count(column: pl.Series, like: ColumnProfile) -> ColumnProfile:
    counts = np.bincount(_codes(column, like), minlength=_categories(like) + 1)
    return ColumnProfile(like.name, len(column), int(counts[-1]), like.edges, like.values, tuple(int(c) for c in counts[:-1]))


def _categories(like: ColumnProfile) -> int:
    return len(like.edges or like.values) + 1


def _codes(column: pl.Series, like: ColumnProfile) -> NDArray[np.int64]:
    """The category of each row; that behind the last one is null."""
    found = np.full(len(column), _categories(like), dtype=np.int64)
    known = _numbers(column) if like.edges else _texts(column)
    there = known.is_not_null().to_numpy()
    if like.edges:
        found[there] = np.searchsorted(np.array(like.edges), known.drop_nulls().to_numpy(), side="left")
    elif there.any():
        places = {value: i for i, value in enumerate(like.values)}
        values = known.drop_nulls()
        found[there] = values.replace_strict(places, default=len(like.values), return_dtype=pl.Int64).to_numpy()
    return found


def _count_vector(column: ColumnProfile) -> NDArray[np.float64]:
    return np.array([*column.counts, column.nulls], dtype=np.float64)


def _places(reference: ColumnProfile) -> NDArray[np.int64]:
    """Which categories are compared as one: the group of each.

    What has too few rows in the reference joins its neighbour (bins of numbers) or the rest (values). What the reference has
    nothing of stays by itself: that something comes there is news.
    """
    own = _count_vector(reference)
    place = np.arange(len(own))
    rest = len(own) - 2  # the highest bin, or all other values; nulls stand behind it
    for i in range(rest):
        if 0 < own[place == place[i]].sum() < (FEWEST if reference.edges else FEWEST_OF_VALUE):
            if reference.edges:
                place[place == place[i]] = i + 1
            else:
                place[i] = rest
    if reference.edges and 0 < own[place == rest].sum() < FEWEST and rest:
        below = place[np.flatnonzero(place < rest)[-1]] if (place < rest).any() else rest
        place[place == rest] = below
    return place


def _join_bins(reference: ColumnProfile, counts: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.bincount(_places(reference), weights=counts, minlength=len(counts)), dtype=np.float64)


def _distance(reference: ColumnProfile, current: ColumnProfile) -> float:
    if len(reference.counts) != len(current.counts):
        raise ValueError(f"the profiles of {reference.name} have different bins: summarise the table over the reference's")
    before, after = (_join_bins(reference, _count_vector(column)) for column in (reference, current))
    if before.sum() == 0 or after.sum() == 0:
        return 0.0
    index, expected = _indexes(before, after[None, :])
    return max(0.0, float(index[0] - expected[0]))


def _indexes(before: NDArray[np.float64], after: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The index of each row of ``after`` [n, k] against ``before`` [k], and its mean under no change, [n] each. A category that
    neither has anything of is none."""
    seen = (before > 0) | (after > 0)
    p, q = np.where(seen, before + SMOOTHING, 0.0), np.where(seen, after + SMOOTHING, 0.0)
    p, q = p / p.sum(axis=-1, keepdims=True), q / q.sum(axis=-1, keepdims=True)
    ratio = np.divide(q, p, out=np.ones_like(q), where=seen)
    expected = (seen.sum(axis=-1) - 1) * (1 / before.sum() + 1 / np.maximum(after.sum(axis=-1), 1))
    return ((q - p) * np.log(ratio)).sum(axis=-1), expected
