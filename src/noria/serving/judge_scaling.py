"""Judges whether an environment of the model server needs another number of workers.

Busy is the share of wall time that a worker's process had the CPU (its numeric libraries use one thread: 1.0 is all it can do).
Wait is how late a timer of the worker fires, on average: what a request waits before the worker looks at it.

- More: busy above 0.75 on average of 5 s, or above 0.6 in each of 3 s while requests wait longer than 50 ms; as many as bring
  busy to 0.6, at most twice as many at once.
- Fewer: with one worker less, busy would have been below 0.5 on average of 60 s, and in no part of them would it have been a
  reason for one more; one at a time.

A constant load cannot make the number swing, nor can one that repeats within 50 s: what is taken away would not come back.
Only what was measured at the present number counts, so every decision waits for its evidence anew.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from enum import StrEnum

import msgspec
from msgspec.structs import replace

from noria.kernel.words import lasting
from noria.kernel.workers import Workers

UP_BUSY, UP_S = 0.75, 5.0
WAIT_MS, WAIT_BUSY, WAIT_S = 50.0, 0.6, 3.0
AIM_BUSY = 0.6  # what more workers are to bring the load of each to
DOWN_BUSY, DOWN_S = 0.5, 60.0
WHOLE = 0.8  # this share of a window's samples must be there; some may have come late
EVERY_S = 1.0  # between samples


class ScalingRule(StrEnum):
    BUSY = "busy"  # the workers have little time left
    WAITING = "waiting"  # requests wait too long before a worker looks at them
    IDLE = "idle"  # one fewer would do
    FULL = "full"  # more are wanted than the project allows
    CAPPED = "capped"  # more are wanted, and allowed, than the machine has cores


class LoadSample(msgspec.Struct, frozen=True):
    """One second of all workers that accept connections."""

    at: float  # seconds, monotonic
    busy: tuple[float, ...]  # of each worker
    wait_ms: float  # of the worker where it is longest

    @property
    def load(self) -> float:
        """How many workers' whole time it took."""
        return sum(self.busy)


class ScalingDecision(msgspec.Struct, frozen=True):
    """``size`` workers from now on. The same number as before for FULL and CAPPED: whoever asks says so once."""

    before: int
    size: int
    rule: ScalingRule
    busy: float  # mean of the workers, over ``window_s``
    wait_ms: float
    window_s: float
    most: int  # what project and machine allow

    @property
    def text(self) -> str:
        """``2 -> 3 workers: busy 0.87 of the time over 5 s (more than 0.75); a request waits 8 ms``."""
        measured = f"busy {self.busy:.2f} of the time over {lasting(self.window_s)}"
        wait = f"a request waits {self.wait_ms:.0f} ms"
        step = f"{self.before} -> {self.size} workers: "
        match self.rule:
            case ScalingRule.BUSY:
                return f"{step}{measured} (more than {UP_BUSY:g}); {wait}"
            case ScalingRule.WAITING:
                return f"{step}{wait} (more than {WAIT_MS:g} ms); {measured} (more than {WAIT_BUSY:g})"
            case ScalingRule.IDLE:
                would = self.busy * self.before / self.size
                return f"{step}{measured}; {self.size} would be busy {would:.2f} (less than {DOWN_BUSY:g})"
            case ScalingRule.FULL:
                return f"stays at {self.before} workers: {measured}, and {self.most} is the maximum"
            case ScalingRule.CAPPED:
                return f"stays at {self.before} workers: {measured}, and the machine has no core for another"


def ceiling(bounds: Workers, cores: float) -> int:
    """The most workers that this machine can keep busy, and at least the configured minimum."""
    return max(bounds.least, min(bounds.most, math.ceil(cores)))


def workers_needed(load: float) -> float:
    """How many workers a load needs, as a fraction: what a Kubernetes autoscaler sums over pods."""
    return load / AIM_BUSY


def decide(now: float, history: Sequence[LoadSample], size: int, bounds: Workers, cores: float) -> ScalingDecision | None:
    """Returns another number of workers with its reason, or None. ``history`` is in order of time."""
    present = _present(history, size)
    most = ceiling(bounds, cores)
    more = _more(now, present, size, most)
    if more is None:
        return _fewer(now, present, size, bounds, most)
    if size < most:
        return more
    return replace(more, size=size, rule=ScalingRule.CAPPED if most < bounds.most else ScalingRule.FULL)


def _present(history: Sequence[LoadSample], size: int) -> list[LoadSample]:
    """The newest samples, back to the first of another size."""
    found: list[LoadSample] = []
    for sample in reversed(history):
        if len(sample.busy) != size:
            break
        found.append(sample)
    return found[::-1]


def _window(now: float, samples: Sequence[LoadSample], window_s: float) -> list[LoadSample]:
    """The samples of the last ``window_s`` seconds, or none when they do not cover them."""
    if not samples or samples[0].at > now - window_s + 1.5 * EVERY_S:
        return []
    found = [sample for sample in samples if now - window_s < sample.at <= now]
    return found if len(found) >= WHOLE * window_s / EVERY_S else []


def _more(now: float, samples: Sequence[LoadSample], size: int, most: int) -> ScalingDecision | None:
    for window_s, rule in ((UP_S, ScalingRule.BUSY), (WAIT_S, ScalingRule.WAITING)):
        found = _window(now, samples, window_s)
        loads, waits = [s.load for s in found], [s.wait_ms for s in found]
        if found and (_busy(loads, size) if rule is ScalingRule.BUSY else _is_strained(loads, size) and min(waits) > WAIT_MS):
            aim = max(size + 1, min(2 * size, math.ceil(workers_needed(_mean(loads)))))
            return ScalingDecision(size, min(aim, most), rule, _mean(loads) / size, _mean(waits), window_s, most)
    return None


def _fewer(now: float, samples: Sequence[LoadSample], size: int, bounds: Workers, most: int) -> ScalingDecision | None:
    found = _window(now, samples, DOWN_S)
    if not found or size <= bounds.least:
        return None
    loads = [s.load for s in found]
    again = any(_busy(part, size - 1) for part in _parts(loads, UP_S)) or any(
        _is_strained(part, size - 1) for part in _parts(loads, WAIT_S)
    )
    if again or _mean(loads) / (size - 1) >= DOWN_BUSY:
        return None
    return ScalingDecision(size, size - 1, ScalingRule.IDLE, _mean(loads) / size, _mean([s.wait_ms for s in found]), DOWN_S, most)


def _busy(loads: Sequence[float], size: int) -> bool:
    return _mean(loads) / size > UP_BUSY


def _is_strained(loads: Sequence[float], size: int) -> bool:
    return min(loads) / size > WAIT_BUSY


def _parts(loads: Sequence[float], window_s: float) -> Iterator[Sequence[float]]:
    """Each stretch of ``window_s`` seconds."""
    length = round(window_s / EVERY_S)
    return (loads[i : i + length] for i in range(len(loads) - length + 1))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
