"""Has the distribution of a column moved further from that of the last accepted rows than its contract allows? Pure.

The distance is Kolmogorov-Smirnov's for numbers, and total variation for text and truth values: of the most frequent values of
one half of the earlier rows, with all others as one, between the other half and the file. So the categories are chosen without a
look at the rows that are compared. ``stats.distance_margins`` bounds how far the distance lies from that of the distributions:
the file is refused where even the lower bound is beyond the limit, and fine where the upper bound is not; between is not enough
data. Of all answers about one file, any is wrong with at most the probability ``ERROR``, where rows are drawn independently.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import numpy as np
import polars as pl

from noria.kernel.contract import ColumnRule, Contract, Severity
from noria.kernel.verdict import Outcome, Reason
from noria.kernel.words import percent, plural
from noria.stats import distance_margins, two_samples
from noria.stats.two_samples import Floats

CODE = "contract.distribution"
ERROR = 0.01
CATEGORIES_MOST = 20  # further values count as one
SEED = 20261201  # of the halves: the same file gets the same answer


class DistributionAnswer(msgspec.Struct, frozen=True):
    """FAIL: shown to have moved; PASS: shown not to have; else NOT_ENOUGH_DATA."""

    reason: Reason
    severity: Severity


class MeasuredDistance(msgspec.Struct, frozen=True):
    """A distance of two samples, and how far that of their distributions may lie from it on either side."""

    distance: float
    margin: float


def judge(contract: Contract, table: pl.DataFrame, earlier: Callable[[str], pl.Series | None]) -> list[DistributionAnswer]:
    """An answer for each column whose distribution the contract bounds. ``earlier``: the values of a column in the last accepted
    rows, None where there are none."""
    rules = [rule for rule in contract.columns if rule.shift_most is not None and rule.name in table.columns]
    reasons = [_judge(rule, table[rule.name], earlier(rule.name), ERROR / len(rules)) for rule in rules]
    severities = [rule.severity or contract.severity for rule in rules]
    return [DistributionAnswer(reason, severity) for reason, severity in zip(reasons, severities, strict=True)]


def _judge(rule: ColumnRule, now: pl.Series, before: pl.Series | None, error: float) -> Reason:
    now, before = _filled(now), None if before is None else _filled(before)
    if before is None or before.is_empty() or now.is_empty():
        missing = "the file has no value" if now.is_empty() else "no accepted row has a value"
        return Reason(CODE, f"{rule.name}: not enough data to compare its distribution: {missing}", Outcome.NOT_ENOUGH_DATA)
    numbers = now.dtype.is_numeric()
    if numbers != before.dtype.is_numeric() or now.dtype.is_nested() or now.dtype.is_temporal():
        text = f"{rule.name}: only numbers, text and truth values have a distribution that can be compared"
        return Reason(CODE, text, Outcome.NOT_ENOUGH_DATA)
    found = measure_numbers(before, now, error) if numbers else measure_categories(before, now, error)
    return _answer(rule.name, rule.shift_most or 0.0, found, (len(before), len(now)))


def measure_numbers(before: pl.Series, now: pl.Series, error: float) -> MeasuredDistance:
    """Kolmogorov-Smirnov. ``error``: the probability that the distance of the distributions lies beyond the margin."""
    first, second = (_floats(one) for one in (before, now))
    margins = [distance_margins.kolmogorov_smirnov_margin(len(one), error / 2) for one in (first, second)]
    return MeasuredDistance(two_samples.kolmogorov_smirnov(first, second), sum(margins))


def measure_categories(before: pl.Series, now: pl.Series, error: float) -> MeasuredDistance:
    """Total variation of the most frequent values of one half of the earlier rows, and of all others as one."""
    texts = [one.cast(pl.String).alias("value") for one in (before, now)]
    # not every second row, with which a rhythm of the rows would fall in
    drawn = pl.Series(np.random.default_rng(SEED).random(len(before)) < 0.5)
    chosen = texts[0].filter(drawn).value_counts().sort("count", "value", descending=[True, False]).head(CATEGORIES_MOST)
    sides = [_shares(one, chosen["value"]) for one in (texts[0].filter(~drawn), texts[1])]
    rows = [float(one.sum()) for one in sides]
    if not all(rows):
        return MeasuredDistance(0.0, 1.0)
    margins = [distance_margins.total_variation_margin(int(count), chosen.height + 1, error / 2) for count in rows]
    return MeasuredDistance(two_samples.total_variation(sides[0], sides[1]), sum(margins))


def _shares(texts: pl.Series, chosen: pl.Series) -> Floats:
    """How often each chosen value stands there, and last how often another one."""
    counts = dict(texts.value_counts().iter_rows())
    known = [float(counts.get(value, 0)) for value in chosen]
    return np.array([*known, len(texts) - sum(known)])


def _answer(name: str, limit: float, found: MeasuredDistance, rows: Sequence[int]) -> Reason:
    low, high = max(0.0, found.distance - found.margin), min(1.0, found.distance + found.margin)
    numbers = {"distance": found.distance, "low": low, "high": high, "limit": limit}
    beside = f"{plural(rows[1], 'value')} beside {rows[0]:,} accepted before"
    bounds = f"{percent(low)} to {percent(high)}"
    if low > limit:
        text = f"{name}: its distribution moved by {bounds}, by {beside}; the contract allows {percent(limit)}"
        return Reason(CODE, text, Outcome.FAIL, numbers)
    if high <= limit:
        return Reason(CODE, f"{name}: its distribution moved by at most {percent(high)}, by {beside}", Outcome.PASS, numbers)
    text = f"{name}: not enough data to say whether its distribution moved by more than {percent(limit)}: {bounds}, by {beside}"
    return Reason(CODE, text, Outcome.NOT_ENOUGH_DATA, numbers)


def _filled(column: pl.Series) -> pl.Series:
    return (column.fill_nan(None) if column.dtype.is_float() else column).drop_nulls()


def _floats(values: pl.Series) -> Floats:
    return np.asarray(values.cast(pl.Float64).to_numpy(), dtype=np.float64)
