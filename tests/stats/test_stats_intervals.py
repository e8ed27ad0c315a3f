"""Bounds: against brute force, against the bootstrap, and against their promise in simulation."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from noria.kernel.task import Task
from noria.stats import intervals, metrics

Z95 = 1.6448536269514722
Rows = tuple[np.ndarray, np.ndarray, np.ndarray]


def scored(seed: int, n: int = 300, shift: float = 1.0) -> Rows:
    """Labels and two models that share most of what they see; the scores as probabilities."""
    rng = np.random.default_rng(seed)
    y = (rng.random(n) < 0.3).astype(int)
    seen = shift * y + rng.normal(size=n)
    squash: Callable[[np.ndarray], np.ndarray] = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    return y, squash(seen), squash(seen + 0.7 * rng.normal(size=n))


def brute_force_variance(y: np.ndarray, p: np.ndarray, q: np.ndarray) -> float:
    """DeLong's variance of a difference of areas from all pairs, as the paper writes it."""
    kernel = lambda s: (s[y == 1][:, None] > s[y == 0]) + 0.5 * (s[y == 1][:, None] == s[y == 0])  # noqa: E731
    difference = kernel(p) - kernel(q)
    rows, columns = difference.mean(axis=1), difference.mean(axis=0)
    return float(rows.var(ddof=1) / len(rows) + columns.var(ddof=1) / len(columns))


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32), digits=st.integers(1, 3))
def test_delong_is_what_the_paper_says(seed: int, digits: int) -> None:
    """On the logit scale: near a half that is nearly the scale itself."""
    y, p, q = scored(seed, 120)
    p, q = p.round(digits), q.round(digits)  # ties
    assume(min(y.sum(), len(y) - y.sum()) * (1 - max(sk.roc_auc_score(y, p), sk.roc_auc_score(y, q))) >= intervals.FEW_WRONG)
    one = intervals.measure("roc_auc", Task.BINARY, y, p)
    slope = one.value * (1 - one.value)
    expected = Z95 * math.sqrt(brute_force_variance(y, p, np.zeros(len(y)))) / slope
    logit = math.log(one.value / (1 - one.value))
    assert (one.low, one.high) == pytest.approx((1 / (1 + math.exp(expected - logit)), 1 / (1 + math.exp(-expected - logit))))
    both = intervals.compare("roc_auc", Task.BINARY, y, p, q)
    around = Z95 * math.sqrt(brute_force_variance(y, p, q))
    added, rare = Z95**2 / 2, min(int(y.sum()), int(len(y) - y.sum()))  # and rows that were not seen
    wider = 1.3 * (added + Z95 * math.sqrt(added)) / rare
    assert around * 0.8 < (both.high - both.low) / 2 < around + wider + 0.01
    assert both.difference == pytest.approx(sk.roc_auc_score(y, p) - sk.roc_auc_score(y, q))


def test_delong_agrees_with_the_bootstrap() -> None:
    y, p, q = scored(8, 1000)
    rng, areas = np.random.default_rng(9), []
    for _ in range(300):
        i = rng.integers(0, len(y), len(y))
        areas.append((sk.roc_auc_score(y[i], p[i]), sk.roc_auc_score(y[i], p[i]) - sk.roc_auc_score(y[i], q[i])))
    single, paired = np.std(areas, axis=0)
    one, both = intervals.measure("roc_auc", Task.BINARY, y, p), intervals.compare("roc_auc", Task.BINARY, y, p, q)
    assert one.high - one.value == pytest.approx(Z95 * single, rel=0.2)
    assert 0.8 < (both.high - both.difference) / (Z95 * paired) < 1.6


def test_delong_bounds_hold_as_often_as_stated() -> None:
    truth, runs = NormalDist().cdf(1 / math.sqrt(2)), 800  # of two normals one standard deviation apart
    found = [intervals.measure("roc_auc", Task.BINARY, *scored(seed)[:2]) for seed in range(runs)]
    slack = 4 * math.sqrt(0.05 * 0.95 / runs)
    assert np.mean([m.low <= truth for m in found]) == pytest.approx(0.95, abs=slack)
    assert np.mean([m.high >= truth for m in found]) == pytest.approx(0.95, abs=slack)


@pytest.mark.parametrize("name", ["brier", "average_precision", "f1"])
def test_paired_bounds_hold_as_often_as_stated(name: str) -> None:
    y, p, q = scored(10_000, 400_000)
    truth = metrics.compute(name, Task.BINARY, y, p) - metrics.compute(name, Task.BINARY, y, q)
    runs = 100
    found = [intervals.compare(name, Task.BINARY, *scored(seed, 400)) for seed in range(runs)]
    for held in (np.mean([c.low <= truth for c in found]), np.mean([c.high >= truth for c in found])):
        assert held >= 0.95 - 4 * math.sqrt(0.05 * 0.95 / runs)


