"""Metrics against scikit-learn, and what they say about rows that have no answer."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import foldnorm
from sklearn import metrics as sk

from noria.kernel.errors import DataError
from noria.kernel.task import Task
from noria.stats import calibration, metrics

BINARY, MULTICLASS, REGRESSION = Task.BINARY, Task.MULTICLASS, Task.REGRESSION
ORACLES: dict[str, Any] = {
    "roc_auc": sk.roc_auc_score,
    "average_precision": sk.average_precision_score,
    "brier": sk.brier_score_loss,
    "log_loss": sk.log_loss,
    "accuracy": lambda y, p: sk.accuracy_score(y, p >= 0.5),
    "precision": lambda y, p: sk.precision_score(y, p >= 0.5, zero_division=0),
    "recall": lambda y, p: sk.recall_score(y, p >= 0.5),
    "f1": lambda y, p: sk.f1_score(y, p >= 0.5),
}
# Few distinct scores, so that ties are the rule.
SCORES = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.5000001, 0.75, 1.0])


@st.composite
def binary_rows(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Labels of both classes, and probabilities."""
    n = draw(st.integers(2, 40))
    y = draw(arrays(np.int64, n, elements=st.integers(0, 1)).filter(lambda y: 0 < y.sum() < len(y)))
    return y, draw(arrays(np.float64, n, elements=st.one_of(SCORES, st.floats(0, 1))))


@pytest.mark.parametrize("name", ORACLES)
@settings(max_examples=50)
@given(rows=binary_rows())
def test_binary_metrics_agree_with_scikit_learn(name: str, rows: tuple[np.ndarray, np.ndarray]) -> None:
    assert metrics.compute(name, BINARY, *rows) == pytest.approx(ORACLES[name](*rows), abs=1e-9)


def test_every_binary_metric_has_an_oracle_here() -> None:
    assert set(ORACLES) == set(BINARY.definition.metrics)


@pytest.mark.parametrize("seed", range(5))
def test_multiclass_metrics_agree_with_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    y, p = rng.integers(0, 4, 200), rng.dirichlet(np.full(5, 0.3), 200)  # the fifth class has no label
    calls = p.argmax(axis=1)
    assert metrics.compute("accuracy", MULTICLASS, y, p) == pytest.approx(sk.accuracy_score(y, calls))
    assert metrics.compute("log_loss", MULTICLASS, y, p) == pytest.approx(sk.log_loss(y, p, labels=range(5)))
    assert metrics.compute("f1_macro", MULTICLASS, y, p) == pytest.approx(sk.f1_score(y, calls, average="macro"))


@given(seed=st.integers(0, 2**32), scale=st.floats(0.01, 1e6), shift=st.floats(-1e6, 1e6))
def test_regression_metrics_agree_with_scikit_learn(seed: int, scale: float, shift: float) -> None:
    rng = np.random.default_rng(seed)
    y = rng.normal(size=30) * scale + shift
    p = y + rng.normal(size=30) * scale / 3
    assert metrics.compute("mae", REGRESSION, y, p) == pytest.approx(sk.mean_absolute_error(y, p))
    assert metrics.compute("rmse", REGRESSION, y, p) == pytest.approx(sk.root_mean_squared_error(y, p))
    assert metrics.compute("r2", REGRESSION, y, p) == pytest.approx(sk.r2_score(y, p), rel=1e-6, abs=1e-6)


@given(rows=binary_rows())
def test_area_is_the_chance_that_a_positive_beats_a_negative(rows: tuple[np.ndarray, np.ndarray]) -> None:
    y, p = rows
    duels = [(a > b) + (a == b) / 2 for a in p[y == 1] for b in p[y == 0]]
    assert metrics.compute("roc_auc", BINARY, y, p) == pytest.approx(np.mean(duels))


@given(rows=binary_rows())
def test_turning_the_scores_round_turns_the_area_round(rows: tuple[np.ndarray, np.ndarray]) -> None:
    y, p = rows
    area = metrics.compute("roc_auc", BINARY, y, p)
    assert metrics.compute("roc_auc", BINARY, 1 - y, p) == pytest.approx(1 - area)


