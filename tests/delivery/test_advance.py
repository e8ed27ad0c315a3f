"""Canaries: what each look says, and how often a verdict is wrong over many simulated rollouts."""

from __future__ import annotations

import math

import numpy as np
import pytest
from msgspec.structs import replace

from noria.delivery import judge_advance
from noria.delivery.judge_advance import AnalysisMoment, Ruling
from noria.delivery.judge_guards import Evidence
from noria.delivery.rollout_record import Advice, Interval
from noria.kernel.policy import Guards, QualityGuard, QuantileGuard, RolloutPolicy, RolloutStep, StepKind
from noria.kernel.verdict import Outcome
from noria.serving.tallies import Tally

STEPS = tuple(RolloutStep(StepKind.CANARY, share) for share in (0.1, 0.5, 1.0))
POLICY = RolloutPolicy(steps=STEPS, guards=Guards(errors=0.01, slow_by=0.02), false_alarm=0.01, missed=0.05)


def block(share: float, champion: tuple[int, int, int], candidate: tuple[int, int, int]) -> Interval:
    return Interval(share, Tally(*champion), Tally(*candidate))


def look(*blocks: Interval, step: int = 0, elapsed_s: float = 10.0, policy: RolloutPolicy = POLICY) -> Ruling:
    return judge_advance.judge(policy, step, Evidence(blocks), AnalysisMoment(patient_s=elapsed_s))


def test_nothing_has_come_in() -> None:
    ruling = look()
    assert (ruling.advice, ruling.reason.outcome) == (Advice.WAIT, Outcome.NOT_ENOUGH_DATA)
    assert "no request has reached" in ruling.reason.text
    assert (ruling.errors.harm, ruling.errors.safe) == (1.0, 1.0)


def test_what_is_needed_follows_from_the_error_rates() -> None:
    first, last = look(step=0).errors, look(step=1).errors
    assert first.harm_needed == last.harm_needed == pytest.approx(200)  # two guards share the 1 %
    assert first.safe_needed == pytest.approx(math.sqrt(20))  # half the way in logarithms
    assert last.safe_needed == pytest.approx(20)
    only = look(policy=replace(POLICY, steps=(STEPS[0], STEPS[2]))).errors
    assert only.safe_needed == pytest.approx(20)


def test_a_broken_canary_is_rolled_back_with_its_counts() -> None:
    ruling = look(block(0.1, (3_700, 2, 0), (412, 7, 0)))
    assert ruling.advice is Advice.ROLL_BACK
    evidence = f"{ruling.errors.harm:,.0f}"
    assert ruling.reason.text.startswith(
        f"errors: 7 of 9 events on the canary at 10 % of traffic in 412 of its requests; evidence {evidence}, needed 200"
    )
    assert ruling.reason.outcome is Outcome.FAIL
    assert ruling.slow.harm == 1.0


def test_a_slow_canary_is_rolled_back_too() -> None:
    ruling = look(block(0.5, (500, 0, 3), (500, 0, 40)), step=1)
    assert ruling.advice is Advice.ROLL_BACK
    assert "slow answers: 40 of 43 events" in ruling.reason.text
    assert "errors:" not in ruling.reason.text


def test_events_in_proportion_are_no_harm() -> None:
    ruling = look(block(0.1, (900, 90, 0), (100, 10, 0)))
    assert ruling.advice is Advice.WAIT
    assert ruling.errors.harm < 2


def test_a_flawless_canary_goes_on_and_is_promoted() -> None:
    first = block(0.1, (4_500, 0, 0), (500, 0, 0))
    assert look(block(0.1, (90, 0, 0), (10, 0, 0))).advice is Advice.WAIT
    assert look(first).advice is Advice.ADVANCE
    assert look(first, block(0.5, (10, 0, 0), (10, 0, 0)), step=1).advice in (Advice.WAIT, Advice.PROMOTE)
    assert look(first, block(0.5, (1_500, 0, 0), (1_500, 0, 0)), step=1).advice is Advice.PROMOTE


