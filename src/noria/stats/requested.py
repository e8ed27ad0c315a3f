"""Metrics that need more than labels and answers, or much time: measured where a gate asks for them.

- mape, pinball, mase: absolute errors, each weighed by the side that it is on; bounds by influence (`stats.influence`).
- smape, cost and the metrics of a ranking: a mean of units that have a worst; bounds as of `brier` (`stats.intervals`). The unit
  of a ranking is the query.
- ece: the bootstrap (`stats.bootstrap`), of rows or of the groups that they come in.

Sources: mape and smape as the M4 competition has them (Makridakis, Spiliotis and Assimakopoulos, International Journal of
Forecasting 2020), as a share, not in percent; mase of Hyndman and Koehler (same journal, 2006); pinball of Koenker and Bassett
(Econometrica 1978).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from noria.kernel.task import Task
from noria.kernel.task_definition import BoundsKind, Metric
from noria.kernel.words import plural
from noria.stats import bootstrap, calibration, groups, influence, metrics, student
from noria.stats.groups import Grouping, widen
from noria.stats.intervals import group_facts, mean_bounds, widened_bounds
from noria.stats.measures import Comparison, Measure
from noria.stats.metrics import Floats, Undefined

ROW, QUERY = "row", "query"


class MetricFacts(msgspec.Struct, frozen=True):
    """What metrics know besides labels and answers. An array has an entry for each row."""

    quantile: float | None = None  # that a pinball loss is of
    scales: Floats | None = None  # the error of the naive forecast in training, of the row's series; NaN: it is not known
    costs: tuple[float, float] | None = None  # of a false positive and a false negative
    queries: NDArray[np.intp] | None = None

    def of_rows(self, mask: NDArray[np.bool_]) -> MetricFacts:
        scales = None if self.scales is None else self.scales[mask]
        return MetricFacts(self.quantile, scales, self.costs, None if self.queries is None else self.queries[mask])


class MetricUnits(msgspec.Struct, frozen=True):
    """A metric as the mean of ``values`` [u]. ``rows`` [u]: a row of each unit; ``most`` that a value can be; of errors, which
    have no worst, ``mixed``: the mean of values where answers are meant for other rows."""

    values: Floats
    rows: NDArray[np.intp]
    most: float | None = None
    mixed: float = 0.0
    counts: str = ROW


def find(name: str, task: Task) -> Metric:
    """Raises ValueError when ``task`` has no such metric."""
    known = task.definition.on_request
    if name not in known:
        raise ValueError(f"{name!r} is not measured on request of a {task} model; {', '.join(known)} are")
    return known[name]


def compute(name: str, task: Task, y: ArrayLike, prediction: ArrayLike, facts: MetricFacts) -> float:
    """The metric's value. Raises as ``metrics.compute``; Undefined too where a fact is missing."""
    metric, (truth, answer) = find(name, task), metrics.check_arrays(task, y, prediction)
    if metric.bounds is BoundsKind.RESAMPLED:
        return calibration.debiased_ece(truth, answer)
    return float(_units(metric, truth, answer, facts).values.mean())


def measure(
    name: str,
    task: Task,
    y: ArrayLike,
    prediction: ArrayLike,
    facts: MetricFacts,
    confidence: float = 0.95,
    groupings: Sequence[Grouping] = (),
) -> Measure:
    """The metric with its bounds. Raises as ``compute``; Undefined too when there are too few units for bounds."""
    metric, (truth, answer) = find(name, task), metrics.check_arrays(task, y, prediction)
    positives = int(truth.sum()) if task.definition.two_classes and not metric.of_ranks else None
    if metric.bounds is BoundsKind.RESAMPLED:
        error = calibration.Binned(truth, answer).error
        low, high, more = _resample(error, len(truth), groupings, confidence)
        return Measure(error(), max(low, 0.0), min(high, 1.0), len(truth), positives, **more)
    units = _units(metric, truth, answer, facts)
    value, lost = float(units.values.mean()), None
    if units.most is None:
        lost = max(0.0, units.mixed - value)
        low, high = influence.bounds(influence.Influence(value, units.values - value, value, lost), confidence)
    else:
        low, high = mean_bounds(units.values, 0.0, units.most, confidence)
    found = widen(units.values - value, np.ones(len(units.values)), _of_units(groupings, units), confidence)
    bounds = widened_bounds(value, min(low, value), max(high, value), found, 0.0, units.most)
    return Measure(value, *bounds, len(units.values), positives, **group_facts(found), counts=units.counts)


def compare(
    name: str,
    task: Task,
    y: ArrayLike,
    candidate: ArrayLike,
    champion: ArrayLike,
    facts: MetricFacts,
    confidence: float = 0.95,
    groupings: Sequence[Grouping] = (),
) -> Comparison:
    """Candidate minus champion, unit by unit. Raises as ``measure``."""
    metric, (truth, mine) = find(name, task), metrics.check_arrays(task, y, candidate)
    other = metrics.check_arrays(task, y, champion)[1]
    if metric.bounds is BoundsKind.RESAMPLED:
        return _compare_calibration(truth, mine, other, groupings, confidence)
    a, b = (_units(metric, truth, answer, facts) for answer in (mine, other))
    rows, theirs = a.values - b.values, float(b.values.mean())
    value, alike = float(rows.mean()), None
    if a.most is None:
        lost = [max(0.0, each.mixed - float(each.values.mean())) for each in (b, a)]
        moved = influence.Influence(value, rows - value, *lost)
        low, high = influence.bounds_of_errors(moved, confidence)
        alike = moved.alike if influence.is_outweighed(moved) else None
    else:
        low, high = mean_bounds(rows, -a.most, a.most, confidence)
    found = widen(rows - value, np.ones(len(rows)), _of_units(groupings, a), confidence)
    least = None if a.most is None else -a.most
    bounds = widened_bounds(value, min(low, value), max(high, value), found, least, a.most)
    return Comparison(theirs, value, *bounds, len(rows), None, alike, **group_facts(found), counts=a.counts)


