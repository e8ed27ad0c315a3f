"""Curves against scikit-learn's, and thinning that nobody sees."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve

from noria.stats import curves
from noria.stats.curve_records import Points


def holdout(n: int, seed: int = 0, digits: int = 9) -> tuple[np.ndarray, np.ndarray]:
    """Labels and probabilities; with few digits many scores are equal."""
    random = np.random.default_rng(seed)
    p = np.round(random.beta(2, 5, n), digits)
    return (random.random(n) < p).astype(float), p


@pytest.mark.parametrize("digits", [1, 9])
def test_roc_and_precision_recall_are_those_of_scikit_learn(digits: int) -> None:
    y, p = holdout(3000, digits=digits)
    false, true = curves.roc(y, p)
    theirs = sk.roc_curve(y, p, drop_intermediate=False)
    np.testing.assert_allclose(false, theirs[0])
    np.testing.assert_allclose(true, theirs[1])
    recall, precision = curves.precision_recall(y, p)
    other = sk.precision_recall_curve(y, p)
    np.testing.assert_allclose(recall, other[1][::-1])
    np.testing.assert_allclose(precision[1:], other[0][::-1][1:])  # theirs begins with a made-up 1


def test_gain_is_the_share_found_among_the_highest() -> None:
    y, p = holdout(500)
    rows, found = curves.gain(y, p)
    best = np.argsort(-p)
    for share in (0.1, 0.5, 0.9):
        wanted = y[best[: int(share * 500)]].sum() / y.sum()
        assert np.interp(share, rows, found) == pytest.approx(wanted)
    assert (rows[0], found[0], rows[-1], found[-1]) == (0, 0, 1, 1)


@pytest.mark.parametrize("digits", [1, 9])
def test_calibration_is_that_of_scikit_learn(digits: int) -> None:
    y, p = holdout(2000, digits=digits)
    found = curves.calibration(y, p, shares=True)
    observed, predicted = calibration_curve(y, p, n_bins=curves.BINS, strategy="quantile")
    np.testing.assert_allclose([b.observed for b in found], observed, rtol=1e-4)
    np.testing.assert_allclose([b.predicted for b in found], predicted, rtol=1e-4)
    assert sum(b.rows for b in found) == 2000
    assert all(b.low <= b.observed <= b.high for b in found)


def test_few_rows_make_few_bins() -> None:
    y, p = holdout(50)
    assert [b.rows for b in curves.calibration(y, p, shares=True)] == [25, 25]
    assert len(curves.calibration(y[:1], p[:1], shares=False)) == 1
    same = curves.calibration(y, np.full(50, 0.3), shares=True)
    assert [(b.rows, b.predicted) for b in same] == [(50, 0.3)]


def test_bounds_of_a_bin_hold_what_is_true() -> None:
    """One-sided 95 % each: of 4,000 bins about one in twenty lies beyond either."""
    low = high = count = 0
    for seed in range(400):
        random = np.random.default_rng(seed)
        p = random.uniform(0.05, 0.95, 400)
        for one in curves.calibration((random.random(400) < p).astype(float), p, shares=True):
            low, high, count = low + (one.low > one.predicted), high + (one.high < one.predicted), count + 1
    assert low / count < 0.06
    assert high / count < 0.06


def test_confusion_is_that_of_scikit_learn() -> None:
    random = np.random.default_rng(1)
    y, called = random.integers(0, 4, 900), random.integers(0, 4, 900)
    np.testing.assert_array_equal(curves.confusion(y, called, 4), sk.confusion_matrix(y, called))


def test_residuals_by_answer() -> None:
    random = np.random.default_rng(2)
    answers = random.normal(10, 3, 5000)
    found = curves.residual_bins(answers + random.normal(1, 2, 5000), answers)
    assert len(found) == curves.BINS
    for one in found:
        assert one.p5 < one.p25 < one.p50 < one.p75 < one.p95
        assert one.p50 == pytest.approx(1, abs=0.4)
    edges = curves.residual_edges(np.array([-2.0, 1.0, 0.5] * 100), 4)
    assert edges.tolist() == [-2, -1, 0, 1, 2]
    assert curves.residual_counts(np.array([-3.0, -2.0, 0.5, 2.0, 9.0]), edges) == (1, 1, 0, 1, 0, 2)


@pytest.mark.parametrize("n", [300, 40_000, 300_000])
def test_a_thinned_curve_is_the_curve(n: int) -> None:
    y, p = holdout(n)
    for x, values in (curves.roc(y, p), curves.gain(y, p)):
        thin = curves.thinned(x, values)
        assert len(thin.x) <= curves.MOST
        assert (thin.x[0], thin.x[-1], thin.y[0], thin.y[-1]) == (0, 1, 0, 1)
        assert sk.auc(thin.x, thin.y) == pytest.approx(sk.auc(x, values), abs=0.001)
        assert distance(thin, x, values) < 0.004


def test_a_precision_recall_curve_keeps_its_teeth_and_its_area() -> None:
    y, p = holdout(40_000)
    x, values = curves.precision_recall(y, p)
    thin = curves.thinned(x, values)
    assert len(thin.x) <= curves.MOST
    assert sk.auc(thin.x, thin.y) == pytest.approx(sk.auc(x, values), abs=0.002)
    assert distance(thin, x, values) < 0.02


def distance(thin: Points, x: np.ndarray, y: np.ndarray) -> float:
    """How far the points lie from the thinned line at most: to the nearest of its segments."""
    a = np.column_stack([thin.x[:-1], thin.y[:-1]])
    d = np.column_stack([np.diff(thin.x), np.diff(thin.y)])
    worst = 0.0
    for point in np.column_stack([x, y])[:: max(1, len(x) // 500)]:
        length = (d**2).sum(axis=1)
        t = np.clip(((point - a) * d).sum(axis=1) / np.where(length == 0, 1, length), 0, 1)
        worst = max(worst, float(np.sqrt((((a + t[:, None] * d) - point) ** 2).sum(axis=1)).min()))
    return worst


def test_a_short_curve_keeps_every_corner() -> None:
    thin = curves.thinned(np.array([0, 0, 0.5, 1.0]), np.array([0, 0.5, 0.5, 1.0]))
    assert thin == Points((0, 0, 0.5, 1), (0, 0.5, 0.5, 1))
    straight = curves.thinned(np.linspace(0, 1, 50), np.linspace(0, 1, 50))
    assert straight == Points((0, 1), (0, 1))
