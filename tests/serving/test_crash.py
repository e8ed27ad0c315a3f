"""Whose fault a death is, and when it is enough."""

from __future__ import annotations

import signal

import pytest

from noria.kernel.verdict import Outcome
from noria.serving import judge_crash
from noria.serving.crash_record import Crashes


@pytest.mark.parametrize(
    ("code", "out_of_memory", "crashed"),
    [
        (-signal.SIGSEGV, False, True), (-signal.SIGABRT, False, True), (-signal.SIGBUS, False, True),
        (-signal.SIGILL, False, True),
        (-signal.SIGFPE, False, True), (1, False, True), (134, False, True), (255, False, False),
        (0, False, False), (-signal.SIGTERM, True, False),
        (-signal.SIGINT, False, False), (-signal.SIGKILL, False, False), (-signal.SIGKILL, True, True),
    ],
)  # fmt: skip
def test_only_a_processs_own_faults_are_crashes(code: int, out_of_memory: bool, crashed: bool) -> None:
    assert judge_crash.is_crash(code, out_of_memory) is crashed


@pytest.mark.parametrize(
    ("times", "most"),
    [([], 0), ([5.0], 1), ([0, 61, 122], 1), ([0, 59, 61], 2), ([0, 30, 60], 3), ([0, 100, 110, 120, 300], 3)],
)
def test_the_worst_minute_counts(times: list[float], most: int) -> None:
    assert judge_crash.burst(times) == most


def test_a_candidate_goes_at_the_second_death_and_a_champion_at_the_third_in_a_minute() -> None:
    assert judge_crash.of_candidate(None) is None
    assert judge_crash.of_candidate(Crashes(1, 1, "SIGSEGV in worker 0")) is None
    reason = judge_crash.of_candidate(Crashes(2, 1, "SIGSEGV in worker 0"))
    assert reason is not None
    assert (reason.outcome, reason.text) == (Outcome.FAIL, "it crashed 2 processes (SIGSEGV in worker 0)")
    assert judge_crash.of_champion(Crashes(9, 2, "SIGABRT in its host"), fit_previous=True) is None
    assert judge_crash.of_champion(Crashes(3, 3, "SIGABRT in its host"), fit_previous=False) is None
    assert judge_crash.of_champion(Crashes(3, 3, "SIGABRT in its host"), fit_previous=True) is not None
