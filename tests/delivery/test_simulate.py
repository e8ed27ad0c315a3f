"""Simulated rollouts: the quick rule is the judge's own, its errors stay below what is stated, and others fail where expected."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from benchmarks import rivals
from msgspec.structs import replace

from noria.delivery import judge_advance, simulation
from noria.delivery.judge_advance import AnalysisMoment
from noria.delivery.judge_guards import Evidence
from noria.delivery.rollout_record import Advice, Interval
from noria.delivery.simulation import (
    ArmShares,
    DecisionRule,
    PairedDifferences,
    Scenario,
    SimulatedDecision,
    SimulatedVerdict,
    Stream,
)
from noria.kernel.policy import Guards, QualityGuard, RolloutPolicy, RolloutStep, StepKind
from noria.serving.tallies import Tally

POLICY = RolloutPolicy(
    steps=tuple(RolloutStep(StepKind.CANARY, share) for share in (0.3, 0.6, 1.0)),
    guards=Guards(errors=0.1, slow_by=0.15),
    false_alarm=0.05,
    missed=0.1,
    patience_s=60,
)
BRIER = QualityGuard("brier", 0.1)
QUICK = DecisionRule((0.3,), errors=0.03, slow=0.06, false_alarm=0.05, missed=0.1, patience_s=3600)


def beyond_chance(rate: float, runs: int) -> float:
    """What a simulated rate may reach when the true one is ``rate``: three standard errors, and at least one run."""
    return max(rate + 3 * math.sqrt(rate * (1 - rate) / runs), 1 / runs)


def judged(policy: RolloutPolicy, stream: Stream, every: int) -> SimulatedDecision:
    """The same rollout request by request, with the judge itself called at each look."""
    blocks: list[Interval] = []
    step, at, both, counts = 0, 0, 0, np.zeros((2, 3), dtype=int)
    while True:
        while at >= len(stream):
            stream.grow()
        share, paired = policy.steps[step].share, policy.steps[step].kind is StepKind.SHADOW
        own, *events = (bool(column[0]) for column in (stream.pairs if paired else stream.outcomes)(at, share))
        time_s, at = float(stream.times[at]), at + 1
        if paired:
            events = [own and event for event in events]
            counts += own * np.array([[1, events[0], 0], [1, events[1], 0]])
            both += all(events)
        else:
            counts[int(own)] += (1, *events)
        if not (any(events) or counts[1][0] == every):
            continue
        theirs, own_counts = Tally(*counts[0].tolist()), Tally(*counts[1].tolist(), both)
        blocks.append(Interval(0.5 if paired else share, theirs, own_counts, paired=paired))
        counts[:], both = 0, 0
        come, differences = stream.labels_until(time_s)
        evidence = Evidence(blocks, differences[: int(np.searchsorted(come, time_s, "right"))])
        advice = judge_advance.judge(policy, step, evidence, AnalysisMoment(patient_s=time_s)).advice
        if advice is Advice.ADVANCE:
            step += 1
        elif advice is not Advice.WAIT:
            verdict = {
                Advice.PROMOTE: SimulatedVerdict.PROMOTED,
                Advice.ROLL_BACK: SimulatedVerdict.ROLLED_BACK,
                Advice.HOLD: SimulatedVerdict.HELD,
            }[advice]
            return SimulatedDecision(verdict, at, sum(b.candidate.requests for b in blocks), time_s)


@pytest.mark.parametrize(
    ("candidate", "burst", "drift", "mostly"),
    [
        (ArmShares(0.02, 0.03), 1.0, 1.0, SimulatedVerdict.PROMOTED),
        (ArmShares(0.08, 0.03), 1.0, 1.0, SimulatedVerdict.HELD),
        (ArmShares(0.02, 0.3), 4.0, 2.0, SimulatedVerdict.ROLLED_BACK),
        (ArmShares(0.3, 0.03), 4.0, 1.0, SimulatedVerdict.ROLLED_BACK),
    ],
)
def test_the_quick_rule_is_the_judges_own(candidate: ArmShares, burst: float, drift: float, mostly: SimulatedVerdict) -> None:
    rule = DecisionRule((0.3, 0.6), 0.1, 0.15, POLICY.false_alarm, POLICY.missed, POLICY.patience_s, look_requests=7)
    scenario = Scenario("", ArmShares(0.02, 0.03), candidate, traffic_per_s=5, burst=burst, drift=drift)
    seen = Counter[SimulatedVerdict]()
    for i in range(60):
        quick = simulation.noria(rule, Stream(scenario, rule.patience_s, (1, i)))
        slow = judged(POLICY, Stream(scenario, rule.patience_s, (1, i)), 7)
        assert quick.verdict is slow.verdict
        if quick.verdict is not SimulatedVerdict.HELD or quick.seconds > rule.patience_s:
            assert quick == slow
        seen[quick.verdict] += 1
    assert seen.most_common(1)[0][0] is mostly


WITH_LABELS = replace(
    POLICY, steps=(RolloutStep(StepKind.SHADOW, 0.5), *POLICY.steps), guards=replace(POLICY.guards, quality=BRIER)
)


@pytest.mark.parametrize(
    ("candidate", "loss", "mostly"),
    [
        (ArmShares(0.02, 0.03), 0.0, SimulatedVerdict.PROMOTED),
        (ArmShares(0.02, 0.03), 0.2, SimulatedVerdict.ROLLED_BACK),
        (ArmShares(0.4, 0.03), 0.0, SimulatedVerdict.ROLLED_BACK),
        (ArmShares(0.02, 0.4), 0.0, SimulatedVerdict.ROLLED_BACK),
        (ArmShares(0.02, 0.03), 0.06, SimulatedVerdict.HELD),
    ],
)
def test_the_quick_rule_is_the_judges_own_with_a_shadow_step_and_labels(
    candidate: ArmShares, loss: float, mostly: SimulatedVerdict
) -> None:
    stated = (POLICY.false_alarm, POLICY.missed, POLICY.patience_s)
    rule = DecisionRule((0.3, 0.6), 0.1, 0.15, *stated, guards=3, look_requests=7, shadow=0.5, quality=0.1)
    scenario = Scenario("", ArmShares(0.02, 0.03), candidate, traffic_per_s=8, burst=3, drift=1.5, labels_per_s=1.0, loss=loss)
    seen = Counter[SimulatedVerdict]()
    for i in range(40):
        quick = simulation.noria(rule, Stream(scenario, rule.patience_s, (1, i)))
        slow = judged(WITH_LABELS, Stream(scenario, rule.patience_s, (1, i)), 7)
        assert quick.verdict is slow.verdict
        if quick.verdict is not SimulatedVerdict.HELD or quick.seconds > rule.patience_s:
            assert quick == slow
        seen[quick.verdict] += 1
    assert seen.most_common(1)[0][0] is mostly


SETTINGS = {
    "a small share": (QUICK, {}),
    "half": (replace(QUICK, shares=(0.5,)), {}),
    "three quarters": (replace(QUICK, shares=(0.75,)), {}),
    "nearly all": (replace(QUICK, shares=(0.1, 0.9)), {}),
    "outages": (replace(QUICK, shares=(0.05, 0.25)), {"outage_every_s": 120.0, "outage_s": 10.0}),
    "outages at 1 %": (replace(QUICK, shares=(0.01,), errors=0.1, slow=0.15), {"outage_every_s": 120.0, "outage_s": 10.0}),
    "outages in a shadow step": (replace(QUICK, shadow=0.2), {"outage_every_s": 120.0, "outage_s": 10.0}),
    "1 %": (replace(QUICK, shares=(0.01,), errors=0.1, slow=0.15), {}),
    "shares that change": (replace(QUICK, shares=(0.05, 0.25, 0.6)), {}),
    "a shadow step": (replace(QUICK, shares=(0.3,), shadow=0.2), {}),
    "only a shadow step": (replace(QUICK, shares=(), shadow=0.5), {}),
    "bursts": (replace(QUICK, shares=(0.1, 0.4)), {"burst": 20.0}),
    "rates that drift": (replace(QUICK, shares=(0.1, 0.4), patience_s=600), {"drift": 4.0}),
}


@pytest.mark.parametrize("share", [0.5, 0.75, 0.9])
def test_a_large_share_decides_though_both_fail_often(share: float) -> None:
    """Number 42: above a half nothing was promoted, and 10 % of errors at a half took six times the least requests."""
    rule = replace(QUICK, shares=(share,), slow=0.9, patience_s=36_000)
    often = ArmShares(0.1)
    (found,) = simulation.run(Scenario("", often, often, traffic_per_s=40), rule, rollouts=30, seed=12)
    assert found.promoted >= 27
    weight = (1 - rule.errors) * share / (1 - share)
    stakes = np.linspace(0.001, 0.999, 999) / (1 - rule.errors)
    growth = share * (0.9 * np.log1p(stakes * rule.errors) + 0.1 * np.log1p(stakes * (rule.errors - 1)))
    least = math.log(1 / rule.missed) / (growth + (1 - share) * 0.1 * np.log1p(stakes * weight)).max()
    assert found.requests.median < 3 * least


def test_outages_that_both_share_delay_a_good_candidate_and_do_not_stop_it() -> None:
    """Number 39."""
    outages = Scenario("", ArmShares(0.002), ArmShares(0.002), traffic_per_s=40, outage_every_s=300.0, outage_s=10.0)
    (found,) = simulation.run(outages, replace(QUICK, shares=(0.1,), slow=0.06), rollouts=40, seed=13)
    assert found.promoted >= 36
    assert found.rolled_back <= 2


@pytest.mark.parametrize("shadow", [0.0, 1.0])
def test_a_candidate_that_fails_as_its_champion_does_is_not_promoted(shadow: float) -> None:
    """Number 39: both always fail, and 50 of 50 were promoted."""
    broken = Scenario("", ArmShares(1.0), ArmShares(1.0), traffic_per_s=40)
    (found,) = simulation.run(broken, replace(QUICK, shares=(0.5,), shadow=shadow, patience_s=120), rollouts=50, seed=14)
    assert found.promoted == 0
    assert found.rolled_back <= beyond_chance(QUICK.false_alarm, 50) * 50


@pytest.mark.parametrize("name", SETTINGS)
def test_rollbacks_without_cause_are_as_rare_as_stated(name: str) -> None:
    rule, traffic = SETTINGS[name]
    same = Scenario(name, ArmShares(0.03, 0.02), ArmShares(0.03, 0.02), traffic_per_s=40, **traffic)
    (found,) = simulation.run(same, rule, rollouts=120, seed=5)
    assert found.rolled_back / 120 <= beyond_chance(rule.false_alarm, 120)
    assert found.promoted > 60


@pytest.mark.parametrize("name", SETTINGS)
def test_harm_of_the_guards_size_is_promoted_as_rarely_as_stated(name: str) -> None:
    """Numbers 39 and 42: the champion hardly ever fails but in outages, and those its candidate has as well: then little tells
    against that, and promoting it is easiest."""
    rule, traffic = SETTINGS[name]
    worse = Scenario(name, ArmShares(0.002, 0.002), ArmShares(0.002 + rule.errors, 0.002), traffic_per_s=40, **traffic)
    (found,) = simulation.run(worse, rule, rollouts=120, seed=6)
    assert found.promoted / 120 <= beyond_chance(rule.missed, 120)


def test_looking_at_an_ordinary_test_all_the_time_is_wrong_often() -> None:
    same = Scenario("same", ArmShares(0.03, 0.02), ArmShares(0.03, 0.02), traffic_per_s=40)
    judges = {name: judge for name, judge in rivals.judges().items() if name in ("noria", "fixed size", "fixed size, peeked at")}
    found = {one.rule: one for one in simulation.run(same, QUICK, rollouts=150, seed=9, judges=judges)}
    assert found["fixed size"].rolled_back / 150 <= beyond_chance(QUICK.false_alarm, 150)
    assert found["fixed size, peeked at"].rolled_back / 150 > 2 * QUICK.false_alarm
    assert found["noria"].rolled_back / 150 <= beyond_chance(QUICK.false_alarm, 150)
    assert {one.rollouts for one in found.values()} == {150}


def test_a_test_of_fixed_size_misses_as_much_as_it_was_sized_for() -> None:
    worse = Scenario("worse", ArmShares(0.03, 0.02), ArmShares(0.06, 0.02), traffic_per_s=100)
    found = simulation.run(worse, QUICK, rollouts=300, seed=3, judges={"fixed size": rivals.fixed})[0]
    assert found.promoted / 300 <= beyond_chance(QUICK.missed, 300)
    assert found.requests.median == pytest.approx(found.canary.median / 0.3, rel=0.05)


def test_thresholds_as_argo_and_flagger_have_them() -> None:
    """No request in a minute: an error for Argo, of which five in a row end it; a failed check for Flagger."""
    rule = replace(QUICK, shares=(0.001,), patience_s=1800)
    quiet = Stream(Scenario("quiet", ArmShares(0.0), ArmShares(0.0), traffic_per_s=0.02), rule.patience_s, (1,))
    argo = rivals.thresholds(rivals.ARGO, rule, quiet)
    assert (argo.verdict, argo.canary, argo.seconds) == (SimulatedVerdict.ROLLED_BACK, 0, 300)
    busy = Scenario("busy", ArmShares(0.0), ArmShares(1.0), traffic_per_s=100)
    broken = Stream(busy, rule.patience_s, (1,))
    rule = replace(rule, shares=(0.25,))
    assert rivals.thresholds(rivals.ARGO, rule, broken).seconds == 240  # the fourth failure is more than a failureLimit of 3
    assert rivals.thresholds(rivals.FLAGGER, rule, broken).seconds == 300  # the fifth reaches a threshold of 5
    sound = Stream(replace(busy, candidate=ArmShares(0.0)), rule.patience_s, (1,))
    assert rivals.thresholds(rivals.ARGO, rule, sound) == SimulatedDecision(
        SimulatedVerdict.PROMOTED, int(np.searchsorted(sound.times, 600)), rivals.thresholds(rivals.ARGO, rule, sound).canary, 600
    )
    assert rivals.thresholds(rivals.FLAGGER, rule, sound).seconds == 300


def test_streams_are_the_same_however_they_are_asked() -> None:
    scenario = Scenario("", ArmShares(0.1), ArmShares(0.2), burst=5.0)
    at_once, bit_by_bit = (Stream(scenario, 3600, (4, 2)) for _ in range(2))
    for _ in range(4):
        at_once.grow()
    bit_by_bit.grow()
    early = [column.copy() for column in bit_by_bit.outcomes(0, 0.3)]
    for column, before in zip(at_once.outcomes(0, 0.3), early, strict=True):
        assert (column[: len(before)] == before).all()
    assert (at_once.times[: len(bit_by_bit)] == bit_by_bit.times).all()
    per_minute = np.bincount((at_once.times[at_once.times < 3000] // 60).astype(int))
    assert per_minute.max() > 3 * np.median(per_minute)
    assert (np.diff(at_once.times) >= 0).all()


def test_what_cannot_be_is_refused() -> None:
    good = Scenario("", ArmShares(0.1), ArmShares(0.1))
    for scenario, rule in (
        (good, replace(QUICK, shares=())),
        (good, replace(QUICK, shares=(1.0,))),
        (replace(good, candidate=ArmShares(1.1)), QUICK),
        (replace(good, traffic_per_s=0), QUICK),
        (replace(good, drift=20.0), QUICK),
        (good, replace(QUICK, shadow=1.1)),
        (good, replace(QUICK, quality=1.0)),
        (replace(good, loss=2.0), QUICK),
    ):
        with pytest.raises(ValueError):
            simulation.run(scenario, rule, 1, 0)


def test_a_candidate_slow_by_the_guard_is_not_vouched_for_by_a_shadow_step() -> None:
    """The pairs know nothing of slow answers: however many there are, the canary must show that none are."""
    rule = replace(QUICK, errors=0.01, shares=(0.2,), shadow=1.0)
    slow = Scenario("slow", ArmShares(0.001, 0.002), ArmShares(0.001, 0.002 + rule.slow), traffic_per_s=40)
    (found,) = simulation.run(slow, rule, rollouts=200, seed=4)
    assert found.promoted / 200 <= beyond_chance(rule.missed, 200)
    assert found.rolled_back > 150


def test_old_seeds_keep_their_figures() -> None:
    """Rollouts without shadow and labels are not played out differently for there being such."""
    stream = Stream(Scenario("", ArmShares(0.1), ArmShares(0.2)), 3600, (4, 2))
    stream.grow()
    for i in range(3):
        assert (stream.lots[i] == np.random.default_rng([4, 2, i]).random(4096)).all()
    one = Stream(replace(stream.scenario, labels_per_s=2.0), 3600, (4, 2))
    one.labels_until(100.0)
    one.grow()
    assert (one.lots == stream.lots).all()
    assert (one.times == stream.times).all()


@pytest.mark.parametrize("sd", [0.05, 0.3])
def test_quality_is_judged_with_the_stated_errors(sd: float) -> None:
    rule = replace(QUICK, guards=3)
    margin = 0.5 * sd
    same, worse = (simulation.quality(PairedDifferences("", mean, sd), rule, margin, 1500, 200, 8) for mean in (0.0, margin))
    assert same.rolled_back / 200 <= beyond_chance(rule.false_alarm / rule.guards, 200)
    assert same.promoted > 190
    assert worse.promoted / 200 <= beyond_chance(rule.missed, 200)
    assert worse.rolled_back > 150
