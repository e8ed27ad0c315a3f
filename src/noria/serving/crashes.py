"""Attributes the deaths of workers and hosts to the release that was running, per environment.

A compiled candidate marks its calls in the counters, so that its name outlives the worker. For the champion, whose path is too
hot for marks, the fault handler of the dying worker tells whether a model was running.
"""

from __future__ import annotations

import contextlib
import faulthandler
import re
import signal
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from noria.kernel import logs
from noria.serving import judge_crash
from noria.serving.child_process import CODE_ENDED
from noria.serving.counts import SharedCounters, is_on_probation
from noria.serving.crash_record import CHAMPION, Crashes, candidate_of
from noria.serving.out_of_memory import OutOfMemory
from noria.serving.preflight import ending
from noria.serving.route import Route

_log = logs.get_logger("noria.serving")

REMEMBERED = 100  # moments of death, of one release in one role
TOLD_LINES = 20  # of a worker's last words, in the server's log
MODEL = "serving/runtime.py"  # in the trace of a worker that was computing an answer
LOADING = re.compile(re.escape(MODEL) + r'", line \d+ in (__init__|load)\b')  # of a thread that brings one into memory


class CrashRecord(msgspec.Struct):
    """Deaths of one release in one role."""

    deaths: int = 0
    how: str = ""
    moments: deque[float] = msgspec.field(default_factory=lambda: deque(maxlen=REMEMBERED))

    def facts(self, role: str) -> Crashes:
        return Crashes(self.deaths, judge_crash.burst(self.moments), self.how, role)


