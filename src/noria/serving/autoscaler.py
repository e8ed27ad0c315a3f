"""Gives an environment as many workers as its load needs, and records each decision with its reason.

`serving.judge_scaling` judges; here are the clock, the processes and the file. Decisions are numbered for ever upwards and kept
in `serving/scaling.json`, so that a daemon that was down hears of them later, once.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
from msgspec.structs import replace

from noria.kernel import logs
from noria.kernel.errors import NoriaError, StoreError
from noria.kernel.workers import Workers
from noria.serving import judge_scaling
from noria.serving.judge_scaling import LoadSample, ScalingDecision
from noria.serving.usage import cores
from noria.serving.worker_pool import WorkerPool
from noria.storage.disk import write_whole

_log = logs.get_logger("noria.serving")

KEPT = 100  # decisions; a daemon that was down for longer hears of these
SAMPLES = int(judge_scaling.DOWN_S) + 10


class ScalingEvent(msgspec.Struct, frozen=True):
    """A decision, as reported. ``number`` grows with every decision, also across restarts and a lost file."""

    number: int
    at: float  # wall time
    environment: str
    project: str | None
    before: int
    size: int
    rule: str
    busy: float
    wait_ms: float
    text: str  # production: 2 -> 3 workers: busy 0.87 ...


class Decisions:
    """The newest decisions of a server tree."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._kept: deque[ScalingEvent] = deque(maxlen=KEPT)
        with contextlib.suppress(OSError, msgspec.MsgspecError):  # none yet, or damaged: they begin anew, numbers do not
            self._kept.extend(msgspec.json.decode(path.read_bytes(), type=list[ScalingEvent]))

    def add(self, environment: str, project: str | None, decision: ScalingDecision) -> ScalingEvent:
        last = self._kept[-1].number if self._kept else 0
        now = time.time()
        numbers = (round(decision.busy, 4), round(decision.wait_ms, 3))
        text = f"{environment}: {decision.text}"
        facts = (environment, project, decision.before, decision.size, str(decision.rule), *numbers)
        scaled = ScalingEvent(max(last + 1, int(now * 1000)), now, *facts, text)
        self._kept.append(scaled)
        self._write()
        return scaled

    def after(self, number: int) -> list[ScalingEvent]:
        """Returns the decisions with a greater number, oldest first."""
        return [scaled for scaled in self._kept if scaled.number > number]

    def last(self, environment: str) -> ScalingEvent | None:
        return next((scaled for scaled in reversed(self._kept) if scaled.environment == environment), None)

    def _write(self) -> None:
        try:
            write_whole(self._path, msgspec.json.encode(list(self._kept)), fleeting="they start again if it is damaged")
        except StoreError as error:  # no room: they are remembered as long as this process lives
            _log.warning(f"{self._path.name}: {error.message}", extra=logs.facts(file=self._path.name))


class Scaler:
    """Scales one environment's workers; samples the load once a second."""

    def __init__(self, group: WorkerPool, workers: Workers, decided: Callable[[ScalingDecision], None]) -> None:
        self.newest: LoadSample | None = None
        self._group = group
        self._workers = workers
        self._decided = decided
        self._history: deque[LoadSample] = deque(maxlen=SAMPLES)
        self._trouble = ""
        self._said: tuple[int, str] | None = None  # what no number of workers came of, and was said once

    async def run(self, sampled: Callable[[], Awaitable[None]]) -> None:
        """Until cancelled. ``sampled`` is called after each sample."""
        while True:
            await asyncio.sleep(judge_scaling.EVERY_S)
            try:
                await self.look(time.monotonic())
                await sampled()
            except Exception as error:  # noqa: BLE001 - whatever fails here, the workers answer on; tried again
                self._complain(f"{type(error).__name__}: {error}")

    async def look(self, now: float) -> None:
        """Take a sample, and follow it. ``now``: seconds, monotonic."""
        self._sample(now)
        if not self._workers.fixed:
            await self._scale(now)

    def _complain(self, text: str) -> None:
        if text != self._trouble:
            _log.error(f"the load cannot be measured: {text}")
        self._trouble = text

    def _sample(self, now: float) -> None:
        pulses = self._group.pulses(now)
        if pulses:
            self.newest = LoadSample(now, tuple(pulse.busy for pulse in pulses), max(pulse.wait_ms for pulse in pulses))
            self._history.append(self.newest)

    async def _scale(self, now: float) -> None:
        size = self._group.size
        decision = judge_scaling.decide(now, self._history, size, self._workers, cores())
        if decision is None:
            return
        if decision.size == size:
            if self._said != (size, decision.rule):
                self._said = (size, decision.rule)
                self._decided(decision)
            return
        try:
            reached = await self._group.resize(decision.size)
        except (NoriaError, OSError) as error:
            self._complain(f"{decision.text}: {error}")
            reached = self._group.size
        self._history.clear()
        if reached != size:
            self._said = None
            self._decided(replace(decision, size=reached))
