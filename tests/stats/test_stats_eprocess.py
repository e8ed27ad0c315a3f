"""Both e-processes: exact expectations under their nulls, and simulated error rates with a look after every block."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from noria.stats import eprocess

COUNT = st.integers(0, 30)


def beyond_chance(rate: float, runs: int) -> float:
    """What a simulated rate may reach when the true one is ``rate``: four standard errors."""
    return rate + 4 * math.sqrt(rate * (1 - rate) / runs)


def harm_paths(true_share: float, share: float, runs: int, events: int, seed: int) -> np.ndarray:
    """Evidence after each of ``events`` events, every one the candidate's with probability ``true_share``: [runs, events]."""
    own = (np.random.default_rng(seed).random((runs, events)) < true_share).astype(float)
    return eprocess.harm_path(np.full((runs, events), share), 1 - own, own)


def safe_paths(champion: tuple[int, float], candidate: tuple[int, float], margin: float, runs: int, blocks: int) -> np.ndarray:
    """Evidence after each block of (requests, rate) on either side: [runs, blocks]."""
    rng = np.random.default_rng(11)
    old, new = rng.binomial(*champion, (runs, blocks)).tolist(), rng.binomial(*candidate, (runs, blocks)).tolist()
    return np.array(
        [
            eprocess.safe_path([(champion[0], a, candidate[0], b) for a, b in zip(old[i], new[i], strict=True)], margin, i)
            for i in range(runs)
        ]
    )


@pytest.mark.parametrize("share", [0.05, 0.25, 0.5])
@pytest.mark.parametrize("alpha", [0.01, 0.05])
def test_harmless_candidates_are_seldom_blamed_however_often_one_looks(share: float, alpha: float) -> None:
    paths = harm_paths(share, share, runs=1500, events=300, seed=5)
    blamed = (paths.max(axis=1) >= math.log(1 / alpha)).mean()
    assert blamed <= beyond_chance(alpha, 1500)


def test_a_harmful_candidate_is_found_soon() -> None:
    share, odds = 0.1, 10.0
    true_share = share * odds / (1 + share * (odds - 1))
    paths = harm_paths(true_share, share, runs=1000, events=40, seed=6)
    assert (paths.max(axis=1) >= math.log(200)).mean() > 0.99


@given(share=st.floats(0.001, 0.999), true_share=st.floats(0, 1))
def test_one_event_is_expected_to_change_nothing_at_the_null_and_to_lower_it_below(share: float, true_share: float) -> None:
    own, theirs = (math.exp(eprocess.harm_log_evidence([(share, *who)])) for who in [(0, 1), (1, 0)])
    assert share * own + (1 - share) * theirs == pytest.approx(1, rel=1e-9)
    expected = true_share * own + (1 - true_share) * theirs
    assert (expected <= 1 + 1e-9) == (true_share <= share + 1e-9) or expected == pytest.approx(1)


def test_harm_by_hand() -> None:
    """Three events of the candidate and one of the champion at a tenth of traffic, straight from the definition."""
    ratios = [1.25, 1.5, 2, 3, 4.5, 7, 12, 24, 64]
    each = [(r / (0.9 + 0.1 * r)) ** 3 * (1 / (0.9 + 0.1 * r)) for r in ratios]
    assert eprocess.harm_log_evidence([(0.1, 1, 3)]) == pytest.approx(math.log(sum(each) / len(each)))


@given(st.lists(st.tuples(st.floats(0.01, 0.99), COUNT, COUNT), max_size=6))
def test_harm_counts_events_not_looks(blocks: list[tuple[float, int, int]]) -> None:
    split = [part for share, old, new in blocks for part in ((share, old, 0), (share, 0, new))]
    assert eprocess.harm_log_evidence(split) == pytest.approx(eprocess.harm_log_evidence(blocks), abs=1e-9)


def test_much_evidence_is_still_a_number() -> None:
    assert 1e4 < eprocess.harm_log_evidence([(0.01, 0, 100_000)]) < math.inf
    assert -math.inf < eprocess.harm_log_evidence([(0.5, 10**7, 0)]) < 0
    assert 1e3 < eprocess.safe_log_evidence([(0, 0, 10**6, 0)], 0.01, 0) < math.inf


@pytest.mark.parametrize(
    ("champion", "candidate", "margin"),
    [
        ((200, 0.0), (40, 0.02), 0.02),  # the tightest: a champion that never fails
        ((200, 0.01), (40, 0.02), 0.01),
        ((40, 0.10), (40, 0.15), 0.05),
        ((15, 0.10), (40, 0.15), 0.05),  # fewer outcomes of the champion than of the candidate
    ],
)
def test_harmful_candidates_are_seldom_called_safe(
    champion: tuple[int, float], candidate: tuple[int, float], margin: float
) -> None:
    runs = 500
    paths = safe_paths(champion, candidate, margin, runs, blocks=30)
    assert (paths.max(axis=1) >= math.log(20)).mean() <= beyond_chance(0.05, runs)


