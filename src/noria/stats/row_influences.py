"""How much each row moves a metric, and how much it counts in it: what bounds for rows in groups are made of.

To first order a metric is its value plus the mean of these. Each of them is checked against the derivative by a row's weight.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from noria.kernel.task import Task
from noria.kernel.task_definition import BoundsKind
from noria.stats import influence, metrics
from noria.stats.metrics import Floats

RowInfluences = tuple[Floats, Floats]  # influences [n] with a mean of 0, weights [n]


def of_metric(name: str, task: Task, y: Floats, answer: Floats, most: float | None = None) -> RowInfluences:
    """``most``: a loss above it counts as it."""
    metric = metrics.find(name, task)
    if metric.bounds is BoundsKind.AREA:
        return _of_area(y, answer)
    if metric.bounds is BoundsKind.COUNTS and not metric.per_row:
        return _of_counts(name, y, metrics.predicted_classes(answer).astype(np.float64))
    if metric.per_row and metric.bounds is not BoundsKind.ERRORS:
        rows = metrics.row_losses(name, task, y, answer)
        rows = rows if most is None else np.minimum(rows, most)
        return rows - rows.mean(), np.ones(len(rows))
    return influence.of_metric(name, y, answer).rows, y.copy() if metric.of_ranks else np.ones(len(y))


def of_difference(name: str, task: Task, y: Floats, mine: Floats, other: Floats, most: float | None = None) -> RowInfluences:
    """Of the first model's metric minus the second's."""
    (a, a_weights), (b, b_weights) = (of_metric(name, task, y, answer, most) for answer in (mine, other))
    return a - b, (a_weights + b_weights) / 2


def _of_area(y: Floats, score: Floats) -> RowInfluences:
    of_positives, of_negatives = metrics.roc_auc_parts(y, score)
    n, area, positive = len(y), float(of_positives.mean()), y == 1
    found, weights = np.empty(n), np.empty(n)
    for rows, parts in ((positive, of_positives), (~positive, of_negatives)):
        found[rows] = (parts - area) * n / len(parts)
        weights[rows] = n / (2 * len(parts))
    return found, weights


def _of_counts(name: str, y: Floats, calls: Floats) -> RowInfluences:
    if name == "f1_macro":
        present = np.union1d(y, calls)
        each = [_of_f1(y == label, calls == label) for label in present]
        return np.mean([rows for rows, _ in each], axis=0), np.ones(len(y))
    real, called = y == 1, calls == 1
    if name == "f1":
        return _of_f1(real, called)
    weights = (called if name == "precision" else real).astype(np.float64)
    return _of_ratio((real & called).astype(np.float64), weights)


def _of_f1(real: NDArray[np.bool_], called: NDArray[np.bool_]) -> RowInfluences:
    weights = real.astype(np.float64) + called.astype(np.float64)
    return _of_ratio(2 * (real & called).astype(np.float64), weights)


def _of_ratio(top: Floats, bottom: Floats) -> RowInfluences:
    mean = float(bottom.mean())
    if mean == 0:
        return np.zeros(len(top)), bottom
    return (top - float(top.mean()) / mean * bottom) / mean, bottom