def test_row_losses_are_the_parts_of_the_metric() -> None:
    rng = np.random.default_rng(1)
    y, p = rng.integers(0, 2, 50), rng.random(50)
    assert metrics.row_losses("brier", BINARY, [1, 0], [0.9, 0.4]) == pytest.approx([0.01, 0.16])
    assert metrics.row_losses("log_loss", BINARY, [1, 0], [0.9, 0.4]) == pytest.approx([-math.log(0.9), -math.log(0.6)])
    assert metrics.row_losses("accuracy", BINARY, [1, 0], [0.9, 0.5]).tolist() == [1, 0]
    assert metrics.row_losses("mae", REGRESSION, [1, 5], [3, 4]).tolist() == [2, 1]
    assert metrics.row_losses("brier", BINARY, y, p).mean() == pytest.approx(sk.brier_score_loss(y, p))
    with pytest.raises(ValueError, match="not a mean over rows"):
        metrics.row_losses("roc_auc", BINARY, y, p)


@pytest.mark.parametrize(("name", "y"), [("roc_auc", [1, 1]), ("roc_auc", [0, 0]), ("recall", [0, 0]), ("f1", [0, 0])])
def test_one_class_is_undefined(name: str, y: list[int]) -> None:
    with pytest.raises(metrics.Undefined):
        metrics.compute(name, BINARY, y, [0.2, 0.7])


def test_other_rows_without_an_answer() -> None:
    with pytest.raises(metrics.Undefined, match="equal"):
        metrics.compute("r2", REGRESSION, [3, 3], [1, 2])
    with pytest.raises(metrics.Undefined, match="no rows"):
        metrics.compute("brier", BINARY, [], [])


@pytest.mark.parametrize(
    ("task", "y", "prediction", "said"),
    [
        (BINARY, [0, 1], [0.5], "do not fit"),
        (BINARY, [0, 1], [[0.5, 0.5], [0.5, 0.5]], "do not fit"),
        (MULTICLASS, [0, 1], [0.5, 0.5], "do not fit"),
        (BINARY, [0, 1], [0.5, math.nan], "1 of 2 predictions"),
        (BINARY, [0, math.nan], [0.5, 0.5], "1 of 2 labels"),
        (BINARY, [0, 2], [0.5, 0.5], "class the model does not know"),
        (MULTICLASS, [0, 2], [[0.5, 0.5], [0.5, 0.5]], "class the model does not know"),
        (BINARY, [0, 1], [0.5, 1.5], "not probabilities"),
        (BINARY, ["a", "b"], [0.5, 0.5], "not numbers"),
    ],
)
def test_arrays_that_do_not_fit(task: Task, y: list[Any], prediction: list[Any], said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        metrics.compute("accuracy", task, y, prediction)
    assert isinstance(caught.value, DataError)  # told to a person, not a stack trace
    assert not isinstance(caught.value, metrics.Undefined)


def test_a_metric_of_another_task() -> None:
    for name in ("rmse", "no such"):
        with pytest.raises(ValueError, match="roc_auc, average_precision"):
            metrics.compute(name, BINARY, [0, 1], [0, 1])


def test_the_table_says_what_the_formulas_do() -> None:
    """Better predictions must move each metric the way ``greater_is_better`` says."""
    y, good, bad = [0, 1, 1, 0], [0.1, 0.8, 0.7, 0.2], [0.6, 0.7, 0.3, 0.4]
    for task in Task:
        for name, metric in task.definition.metrics.items():
            worse, better = (np.column_stack([1 - np.array(p), p]) if task is MULTICLASS else p for p in (bad, good))
            up = metrics.compute(name, task, y, better) > metrics.compute(name, task, y, worse)
            assert up == metric.greater_is_better, name


def test_calibration_error_by_hand() -> None:
    """Two bins: 0.1 said and 0 seen on two rows, 0.9 said and 0.5 seen on two rows."""
    y, p = np.array([0.0, 0, 1, 0]), np.array([0.1, 0.1, 0.9, 0.9])
    gap, spread = 0.4, math.sqrt(0.5 * 0.5 / 2)  # of the second bin; the first is certain of its rate
    chance = foldnorm(gap / spread, scale=spread).mean() - gap
    assert calibration.debiased_ece(y, p) == pytest.approx(0.25 - chance / 2)
    rng = np.random.default_rng(2)
    p = rng.random(200_000)
    assert calibration.debiased_ece((rng.random(200_000) < p).astype(float), p) < 0.002
