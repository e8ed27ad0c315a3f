"""Judges whether a release caused the deaths of processes and must be replaced.

A process killed by hand counts against no release.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence

from noria.kernel.verdict import Outcome, Reason
from noria.kernel.words import lasting
from noria.serving.crash_record import Crashes

CANDIDATE_DEATHS = 2  # of processes that a candidate was running in: one may be chance
CHAMPION_DEATHS = 3  # within WINDOW_S, of a champion whose predecessor is there to take over
WINDOW_S = 60.0

UNKNOWN = 255  # what asyncio reports of a process that somebody else waited for
FAULTS = {-number for number in (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE)}


def is_crash(code: int, out_of_memory: bool) -> bool:
    """Whether a process ended (``code`` as `subprocess` gives it) by a fault of its own. SIGKILL is one only where the kernel
    sent it for want of memory; SIGTERM and the like are a person's or a supervisor's. UNKNOWN says nothing."""
    return 0 < code < UNKNOWN or code in FAULTS or (code == -signal.SIGKILL and out_of_memory)


def burst(times_s: Sequence[float]) -> int:
    """Returns the most deaths within any ``WINDOW_S`` seconds; ``times_s`` ascend."""
    return max((sum(begun <= at <= begun + WINDOW_S for at in times_s) for begun in times_s), default=0)


def of_candidate(crashes: Crashes | None) -> Reason | None:
    """Returns why a candidate gets no more traffic, or None."""
    if crashes is None or crashes.deaths < CANDIDATE_DEATHS:
        return None
    text = f"it crashed {crashes.deaths} processes ({crashes.how})"
    return Reason("rollout.crashed", text, Outcome.FAIL, {"deaths": crashes.deaths})


def of_champion(crashes: Crashes | None, fit_previous: bool) -> Reason | None:
    """Returns why a champion is replaced by the previous release, or None.

    ``fit_previous``: there is one, and it is not barred.
    """
    if crashes is None or crashes.burst < CHAMPION_DEATHS or not fit_previous:
        return None
    text = f"it crashed {crashes.burst} processes within {lasting(WINDOW_S)} ({crashes.how})"
    return Reason("environment.crash_loop", text, Outcome.FAIL, {"deaths": crashes.deaths, "burst": crashes.burst})
