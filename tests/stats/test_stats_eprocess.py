"""Both e-processes: exact expectations under their nulls, and simulated error rates with a look after every block."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.stats import eprocess
from noria.stats.eprocess import Outcomes
from noria.stats.metrics import Floats

COUNT = st.integers(0, 30)


def beyond_chance(rate: float, runs: int) -> float:
    """What a simulated rate may reach when the true one is ``rate``: four standard errors."""
    return rate + 4 * math.sqrt(rate * (1 - rate) / runs)


def harm_paths(true_share: float, share: float, runs: int, events: int, seed: int) -> np.ndarray:
    """Evidence after each of ``events`` events, every one the candidate's with probability ``true_share``: [runs, events]."""
    own = (np.random.default_rng(seed).random((runs, events)) < true_share).astype(float)
    return eprocess.harm_path(np.full((runs, events), share), 1 - own, own)


def safe_paths(share: float, champion: Floats, candidate: Floats, margin: float, runs: int, seed: int = 11) -> Floats:
    """Evidence after each request: [runs, requests]. ``champion``, ``candidate``: their rates at each request [requests]."""
    rng = np.random.default_rng(seed)
    own, lot = (rng.random((runs, len(champion))) for _ in range(2))
    own = own < share
    fails = lot < np.where(own, candidate, champion)
    return eprocess.safe_path(np.full(own.shape, share), ~own & fails, own, own & fails, margin=margin)


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


def test_a_little_harm_is_found_when_there_are_requests_enough() -> None:
    """Number 43: 11 errors in a hundred instead of 10, half of 190,000 requests each: 19,950 events. Evidence that looks for odds
    of 1.25 and more alone shrinks here, whatever the number of requests."""
    paths = harm_paths(0.11 / 0.21, 0.5, runs=200, events=19_950, seed=43)
    assert (paths.max(axis=1) >= math.log(200)).mean() > 0.95


@given(share=st.floats(0.001, 0.999), true_share=st.floats(0, 1))
def test_one_event_is_expected_to_change_nothing_at_the_null_and_to_lower_it_below(share: float, true_share: float) -> None:
    own, theirs = (math.exp(eprocess.harm_log_evidence([(share, *who)])) for who in [(0, 1), (1, 0)])
    assert share * own + (1 - share) * theirs == pytest.approx(1, rel=1e-9)
    expected = true_share * own + (1 - true_share) * theirs
    assert (expected <= 1 + 1e-9) == (true_share <= share + 1e-9) or expected == pytest.approx(1)


def test_harm_by_hand() -> None:
    """Three events of the candidate and one of the champion at a tenth of traffic, straight from the definition."""
    ratios = [1.05, 1.1, 1.25, 1.5, 2, 3, 4.5, 7, 12, 24, 64]
    each = [(r / (0.9 + 0.1 * r)) ** 3 * (1 / (0.9 + 0.1 * r)) for r in ratios]
    assert eprocess.harm_log_evidence([(0.1, 1, 3)]) == pytest.approx(math.log(sum(each) / len(each)))


@given(st.lists(st.tuples(st.floats(0.01, 0.99), COUNT, COUNT), max_size=6))
def test_harm_counts_events_not_looks(blocks: list[tuple[float, int, int]]) -> None:
    split = [part for share, old, new in blocks for part in ((share, old, 0), (share, 0, new))]
    assert eprocess.harm_log_evidence(split) == pytest.approx(eprocess.harm_log_evidence(blocks), abs=1e-9)


def test_much_evidence_is_still_a_number() -> None:
    assert 1e4 < eprocess.harm_log_evidence([(0.01, 0, 100_000)]) < math.inf
    assert -math.inf < eprocess.harm_log_evidence([(0.5, 10**7, 0)]) < 0
    assert 1e3 < eprocess.safe_log_evidence([Outcomes(0.1, 0, 10**6, 0)], 0.01) < math.inf


