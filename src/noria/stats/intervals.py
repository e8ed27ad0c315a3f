"""How sure a measurement is: one-sided bounds of a metric, and of the difference of two models on the same rows.

Each bound holds at ``confidence`` on its own: ``low`` for "at least", ``high`` for "at most". None has no width where nothing was
seen: the worst that a row may be is allowed for, as rows that were not seen may be it.

- accuracy and recall: exact bounds of a share; of a difference Tango's score bounds (`stats.proportions`).
- precision, f1 and f1_macro: exact bounds where they are a share of rows, else melded ones of the counts (`stats.proportions`).
- brier and log_loss: the normal bound of a mean, of the row by row differences when two models are
  compared, with z^2 / 2 rows more that are as bad as can be: where nothing was seen these give the bound that a share of such
  rows has (Wilson 1927). Of log loss, which knows no worst, a difference is one of losses that are at most LOG_LOSS_MOST.
- roc_auc: DeLong, DeLong and Clarke-Pearson (Biometrics 1988), computed by sorting (Sun and Xu, 2014), on the logit scale (Pepe,
  The Statistical Evaluation of Medical Tests, 2003, section 5.2). Rows are added as for means where fewer than FEW_WRONG rows of
  a class are ranked wrongly, for then that variance is not known, and to differences, where the wider bound counts.
- The rest (mae, rmse, r2, average_precision): by how much each row moves the metric (`stats.influence`).

Rows are taken as independent of each other unless groupings say which are not: bounds are widened then (`stats.groups`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from noria.kernel.task import Task
from noria.kernel.task_definition import BoundsKind
from noria.stats import influence, metrics, proportions, row_influences
from noria.stats.groups import Grouping, Widening, widen
from noria.stats.measures import Comparison, Measure
from noria.stats.metrics import Floats, Undefined

LOG_LOSS_MOST = -math.log(0.001)  # of a row that is compared: one that was called impossible counts as one in a thousand
FEW_WRONG = 5.0  # rows of the rarer class times 1 - roc_auc


def measure(
    name: str, task: Task, y: ArrayLike, prediction: ArrayLike, confidence: float = 0.95, groupings: Sequence[Grouping] = ()
) -> Measure:
    """The metric with its bounds. Raises as ``metrics.compute``; Undefined too when there are too few rows for bounds."""
    value = metrics.compute(name, task, y, prediction)
    truth, answer = metrics.check_arrays(task, y, prediction)
    if len(truth) < 2:
        raise Undefined("one row is too few for bounds")
    metric = metrics.find(name, task)
    if metric.bounds is BoundsKind.AREA:
        low, high = _area(metrics.roc_auc_parts(truth, answer), confidence)
    elif metric.bounds is BoundsKind.COUNTS:
        low, high = _share(name, truth, answer, confidence)
    elif metric.bounds is BoundsKind.MEAN:
        rows = metrics.row_losses(name, task, truth, answer)
        most = max(LOG_LOSS_MOST, float(rows.max())) if metric.high is None else metric.high
        low, high = mean_bounds(rows, 0.0, most, confidence)
    else:
        low, high = influence.bounds(influence.of_metric(name, truth, answer), confidence)
    positives = int(truth.sum()) if task.definition.two_classes else None
    found = widen(*row_influences.of_metric(name, task, truth, answer), groupings, confidence) if groupings else None
    least = None if name == "r2" else 0.0
    bounds = widened_bounds(value, min(low, value), max(high, value), found, least, metric.high)
    return Measure(value, *bounds, len(truth), positives, **group_facts(found))


def compare(
    name: str,
    task: Task,
    y: ArrayLike,
    candidate: ArrayLike,
    champion: ArrayLike,
    confidence: float = 0.95,
    groupings: Sequence[Grouping] = (),
) -> Comparison:
    """Candidate minus champion on the same rows; of log loss with each row's at most LOG_LOSS_MOST. Raises as ``measure``."""
    theirs = metrics.compute(name, task, y, champion)
    difference = metrics.compute(name, task, y, candidate) - theirs
    truth, mine = metrics.check_arrays(task, y, candidate)
    other = metrics.check_arrays(task, y, champion)[1]
    if len(truth) < 2:
        raise Undefined("one row is too few for bounds")
    differing = alike = None
    metric = metrics.find(name, task)
    if metric.bounds is BoundsKind.AREA:
        low, high = _areas(metrics.roc_auc_parts(truth, mine), metrics.roc_auc_parts(truth, other), confidence)
    elif metric.bounds is BoundsKind.COUNTS:
        calls = metrics.predicted_classes(mine), metrics.predicted_classes(other)
        low, high, differing = _shares(name, truth, *calls, confidence)
    elif metric.bounds is BoundsKind.MEAN:
        rows, theirs, (low, high) = _means(name, task, truth, mine, other, confidence)
        difference = float(rows.mean())
    else:
        moved = influence.of_difference(name, truth, mine, other)
        errors = metric.bounds is BoundsKind.ERRORS
        low, high = (influence.bounds_of_errors if errors else influence.bounds)(moved, confidence)
        alike = moved.alike if errors and influence.is_outweighed(moved) else None
    found = _widen_difference(name, task, (truth, mine, other), groupings, confidence, differing) if groupings else None
    most = metric.high if name != "r2" else None
    least = -most if most is not None else None
    bounds = widened_bounds(difference, min(low, difference), max(high, difference), found, least, most)
    return Comparison(theirs, difference, *bounds, len(truth), differing, alike, **group_facts(found))


