"""Bounds of quantiles: values of an independent implementation, ranks by hand, and simulated error rates."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from noria.stats import quantiles

# confseq 0.0.11: boundaries.beta_binomial_log_mixture(s - n p, n p (1 - p), 1000 p (1 - p), p, 1 - p, alpha, True).
CONFSEQ = {
    (60, 1000, 0.05, 0.025): 0.3933742215329339,
    (80, 1000, 0.05, 0.025): 6.778243103561618,
    (3, 20, 0.05, 0.005): 0.6501540943970952,
    (995, 1000, 0.99, 0.025): 0.921694379022072,
    (540, 1000, 0.5, 0.025): 2.43361692188347,
    (10_300, 20_000, 0.5, 0.005): 6.9251664953684156,
}


@pytest.mark.parametrize("case", CONFSEQ)
def test_the_capital_is_that_of_the_authors_own_package(case: tuple[int, int, float, float]) -> None:
    assert quantiles.log_capital(*case) == pytest.approx(CONFSEQ[case], abs=1e-9)


@pytest.mark.parametrize("p", [0.05, 0.5, 0.99])
def test_the_game_is_fair_at_the_chance_itself(p: float) -> None:
    n = 40
    capital = [math.exp(quantiles.log_capital(k, n, p, 0.05)) for k in range(n + 1)]
    assert binom.pmf(range(n + 1), n, p) @ capital == pytest.approx(1, rel=1e-6)
    assert binom.pmf(range(n + 1), n, 0.9 * p) @ capital < 1
    assert capital == sorted(capital)


@pytest.mark.parametrize("p", [0.5, 0.9, 0.99])
def test_the_quantile_is_seldom_ever_left_out_however_often_one_looks(p: float) -> None:
    """Whether the true quantile is within depends on how many values lie below it only: a look after each of 800 values."""
    rng, runs, alpha = np.random.default_rng(12), 800, 0.1
    below = np.cumsum(rng.random((runs, 800)) < p, axis=1)
    ranks = np.array([quantiles.ranks(n, p, alpha) for n in range(1, 801)])
    # The quantile lies at or above the value of rank r when at least r values lie at or below it.
    left_out = ((below < ranks[:, 0]) | (below >= ranks[:, 1])).any(axis=1)
    assert left_out.mean() <= alpha + 4 * math.sqrt(alpha * (1 - alpha) / runs)


@given(st.lists(st.floats(0, 1000), max_size=200), st.floats(0.01, 0.99), st.floats(0.01, 0.5))
def test_the_bounds_are_values_of_their_ranks(values: list[float], p: float, alpha: float) -> None:
    low, high = quantiles.quantile_bounds(values, p, alpha)
    below, above = quantiles.ranks(len(values), p, alpha)
    assert 0 <= below < above <= len(values) + 1
    assert low == (sorted(values)[below - 1] if below else -math.inf)
    assert high == (sorted(values)[above - 1] if above <= len(values) else math.inf)


@given(st.lists(st.floats(0.001, 100), max_size=400), st.floats(0.05, 0.95))
def test_bins_only_widen_the_bounds(values: list[float], p: float) -> None:
    edges = [0.0, 1.0, 5.0, 20.0, 50.0, math.inf]
    counts = [sum(a < value <= b for value in values) for a, b in itertools.pairwise(edges)]
    low, high = quantiles.binned_bounds(edges, counts, p, 0.1)
    exact_low, exact_high = quantiles.quantile_bounds(values, p, 0.1)
    assert low <= exact_low
    assert high >= exact_high
    if math.isfinite(exact_low):
        assert not any(low < edge < exact_low for edge in edges)  # no wider than one bin


def test_two_arms() -> None:
    rng = np.random.default_rng(8)
    old, new = rng.lognormal(3, 0.5, 5000), rng.lognormal(3.3, 0.5, 5000)
    low, high = quantiles.quantile_difference(new, old, 0.95, 0.05)
    assert 0 < low < np.quantile(new, 0.95) - np.quantile(old, 0.95) < high < math.inf
    low, high = quantiles.quantile_difference(old[:2500], old[2500:], 0.95, 0.05)
    assert low < 0 < high


def test_too_little_is_said_as_infinity() -> None:
    assert quantiles.quantile_bounds([], 0.5, 0.05) == (-math.inf, math.inf)
    low, high = quantiles.quantile_bounds(range(100), 0.99, 0.05)
    assert 80 < low < 99
    assert high == math.inf
    assert quantiles.binned_bounds([0, 10], [0], 0.5, 0.05) == (-math.inf, math.inf)


def test_what_does_not_fit_is_refused() -> None:
    for bad in ((1.0, 0.05), (0.5, 0.0)):
        with pytest.raises(ValueError):
            quantiles.ranks(10, *bad)
    with pytest.raises(ValueError):
        quantiles.quantile_bounds([1.0, math.nan], 0.5, 0.1)
    for edges, counts in (([0, 1], [1, 2]), ([0, 0, 1], [1, 2]), ([0, 1], [-1])):
        with pytest.raises(ValueError):
            quantiles.binned_bounds(edges, counts, 0.5, 0.1)