def _compare_calibration(y: Floats, mine: Floats, other: Floats, groupings: Sequence[Grouping], confidence: float) -> Comparison:
    a, b = calibration.Binned(y, mine).error, calibration.Binned(y, other).error
    low, high, more = _resample(lambda weights: a(weights) - b(weights), len(y), groupings, confidence)
    return Comparison(b(), a() - b(), low, high, len(y), **more)


def _resample(
    statistic: Callable[[Floats], float], n: int, groupings: Sequence[Grouping], confidence: float
) -> tuple[float, float, dict[str, Any]]:
    """Bounds, as wide as Student's t asks for where rows come in few groups, which a bootstrap takes as known too well."""
    if n < 2:
        raise Undefined("one row is too few for bounds")
    grouping = groups.coarsest(groupings)
    low, high = bootstrap.outer_bounds(statistic, n, None if grouping is None else grouping.ids, confidence)
    if grouping is None:
        return low, high, {}
    freedom = groups.count_groups(grouping) - 1.0
    factor, value = student.quantile(confidence, freedom) / student.quantile(confidence), statistic(np.ones(n))
    low, high = value - factor * max(value - low, 0.0), value + factor * max(high - value, 0.0)
    return low, high, groups.facts_of(grouping)


def _units(metric: Metric, y: Floats, answer: Floats, facts: MetricFacts) -> MetricUnits:
    formula: Callable[[Floats, Floats, MetricFacts], MetricUnits] = metrics.load_formula(metric.formula)
    found = _ranked(metric, y, answer, facts) if metric.needs == QUERY else formula(y, answer, facts)
    if len(found.values) < 2:
        raise Undefined(f"one {found.counts} is too few for bounds")
    return found


def _of_units(groupings: Sequence[Grouping], units: MetricUnits) -> list[Grouping]:
    return [Grouping(each.unit, np.unique(each.ids[units.rows], return_inverse=True)[1]) for each in groupings]


def _demand(name: str, fact: Any) -> Any:
    if fact is None:
        raise Undefined(f"model.{name} is not set")
    return fact


def _weighted_errors(y: Floats, answer: Floats, under: Floats, over: Floats, rows: NDArray[np.intp] | None = None) -> MetricUnits:
    """``under`` [n]: the weight of an error where the answer is too low."""
    values = under * np.maximum(y - answer, 0) + over * np.maximum(answer - y, 0)
    mixed = influence.mean_of_pairs(y, answer, under, over)
    return MetricUnits(values, np.arange(len(y)) if rows is None else rows, mixed=mixed)


def mape(y: Floats, answer: Floats, facts: MetricFacts) -> MetricUnits:
    zeros = int((y == 0).sum())
    if zeros:
        raise Undefined(f"{zeros:,} of {plural(len(y), 'label')} {'is' if zeros == 1 else 'are'} 0, by which mape divides")
    return _weighted_errors(y, answer, 1 / np.abs(y), 1 / np.abs(y))


def smape(y: Floats, answer: Floats, facts: MetricFacts) -> MetricUnits:
    """Where label and answer are both 0, nothing is wrong: 0."""
    size = np.abs(y) + np.abs(answer)
    return MetricUnits(np.divide(2 * np.abs(y - answer), size, out=np.zeros_like(y), where=size > 0), np.arange(len(y)), 2.0)


def pinball(y: Floats, answer: Floats, facts: MetricFacts) -> MetricUnits:
    quantile = _demand("quantile", facts.quantile)
    return _weighted_errors(y, answer, np.full(len(y), quantile), np.full(len(y), 1 - quantile))


def mase(y: Floats, answer: Floats, facts: MetricFacts) -> MetricUnits:
    """Of the rows whose series has a naive forecast that errs in training."""
    scales = _demand("season", facts.scales)
    known = np.flatnonzero(np.nan_to_num(scales) > 0)
    if not len(known):
        raise Undefined("the naive forecast has no error in the training rows of any series that is held out")
    weights = 1 / scales[known]
    return _weighted_errors(y[known], answer[known], weights, weights, known)


def cost(y: Floats, calls: Floats, facts: MetricFacts) -> MetricUnits:
    of_positive, of_negative = _demand("decision.cost", facts.costs)
    wrong = np.where(y == 1, of_negative, of_positive)
    return MetricUnits(
        np.where((calls >= metrics.THRESHOLD) != (y == 1), wrong, 0.0), np.arange(len(y)), max(of_positive, of_negative)
    )


def _ranked(metric: Metric, y: Floats, answer: Floats, facts: MetricFacts) -> MetricUnits:
    k = metric.name.partition("@")[2]
    formula: Callable[..., tuple[Floats, NDArray[np.intp]]] = metrics.load_formula(metric.formula)
    values, rows = formula(y, answer, _demand("query", facts.queries), **({"k": int(k)} if k else {}))
    return MetricUnits(values, rows, 1.0, counts=QUERY)