def _widen_difference(
    name: str,
    task: Task,
    rows: tuple[Floats, Floats, Floats],
    groupings: Sequence[Grouping],
    confidence: float,
    differing: int | None,
) -> Widening | None:
    """By the difference, and where few rows differ by the models' own values, too: those few hardly tell how groups differ."""
    truth, mine, other = rows
    most = LOG_LOSS_MOST if metrics.find(name, task).high is None else None
    each = [row_influences.of_difference(name, task, truth, mine, other, most)]
    if differing is not None and differing < proportions.FEW:
        each += [row_influences.of_metric(name, task, truth, answer) for answer in (mine, other)]
    found = [one for one in (widen(*moved, groupings, confidence) for moved in each) if one is not None]
    return max(found, key=lambda one: one.factor)


def widened_bounds(
    value: float, low: float, high: float, found: Widening | None, least: float | None, most: float | None
) -> tuple[float, float]:
    """Bounds that nothing widens stay as they are; others stay between the least and the most that the value can be."""
    if found is None or found.factor <= 1:
        return low, high
    low, high = value - found.factor * (value - low), value + found.factor * (high - value)
    return low if least is None else max(low, least), high if most is None else min(high, most)


def group_facts(found: Widening | None) -> dict[str, Any]:
    if found is None:
        return {}
    return {"groups": found.groups, "unit": found.unit, "widened": found.factor, "freedom": found.freedom}


def mean_bounds(rows: Floats, least: float, most: float, confidence: float) -> tuple[float, float]:
    """Bounds of a mean of values between ``least`` and ``most``, with unseen rows at either end."""
    n, mean = len(rows), float(rows.mean())
    z = NormalDist().inv_cdf(confidence)
    added, seen = z * z / 2, float(rows.var(ddof=1)) * n
    down, up = mean - least, most - mean
    low = mean - (added * down + z * math.sqrt(seen + added * down * down)) / n
    high = mean + (added * up + z * math.sqrt(seen + added * up * up)) / n
    return max(low, least), min(high, most)


