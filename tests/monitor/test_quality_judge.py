"""Quality of a window against the holdout; SciPy's Welch test is the oracle."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ttest_ind

from noria.kernel.policy import MonitorPolicy
from noria.kernel.verdict import Outcome
from noria.monitor import judge_quality
from noria.monitor.judge_quality import Units

POLICY = MonitorPolicy(min_labelled=200, false_alarm=0.05)
RNG = np.random.default_rng(7)
HOLDOUT = RNG.normal(0.155, 0.02, 14)
REFERENCE = Units.of(HOLDOUT)


@pytest.mark.parametrize("shift", [-0.05, 0.0, 0.01, 0.055])
@pytest.mark.parametrize("margin", [0.0, 0.02])
def test_p_value_is_scipys(shift: float, margin: float) -> None:
    losses = RNG.normal(0.155 + shift, 0.05, 28)
    policy = MonitorPolicy(min_labelled=200, false_alarm=0.05, margin=margin)
    ruling = judge_quality.judge(Units.of(losses), 1_812, REFERENCE, policy, "brier")
    expected = ttest_ind(losses - margin, HOLDOUT, equal_var=False, alternative="greater").pvalue
    assert ruling.p_value == pytest.approx(expected, rel=1e-9)
    assert ruling.verdict.outcome is (Outcome.FAIL if expected <= 0.05 else Outcome.PASS)
    assert ruling.value == losses.mean()


def test_sentences() -> None:
    losses = 0.210 + 0.05 * np.resize([-1.0, 1.0], 28)
    sank = judge_quality.judge(Units.of(losses), 1_812, Units(14, 0.155, 0.02), POLICY, "brier")
    assert sank.verdict.sentence() == (
        "brier 0.210 on 1,812 labelled of 28 days, against 0.155 on its holdout (14 days): worse beyond chance "
        f"(p = {sank.p_value:.1g}, limit 0.05)"
    )
    policy = MonitorPolicy(margin=0.01)
    held = judge_quality.judge(Units.of(losses - 0.06), 1_812, Units(14, 0.155, 0.02), policy, "absolute_error", "rows")
    assert held.verdict.sentence() == (
        "absolute_error 0.150 on 1,812 labelled of 28 rows, against 0.155 on its holdout (14 rows): not worse beyond the "
        f"margin of 0.01 and chance (p = {held.p_value:.3f}, limit 0.001)"
    )


@pytest.mark.parametrize(
    ("losses", "labelled", "holdout", "text"),
    [
        ([0.9] * 20, 199, 14, "199 labelled rows are too few; 200 are needed"),
        ([0.9] * 4, 5_000, 14, "the window has 4 days; 5 are needed to know how much days differ"),
        ([0.9] * 20, 5_000, 4, "the holdout has 4 days; 5 are needed to know how much days differ"),
        ([], 0, 14, "0 labelled rows are too few; 200 are needed"),
        ([0.9] * 20 + [float("nan")], 5_000, 14, "some losses are not finite numbers"),
    ],
)
def test_too_little_is_its_own_answer(losses: list[float], labelled: int, holdout: int, text: str) -> None:
    ruling = judge_quality.judge(Units.of(np.array(losses)), labelled, Units(holdout, 0.1, 0.01), POLICY)
    assert (ruling.verdict.outcome, ruling.verdict.sentence(), ruling.p_value) == (Outcome.NOT_ENOUGH_DATA, text, 1.0)


def test_false_alarms_stay_at_their_rate_when_days_differ() -> None:
    """Both sides drawn alike: at a limit of 5 %, 2,000 windows alarm about 100 times (5 sigma is 49)."""
    rng = np.random.default_rng(11)
    alarms = 0
    for _ in range(2_000):
        window, holdout = rng.normal(0.2, 0.03, 28), rng.normal(0.2, 0.03, 14)
        alarms += judge_quality.judge(Units.of(window), 5_000, Units.of(holdout), POLICY).verdict.outcome is Outcome.FAIL
    assert 51 <= alarms <= 149


def test_whether_it_can_be_judged_at_all_is_said_beforehand() -> None:
    """Number 37: quality was never judged at the defaults, and `noria check` said that all was well."""
    default = MonitorPolicy()
    text, can = judge_quality.outlook(default, by_day=True, holdout_s=None)
    assert (can, text) == (True, (
        "quality is judged 1 d after each window of 1 d, by days, at least 5 of them: over the newest 7 d; where fewer than 200 "
        "labels came, windows of up to 28 d are judged together"
    ))  # fmt: skip
    text, can = judge_quality.outlook(default, by_day=True, holdout_s=3 * 86_400.0)
    assert (can, text.startswith("quality is never judged: a holdout of the last 3 d holds 4 days at most")) == (False, True)
    assert judge_quality.outlook(default, by_day=False, holdout_s=None, labels_per_s=1e-3)[1]
    text, can = judge_quality.outlook(default, by_day=False, holdout_s=None, labels_per_s=5e-5)
    assert (can, "at present 121 labels come in 28 d" in text) == (False, True)


def test_units_are_their_number_mean_and_spread() -> None:
    losses = RNG.normal(0.2, 0.05, 28)
    assert Units.of(losses) == Units(28, float(losses.mean()), float(losses.std(ddof=1)))
    assert (Units.of(losses[:0]), Units.of(losses[:1]).sd) == (Units(0, 0.0, 0.0), 0.0)
