"""Welch's test against scipy and against its promise: under the null, p-values are uniform."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_ind, ttest_ind_from_stats

from noria.stats.welch import welch_p_value

MEAN, SPREAD, SIZE = st.floats(-100, 100), st.floats(0.01, 50), st.integers(2, 400)


@given(a_mean=MEAN, a_sd=SPREAD, a_n=SIZE, b_mean=MEAN, b_sd=SPREAD, b_n=SIZE, margin=st.floats(-5, 5))
def test_agrees_with_scipy(a_mean: float, a_sd: float, a_n: int, b_mean: float, b_sd: float, b_n: int, margin: float) -> None:
    oracle = ttest_ind_from_stats(a_mean - margin, a_sd, a_n, b_mean, b_sd, b_n, equal_var=False, alternative="greater")
    assert welch_p_value(a_mean, a_sd, a_n, b_mean, b_sd, b_n, margin) == pytest.approx(oracle.pvalue, rel=1e-6, abs=1e-12)


def test_agrees_with_scipy_on_raw_values() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.normal(0.4, 3, 12), rng.normal(0, 1, 40)
    mine = welch_p_value(a.mean(), a.std(ddof=1), len(a), b.mean(), b.std(ddof=1), len(b), 0.1)
    assert mine == pytest.approx(ttest_ind(a - 0.1, b, equal_var=False, alternative="greater").pvalue)


@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.5])
def test_false_alarms_are_as_many_as_stated(alpha: float) -> None:
    rng, runs = np.random.default_rng(4), 3000
    a, b = rng.normal(1.2, 2, (runs, 8)), rng.normal(1, 0.5, (runs, 30))
    p = [welch_p_value(x.mean(), x.std(ddof=1), 8, z.mean(), z.std(ddof=1), 30, 0.2) for x, z in zip(a, b, strict=True)]
    assert np.mean(np.array(p) <= alpha) == pytest.approx(alpha, abs=4 * math.sqrt(alpha * (1 - alpha) / runs))


def test_without_spread_the_means_decide() -> None:
    assert welch_p_value(2, 0, 5, 1, 0, 5) == 0
    assert welch_p_value(1, 0, 5, 1, 0, 5) == welch_p_value(2, 0, 5, 1, 0, 5, margin=1) == 1
    assert welch_p_value(0, 0, 9, 0, 1, 9) == pytest.approx(0.5)  # spread on one side only


@pytest.mark.parametrize("scale", [1e-150, 1e150])
def test_the_unit_does_not_matter(scale: float) -> None:
    here, there = welch_p_value(1, 1, 10, 0.2, 2, 20), welch_p_value(scale, scale, 10, 0.2 * scale, 2 * scale, 20)
    assert there == pytest.approx(here)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((math.nan, 1, 5, 0, 1, 5), "finite"),
        ((0, 1, 5, 0, math.inf, 5), "finite"),
        ((0, -1, 5, 0, 1, 5), "negative"),
        ((0, 1, 1, 0, 1, 5), "two values"),
    ],
)
def test_what_it_cannot_judge(given: tuple[float, ...], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        welch_p_value(*given)  # type: ignore[arg-type]