def _means(
    name: str, task: Task, y: Floats, mine: Floats, other: Floats, confidence: float
) -> tuple[Floats, float, tuple[float, float]]:
    """The differences of the rows' losses, the second model's mean, and bounds of the mean difference."""
    losses = [metrics.row_losses(name, task, y, answer) for answer in (mine, other)]
    worst = metrics.find(name, task).high
    most = LOG_LOSS_MOST if worst is None else worst
    if worst is None:
        losses = [np.minimum(each, most) for each in losses]
    rows = losses[0] - losses[1]
    return rows, float(losses[1].mean()), mean_bounds(rows, -most, most, confidence)


def _area(parts: tuple[Floats, Floats], confidence: float) -> tuple[float, float]:
    _demand_two(parts)
    value = float(parts[0].mean())
    if _wrong(parts) < FEW_WRONG:
        return _with_unseen(parts, 0.0, 1.0, confidence)
    reach = NormalDist().inv_cdf(confidence) * _delong_error(*parts) / (value * (1 - value))
    return _expit(_logit(value) - reach), _expit(_logit(value) + reach)


def _areas(mine: tuple[Floats, Floats], other: tuple[Floats, Floats], confidence: float) -> tuple[float, float]:
    """Bounds of the difference: of the logits, brought back to where the second model's area is, or with unseen rows if those are
    wider, as where two models rank nearly all alike."""
    _demand_two(mine)
    areas = [float(parts[0].mean()) for parts in (mine, other)]
    low, high = _with_unseen((mine[0] - other[0], mine[1] - other[1]), -1.0, 1.0, confidence)
    if min(_wrong(mine), _wrong(other)) < FEW_WRONG:
        return low, high
    slopes = [area * (1 - area) for area in areas]
    error = _delong_error(*(a / slopes[0] - b / slopes[1] for a, b in zip(mine, other, strict=True)))
    reach = NormalDist().inv_cdf(confidence) * error
    logits = _logit(areas[0]) - reach, _logit(areas[0]) + reach
    return min(low, _expit(logits[0]) - areas[1]), max(high, _expit(logits[1]) - areas[1])


def _demand_two(parts: tuple[Floats, Floats]) -> None:
    if min(len(parts[0]), len(parts[1])) < 2:
        raise Undefined("one row of a class is too few for bounds")


def _wrong(parts: tuple[Floats, Floats]) -> float:
    """How many rows of the rarer class are ranked wrongly, as many as they are times 1 - roc_auc."""
    return min(len(parts[0]), len(parts[1])) * (1 - float(parts[0].mean()))


def _with_unseen(parts: tuple[Floats, Floats], least: float, most: float, confidence: float) -> tuple[float, float]:
    """DeLong's bounds with rows that are ranked as badly, or as well, as can be.

    They are of the rarer class alone: of all shares of such rows in either class that leave none seen, that adds up to most.
    """
    z, mean = NormalDist().inv_cdf(confidence), float(parts[0].mean())
    added, rare, variance = z * z / 2, min(len(part) for part in parts), _delong_error(*parts) ** 2
    down, up = (
        added * room / rare + z * math.sqrt(variance + added * (room / rare) ** 2) for room in (mean - least, most - mean)
    )
    return max(mean - down, least), min(mean + up, most)


def _logit(share: float) -> float:
    return math.log(share / (1 - share))


