"""Quality metrics. Arrays in, one number out; definitions are those of scikit-learn, against which they are tested.

Shapes: binary ``y`` [n] of 0 and 1 with the probability of the positive class [n]; multiclass ``y`` [n] of codes 0 to k - 1
with probabilities [n, k]; regression ``y`` [n] with predictions [n].
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from noria.kernel.errors import DataError
from noria.kernel.task import Task
from noria.kernel.task_definition import Metric
from noria.kernel.words import plural

Floats = NDArray[np.float64]
Formula = Callable[[Floats, Floats], float | Floats]

THRESHOLD = 0.5  # a probability of at least this calls the positive class
SMALLEST = float(np.finfo(np.float64).eps)  # probabilities are clipped to [SMALLEST, 1 - SMALLEST] under a logarithm


class Undefined(ValueError):
    """The metric has no value on these rows, for example the area under the curve of one class."""


class UnfitError(DataError, ValueError):
    """Labels and predictions that no metric can be computed from. A DataError, because a person's model gave them."""


def facing(name: str, task: Task, prediction: Floats, calls: NDArray[np.intp] | None) -> Floats:
    """What a metric is computed from: ``prediction``, or for one of classes alone the ``calls`` [n], as certain predictions.

    So a model is measured with the classes that it is served with, whatever its rule. None: the likeliest class."""
    if calls is None or not task.definition.gate_metrics[name].of_classes:
        return prediction
    return np.eye(prediction.shape[1])[calls] if task.definition.answers_rows else calls.astype(np.float64)


def compute(name: str, task: Task, y: ArrayLike, prediction: ArrayLike) -> float:
    """The metric's value.

    Raises ValueError for a metric the task does not have, UnfitError for arrays that do not fit each other or hold NaN,
    Undefined when these rows give it no value.
    """
    formula: Formula = load_formula(find(name, task).formula)
    return float(np.mean(formula(*check_arrays(task, y, prediction))))  # of one number: itself


def row_losses(name: str, task: Task, y: ArrayLike, prediction: ArrayLike) -> Floats:
    """The parts [n] whose mean is the metric (for accuracy: 1 where right, 0 where wrong). Raises as ``compute`` does."""
    metric = find(name, task)
    if not metric.per_row:
        raise ValueError(f"{name} is not a mean over rows")
    return np.asarray(load_formula(metric.formula)(*check_arrays(task, y, prediction)))


def find(name: str, task: Task) -> Metric:
    """The metric by name. Raises ValueError when ``task`` has no such metric."""
    known = task.definition.metrics
    if name not in known:
        raise ValueError(f"{name!r} is not a metric of a {task} model; there are {', '.join(known)}")
    return known[name]


@cache
def load_formula(target: str) -> Callable[..., Any]:
    """The function that a definition names as ``module:function``."""
    module, _, name = target.partition(":")
    found: Callable[..., Any] = getattr(import_module(module), name)
    return found


def check_arrays(task: Task, y: ArrayLike, prediction: ArrayLike) -> tuple[Floats, Floats]:
    """Both as float64 arrays that fit each other. Raises UnfitError that says what does not, Undefined without rows."""
    truth, answer = _floats("labels", y), _floats("predictions", prediction)
    definition = task.definition
    if truth.ndim != 1 or answer.ndim != (2 if definition.answers_rows else 1) or len(truth) != len(answer):
        raise UnfitError(f"labels {truth.shape} and predictions {answer.shape} of a {task} model do not fit each other")
    if len(truth) == 0:
        raise Undefined("there are no rows")
    if definition.has_classes:
        _check_classes(truth, definition.class_count or answer.shape[1])
        _check_probabilities(answer)
    return truth, answer


def _floats(what: str, values: ArrayLike) -> Floats:
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise UnfitError(f"the {what} are not numbers: {error}") from error
    if not np.isfinite(array).all():
        bad = int((~np.isfinite(array)).sum())
        raise UnfitError(f"{bad:,} of {array.size:,} {what} are empty, NaN or infinite")
    return array


def _check_classes(truth: Floats, classes: int) -> None:
    strange = (truth < 0) | (truth >= classes) | (truth != np.floor(truth))
    if strange.any():
        raise UnfitError(f"{int(strange.sum()):,} of {plural(len(truth), 'label')} are of a class the model does not know")


def _check_probabilities(answer: Floats) -> None:
    strange = (answer < -1e-6) | (answer > 1 + 1e-6)
    if strange.any():
        raise UnfitError(f"{int(strange.sum()):,} of {plural(answer.size, 'prediction')} are not probabilities between 0 and 1")


def _clip(probability: Floats) -> Floats:
    return np.clip(probability, SMALLEST, 1 - SMALLEST)