OUTAGES = np.where(np.arange(4_000) % 500 < 100, 1.0, 0.002)  # all that is asked fails, in one request of five
HARMFUL = {
    "a champion that never fails": (0.2, np.zeros(1_500), 0.02),  # the tightest
    "both fail now and then": (0.2, np.full(3_000, 0.1), 0.05),
    "more traffic for the candidate": (0.8, np.full(1_500, 0.1), 0.05),
    "outages that both share": (0.05, OUTAGES, 0.1),
    "outages that both share, a small share": (0.01, OUTAGES, 0.1),
    "outages that both share, a large share": (0.7, OUTAGES, 0.1),
    "a champion that always fails": (0.1, np.ones(1_500), 0.02),
}


@pytest.mark.parametrize("name", HARMFUL)
def test_harmful_candidates_are_seldom_called_safe(name: str) -> None:
    """Number 39: also where both fail in outages. The candidate fails ``margin`` of what the champion answers; a look after each
    request. Five in a hundred are allowed; 68 of 500 would come of that with a probability below 1e-12."""
    share, champion, margin = HARMFUL[name]
    paths = safe_paths(share, champion, champion + margin * (1 - champion), margin, 500)
    assert (paths.max(axis=1) >= math.log(20)).sum() < 68


def test_a_harmless_candidate_is_called_safe_also_when_both_fail_at_times() -> None:
    calm, outages = np.full(20_000, 0.01), np.where(np.arange(20_000) % 5_000 < 100, 1.0, 0.01)
    for rates in (calm, outages):
        assert (safe_paths(0.2, rates, rates, 0.02, 100)[:, -1] >= math.log(20)).mean() > 0.9


def test_where_both_fail_nothing_is_learned() -> None:
    """Number 39: 380 of 380 failed on either side was evidence of safety, "22 of 20"."""
    both = safe_paths(0.5, np.ones(760), np.ones(760), 0.01, 200)
    assert (both[:, -1] < 0).mean() > 0.9
    pairs = eprocess.safe_log_evidence([Outcomes(0.5, 0, 0, 0, paired=True)], 0.01)
    assert pairs == 0  # pairs that both failed are left out


@given(
    share=st.floats(0.01, 0.99),
    margin=st.floats(0, 0.9),
    joint=st.lists(st.floats(0, 1), min_size=4, max_size=4).filter(lambda p: sum(p) > 0.01),
)
def test_the_safe_capital_is_a_fair_game_whatever_the_two_have_in_common(share: float, margin: float, joint: list[float]) -> None:
    """One request, which the champion would fail (x) or not and the candidate (y) or not, with any chances of the four cases."""
    chances = np.array(joint) / sum(joint)
    cases = list(zip([(0, 0), (0, 1), (1, 0), (1, 1)], chances, strict=True))
    stake = float(eprocess.CAPITAL @ eprocess.STAKES) / (1 - margin)
    gain = sum(p * (margin + (1 - margin) * x - y) for (x, y), p in cases)

    def capital(*outcomes: Outcomes) -> float:
        return math.exp(eprocess.safe_log_evidence(outcomes, margin))

    alone = sum(
        p * (share * capital(Outcomes(share, 0, 1, y)) + (1 - share) * capital(Outcomes(share, x, 0, 0))) for (x, y), p in cases
    )
    assert alone == pytest.approx(1 + stake * share * gain, abs=1e-9)
    pairs = sum(p * (capital(Outcomes(0.5, x, 1, y, paired=True)) if x * y == 0 else 1) for (x, y), p in cases)
    assert pairs == pytest.approx(1 + stake * gain, abs=1e-9)


OUTCOMES = st.builds(
    lambda share, theirs, well, own, paired: Outcomes(share, theirs, well + own + paired * theirs, own, paired),
    st.floats(0.01, 0.99),
    COUNT,
    COUNT,
    COUNT,
    st.booleans(),
)


