"""Betting on bounded means: values of an independent implementation, the fair game itself, and simulated error rates."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.kernel.task import Task
from noria.stats import betting
from noria.stats.betting import DIFFERENCE, LOSS

VALUES = np.array([0.1, 0.9, 0.4, 0.55, 0.7, 0.0, 1.0, 0.35, 0.8, 0.65] * 6)
LOSSES = st.lists(st.floats(0, 1), max_size=30)
DIFFERENCES = st.lists(st.floats(-1, 1), max_size=30)
# confseq 0.0.11, the logarithm of the last of confseq.betting.diversified_betting_mart(VALUES, mean, above, below, theta=t,
# trunc_scale=1), t = 1 and 0; ``above`` and ``below`` give STAKES / mean and STAKES / (1 - mean) as bets.
CONFSEQ = {
    0.3: (12.380058670688028, -0.7231941827850699),
    0.45: (1.100283472978058, -0.5640432243301517),
    0.6: (-0.4500103037100779, 0.2148715022338701),
}


def beyond_chance(rate: float, runs: int) -> float:
    """What a simulated rate may reach when the true one is ``rate``: four standard errors."""
    return rate + 4 * math.sqrt(rate * (1 - rate) / runs)


@pytest.mark.parametrize("mean", CONFSEQ)
def test_the_capital_is_that_of_the_authors_own_package(mean: float) -> None:
    above, below = CONFSEQ[mean]
    assert betting.log_above(VALUES, mean) == pytest.approx(above, abs=1e-9)
    assert betting.log_below(VALUES, mean) == pytest.approx(below, abs=1e-9)


@pytest.mark.parametrize("margin", [0.02, 0.3])
def test_no_game_is_better_than_fair_under_the_hypothesis(margin: float) -> None:
    """Every sequence of five values of a small distribution, weighted by its chance: the exact expectation at the mean."""
    values = np.array([-1.0, 0.1, 1.0])
    chances = np.array([0.2, 0.5, 0.3])
    for mean, evidence in (
        (0.0, lambda path: betting.harm_log_evidence(path)),
        (margin, lambda path: betting.safe_log_evidence(path, margin)),
    ):
        tilted = chances + np.array([-1, 0, 1]) * (mean - values @ chances) / 2
        assert values @ tilted == pytest.approx(mean)
        paths = list(product(range(3), repeat=5))
        expected = sum(np.prod(tilted[list(path)]) * math.exp(evidence(values[list(path)])) for path in paths)
        assert expected == pytest.approx(1)


@given(DIFFERENCES, st.randoms())
def test_the_order_of_values_does_not_matter(differences: list[float], chance: object) -> None:
    mixed = differences[:]
    chance.shuffle(mixed)  # type: ignore[attr-defined]
    assert betting.harm_log_evidence(mixed) == pytest.approx(betting.harm_log_evidence(differences), abs=1e-9)
    assert betting.safe_log_evidence(mixed, 0.1) == pytest.approx(betting.safe_log_evidence(differences, 0.1), abs=1e-9)


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=20), st.floats(0.01, 0.9))
def test_paths_end_where_the_sum_does(differences: list[float], margin: float) -> None:
    for n in (1, len(differences)):
        so_far = differences[:n]
        assert betting.harm_path(differences)[n - 1] == pytest.approx(betting.harm_log_evidence(so_far), abs=1e-9)
        assert betting.safe_path(differences, margin)[n - 1] == pytest.approx(betting.safe_log_evidence(so_far, margin), abs=1e-9)
    both = betting.harm_path([differences, [-d for d in differences]])
    assert both.shape == (2, len(differences))
    assert both[0] == pytest.approx(betting.harm_path(differences))


@given(LOSSES, st.floats(0.01, 0.99), st.floats(0.01, 0.99))
def test_evidence_above_falls_and_below_grows_with_the_mean(losses: list[float], one: float, other: float) -> None:
    small, large = sorted((one, other))
    assert betting.log_above(losses, small) >= betting.log_above(losses, large) - 1e-9
    assert betting.log_below(losses, small) <= betting.log_below(losses, large) + 1e-9


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=40), st.floats(0.001, 0.5))
def test_the_ends_are_where_the_capital_crosses(differences: list[float], alpha: float) -> None:
    low, high = betting.confidence_sequence(differences, alpha)
    enough, step = math.log(2 / alpha), 1e-8
    assert -1 <= low <= np.mean(differences) + 1e-9
    assert np.mean(differences) - 1e-9 <= high <= 1
    assert betting.log_above(differences, low + step, DIFFERENCE) < enough
    assert betting.log_below(differences, high - step, DIFFERENCE) < enough
    if low > -1 + step:
        assert betting.log_above(differences, low - step, DIFFERENCE) >= enough - 1e-6
    if high < 1 - step:
        assert betting.log_below(differences, high + step, DIFFERENCE) >= enough - 1e-6


def test_nothing_known_is_the_whole_range() -> None:
    assert betting.harm_log_evidence([]) == betting.safe_log_evidence([], 0.1) == 0.0
    assert betting.confidence_sequence([], 0.05) == (-1.0, 1.0)
    assert betting.unpaired_harm_log_evidence([], []) == pytest.approx(0, abs=1e-9)
    assert betting.unpaired_safe_log_evidence([], [0.5], 0.1) <= 1e-9


@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (0.0, 1.0), (-3.0, 7.0)])
def test_bounds_only_set_the_scale(low: float, high: float) -> None:
    ends = betting.confidence_sequence(low + (high - low) * VALUES, 0.1, betting.Bounds(low, high))
    plain = betting.confidence_sequence(VALUES, 0.1, LOSS)
    assert ends == pytest.approx([low + (high - low) * end for end in plain], abs=1e-7)


@pytest.mark.parametrize("spread", ["differences", "coins"])
def test_the_mean_is_seldom_ever_left_out_however_often_one_looks(spread: str) -> None:
    """The true mean is left out at a look when either capital at it has reached 2 / alpha: both, at each of 600 looks."""
    rng, runs, alpha = np.random.default_rng(31), 1500, 0.1
    if spread == "coins":
        paths, mean = np.where(rng.random((runs, 600)) < 0.03, 1.0, 0.0), 0.03
    else:
        # Mostly near to 0, sometimes far: like differences of Brier losses.
        paths, mean = rng.beta(0.5, 0.5, (runs, 600)) * rng.choice([-0.3, 0.1, 0.3], (runs, 600)), 0.5 * 0.1 / 3
    ever = (betting.safe_path(paths, mean).max(axis=1) >= math.log(2 / alpha)) | (
        (betting.harm_path(np.clip((paths - mean) / (1 + mean), -1, 1))).max(axis=1) >= math.log(2 / alpha)
    )
    assert ever.mean() <= beyond_chance(alpha, runs)
    last = [betting.confidence_sequence(path, alpha) for path in paths[:100]]
    assert sum(not low <= mean <= high for low, high in last) <= 100 * beyond_chance(alpha, 100)
    widths = np.array([high - low for low, high in last])
    assert widths.max() < 12 * paths.std() / math.sqrt(600)  # the fixed-time normal interval has 3.3


def test_two_arms_without_pairs() -> None:
    rng = np.random.default_rng(7)
    worse, same, old = (rng.binomial(1, rate, 4000) for rate in (0.15, 0.1, 0.1))
    assert betting.unpaired_harm_log_evidence(worse, old) > math.log(1000)
    assert betting.unpaired_harm_log_evidence(same, old) < math.log(5)
    assert betting.unpaired_safe_log_evidence(same, old, 0.05) > math.log(1000)
    assert betting.unpaired_safe_log_evidence(worse, old, 0.05) < math.log(5)
    low, high = betting.unpaired_difference(worse, old, 0.05)
    assert 0 < low < 0.05 < high < 0.1


@given(LOSSES, LOSSES, st.floats(0, 0.9), st.floats(0.05, 0.95))
def test_the_unpaired_evidence_is_the_least_over_all_means(
    new: list[float], old: list[float], margin: float, mean: float
) -> None:
    """No pair of means of the hypothesis has less evidence against it: here one of them, by hand."""
    if margin:
        mean *= 1 - margin
        found = betting.unpaired_safe_log_evidence(new, old, margin)
        each = (betting.log_below(new, mean + margin), betting.log_above(old, mean))
    else:
        found = betting.unpaired_harm_log_evidence(new, old)
        each = (betting.log_above(new, mean), betting.log_below(old, mean))
    assert found <= sum(np.logaddexp(part, 0) - math.log(2) for part in each) + 1e-6


@pytest.mark.parametrize("rate", [0.02, 0.5])
def test_unpaired_arms_are_seldom_blamed_however_often_one_looks(rate: float) -> None:
    rng, runs, alpha = np.random.default_rng(3), 200, 0.1
    blamed = 0
    for _ in range(runs):
        new, old = rng.binomial(1, rate, (2, 400))
        blamed += any(betting.unpaired_harm_log_evidence(new[:n], old[:n]) >= math.log(1 / alpha) for n in range(40, 401, 40))
    assert blamed / runs <= beyond_chance(alpha, runs)


def test_losses_with_a_bound() -> None:
    y, probability = [0, 1, 1], [0.2, 0.4, 1.0]
    assert betting.clipped_losses("brier", Task.BINARY, y, probability) == pytest.approx([0.04, 0.36, 0])
    assert betting.clipped_losses("accuracy", Task.BINARY, y, probability).tolist() == [0, 1, 0]
    assert betting.clipped_losses("mae", Task.REGRESSION, [0, 10, 20], [1, 10, 60], bound=20).tolist() == [0.05, 0, 1]
    with pytest.raises(ValueError, match="log_loss has no bounded loss"):
        betting.clipped_losses("log_loss", Task.BINARY, y, probability)
    with pytest.raises(ValueError, match="positive number"):
        betting.clipped_losses("mae", Task.REGRESSION, [0], [1], bound=0)


@pytest.mark.parametrize("values", [[1.5], [math.nan], [[0.1, 0.2]]])
def test_values_outside_their_bounds_are_refused(values: list[float]) -> None:
    with pytest.raises(ValueError):
        betting.harm_log_evidence(values)


@pytest.mark.parametrize("margin", [0.0, 1.0, -0.1])
def test_impossible_margins_are_refused(margin: float) -> None:
    with pytest.raises(ValueError):
        betting.safe_log_evidence([0.1], margin)


def test_a_hundred_thousand_pairs_take_no_time() -> None:
    differences = np.clip(np.random.default_rng(5).normal(0.01, 0.2, 100_000), -1, 1)
    low, high = betting.confidence_sequence(differences, 0.05)
    assert low < 0.01 < high
    assert high - low < 0.006