def squared_errors(y: Floats, p: Floats) -> Floats:
    result: Floats = np.square(p - y)
    return result


def log_losses_of_two(y: Floats, p: Floats) -> Floats:
    return -np.log(_clip(np.where(y == 1, p, 1 - p)))


def log_losses_of_several(y: Floats, p: Floats) -> Floats:
    losses: Floats = -np.log(_clip(p[np.arange(len(y)), y.astype(np.intp)]))
    return losses


def predicted_classes(prediction: Floats) -> NDArray[np.intp]:
    """The class each row is called [n]: at least 0.5 (binary, [n]), or the largest probability (multiclass, [n, k])."""
    if prediction.ndim == 2:
        largest: NDArray[np.intp] = prediction.argmax(axis=1)
        return largest
    return (prediction >= THRESHOLD).astype(np.intp)


def right_calls(y: Floats, p: Floats) -> Floats:
    """1 where the called class is the label, else 0."""
    return np.where(predicted_classes(p) == y, 1.0, 0.0)


def roc_auc_parts(y: Floats, score: Floats) -> tuple[Floats, Floats]:
    """DeLong's structural components: for each positive row the share of negatives it beats, and for each negative row the
    share of positives that beat it (ties count half). The mean of either is the area under the curve.

    Source: DeLong, DeLong and Clarke-Pearson (Biometrics 1988, eq. 3 and 4), in O(n log n) by sorting as in Sun and Xu
    (IEEE Signal Processing Letters 2014). Raises Undefined for rows of one class.
    """
    positive, negative = np.sort(score[y == 1]), np.sort(score[y == 0])
    if len(positive) == 0 or len(negative) == 0:
        which = "negative" if len(positive) == 0 else "positive"
        raise Undefined(f"all {len(y):,} rows are {which}: the area under the curve needs both classes")
    # In the rows' own order: paired comparisons subtract the components of two models row by row.
    return _beaten(negative, score[y == 1]), 1 - _beaten(positive, score[y == 0])


def _beaten(others: Floats, scores: Floats) -> Floats:
    below, up_to = np.searchsorted(others, scores, "left"), np.searchsorted(others, scores, "right")
    return (below + up_to) / (2 * len(others))


def roc_auc(y: Floats, p: Floats) -> float:
    return float(roc_auc_parts(y, p)[0].mean())


def rank_rows(score: Floats) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The rows by falling score, and where each group of equal scores ends among them."""
    order = np.argsort(-score, kind="stable")
    return order, np.flatnonzero(np.append(np.diff(score[order]) != 0, True))


def average_precision(y: Floats, p: Floats) -> float:
    """The sum of (R_k - R_{k-1}) P_k over distinct scores."""
    if not (y == 1).any():
        raise Undefined("no row is positive: average precision needs one")
    order, ends = rank_rows(p)
    hits = np.cumsum(y[order])[ends]
    return float((np.diff(hits, prepend=0.0) * hits / (ends + 1)).sum() / hits[-1])


def _counts(y: Floats, p: Floats) -> tuple[int, int, int]:
    """True positives, false positives, false negatives."""
    yes, real = p >= THRESHOLD, y == 1
    return int((yes & real).sum()), int((yes & ~real).sum()), int((~yes & real).sum())


def precision(y: Floats, p: Floats) -> float:
    hit, false, _ = _counts(y, p)
    return hit / max(hit + false, 1)  # nothing called positive: 0, as scikit-learn has it


def recall(y: Floats, p: Floats) -> float:
    hit, _, missed = _counts(y, p)
    if hit + missed == 0:
        raise Undefined("no row is positive: recall needs one")
    return hit / (hit + missed)


def f1(y: Floats, p: Floats) -> float:
    hit, false, missed = _counts(y, p)
    if hit + missed == 0:
        raise Undefined("no row is positive: f1 needs one")
    return 2 * hit / (2 * hit + false + missed)


def f1_macro(y: Floats, p: Floats) -> float:
    """The mean of f1 over the classes that occur among labels or calls."""
    calls = predicted_classes(p)
    present = np.union1d(y, calls)
    return float(np.mean([2 * ((y == c) & (calls == c)).sum() / ((y == c).sum() + (calls == c).sum()) for c in present]))


def absolute_errors(y: Floats, p: Floats) -> Floats:
    result: Floats = np.abs(y - p)
    return result


def rmse(y: Floats, p: Floats) -> float:
    return float(np.sqrt(np.mean((y - p) ** 2)))


def r2(y: Floats, p: Floats) -> float:
    spread = float(((y - y.mean()) ** 2).sum())
    if spread == 0:
        raise Undefined(f"all {len(y):,} labels are equal: r2 needs labels that differ")
    return 1 - float(((y - p) ** 2).sum()) / spread