def test_one_guard_alone_does_not_clear_a_canary() -> None:
    ruling = look(block(0.1, (18_000, 0, 360), (2_000, 0, 80)))  # errors are ruled out; slow answers are doubled
    assert ruling.errors.safe > ruling.errors.safe_needed
    assert ruling.advice not in (Advice.ADVANCE, Advice.PROMOTE)


def test_a_candidate_that_fails_as_its_champion_does_learns_nothing_from_it() -> None:
    """Number 39: 380 of 380 failed on either side was "safety 22 of 20, promote"."""
    both = look(block(0.5, (380, 380, 0), (380, 380, 0)), step=1)
    assert both.advice is Advice.WAIT
    assert both.errors.safe < 1
    pairs = Interval(0.5, Tally(380, 380), Tally(380, 380, both=380), paired=True)
    policy = replace(POLICY, steps=(SHADOW, STEPS[2]))
    held = judge_advance.judge(policy, 0, Evidence((pairs,)), AnalysisMoment(patient_s=3_601.0))
    assert held.advice is Advice.HOLD
    assert (held.errors.safe, held.errors.harm) == (1.0, 1.0)
    assert "no event on either release in 0 pairs, and 380 that both failed" in held.errors.text
    assert "it failed 380 of 380 requests, more than the 50 % that guard.failing allows" in held.reason.text


def test_there_is_a_ceiling_on_the_candidates_own_errors() -> None:
    """Number 39: whatever the champion does, a candidate that fails most requests does not go on by itself."""
    worse = (block(0.5, (40_000, 40_000, 0), (40_000, 24_000, 0)),)
    ruling = look(*worse, step=1)
    assert ruling.errors.cleared
    assert ruling.advice is Advice.WAIT
    assert "it failed 24,000 of 40,000 requests" in ruling.reason.text
    allowed = replace(POLICY, guards=replace(POLICY.guards, failing=0.6))
    assert look(*worse, step=1, policy=allowed).advice is Advice.PROMOTE
    assert look(block(0.01, (5_000, 5_000, 0), (0, 0, 0)), step=1, policy=allowed).advice is Advice.WAIT  # none reached it


def test_pairs_that_both_failed_do_not_hide_harm() -> None:
    """Number 39: of 500 pairs both fail 100; of the rest the candidate alone fails 12."""
    pairs = Interval(0.5, Tally(500, 100), Tally(500, 112, both=100), paired=True)
    alone = Interval(0.5, Tally(400, 0), Tally(400, 12), paired=True)
    policy = replace(POLICY, steps=(SHADOW, STEPS[2]))
    first, second = (judge_advance.judge(policy, 0, Evidence((one,)), AnalysisMoment()).errors for one in (pairs, alone))
    assert (first.harm, first.safe) == (second.harm, second.safe)
    assert first.text == "12 of 12 events on the canary at 50 % of traffic in 400 pairs, and 100 that both failed"


def test_harm_that_was_shown_stays_shown() -> None:
    bad, good = block(0.1, (3_700, 2, 0), (412, 7, 0)), block(0.1, (90_000, 400, 0), (10_000, 0, 0))
    assert look(bad, good).advice is Advice.ROLL_BACK


@pytest.mark.parametrize(("elapsed_s", "advice"), [(3_600.0, Advice.WAIT), (3_600.1, Advice.HOLD)])
def test_patience(elapsed_s: float, advice: Advice) -> None:
    assert look(block(0.1, (90, 0, 0), (10, 0, 0)), elapsed_s=elapsed_s).advice is advice
    assert look(block(0.1, (4_500, 0, 0), (500, 0, 0)), elapsed_s=elapsed_s).advice is Advice.ADVANCE  # a verdict goes first


def test_a_disaster_overflows_nothing() -> None:
    ruling = look(block(0.1, (900_000, 0, 0), (100_000, 100_000, 0)))
    assert ruling.advice is Advice.ROLL_BACK
    assert math.isfinite(ruling.errors.harm)