def test_a_harmless_candidate_is_called_safe_also_when_both_fail_at_times() -> None:
    paths = safe_paths((400, 0.01), (100, 0.01), 0.02, runs=200, blocks=30)
    assert (paths[:, -1] >= math.log(20)).mean() > 0.9


@pytest.mark.parametrize(("outcomes", "pairs"), [(4, 2), (5, 2), (3, 3), (1, 2), (0, 2)])
def test_the_safe_capital_is_a_fair_game_at_the_margin(outcomes: int, pairs: int) -> None:
    """Every pair of counts with its probability, and the arrangement averaged over seeds: expected 1 with full groups."""
    old, margin, seeds = 0.3, 0.2, 300
    expected = 0.0
    for a, b in product(range(outcomes + 1), range(pairs + 1)):
        mean = np.mean([math.exp(eprocess.safe_log_evidence([(outcomes, a, pairs, b)], margin, s)) for s in range(seeds)])
        expected += binom.pmf(a, outcomes, old) * binom.pmf(b, pairs, old + margin) * float(mean)
    if outcomes >= pairs:
        assert expected == pytest.approx(1, abs=0.02)
    else:
        assert expected < 0.95


BLOCK = st.tuples(COUNT, COUNT, COUNT, COUNT).map(lambda c: (c[0] + c[1], c[1], c[2] + c[3], c[3]))


@settings(max_examples=50)
@given(blocks=st.lists(BLOCK, min_size=1, max_size=6), seed=st.integers(0, 2**32))
def test_later_blocks_never_change_earlier_evidence(blocks: list[tuple[int, int, int, int]], seed: int) -> None:
    path = eprocess.safe_path(blocks, 0.05, seed)
    for end in range(1, len(blocks) + 1):
        assert eprocess.safe_log_evidence(blocks[:end], 0.05, seed) == path[end - 1]
    assert eprocess.safe_log_evidence([*blocks, (50, 3, 0, 0)], 0.05, seed) == path[-1]  # nothing of the candidate's


@settings(max_examples=50)
@given(block=BLOCK, seed=st.integers(0, 2**32))
def test_failing_more_never_looks_safer(block: tuple[int, int, int, int], seed: int) -> None:
    old_n, old, new_n, new = block
    worse = (old_n, old, new_n + 1, new + 1)
    alike = (old_n, 0, new_n, new)  # a champion without events
    assert eprocess.safe_log_evidence([alike], 0.05, seed) <= eprocess.safe_log_evidence([block], 0.05, seed) + 1e-9
    flawless = eprocess.safe_log_evidence([(old_n, 0, new_n + 1, 0)], 0.05, seed)
    assert eprocess.safe_log_evidence([(old_n, 0, *worse[2:])], 0.05, seed) < flawless


def test_the_fields_of_a_block_are_requests_then_events() -> None:
    """One flawless side and one that always fails: the other order would read these as the opposite."""
    assert eprocess.safe_log_evidence([(500, 500, 500, 0)], 0.01, 1) > 100
    assert eprocess.safe_log_evidence([(500, 0, 500, 500)], 0.01, 1) < -40


@given(margin=st.floats(0.002, 0.5), missed=st.floats(0.001, 0.5))
def test_requests_needed_is_where_the_evidence_arrives(margin: float, missed: float) -> None:
    needed = eprocess.requests_needed(margin, missed)
    flawless = [(4 * n, 0, n, 0) for n in (needed, needed - 1)]
    assert eprocess.safe_log_evidence(flawless[:1], margin, 9) >= math.log(1 / missed) - 1e-9
    assert eprocess.safe_log_evidence(flawless[1:], margin, 9) < math.log(1 / missed) + 1e-9


def test_no_test_that_is_valid_needs_fewer_requests() -> None:
    """Without a failure in n requests a rate of ``margin`` is excluded at ``missed`` only when (1 - margin)^n <= missed."""
    for margin in (0.005, 0.01, 0.02, 0.05):
        least = math.log(0.05) / math.log(1 - margin)
        assert least <= eprocess.requests_needed(margin, 0.05) < 1.3 * least


def test_impossible_margins_are_refused() -> None:
    for margin in (-0.1, 1.0, math.nan):
        with pytest.raises(ValueError, match="margin"):
            eprocess.safe_log_evidence([(1, 0, 1, 0)], margin, 0)
    for margin, missed in ((0.0, 0.05), (1.0, 0.05), (0.01, 0.0), (0.01, 1.0)):
        with pytest.raises(ValueError, match="between 0 and 1"):
            eprocess.requests_needed(margin, missed)


def test_without_requests_there_is_no_evidence() -> None:
    assert eprocess.harm_log_evidence([]) == eprocess.safe_log_evidence([], 0.01, 0) == 0
    assert eprocess.harm_log_evidence([(0.1, 0, 0)]) == pytest.approx(0)
    assert eprocess.safe_log_evidence([(100, 3, 0, 0)], 0.01, 0) == pytest.approx(0)
