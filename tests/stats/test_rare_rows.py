"""Ranking and losses where what is worse shows in few rows: how often a gate passes what is worse by its margin."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import norm

from noria.kernel.task import Task
from noria.stats import intervals
from noria.stats.metrics import Floats

Rows = tuple[Floats, Floats, Floats]
RUNS, MOST = 300, 37  # of RUNS at 5 %, MOST or more pass with a probability below 1e-6


def squashed(score: Floats) -> Floats:
    return 1 / (1 + np.exp(-score))


def noisy(positives: int, negatives: int, apart: float, noise: float) -> tuple[Callable[[int], Rows], float]:
    """Two normals; the candidate sees the same with noise. Rows by seed, and the true difference of the areas."""
    y = np.repeat([1.0, 0.0], [positives, negatives])

    def rows(seed: int) -> Rows:
        rng = np.random.default_rng([41, seed])
        seen = apart * y + rng.normal(size=len(y))
        return y, squashed(seen + noise * rng.normal(size=len(y))), squashed(seen)

    return rows, float(norm.cdf(apart / np.sqrt(2 + noise**2)) - norm.cdf(apart / np.sqrt(2)))


def losing(positives: int, negatives: int, apart: float, share: float) -> tuple[Callable[[int], Rows], float]:
    """The candidate ranks a share of the positives below all."""
    y = np.repeat([1.0, 0.0], [positives, negatives])

    def rows(seed: int) -> Rows:
        rng = np.random.default_rng([42, seed])
        seen = apart * y + rng.normal(size=len(y))
        lost = (rng.random(len(y)) < share) & (y == 1)
        return y, squashed(np.where(lost, -20.0, seen + 0.01 * rng.normal(size=len(y)))), squashed(seen)

    return rows, float(-share * norm.cdf(apart / np.sqrt(2)))


AREAS = {
    "12 positives, area 0.99": noisy(12, 600, 3.3, 0.8),
    "12 positives, area 0.99, some lost": losing(12, 600, 3.3, 0.1),
    "20 positives, area 0.95": noisy(20, 600, 2.33, 0.8),
    "40 positives, area 0.86": noisy(40, 300, 1.5, 0.7),
    "40 positives, area 0.86, some lost": losing(40, 300, 1.5, 0.05),
    "50 positives, area 0.86, few lost": losing(50, 300, 1.5, 0.03),
    "150 of either": noisy(150, 150, 1.0, 0.5),
}


@pytest.mark.parametrize("name", AREAS)
def test_a_gate_on_the_area_seldom_passes_what_is_worse_by_its_margin(name: str) -> None:
    """Number 41: 22 to 27 % passed with few positives, where 5 % is stated."""
    rows, margin = AREAS[name]
    passed = sum(intervals.compare("roc_auc", Task.BINARY, *rows(i)).low >= margin for i in range(RUNS))
    assert passed < MOST


def test_few_positives_are_not_enough_data() -> None:
    """Number 41: below 5 of positives x (1 - area) the width is that of rows which were not seen."""
    y = np.repeat([1.0, 0.0], [12, 600])
    score = squashed(3.3 * y + np.random.default_rng(3).normal(size=len(y)))
    same = intervals.compare("roc_auc", Task.BINARY, y, score, score)
    assert same.low < -0.1
    assert same.high > 0.1
    perfect = intervals.measure("roc_auc", Task.BINARY, y, y * 0.8 + 0.1)
    assert perfect.value == 1 == perfect.high
    assert perfect.low < 0.85


def certain(n: int, share: float, spread: float) -> Callable[[int], Rows]:
    """A champion that knows each chance; the candidate is a little off, and certain and wrong on a share of the rows."""

    def rows(seed: int) -> Rows:
        rng = np.random.default_rng([43, seed])
        chance = np.clip(rng.beta(2, 2, n), 0.02, 0.98)
        y = (rng.random(n) < chance).astype(float)
        mine = np.clip(chance + spread * rng.normal(size=n), 0.02, 0.98)
        return y, np.where(rng.random(n) < share, 1 - y, mine), chance

    return rows


@pytest.mark.parametrize("metric", ["log_loss", "brier"])
@pytest.mark.parametrize(("n", "share", "spread"), [(200, 0.005, 0.02), (200, 0.005, 0.1), (500, 0.002, 0.02)])
def test_a_gate_on_a_loss_seldom_passes_what_is_certain_and_wrong_now_and_then(
    metric: str, n: int, share: float, spread: float
) -> None:
    """Number 41: 36 % passed, where 5 % is stated: in as many samples there is no such row."""
    found = [intervals.compare(metric, Task.BINARY, *certain(n, share, spread)(i)) for i in range(RUNS)]
    truth = intervals.compare(metric, Task.BINARY, *certain(1_000_000, share, spread)(0)).difference
    assert sum(one.high <= truth for one in found) < MOST


def test_log_loss_is_compared_with_each_row_bounded() -> None:
    y = np.array([1.0, 0.0] * 100)
    mine, other = np.where(y == 1, 0.9, 0.1), np.where(y == 1, 0.9, 0.1)
    mine[0] = 0.0
    found = intervals.compare("log_loss", Task.BINARY, y, mine, other)
    assert found.difference == pytest.approx((intervals.LOG_LOSS_MOST + np.log(0.9)) / 200)
    assert intervals.measure("log_loss", Task.BINARY, y, mine).value > 0.25  # as scikit-learn has it
