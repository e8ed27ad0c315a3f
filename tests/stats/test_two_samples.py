"""Distances of two samples and their tests: known values, agreement with SciPy, and how often chance is called a change."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from noria.stats import two_samples

numbers = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40).map(np.array)
counts = st.lists(st.integers(0, 50), min_size=2, max_size=8)


@given(numbers, numbers)
def test_distances_of_numbers_are_those_of_scipy(a: np.ndarray, b: np.ndarray) -> None:
    shares = [scipy_stats.ecdf(one).cdf.evaluate(np.concatenate([a, b])) for one in (a, b)]
    assert two_samples.kolmogorov_smirnov(a, b) == pytest.approx(np.abs(shares[0] - shares[1]).max())
    assert two_samples.wasserstein(a, b) == pytest.approx(scipy_stats.wasserstein_distance(a, b), abs=1e-6)


@given(counts.flatmap(lambda a: st.tuples(st.just(a), st.lists(st.integers(0, 50), min_size=len(a), max_size=len(a)))))
def test_distances_of_counts_lie_between_0_and_1_and_agree_on_equality(pair: tuple[list[int], list[int]]) -> None:
    a, b = (np.array(one, dtype=np.float64) + 1e-9 for one in pair)
    variation, shannon = two_samples.total_variation(a, b), two_samples.jensen_shannon(a, b)
    assert 0 <= shannon**2 <= variation + 1e-9 <= 1 + 2e-9  # Lin 1991: the divergence is at most the variation
    assert two_samples.total_variation(a, a) == two_samples.jensen_shannon(a, a) == 0


def test_a_table_of_counts_is_tested_as_scipy_does() -> None:
    a, b = np.array([30.0, 20, 50]), np.array([60.0, 10, 40])
    expected = scipy_stats.chi2_contingency(np.stack([a, b]), correction=False).pvalue
    assert two_samples.homogeneity_p_value(a, b, two_samples.effective_rows(100, 110)) == pytest.approx(expected)


@pytest.mark.parametrize(("hits", "n", "others", "m"), [(0, 10, 4, 9), (3, 100, 1, 5), (7, 7, 1, 30), (0, 50, 1, 50)])
def test_few_rows_are_tested_exactly(hits: int, n: int, others: int, m: int) -> None:
    expected = scipy_stats.fisher_exact([[hits, n - hits], [others, m - others]]).pvalue
    assert two_samples.exact_p_value((hits, n), (others, m)) == pytest.approx(expected)
    assert two_samples.share_p_value((hits, n), (others, m), two_samples.effective_rows(n, m)) == pytest.approx(expected)


def test_two_counts_and_several_tests_at_once() -> None:
    assert two_samples.count_p_value(10, 10) == 1
    assert two_samples.count_p_value(0, 0) == 1
    assert two_samples.count_p_value(10, 40) == pytest.approx(scipy_stats.binomtest(10, 50).pvalue)
    assert two_samples.holm([0.04, 0.001, 0.02], 0.05) == [True, True, True]
    assert two_samples.holm([0.04, 0.001, 0.03], 0.05) == [False, True, False]
    assert two_samples.holm([], 0.05) == []


def test_rows_in_common_make_two_samples_agree() -> None:
    assert two_samples.effective_rows(100, 100) == 50
    assert two_samples.effective_rows(100, 200, 100) == pytest.approx(200)  # the second holds the first: 1/100 - 1/200
    assert two_samples.effective_rows(100, 100, 100) == np.inf
    assert two_samples.effective_rows(0, 100) == 0
    assert two_samples.kolmogorov_smirnov_p_value(0.0, np.inf) == 1


@pytest.mark.parametrize("shared", [0, 150])
def test_chance_is_seldom_called_a_change(shared: int) -> None:
    """Of 400 pairs of samples from one source, about 5 % lie beyond the 5 % bound, also where they hold rows in common."""
    rng = np.random.default_rng(13)
    alarms = np.zeros(3)
    for _ in range(400):
        common = rng.normal(size=shared)
        a, b = (np.concatenate([common, rng.normal(size=200 - shared + more)]) for more in (0, 50))
        rows = two_samples.effective_rows(len(a), len(b), shared)
        alarms[0] += two_samples.kolmogorov_smirnov_p_value(two_samples.kolmogorov_smirnov(a, b), rows) < 0.05
        cells = [np.bincount(np.clip(np.floor(one) + 3, 0, 5).astype(int), minlength=6).astype(float) for one in (a, b)]
        alarms[1] += two_samples.homogeneity_p_value(*cells, rows) < 0.05
        alarms[2] += two_samples.share_p_value((int((a > 0).sum()), len(a)), (int((b > 0).sum()), len(b)), rows) < 0.05
    assert (alarms <= 400 * 0.09).all(), alarms
    assert (alarms[1:] >= 400 * 0.02).all(), alarms