def test_full_traffic_has_no_champion_to_compare_with() -> None:
    ruling = look(block(1.0, (0, 0, 0), (1_000, 900, 0)))
    assert ruling.errors.harm == 1.0


SHADOW = RolloutStep(StepKind.SHADOW, 0.2)
PAUSE = RolloutStep(StepKind.PAUSE, seconds=600.0)
APPROVE = RolloutStep(StepKind.APPROVE, approvals=2)


def test_a_pause_ends_by_the_clock_and_harm_ends_it_at_once() -> None:
    policy = replace(POLICY, steps=(STEPS[0], PAUSE, STEPS[2]))
    fine, bad = Evidence((block(0.1, (4_500, 0, 0), (500, 0, 0)),)), Evidence((block(0.1, (3_700, 2, 0), (412, 7, 0)),))
    assert judge_advance.judge(policy, 0, fine, AnalysisMoment()).reason.text.endswith("go on to a pause of 10 min")
    waits = judge_advance.judge(policy, 1, fine, AnalysisMoment(patient_s=1e9, step_s=599.0))
    assert waits.advice is Advice.WAIT  # patience is for evidence
    assert "paused for 1 s more" in waits.reason.text
    assert judge_advance.judge(policy, 1, fine, AnalysisMoment(step_s=600.0)).advice is Advice.PROMOTE
    assert judge_advance.judge(policy, 1, bad, AnalysisMoment(step_s=1.0)).advice is Advice.ROLL_BACK


def test_a_step_waits_for_its_approvals() -> None:
    policy = replace(POLICY, steps=(STEPS[0], APPROVE, STEPS[1], STEPS[2]))
    fine = Evidence((block(0.1, (4_500, 0, 0), (500, 0, 0)),))
    waits = judge_advance.judge(policy, 1, fine, AnalysisMoment(patient_s=1e9, approvals=1))
    assert waits.advice is Advice.WAIT
    assert "waits for 1 approval (`noria approve`)" in waits.reason.text
    assert judge_advance.judge(policy, 1, fine, AnalysisMoment(approvals=2)).advice is Advice.ADVANCE


def test_what_a_step_needs_counts_the_judged_ones_alone() -> None:
    policy = replace(POLICY, steps=(SHADOW, PAUSE, STEPS[0], APPROVE, STEPS[2]))
    needed = [judge_advance.judge(policy, step, Evidence(), AnalysisMoment()).errors.safe_needed for step in range(4)]
    assert needed == pytest.approx([math.sqrt(20), math.sqrt(20), 20, 20])


def test_quality_shares_the_budget_and_is_needed_unless_labels_come_too_late() -> None:
    policy = replace(POLICY, guards=replace(POLICY.guards, quality=QualityGuard("brier", 0.05)), steps=(STEPS[0], STEPS[2]))
    fine = (block(0.1, (9_000, 0, 0), (1_000, 0, 0)),)
    rng = np.random.default_rng(7)
    assert judge_advance.judge(policy, 0, Evidence(fine), AnalysisMoment()).errors.harm_needed == pytest.approx(300)
    assert judge_advance.judge(policy, 0, Evidence(fine, pairs=80), AnalysisMoment()).advice is Advice.WAIT
    assert "no label yet on 80 pairs" in judge_advance.judge(policy, 0, Evidence(fine, pairs=80), AnalysisMoment()).reason.text
    assert judge_advance.judge(policy, 0, Evidence(fine), AnalysisMoment(deferred=True)).advice is Advice.PROMOTE
    alike, worse = rng.normal(0, 0.05, 600).clip(-1, 1), rng.normal(0.1, 0.05, 600).clip(-1, 1)
    assert judge_advance.judge(policy, 0, Evidence(fine, alike), AnalysisMoment()).advice is Advice.PROMOTE
    ruling = judge_advance.judge(policy, 0, Evidence(fine, worse), AnalysisMoment(deferred=True))
    assert ruling.advice is Advice.ROLL_BACK
    assert "brier: +0.099" in ruling.reason.text