def _expit(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def _delong_error(of_positives: Floats, of_negatives: Floats) -> float:
    """The standard error of an area, or of a difference of areas when the components are differences."""
    return float(np.sqrt(of_positives.var(ddof=1) / len(of_positives) + of_negatives.var(ddof=1) / len(of_negatives)))


def _share(name: str, y: Floats, answer: Floats, confidence: float) -> tuple[float, float]:
    """Exact bounds: each of these but f1_macro is a share of rows, or grows with one."""
    calls = metrics.predicted_classes(answer)
    if name not in _BY_CELLS:
        raise ValueError(f"{name} is not computed from counts; {', '.join(_BY_CELLS)} are")
    if name == "f1_macro":
        return _melded_bounds(name, np.column_stack([y, calls]), confidence)
    if name == "accuracy":
        return proportions.exact(int((calls == y).sum()), len(y), confidence)
    hits, called, real = int(((y == 1) & (calls == 1)).sum()), int((calls == 1).sum()), int((y == 1).sum())
    if name == "f1":  # 2 s / (1 + s) of the share s of hits among rows that are positive or called so
        low, high = proportions.exact(hits, called + real - hits, confidence)
        return 2 * low / (1 + low), 2 * high / (1 + high)
    return proportions.exact(hits, real if name == "recall" else called, confidence)


def _shares(name: str, y: Floats, mine: NDArray[np.intp], other: NDArray[np.intp], confidence: float) -> tuple[float, float, int]:
    """Bounds of the difference, and how many rows there are that only one of both has right."""
    if name == "recall":
        y, mine, other = y[y == 1], mine[y == 1], other[y == 1]
    gained, lost = int(((mine == y) & (other != y)).sum()), int(((mine != y) & (other == y)).sum())
    if name in ("accuracy", "recall"):
        return *proportions.paired_bounds(gained, lost, len(y), confidence), gained + lost
    return *_melded_bounds(name, np.column_stack([y, mine, other]), confidence), gained + lost


def _melded_bounds(name: str, rows: Floats, confidence: float) -> tuple[float, float]:
    labels, counts = np.unique(rows[:, 0], return_counts=True)
    classes = np.union1d(np.unique(rows), [0.0, 1.0])
    by_size = [*labels[np.argsort(-counts)].tolist(), *classes.tolist()]
    others = {label: next(other for other in by_size if other != label) for label in labels.tolist()}
    found, often = np.unique(rows, axis=0, return_counts=True)
    cells = {tuple(cell): int(count) for cell, count in zip(found.tolist(), often.tolist(), strict=True)}
    return proportions.from_cells(cells, _BY_CELLS[name], confidence, labels, others)


def _ratio(top: Floats, bottom: Floats, empty: float) -> Floats:
    return np.divide(top, bottom, out=np.full_like(top, empty), where=bottom > 0)


def _cell_counts(y: Floats, calls: Floats, drawn: Floats, label: float) -> tuple[Floats, Floats, Floats]:
    """Per resample: rows of ``label`` called so, rows called so, rows of it."""
    real, yes = y == label, calls == label
    return drawn[:, real & yes].sum(axis=1), drawn[:, yes].sum(axis=1), drawn[:, real].sum(axis=1)


def _cells_precision(y: Floats, calls: Floats, drawn: Floats) -> Floats:
    hit, yes, _ = _cell_counts(y, calls, drawn, 1)
    return _ratio(hit, yes, 0.0)


def _cells_recall(y: Floats, calls: Floats, drawn: Floats) -> Floats:
    hit, _, real = _cell_counts(y, calls, drawn, 1)
    return _ratio(hit, real, np.nan)


def _cells_f1(y: Floats, calls: Floats, drawn: Floats, label: float = 1) -> Floats:
    hit, yes, real = _cell_counts(y, calls, drawn, label)
    return _ratio(2 * hit, yes + real, np.nan)


def _cells_f1_macro(y: Floats, calls: Floats, drawn: Floats) -> Floats:
    each = np.column_stack([_cells_f1(y, calls, drawn, label) for label in np.union1d(y, calls)])
    result: Floats = np.nanmean(each, axis=1)  # a resample holds at least one class
    return result


def _cells_accuracy(y: Floats, calls: Floats, drawn: Floats) -> Floats:
    return _ratio(drawn[:, y == calls].sum(axis=1), drawn.sum(axis=1), np.nan)


_BY_CELLS = {
    "accuracy": _cells_accuracy,
    "precision": _cells_precision,
    "recall": _cells_recall,
    "f1": _cells_f1,
    "f1_macro": _cells_f1_macro,
}
