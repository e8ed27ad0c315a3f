"""How sure a measurement is: one-sided bounds of a metric, and of the difference of two models on the same rows.

Each bound holds at ``confidence`` on its own: ``low`` for "at least", ``high`` for "at most".

- roc_auc: DeLong, DeLong and Clarke-Pearson (Biometrics 1988), computed by sorting (Sun and Xu, 2014).
- Means over rows (brier, log_loss, accuracy, mae): the normal bound of a mean, of the row by row differences when two
  models are compared.
- The rest: the percentile bootstrap (Efron and Tibshirani 1993, chapter 13), the same resampled rows for both models, 400
  repetitions from a fixed seed. For metrics that only count, resampling the cells of the confusion table is the same
  thing and costs nothing.

Rows are taken as independent of each other.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from noria.domain.evaluation import Comparison, Measure
from noria.domain.signature import Task
from noria.stats import metrics
from noria.stats.metrics import Floats, Undefined

REPETITIONS = 400
SEED = 1978
CHUNK = 4_000_000  # resampled rows held in memory at once


def measure(name: str, task: Task, y: ArrayLike, prediction: ArrayLike, confidence: float = 0.95) -> Measure:
    """The metric with its bounds. Raises as ``metrics.compute``; Undefined too when there are too few rows for bounds."""
    value = metrics.compute(name, task, y, prediction)
    truth, answer = metrics.checked(task, y, prediction)
    if name == "roc_auc":
        low, high = _around(value, _delong_error(*metrics.roc_auc_parts(truth, answer)), confidence)
        low, high = max(low, 0.0), min(high, 1.0)
    elif metrics.METRICS[name].per_row:
        low, high = _around(value, _mean_error(metrics.row_losses(name, task, truth, answer)), confidence)
    else:
        low, high = _quantiles(_replicates(name, truth, (answer,))[:, 0], value, confidence)
    positives = int(truth.sum()) if task is Task.BINARY else None
    return Measure(value, low, high, len(truth), positives)


def compare(
    name: str, task: Task, y: ArrayLike, candidate: ArrayLike, champion: ArrayLike, confidence: float = 0.95
) -> Comparison:
    """Candidate minus champion on the same rows. Raises as ``measure``."""
    theirs = metrics.compute(name, task, y, champion)
    difference = metrics.compute(name, task, y, candidate) - theirs
    truth, mine = metrics.checked(task, y, candidate)
    other = metrics.checked(task, y, champion)[1]
    if name == "roc_auc":
        pairs = zip(metrics.roc_auc_parts(truth, mine), metrics.roc_auc_parts(truth, other), strict=True)
        low, high = _around(difference, _delong_error(*(a - b for a, b in pairs)), confidence)
    elif metrics.METRICS[name].per_row:
        rows = metrics.row_losses(name, task, truth, mine) - metrics.row_losses(name, task, truth, other)
        low, high = _around(difference, _mean_error(rows), confidence)
    else:
        both = _replicates(name, truth, (mine, other))
        low, high = _quantiles(both[:, 0] - both[:, 1], difference, confidence)
    return Comparison(theirs, difference, low, high, len(truth))


def _around(value: float, error: float, confidence: float) -> tuple[float, float]:
    reach = NormalDist().inv_cdf(confidence) * error
    return value - reach, value + reach


def _mean_error(rows: Floats) -> float:
    if len(rows) < 2:
        raise Undefined("one row is too few for bounds")
    return float(rows.std(ddof=1) / np.sqrt(len(rows)))


def _delong_error(of_positives: Floats, of_negatives: Floats) -> float:
    """The standard error of an area, or of a difference of areas when the components are differences."""
    if min(len(of_positives), len(of_negatives)) < 2:
        raise Undefined("one row of a class is too few for bounds")
    return float(np.sqrt(of_positives.var(ddof=1) / len(of_positives) + of_negatives.var(ddof=1) / len(of_negatives)))


def _quantiles(replicates: Floats, value: float, confidence: float) -> tuple[float, float]:
    whole = replicates[np.isfinite(replicates)]  # a resample without positives or spread has no value
    if len(whole) < REPETITIONS // 2:
        raise Undefined("too few rows for bounds")
    low, high = np.quantile(whole, [1 - confidence, confidence])
    return min(float(low), value), max(float(high), value)


def _replicates(name: str, y: Floats, answers: tuple[Floats, ...]) -> Floats:
    """The metric of each model on each resample: [REPETITIONS, models]."""
    if len(y) < 2:
        raise Undefined("one row is too few for bounds")
    rng = np.random.default_rng(SEED)
    if name in _BY_CELLS:
        return _from_cells(rng, _BY_CELLS[name], y, answers)
    return _from_rows(rng, _BY_WEIGHTS[name], y, answers)


def _from_cells(
    rng: np.random.Generator, formula: Callable[[Floats, Floats, Floats], Floats], y: Floats, answers: tuple[Floats, ...]
) -> Floats:
    """Resample the joint table of label and calls; its cells are all that a counting metric sees."""
    rows = np.column_stack([y, *(metrics.called(a) for a in answers)])
    cells, counts = np.unique(rows, axis=0, return_counts=True)
    drawn = rng.multinomial(len(y), counts / len(y), size=REPETITIONS).astype(np.float64)
    return np.column_stack([formula(cells[:, 0], cells[:, i + 1], drawn) for i in range(len(answers))])


def _from_rows(
    rng: np.random.Generator, formula: Callable[[Floats, Floats, Floats], Floats], y: Floats, answers: tuple[Floats, ...]
) -> Floats:
    step = max(1, min(REPETITIONS, CHUNK // len(y)))
    parts = []
    for start in range(0, REPETITIONS, step):
        weights = _weights(rng, min(step, REPETITIONS - start), len(y))
        parts.append(np.column_stack([formula(y, answer, weights) for answer in answers]))
    return np.concatenate(parts)


def _weights(rng: np.random.Generator, repetitions: int, rows: int) -> Floats:
    """How often each row was drawn [repetitions, rows]: ``rows`` draws with replacement."""
    drawn = rng.integers(0, rows, (repetitions, rows)) + rows * np.arange(repetitions)[:, None]
    return np.bincount(drawn.ravel(), minlength=repetitions * rows).reshape(repetitions, rows).astype(np.float64)


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


def _weighted_rmse(y: Floats, p: Floats, weights: Floats) -> Floats:
    return np.sqrt(weights @ (y - p) ** 2 / len(y))


def _weighted_r2(y: Floats, p: Floats, weights: Floats) -> Floats:
    centred = y - y.mean()  # keeps the difference of squares exact for labels far from zero
    spread = weights @ centred**2 - (weights @ centred) ** 2 / len(y)
    missed: NDArray[np.float64] = weights @ (y - p) ** 2
    return 1 - _ratio(missed, np.where(spread > 1e-12 * float(centred @ centred), spread, 0.0), np.nan)


_BY_CELLS = {"precision": _cells_precision, "recall": _cells_recall, "f1": _cells_f1, "f1_macro": _cells_f1_macro}
_BY_WEIGHTS = {
    "average_precision": metrics.weighted_average_precision,
    "rmse": _weighted_rmse,
    "r2": _weighted_r2,
}