def test_a_quantile_where_it_is_asked_for() -> None:
    policy = replace(POLICY, guards=replace(POLICY.guards, quantile=QuantileGuard(0.99, 20.0)), steps=(STEPS[0], STEPS[2]))
    fine = (block(0.1, (9_000, 0, 0), (1_000, 0, 0)),)
    rng = np.random.default_rng(8)
    champion, same, late = (rng.gamma(4.0, scale, 20_000) for scale in (1.0, 1.0, 30.0))
    assert judge_advance.judge(policy, 0, Evidence(fine, latencies=(champion, same)), AnalysisMoment()).advice is Advice.PROMOTE
    assert judge_advance.judge(policy, 0, Evidence(fine, latencies=(champion, same[:50])), AnalysisMoment()).advice is Advice.WAIT
    ruling = judge_advance.judge(policy, 0, Evidence(fine, latencies=(champion, late)), AnalysisMoment())
    assert ruling.advice is Advice.ROLL_BACK
    assert "p99: +" in ruling.reason.text


def test_probation_without_labels_vouches_for_nothing() -> None:
    policy = replace(POLICY, guards=replace(POLICY.guards, quality=QualityGuard("brier", 0.05)), probation_s=3600.0)
    assert judge_advance.judge_probation(policy, Evidence(), AnalysisMoment(step_s=3599.0)).advice is Advice.WAIT
    over = judge_advance.judge_probation(policy, Evidence(pairs=40), AnalysisMoment(step_s=3600.0))
    assert (over.advice, over.reason.outcome) == (Advice.PROMOTE, Outcome.NOT_ENOUGH_DATA)
    alike = np.random.default_rng(7).normal(0, 0.05, 900).clip(-1, 1)
    passed = judge_advance.judge_probation(policy, Evidence(differences=alike, pairs=900), AnalysisMoment(step_s=3600.0))
    assert (passed.advice, passed.reason.outcome) == (Advice.PROMOTE, Outcome.PASS)
    worse = judge_advance.judge_probation(policy, Evidence(differences=alike + 0.1, pairs=900), AnalysisMoment(step_s=5.0))
    assert worse.advice is Advice.ROLL_BACK


def rollout(rng: np.random.Generator, rates: tuple[float, float], looks: int) -> Advice:
    """Play one rollout to its end: ``rates`` are the shares of errors of champion and candidate; a look each 600 requests."""
    step, blocks = 0, ()
    for _ in range(looks):
        share = POLICY.steps[step].share
        candidate = int(rng.binomial(600, share))
        tallies = [Tally(n, int(rng.binomial(n, r)), 0) for n, r in zip((600 - candidate, candidate), rates, strict=True)]
        blocks = (*blocks, Interval(share, *tallies))
        advice = judge_advance.judge(POLICY, step, Evidence(blocks), AnalysisMoment()).advice
        if advice is Advice.ADVANCE:
            step += 1
        elif advice is not Advice.WAIT:
            return advice
    return Advice.HOLD


def share_of(advice: Advice, rates: tuple[float, float], rollouts: int, looks: int, seed: int) -> float:
    rng = np.random.default_rng(seed)
    return sum(rollout(rng, rates, looks) is advice for _ in range(rollouts)) / rollouts


def test_harmless_canaries_are_rarely_rolled_back() -> None:
    """1 % promised; of 250 rollouts, 8 or more would happen to a true 1 % with probability under 0.5 %."""
    assert share_of(Advice.ROLL_BACK, (0.02, 0.02), 250, 12, 1) * 250 < 8


def test_harm_of_the_guards_size_is_rarely_promoted() -> None:
    """5 % promised; of 150 rollouts, 16 or more would happen to a true 5 % with probability under 0.5 %."""
    assert share_of(Advice.PROMOTE, (0.002, 0.012), 150, 20, 2) * 150 < 16


def test_clear_cases_are_decided() -> None:
    assert share_of(Advice.ROLL_BACK, (0.002, 0.3), 40, 20, 3) == 1.0
    assert share_of(Advice.PROMOTE, (0.0, 0.0), 10, 20, 4) == 1.0
