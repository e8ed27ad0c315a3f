"""Metrics and their bounds as laws: what must not change a number, what must move it and where to, and exact bounds by scipy."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.calibration import calibration_curve

from noria.kernel.task import Task
from noria.stats import calibration, intervals, metrics

EVERY = [(name, task) for task in Task for name in task.definition.metrics]
SEEDS = st.integers(0, 2**32)
Rows = tuple[np.ndarray, np.ndarray]


def rows_of(task: Task, seed: int, n: int = 40) -> Rows:
    """Labels of all classes, and answers that tell something of them."""
    rng = np.random.default_rng(seed)
    if task is Task.REGRESSION:
        y = rng.normal(size=n)
        return y, y + rng.normal(size=n)
    if task is Task.BINARY:
        y = rng.permutation(np.arange(n) % 2)
        return y, np.clip(0.3 + 0.4 * y + rng.normal(0, 0.3, n), 0.0, 1.0)
    y = rng.permutation(np.arange(n) % 3)
    return y, rng.dirichlet([1, 1, 1], n) * 0.6 + 0.4 * np.eye(3)[y]


@pytest.mark.parametrize(("name", "task"), EVERY)
@given(seed=SEEDS)
@settings(max_examples=15)
def test_neither_order_nor_a_second_copy_of_all_rows_changes_a_metric(name: str, task: Task, seed: int) -> None:
    y, p = rows_of(task, seed)
    value = metrics.compute(name, task, y, p)
    order = np.random.default_rng(seed).permutation(len(y))
    assert metrics.compute(name, task, y[order], p[order]) == pytest.approx(value, rel=1e-12)
    assert metrics.compute(name, task, np.tile(y, 2), np.concatenate([p, p])) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(("name", "task"), [(name, task) for name, task in EVERY if task.definition.metrics[name].per_row])
@given(seed=SEEDS)
@settings(max_examples=15)
def test_a_mean_over_rows_is_that_of_its_parts(name: str, task: Task, seed: int) -> None:
    y, p = rows_of(task, seed, 30)
    parts = [metrics.compute(name, task, y[at], p[at]) for at in (slice(0, 10), slice(10, 30))]
    assert metrics.compute(name, task, y, p) == pytest.approx((10 * parts[0] + 20 * parts[1]) / 30)


@given(seed=SEEDS, power=st.floats(0.2, 5))
def test_ranking_metrics_know_nothing_but_the_order(seed: int, power: float) -> None:
    y, p = rows_of(Task.BINARY, seed)
    p = p.round(2)
    for name in ("roc_auc", "average_precision"):
        assert metrics.compute(name, Task.BINARY, y, p**power) == pytest.approx(metrics.compute(name, Task.BINARY, y, p))


@given(seed=SEEDS)
def test_two_classes_of_many_are_the_binary_ones(seed: int) -> None:
    y, p = rows_of(Task.BINARY, seed)
    p = np.clip(p, 0.01, 0.99)
    both = np.column_stack([1 - p, p])
    for name in ("accuracy", "log_loss"):
        assert metrics.compute(name, Task.MULTICLASS, y, both) == pytest.approx(metrics.compute(name, Task.BINARY, y, p))


@given(seed=SEEDS, shift=st.floats(-1e3, 1e3), scale=st.floats(1e-3, 1e3))
def test_errors_have_the_unit_of_the_label_and_r2_has_none(seed: int, shift: float, scale: float) -> None:
    y, p = rows_of(Task.REGRESSION, seed)
    for name, unit in (("mae", scale), ("rmse", scale), ("r2", 1.0)):
        moved = metrics.compute(name, Task.REGRESSION, y * scale + shift, p * scale + shift)
        assert moved == pytest.approx(unit * metrics.compute(name, Task.REGRESSION, y, p), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("task", [Task.BINARY, Task.MULTICLASS])
def test_called_classes_stand_for_certain_answers(task: Task) -> None:
    y, p = rows_of(task, 5)
    calls = np.random.default_rng(6).integers(0, 2, len(y))
    for name, metric in task.definition.metrics.items():
        faced = metrics.facing(name, task, p, calls)
        assert np.array_equal(metrics.predicted_classes(faced), calls) is metric.of_classes
        assert metrics.facing(name, task, p, None) is p
        if not metric.of_classes:
            assert faced is p


@pytest.mark.parametrize("threshold", [0.5 - 1e-12, 0.5, 0.5 + 1e-12])
def test_a_half_is_called_positive(threshold: float) -> None:
    assert metrics.predicted_classes(np.array([threshold])).tolist() == [int(threshold >= 0.5)]


@pytest.mark.parametrize(("said", "ok"), [(-1e-6, True), (1 + 1e-6, True), (-2e-6, False), (1 + 2e-6, False)])
def test_a_probability_may_miss_its_ends_by_what_floats_do(said: float, ok: bool) -> None:
    if ok:
        assert metrics.compute("brier", Task.BINARY, [0, 1], [said, 0.5]) >= 0
        assert math.isfinite(metrics.compute("log_loss", Task.BINARY, [0, 1], [said, 0.5]))
    else:
        with pytest.raises(metrics.UnfitError, match="1 of 2 predictions are not probabilities between 0 and 1"):
            metrics.compute("brier", Task.BINARY, [0, 1], [said, 0.5])


@pytest.mark.parametrize(("name", "task"), EVERY)
@given(seed=SEEDS, n=st.integers(8, 40))
@settings(max_examples=8)
def test_bounds_hold_the_value_and_widen_with_confidence(name: str, task: Task, seed: int, n: int) -> None:
    y, p = rows_of(task, seed, n)
    found = [intervals.measure(name, task, y, p, confidence) for confidence in (0.6, 0.8, 0.95, 0.999)]
    for narrow, wide in itertools.pairwise(found):
        assert wide.low <= narrow.low + 1e-12
        assert wide.high >= narrow.high - 1e-12
    for one in found:
        assert one.low <= one.value <= one.high
        assert one.value == metrics.compute(name, task, y, p)
        assert one.n == n


@pytest.mark.parametrize(("name", "task"), EVERY)
def test_bounds_do_not_depend_on_the_order_of_rows(name: str, task: Task) -> None:
    y, p = rows_of(task, 8, 60)
    q = np.roll(p, 1, axis=0) * 0.3 + p * 0.7
    order = np.random.default_rng(9).permutation(len(y))
    one, other = (intervals.compare(name, task, y[at], p[at], q[at]) for at in (np.arange(60), order))
    assert (other.difference, other.low, other.high) == pytest.approx((one.difference, one.low, one.high), rel=1e-9, abs=1e-9)
    assert other.n == one.n == 60


@given(seed=SEEDS, confidence=st.sampled_from([0.8, 0.9, 0.95, 0.99]))
@settings(max_examples=40)
def test_shares_have_the_exact_bounds_of_scipy(seed: int, confidence: float) -> None:
    y, p = rows_of(Task.BINARY, seed, 30)
    called, real = p >= 0.5, y == 1
    shares = {"accuracy": (int((called == real).sum()), 30), "recall": (int((called & real).sum()), int(real.sum()))}
    if called.any():
        shares["precision"] = (int((called & real).sum()), int(called.sum()))
    for name, (hits, n) in shares.items():
        low = binomtest(hits, n, alternative="greater").proportion_ci(confidence).low
        high = binomtest(hits, n, alternative="less").proportion_ci(confidence).high
        found = intervals.measure(name, Task.BINARY, y, p, confidence)
        assert (found.low, found.high) == pytest.approx((low, high), abs=1e-9), name


@pytest.mark.parametrize(("name", "task"), EVERY)
def test_a_perfect_model_is_not_known_to_be_perfect(name: str, task: Task) -> None:
    """Rows that were not seen may be wrong: the bound towards worse has a width."""
    y, _ = rows_of(task, 10, 50)
    perfect = np.eye(3)[y] if task is Task.MULTICLASS else y.astype(float)
    found = intervals.measure(name, task, y, perfect)
    greater_is_better = task.definition.metrics[name].greater_is_better
    assert (-found.low if greater_is_better else found.high) > (-found.value if greater_is_better else found.value)


@given(seed=SEEDS)
@settings(max_examples=10)
def test_calibration_error_beside_the_curve_of_scikit_learn(seed: int) -> None:
    """Less the bias, as `normal_debiased_ce` of Kumar, Liang and Ma draws it: twice the error, less its mean of normal rates."""
    rng = np.random.default_rng(seed)
    p = rng.random(300) ** 2
    y = (rng.random(300) < p**0.5).astype(float)
    seen, said = calibration_curve(y, p, n_bins=calibration.BINS, strategy="quantile")
    drawn = rng.normal(seen, np.sqrt(seen * (1 - seen) / 20), (20_000, calibration.BINS))  # 20 rows in each bin
    expected = 2 * np.abs(seen - said).mean() - np.abs(drawn - said).mean()
    assert calibration.debiased_ece(y, p) == pytest.approx(max(0.0, expected), abs=2e-3)


def test_calibration_error_is_not_what_chance_makes() -> None:
    """Of a calibrated model, whose error is 0: on few rows most of what is seen is chance."""
    rng = np.random.default_rng(4)
    p = rng.random((300, 200))
    y = (rng.random(p.shape) < p).astype(float)
    plain = []
    for labels, said in zip(y, p, strict=True):
        rate, mean = calibration_curve(labels, said, n_bins=calibration.BINS, strategy="quantile")
        plain.append(np.abs(rate - mean).mean())
    corrected = [calibration.debiased_ece(labels, said) for labels, said in zip(y, p, strict=True)]
    assert np.mean(plain) > 0.08
    assert np.mean(corrected) < 0.65 * np.mean(plain)


def test_calibration_error_of_several_classes_is_that_of_the_likeliest() -> None:
    y, p = rows_of(Task.MULTICLASS, 7, 200)
    right = (p.argmax(axis=1) == y).astype(float)
    assert calibration.debiased_ece(y.astype(float), p) == pytest.approx(calibration.debiased_ece(right, p.max(axis=1)))


@pytest.mark.parametrize(
    ("y", "p", "error"),
    [([1, 0], [1.0, 0.0], 0.0), ([0, 1], [1.0, 0.0], 1.0), ([1], [0.5], 0.5), ([1, 1, 0, 0], [0.5] * 4, 0.0)],
)
def test_calibration_error_at_its_ends(y: list[int], p: list[float], error: float) -> None:
    assert calibration.debiased_ece(np.array(y, dtype=float), np.array(p)) == pytest.approx(error)