class CrashHistory:
    """Of one environment. A release's role is champion, or the rollout that it is the candidate of."""

    def __init__(self, counts: Path, out_of_memory: OutOfMemory) -> None:
        self.suspended: dict[str, str] = {}  # candidate -> why it gets no traffic
        self._counts = counts
        self._oom = out_of_memory
        self._tales: dict[tuple[str, str], CrashRecord] = {}

    def note_worker_end(
        self, slot: int, code: int, routes: Sequence[Route], compiled: set[str], loading: str | None = None
    ) -> None:
        """Notes that a worker ended unexpectedly. ``compiled``: releases that run in workers; ``loading``: what it was to load
        then. What was in flight is an error of its arm.

        Where several projects have releases that it may have been, nobody can tell, and none is blamed.
        """
        counts = SharedCounters(self._counts, slot)
        try:
            lost, ran = counts.at_work.take(), self._was_computing(slot)
            oom = code == -signal.SIGKILL and self._oom.take_kill()
            if not judge_crash.is_crash(code, oom):
                return
            how = f"{ending(code)}{' because memory ran out' if oom else ''} in worker {slot}"
            tried = [
                route
                for route in routes
                if (route.candidate in compiled) or (is_on_probation(route) and route.previous in compiled)
            ]
            serving = [route for route in routes if route.champion in compiled]
            if lost and len(tried) == 1 and is_on_probation(tried[0]):
                return  # the release that was there before: it is judged no more
            if lost and len(tried) == 1:
                (route,) = tried
                for _ in range(lost):
                    counts.count_arm(route.tally_key, candidate=True, error=True, slow=False)
                self._blame(route.candidate or "", candidate_of(route.rollout_id), how)
            elif loading is not None and not lost and not ran:
                self._blame_loaded(loading, routes, f"{how}, as it was loaded")
            elif (ran or oom) and not lost and len(serving) == 1:
                (route,) = serving
                counts.count_arm(route.tally_key, candidate=is_on_probation(route), error=True, slow=False)
                self._blame(route.champion, CHAMPION, how)
        finally:
            counts.close()

    def _blame_loaded(self, digest: str, routes: Sequence[Route], how: str) -> None:
        """One that no route names yet is not blamed: it may go in other workers, and is met again where it does not."""
        for route in routes:
            if digest == route.candidate:
                self._blame(digest, candidate_of(route.rollout_id), how)
            elif digest == route.champion:
                self._blame(digest, CHAMPION, how)

    def note_host_end(self, digest: str, code: int, routes: Sequence[Route]) -> None:
        """Notes that a host ended unexpectedly. Requests that waited for it were answered and counted."""
        oom = code == -signal.SIGKILL and self._oom.take_kill()
        if not judge_crash.is_crash(code, oom):
            return
        end = "its code ended the thread that predicts, or did not return" if code == CODE_ENDED else ending(code)
        how = f"{end}{' because memory ran out' if oom else ''} in its host"
        for route in routes:
            if digest == route.candidate:
                self._blame(digest, candidate_of(route.rollout_id), how)
            elif digest == route.champion:
                self._blame(digest, CHAMPION, how)

    def note_failed_start(self, slot: int, failed: Mapping[str, str], routes: Sequence[Route]) -> None:
        """Notes that a worker could not start because of these releases, which counts like a crash."""
        for digest, why in failed.items():
            self._blame_loaded(digest, routes, f"worker {slot} cannot start with it: {why}")

    def is_unfit(self, route: Route) -> bool:
        """Whether the route's candidate must get no traffic; ``suspended`` tells why."""
        if route.candidate is None:
            return False
        reason = judge_crash.of_candidate(self._facts(route.candidate, candidate_of(route.rollout_id)))
        if reason is not None:
            self.suspended[route.candidate] = reason.text
        return reason is not None

    def forget(self, routes: Sequence[Route]) -> None:
        """Keeps only records of the current routes: a release that returns in another role starts with none."""
        tried = {(route.candidate or "", candidate_of(route.rollout_id)) for route in routes}
        kept = tried | {(route.champion, CHAMPION) for route in routes}
        self._tales = {key: tale for key, tale in self._tales.items() if key in kept}
        blamed = {digest for digest, _ in tried & self._tales.keys()}
        self.suspended = {digest: why for digest, why in self.suspended.items() if digest in blamed}

    def facts(self) -> dict[str, Crashes]:
        return {digest: tale.facts(role) for (digest, role), tale in self._tales.items()}

    def _facts(self, digest: str, role: str) -> Crashes | None:
        tale = self._tales.get((digest, role))
        return tale.facts(role) if tale is not None else None

    def _blame(self, digest: str, role: str, how: str) -> None:
        tale = self._tales.setdefault((digest, role), CrashRecord())
        tale.deaths += 1
        tale.how = how
        tale.moments.append(time.monotonic())
        told = logs.facts(release=digest, role=role, deaths=tale.deaths)
        _log.error(f"release {digest[:12]} is blamed: {how}", extra=told)

    def _was_computing(self, slot: int) -> bool:
        """By the trace that the worker left. A client that names a release asks at its own risk: that blames nobody."""
        path = last_words(self._counts, slot)
        try:
            text = path.read_text(errors="replace")
            path.unlink()
        except OSError:
            return False
        if text:
            told = "\n".join(_telling(text).splitlines()[:TOLD_LINES])
            _log.error(f"worker {slot} was here when it ended\n{told}", extra=logs.facts(slot=slot))
        computing = any(MODEL in thread and not LOADING.search(thread) for thread in text.split("\n\n"))
        return computing and "in pinned" not in text


def _telling(text: str) -> str:
    """The trace with the threads that matter first: the one that was in the model, then the one that the fault struck."""
    head, *threads = text.split("\n\n")
    threads.sort(key=lambda thread: (MODEL not in thread, not thread.startswith("Current")))
    return "\n\n".join((head, *threads))


def last_words(counts: Path, slot: int) -> Path:
    """``.noria/serving/production.counts8.0.fault``: where a worker leaves its trace when a fault ends it."""
    return counts.with_name(f"{counts.name}.{slot}.fault")


def leave_last_words(counts: Path, slot: int) -> None:
    """In a worker: write the trace when a fault ends this process."""
    with contextlib.suppress(OSError):  # no room: it dies all the same
        faulthandler.enable(last_words(counts, slot).open("w"))  # open as long as the process lives


def crash_facts(deaths: CrashHistory) -> dict[str, Any]:
    """What the status says."""
    crashes = {digest: msgspec.to_builtins(found) for digest, found in deaths.facts().items()}
    return {"crashes": crashes, "suspended": dict(deaths.suspended)}
