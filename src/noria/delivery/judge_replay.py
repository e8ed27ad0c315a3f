"""Judges how a candidate answered logged requests: a failure stops the rollout before any live traffic."""

from __future__ import annotations

import math

from noria.kernel.policy import Guards, ReplayPolicy
from noria.kernel.verdict import Outcome, Reason
from noria.kernel.words import percent, plural
from noria.serving.replay_result import Replayed

ENOUGH = 20  # requests: fewer say nothing
TESTS = 2  # errors and slow answers share the false alarms


def judge(policy: ReplayPolicy, guards: Guards, false_alarm: float, facts: Replayed) -> Reason:
    """FAIL stops the rollout; NOT_ENOUGH_DATA does not: a new environment has no requests yet.

    Errors and slow answers fail it only when it is worse by more than the guard, and the exact one-sided sign test (Dixon and
    Mood, JASA 1946) on the requests where just one of both failed rejects "no worse than the champion". A candidate that is no
    worse is stopped by either with a chance of ``false_alarm`` at most, both together.
    """
    if facts.failed:
        return Reason("replay.failed", f"replay: {facts.failed}", Outcome.FAIL)
    numbers = _numbers(facts)
    if facts.timed_out:
        text = f"replay: it did not finish; {facts.requests} of {plural(facts.wanted, 'logged request')} were answered"
        return Reason("replay.timed_out", text, Outcome.FAIL, numbers)
    if facts.requests < ENOUGH:
        return Reason("replay.too_few", _too_few(facts), Outcome.NOT_ENOUGH_DATA, numbers)
    level = false_alarm / TESTS
    if text := _worse("failed on", facts.candidate_errors, facts.champion_errors, guards.errors, _errors(facts), facts, level):
        lacking = f", {facts.unreadable} of them because an input is missing" if facts.unreadable else ""
        return Reason("replay.errors", f"replay: it {text}{lacking}", Outcome.FAIL, numbers)
    late = f"was slower than {guards.slow_ms:g} ms on"
    if text := _worse(late, facts.candidate_slow, facts.champion_slow, guards.slow_by, _slow(facts), facts, level):
        return Reason("replay.slow", f"replay: it {text}", Outcome.FAIL, numbers)
    if facts.compared and facts.difference > policy.differ:
        by = f"{facts.difference:.3g} on {facts.compared} logged requests, more than {policy.differ:g}{_change_words(facts)}"
        return Reason("replay.differ", f"replay: its answers differ by {by}", Outcome.FAIL, numbers)
    return Reason("replay.passed", _pass_words(facts), Outcome.PASS, numbers)


def sign_test(ours: int, theirs: int) -> float:
    """P(X >= ours) for X binomial with ``ours + theirs`` trials of one half, exact to rounding."""
    n = ours + theirs
    last = [math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) - n * math.log(2) for k in range(ours, n + 1)]
    return min(1.0, math.fsum(map(math.exp, last)))


def _errors(facts: Replayed) -> tuple[int, int]:
    return facts.candidate_only, facts.champion_only


def _slow(facts: Replayed) -> tuple[int, int]:
    return facts.candidate_slow_only, facts.champion_slow_only


def _worse(did: str, ours: int, theirs: int, guard: float, alone: tuple[int, int], facts: Replayed, level: float) -> str:
    """The sentence that fails it, or nothing."""
    if (ours - theirs) / facts.requests <= guard or (p := sign_test(*alone)) > level:
        return ""
    return f"{did} {ours} of {plural(facts.requests, 'logged request')} and the champion on {theirs} (sign test: p = {p:.2g})"


def _too_few(facts: Replayed) -> str:
    if facts.why:
        return f"replay: {facts.why}"
    if not facts.requests:
        return "replay: nothing was logged yet"
    return f"replay: {facts.requests} logged requests are too few for a verdict; {ENOUGH} are needed"


def _pass_words(facts: Replayed) -> str:
    errors = f"{plural(facts.candidate_errors, 'error')} (champion: {facts.champion_errors})"
    times = f"{facts.candidate_median_ms:.3g} ms at the median (champion: {facts.champion_median_ms:.3g} ms)"
    differ = f", answers differ by {facts.difference:.3g}{_change_words(facts)}" if facts.compared else ""
    short = f" of {facts.wanted}" if facts.requests < facts.wanted else ""
    return f"replay: {facts.requests}{short} logged requests, {errors}, {times}{differ}"


def _change_words(facts: Replayed) -> str:
    return "" if facts.changed is None else f", {percent(facts.changed)} of the classes are others"


def _numbers(facts: Replayed) -> dict[str, float]:
    found: dict[str, float] = {
        "requests": facts.requests,
        "champion_errors": facts.champion_errors,
        "candidate_errors": facts.candidate_errors,
        "unreadable": facts.unreadable,
        "champion_slow": facts.champion_slow,
        "candidate_slow": facts.candidate_slow,
        "champion_p99_ms": facts.champion_p99_ms,
        "candidate_p99_ms": facts.candidate_p99_ms,
        "difference": facts.difference,
    }
    return found if facts.changed is None else found | {"changed": facts.changed}