@pytest.mark.parametrize("name", ["precision", "recall", "f1", "accuracy"])
def test_where_many_rows_differ_bounds_are_those_of_resampled_rows(name: str) -> None:
    y, p, q = scored(4, 800)
    rng, values = np.random.default_rng(5), []
    for _ in range(400):
        i = rng.integers(0, len(y), len(y))
        values.append(metrics.compute(name, Task.BINARY, y[i], p[i]) - metrics.compute(name, Task.BINARY, y[i], q[i]))
    low, high = np.quantile(values, [0.05, 0.95])
    found = intervals.compare(name, Task.BINARY, y, p, q)
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.25 * (high - low))


@pytest.mark.parametrize("name", ["rmse", "r2"])
def test_bounds_of_errors_are_those_of_resampled_rows(name: str) -> None:
    rng = np.random.default_rng(6)
    y = rng.normal(1000, 2, 500)
    p = y + rng.normal(size=500)
    values = [metrics.compute(name, Task.REGRESSION, y[i], p[i]) for i in rng.integers(0, 500, (400, 500))]
    low, high = np.quantile(values, [0.05, 0.95])
    found = intervals.measure(name, Task.REGRESSION, y, p)
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.25 * (high - low))


def test_bounds_of_f1_macro_are_those_of_resampled_rows() -> None:
    rng = np.random.default_rng(7)
    y, p = rng.integers(0, 3, 300), rng.dirichlet([1, 1, 1], 300)
    values = [metrics.compute("f1_macro", Task.MULTICLASS, y[i], p[i]) for i in rng.integers(0, 300, (400, 300))]
    low, high = np.quantile(values, [0.05, 0.95])
    found = intervals.measure("f1_macro", Task.MULTICLASS, y, p)
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.25 * (high - low))


def test_bounds_of_a_mean() -> None:
    p = [0.1, 0.2, 0.3, 0.4] * 100
    found = intervals.measure("brier", Task.BINARY, [0.0] * 400, p)
    seen = float(np.square(p).var()) * 400 * 400 / 399
    added = Z95**2 / 2  # rows that were not seen, which may be as bad as 1, or as good as 0
    up = (added * (1 - 0.075) + Z95 * math.sqrt(seen + added * (1 - 0.075) ** 2)) / 400
    down = (added * 0.075 + Z95 * math.sqrt(seen + added * 0.075**2)) / 400
    assert (found.value, found.low, found.high, found.n) == pytest.approx((0.075, 0.075 - down, 0.075 + up, 400))
    assert found.positives == 0
    assert intervals.measure("mae", Task.REGRESSION, [0.0] * 4, [1.0, 2.0, 3.0, 4.0]).positives is None
    assert intervals.measure("brier", Task.BINARY, [0, 1, 1], [0.1, 0.5, 0.9]).positives == 2


@pytest.mark.parametrize("name", Task.BINARY.definition.metrics)
def test_bounds_in_general(name: str) -> None:
    y, p, q = scored(12)
    one, both = intervals.measure(name, Task.BINARY, y, p), intervals.compare(name, Task.BINARY, y, p, q)
    assert one.low < one.value < one.high
    assert one == intervals.measure(name, Task.BINARY, y, p)  # the same bounds each time
    wider = intervals.measure(name, Task.BINARY, y, p, confidence=0.99)
    assert wider.low < one.low
    assert wider.high > one.high
    assert both.champion == pytest.approx(metrics.compute(name, Task.BINARY, y, q))
    back = intervals.compare(name, Task.BINARY, y, q, p)
    assert (back.difference, back.low, back.high) == pytest.approx((-both.difference, -both.high, -both.low), abs=0.02)
    same = intervals.compare(name, Task.BINARY, y, p, p)
    assert same.difference == 0
    assert same.low < 0 < same.high  # number 40: rows that were not seen may differ


def test_too_few_rows_for_bounds() -> None:
    with pytest.raises(metrics.Undefined):
        intervals.measure("roc_auc", Task.BINARY, [0, 0, 1], [0.1, 0.2, 0.3])
    for name in ("brier", "average_precision", "f1"):
        with pytest.raises(metrics.Undefined):
            intervals.measure(name, Task.BINARY, [1], [0.7])


def test_six_thousand_rows_are_fast() -> None:
    y, p, _ = scored(1, 6000)
    took = []
    for _ in range(5):
        start = time.perf_counter()
        intervals.measure("roc_auc", Task.BINARY, y, p)
        took.append(time.perf_counter() - start)
    assert min(took) < 0.020
