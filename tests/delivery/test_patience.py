"""What is foretold of a rollout's length: against the evidence's own formula, and against rollouts played out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from noria.delivery import judge_guards, judge_patience, simulation
from noria.delivery.judge_guards import Evidence
from noria.delivery.judge_patience import Loss, RateGuard, RolloutPlan
from noria.delivery.simulation import ArmShares, DecisionRule, PairedDifferences, Scenario
from noria.kernel.policy import Guards, QuantileGuard, RolloutPolicy, RolloutStep, StepKind
from noria.stats import eprocess

PLAN = RolloutPlan((0.05, 0.25), false_alarm=0.01, missed=0.05, patience_s=3600, traffic_per_s=20)


@given(st.floats(0.005, 0.3), st.floats(0.01, 0.3), st.integers(1, 4))
def test_without_any_error_it_is_exact(margin: float, missed: float, steps: int) -> None:
    plan = replace(PLAN, shares=(0.1,) * steps, missed=missed)
    (one,) = judge_patience.guard_costs(plan, [RateGuard("errors", margin)])
    assert sum(one.canary) == eprocess.requests_needed(margin, missed)
    assert one.canary[0] == eprocess.requests_needed(margin, missed ** (1 / steps))
    assert one.requests == pytest.approx(10 * sum(one.canary))
    assert one.seconds == pytest.approx(one.requests / 20)


def test_it_is_about_what_rollouts_take() -> None:
    rule = DecisionRule(PLAN.shares, errors=0.02, slow=0.9, patience_s=36_000)
    arm = ArmShares(0.01)
    (errors, _) = judge_patience.guard_costs(PLAN, [RateGuard("errors", 0.02, champion=0.01), RateGuard("slow answers", 0.9)])
    (good,) = simulation.run(Scenario("", arm, arm), rule, 60, 1)
    assert good.promoted == 60
    assert errors.requests == pytest.approx(good.requests.median, rel=0.5)
    assert errors.seconds == pytest.approx(good.seconds.median, rel=0.5)
    (bad,) = simulation.run(Scenario("", arm, ArmShares(0.03)), replace(rule, shares=(0.05,)), 60, 1)
    assert errors.harm_requests == pytest.approx(bad.requests.median, rel=0.5)


def test_with_a_shadow_step_it_is_about_what_rollouts_take() -> None:
    arm, shadow = ArmShares(0.01), replace(PLAN, shares=(), shadow=0.3)
    errors = RateGuard("errors", 0.02, champion=0.01)
    (one,) = judge_patience.guard_costs(shadow, [errors])
    rule = DecisionRule((), errors=0.02, slow=0.9, guards=1, shadow=0.3, patience_s=36_000)
    good, bad = (simulation.run(Scenario("", arm, new), rule, 60, 1)[0] for new in (arm, ArmShares(0.03)))
    assert one.requests == pytest.approx(good.requests.median, rel=0.5)
    assert one.harm_requests == pytest.approx(bad.requests.median, rel=0.5)
    both = replace(PLAN, shares=(0.1,), shadow=0.3)
    first, slow = judge_patience.guard_costs(both, [errors, RateGuard("slow answers", 0.02, 0.01, paired=False)])
    assert len(first.canary) == 2
    assert slow.canary == (
        judge_patience.guard_costs(replace(PLAN, shares=(0.1,)), [errors])[0].canary
    )  # the pairs vouch for none
    assert sum(first.canary) < 2 * sum(slow.canary)
    assert "at shadow of 30 %, 10 % of traffic" in judge_patience.findings(replace(both, traffic_per_s=0.1), [errors])[0].text
    with pytest.raises(ValueError, match="shares"):
        judge_patience.guard_costs(replace(PLAN, shares=()), [errors])


def test_labels_take_about_what_pairs_take() -> None:
    plan = replace(PLAN, shares=(0.5,))
    (one,) = judge_patience.guard_costs(plan, [Loss("brier", 0.02, sd=0.15, labels_per_s=0.5)])
    rule = DecisionRule((0.5,), guards=1)
    good, bad = (simulation.quality(PairedDifferences("", mean, 0.15), rule, 0.02, 6000, 60, 2) for mean in (0.0, 0.02))
    assert one.requests == pytest.approx(good.requests.median, rel=0.4)
    assert one.harm_requests == pytest.approx(bad.requests.median, rel=0.4)
    assert one.seconds == one.requests / 0.5


def test_what_takes_longer_than_patience_is_said() -> None:
    slow = replace(PLAN, traffic_per_s=0.5)
    (found,) = judge_patience.findings(slow, [RateGuard("errors", 0.01), RateGuard("slow answers", 0.1)])
    assert found.guard == "errors"
    assert found.needed_s > 3600
    assert "errors cannot be decided within a patience of 1 h" in found.text
    assert "at 5 %, 25 % of traffic" in found.text
    assert "at 30/min" in found.text
    assert judge_patience.findings(PLAN, [RateGuard("errors", 0.01)]) == []
    (late,) = judge_patience.findings(PLAN, [Loss("brier", 0.01, labels_per_s=0.001)])
    assert "labelled pairs" in late.text
    assert "3.6/h" in late.text


def test_a_quantile_is_decided_after_what_is_foretold_at_the_earliest() -> None:
    """Latencies without any spread, judged as a rollout does: nothing is known before, all is then."""
    guards, steps = (
        Guards(quantile=QuantileGuard(0.99, 5.0)),
        tuple(RolloutStep(StepKind.CANARY, share) for share in (0.1, 0.5, 1.0)),
    )
    policy = replace(RolloutPolicy(), guards=guards, steps=steps, missed=0.05)
    canary, seconds = judge_patience.quantile_cost(RolloutPlan((0.1, 0.5), 0.01, 0.05, 3600.0, 20.0), 0.99)

    def clear(own: int, needed: float) -> bool:
        latencies = np.full(9 * canary, 10.0), np.full(own, 10.0)
        return judge_guards.stands(policy, Evidence((), latencies=latencies), needed)[-1].cleared

    assert (clear(canary, 20.0), clear(canary - 1, 20.0)) == (True, False)
    first = next(own for own in range(1, canary) if clear(own, math.sqrt(20)))
    assert seconds == pytest.approx(first / (0.1 * 20) + (canary - first) / (0.5 * 20))
    assert judge_patience.quantile_cost(RolloutPlan((0.1,), 0.01, 0.05, 3600.0), 0.99)[1] is None
    assert judge_patience.quantile_cost(RolloutPlan((0.1,), 0.01, 0.05, 3600.0, 0.0), 0.99)[1] == math.inf


def test_unknown_traffic_is_no_finding_and_none_at_all_is_one() -> None:
    unknown = replace(PLAN, traffic_per_s=None)
    (one,) = judge_patience.guard_costs(unknown, [RateGuard("errors", 0.01)])
    assert one.seconds is None
    assert one.requests > 1000
    assert judge_patience.findings(unknown, [RateGuard("errors", 0.01)]) == []
    (silent,) = judge_patience.findings(replace(PLAN, traffic_per_s=0.0), [RateGuard("errors", 0.01)])
    assert silent.needed_s == math.inf
    assert "for ever" in silent.text


@pytest.mark.parametrize(
    ("plan", "guard"),
    [
        (replace(PLAN, shares=()), RateGuard("errors", 0.1)),
        (replace(PLAN, shares=(1.0,)), RateGuard("errors", 0.1)),
        (replace(PLAN, missed=0.0), RateGuard("errors", 0.1)),
        (PLAN, RateGuard("errors", 0.0)),
        (PLAN, RateGuard("errors", 0.5, champion=0.6)),
        (PLAN, Loss("brier", 1.0)),
    ],
)
def test_what_cannot_be_is_refused(plan: RolloutPlan, guard: RateGuard | Loss) -> None:
    with pytest.raises(ValueError):
        judge_patience.guard_costs(plan, [guard])