@settings(max_examples=50)
@given(st.lists(OUTCOMES, min_size=1, max_size=6))
def test_the_path_holds_the_evidence_of_each_beginning_and_order_does_not_matter(blocks: list[Outcomes]) -> None:
    path = eprocess.safe_path(*zip(*blocks, strict=True), margin=0.05)
    for end in range(1, len(blocks) + 1):
        assert eprocess.safe_log_evidence(blocks[:end], 0.05) == pytest.approx(path[end - 1], abs=1e-9)
    assert eprocess.safe_log_evidence(blocks[::-1], 0.05) == pytest.approx(path[-1], abs=1e-8)


@settings(max_examples=50)
@given(OUTCOMES)
def test_failing_more_never_looks_safer(block: Outcomes) -> None:
    worse = block._replace(candidate_requests=block.candidate_requests + 1, candidate_events=block.candidate_events + 1)
    better = block._replace(candidate_requests=block.candidate_requests + 1)
    found = [eprocess.safe_log_evidence([one], 0.05) for one in (worse, block, better)]
    assert found == sorted(found)


def test_the_fields_of_a_block_are_requests_then_events() -> None:
    """One flawless side and one that always fails: the other order would read these as the opposite."""
    assert eprocess.safe_log_evidence([Outcomes(0.5, 500, 500, 0)], 0.01) > 100
    assert eprocess.safe_log_evidence([Outcomes(0.5, 0, 500, 500)], 0.01) < 0


@pytest.mark.parametrize("margin", [0.01, 0.05])
@pytest.mark.parametrize("rate", [0.0, 0.01, 0.1, 0.3])
@pytest.mark.parametrize("share", [0.01, 0.5, 0.75, 0.9])
def test_the_mixture_is_never_far_from_the_best_stake(share: float, rate: float, margin: float) -> None:
    """Number 42: at any share and rate, 2.5 times the requests at most that the stake takes which is best for them."""
    well, stakes = 1 - rate, np.linspace(0.001, 0.999, 999)
    weight = (1 - margin) * share / (1 - share)

    def growth(stakes: Floats) -> Floats:
        s = stakes / (1 - margin)
        own = well * np.log1p(s * margin) + rate * np.log1p(s * (margin - 1))
        return own + (1 - share) / share * rate * np.log1p(s * weight)

    needed = 2.5 * math.log(20) / growth(stakes).max()
    assert np.logaddexp.reduce(np.log(eprocess.CAPITAL) + needed * growth(eprocess.STAKES)) >= math.log(20)


@given(margin=st.floats(0.002, 0.5), missed=st.floats(0.001, 0.5))
def test_requests_needed_is_where_the_evidence_arrives(margin: float, missed: float) -> None:
    needed = eprocess.requests_needed(margin, missed)
    enough, fewer = (eprocess.safe_log_evidence([Outcomes(0.2, 0, n, 0)], margin) for n in (needed, needed - 1))
    assert enough >= math.log(1 / missed) - 1e-9
    assert fewer < math.log(1 / missed) + 1e-9


def test_no_test_that_is_valid_needs_fewer_requests() -> None:
    """Without a failure in n requests a rate of ``margin`` is excluded at ``missed`` only when (1 - margin)^n <= missed."""
    for margin in (0.005, 0.01, 0.02, 0.05):
        least = math.log(0.05) / math.log(1 - margin)
        assert least <= eprocess.requests_needed(margin, 0.05) < 1.3 * least


def test_impossible_margins_are_refused() -> None:
    for margin in (-0.1, 1.0, math.nan):
        with pytest.raises(ValueError, match="margin"):
            eprocess.safe_log_evidence([Outcomes(0.5, 0, 1, 0)], margin)
    for margin, missed in ((0.0, 0.05), (1.0, 0.05), (0.01, 0.0), (0.01, 1.0)):
        with pytest.raises(ValueError, match="between 0 and 1"):
            eprocess.requests_needed(margin, missed)


def test_without_requests_there_is_no_evidence() -> None:
    assert eprocess.harm_log_evidence([]) == eprocess.safe_log_evidence([], 0.01) == 0
    assert eprocess.harm_log_evidence([(0.1, 0, 0)]) == pytest.approx(0)
    assert eprocess.safe_log_evidence([Outcomes(0.1, 0, 0, 0)], 0.01) == pytest.approx(0)
