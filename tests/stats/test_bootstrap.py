"""BCa bounds against SciPy's, and their level by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from noria.stats.bootstrap import bca_bounds
from noria.stats.metrics import Undefined


@pytest.mark.parametrize("seed", range(4))
def test_they_are_scipys(seed: int) -> None:
    values = np.random.default_rng(seed).gamma(1.0, 1.0, 80)
    low, high = bca_bounds(lambda rows: float(values[rows].mean()), 80, resamples=4999)
    due = stats.bootstrap((values,), np.mean, confidence_level=0.9, n_resamples=4999, method="BCa", rng=seed).confidence_interval
    width = due.high - due.low
    assert low == pytest.approx(due.low, abs=0.06 * width)
    assert high == pytest.approx(due.high, abs=0.06 * width)


def test_rows_of_a_unit_are_drawn_together() -> None:
    """20 units of 25 equal rows tell as much as 20 rows."""
    of_units = np.random.default_rng(1).normal(size=20)
    rows, units = np.repeat(of_units, 25), np.repeat(np.arange(20), 25)
    alone = bca_bounds(lambda chosen: float(of_units[chosen].mean()), 20)
    together = bca_bounds(lambda chosen: float(rows[chosen].mean()), 500, units)
    assert together == pytest.approx(alone, rel=1e-9)


def test_the_level_holds_for_a_skewed_ratio() -> None:
    """A ratio of sums over 80 rows: a bound is wrong in about 5 % of samples, on either side (300 samples: ± 2.5 %)."""
    draw = np.random.default_rng(7)
    wrong = [0, 0]
    for _ in range(300):
        weight = draw.gamma(2.0, 1.0, 80)
        error = weight * draw.gamma(1.0, 1.0, 80)

        def ratio(rows: np.ndarray, error: np.ndarray = error, weight: np.ndarray = weight) -> float:
            return float(error[rows].sum() / weight[rows].sum())

        low, high = bca_bounds(ratio, 80, resamples=299)
        wrong[0] += low > 1.0
        wrong[1] += high < 1.0
    assert max(wrong) < 30, wrong


def test_what_has_no_value_has_no_bounds() -> None:
    with pytest.raises(Undefined, match="one independent row"):
        bca_bounds(lambda _: 1.0, 5, np.zeros(5, dtype=np.intp))
    few = np.array([1.0, *[np.nan] * 9])
    with pytest.raises(Undefined, match="resamples"):
        bca_bounds(lambda rows: float(few[rows].mean()), 10)


def test_rows_that_are_all_alike_have_no_width() -> None:
    assert bca_bounds(lambda _: 0.25, 30) == (0.25, 0.25)
