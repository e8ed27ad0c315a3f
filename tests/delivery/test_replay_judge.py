"""The judge of a replay: each way to fail, each sentence, and how often a sound candidate is stopped."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from scipy.stats import binomtest

from noria.delivery.judge_replay import judge, sign_test
from noria.kernel.policy import Guards, ReplayPolicy
from noria.kernel.verdict import Outcome
from noria.serving.replay_result import Replayed

POLICY, GUARDS = ReplayPolicy(), Guards()
FINE = Replayed(
    requests=500, wanted=500, champion_median_ms=0.2, candidate_median_ms=0.25, champion_p99_ms=1.0, candidate_p99_ms=1.5,
    compared=500, difference=0.04, changed=0.03,
)  # fmt: skip


@pytest.mark.parametrize(
    ("facts", "outcome", "text"),
    [
        (
            FINE, Outcome.PASS,
            "replay: 500 logged requests, 0 errors (champion: 0), 0.25 ms at the median (champion: 0.2 ms), "
            "answers differ by 0.04, 3 % of the classes are others",
        ),
        (
            replace(FINE, requests=80, compared=80, changed=None), Outcome.PASS,
            "replay: 80 of 500 logged requests, 0 errors (champion: 0), 0.25 ms at the median (champion: 0.2 ms), "
            "answers differ by 0.04",
        ),
        (
            replace(FINE, candidate_errors=30, champion_errors=5, candidate_only=28, champion_only=3), Outcome.FAIL,
            "replay: it failed on 30 of 500 logged requests and the champion on 5 (sign test: p = 2.3e-06)",
        ),
        (
            replace(FINE, candidate_errors=500, candidate_only=500, unreadable=500, compared=0), Outcome.FAIL,
            "replay: it failed on 500 of 500 logged requests and the champion on 0 (sign test: p = 3.1e-151), "
            "500 of them because an input is missing",
        ),
        (
            replace(FINE, candidate_slow=40, champion_slow=10, candidate_slow_only=35, champion_slow_only=5), Outcome.FAIL,
            "replay: it was slower than 100 ms on 40 of 500 logged requests and the champion on 10 (sign test: p = 6.9e-07)",
        ),
        (
            replace(FINE, difference=0.31), Outcome.FAIL,
            "replay: its answers differ by 0.31 on 500 logged requests, more than 0.25, 3 % of the classes are others",
        ),
        (
            replace(FINE, requests=3, timed_out=True), Outcome.FAIL,
            "replay: it did not finish; 3 of 500 logged requests were answered",
        ),
        (Replayed(failed="it cannot be loaded: no"), Outcome.FAIL, "replay: it cannot be loaded: no"),
        (Replayed(), Outcome.NOT_ENOUGH_DATA, "replay: nothing was logged yet"),
        (Replayed(why="inputs are redacted"), Outcome.NOT_ENOUGH_DATA, "replay: inputs are redacted"),
        (
            replace(FINE, requests=19, difference=1.0, candidate_errors=19, candidate_only=19), Outcome.NOT_ENOUGH_DATA,
            "replay: 19 logged requests are too few for a verdict; 20 are needed",
        ),
    ],
)  # fmt: skip
def test_each_sentence(facts: Replayed, outcome: Outcome, text: str) -> None:
    reason = judge(POLICY, GUARDS, 0.01, facts)
    assert (reason.outcome, reason.text) == (outcome, text)


def test_what_is_shown_but_small_and_what_is_large_but_not_shown_stop_nothing() -> None:
    small = replace(FINE, requests=5000, candidate_errors=40, champion_errors=0, candidate_only=40)  # 0.8 %: below the guard
    by_chance = replace(FINE, candidate_errors=7, candidate_only=7)  # 1.4 %, and p = 0.0078 > 0.005
    assert judge(POLICY, GUARDS, 0.01, small).outcome is Outcome.PASS
    assert judge(POLICY, GUARDS, 0.01, by_chance).outcome is Outcome.PASS
    assert judge(POLICY, GUARDS, 0.01, replace(by_chance, candidate_errors=8, candidate_only=8)).outcome is Outcome.FAIL


@given(st.integers(0, 3000), st.integers(0, 3000))
def test_the_sign_test_is_scipys(ours: int, theirs: int) -> None:
    due = binomtest(ours, ours + theirs, 0.5, alternative="greater").pvalue if ours + theirs else 1.0
    assert sign_test(ours, theirs) == pytest.approx(due, rel=1e-9, abs=1e-200)  # SciPy says 0 where ours is 4e-254


@pytest.mark.parametrize("rate", [0.02, 0.1, 0.4])
def test_a_sound_candidate_is_stopped_no_oftener_than_said(rate: float) -> None:
    """Both fail and are late equally often, apart from each other; with no guard in the way only the test decides."""
    rng, false_alarm, runs, n = np.random.default_rng(5), 0.1, 2000, 200
    bare = Guards(errors=0.0, slow_by=0.0)
    stopped = 0
    for _ in range(runs):
        failed = rng.random((4, n)) < rate
        counts = [int(v) for v in failed.sum(axis=1)]
        facts = Replayed(
            requests=n, wanted=n,
            candidate_errors=counts[0], champion_errors=counts[1],
            candidate_only=int((failed[0] & ~failed[1]).sum()), champion_only=int((failed[1] & ~failed[0]).sum()),
            candidate_slow=counts[2], champion_slow=counts[3],
            candidate_slow_only=int((failed[2] & ~failed[3]).sum()), champion_slow_only=int((failed[3] & ~failed[2]).sum()),
        )  # fmt: skip
        stopped += judge(POLICY, bare, false_alarm, facts).outcome is Outcome.FAIL
    assert binomtest(stopped, runs, false_alarm, alternative="greater").pvalue > 1e-4
