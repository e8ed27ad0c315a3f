"""Scores requests with the release that did not answer them, after the answer has left.

Nobody waits for it: what it says, or that it fails, is written to a log of its own (`predictions.records.Shadow`) and, where such
pairs are evidence, counted. What comes faster than it can be scored is dropped and counted as that.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import msgspec

from noria.kernel import logs
from noria.kernel.errors import NoriaError, RequestError
from noria.predictions.records import Shadow as Record
from noria.predictions.writer import LogWriter
from noria.serving import protocol
from noria.serving.counts import SharedCounters
from noria.serving.protocol import PredictionRequest
from noria.serving.recorder import moment
from noria.serving.route import Route
from noria.serving.router import RouterAnswer, RouteTable, asked, columns_for, is_shadow_only, late, now, why
from noria.serving.runtime import INLINE_ROWS, BeyondModelError, LoadedRelease, ReleaseFailed

_log = logs.get_logger("noria.serving")

WAITING = 64  # requests of one worker that wait to be scored, or are being scored


class _ShadowRequest(msgspec.Struct, frozen=True):
    """A request, and who is to score it too. One that the champion failed has no answer and no row in a log."""

    table: RouteTable
    route: Route
    ask: PredictionRequest
    answered: RouterAnswer | None
    other: LoadedRelease
    first: str = ""  # the id of the first row
    outputs: Sequence[dict[str, Any]] = ()  # of the release that answered

    @property
    def rows(self) -> int:
        return len(self.ask.records)

    @property
    def version(self) -> str:
        """Of the other release."""
        if self.other is self.table.champion:
            return self.route.champion_version
        return (self.route.candidate_version if self.other is self.table.candidate else self.route.previous_version) or ""

    @property
    def marked(self) -> bool:
        """Whether the death of the process in this call must not be taken for the champion's doing."""
        return self.other is not self.table.champion and self.other.runtime.immediate


class ShadowScorer:
    """Of one worker. ``complain`` is called with (digest, what happened) when the other release fails."""

    def __init__(self, counts: SharedCounters, complain: Callable[[str, str], None], folder: Path, environment: str) -> None:
        self._counts = counts
        self._complain = complain
        self._folder = folder
        self._environment = environment
        self._log: LogWriter | None = None
        self._making = threading.Lock()
        self._queue: deque[_ShadowRequest] = deque()  # for a release that answers without waiting
        self._tasks: set[asyncio.Task[None]] = set()
        self._told = False  # that the log cannot be written

    def add(
        self, table: RouteTable, ask: PredictionRequest, answered: RouterAnswer, first: str, outputs: list[dict[str, Any]]
    ) -> None:
        """Score a request by ``answered.other`` when the loop comes round. Never raises for want of room."""
        assert table.route is not None
        assert answered.other is not None
        self._take(_ShadowRequest(table, table.route, ask, answered, answered.other, first, outputs))

    def add_unanswered(self, table: RouteTable, ask: PredictionRequest) -> None:
        """The same for one that the champion failed: what the candidate does with it is evidence as well."""
        assert table.route is not None
        assert table.other is not None
        self._take(_ShadowRequest(table, table.route, ask, None, table.other))

    def _take(self, pair: _ShadowRequest) -> None:
        if self.is_full():
            self._counts.of(pair.route.project).count_shadow("dropped")
            return
        loop = asyncio.get_running_loop()
        if pair.other.runtime.immediate and pair.rows <= INLINE_ROWS:
            self._queue.append(pair)
            if len(self._queue) == 1:
                loop.call_soon(self._next)
            return
        task = loop.create_task(self._score(pair))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def is_full(self) -> bool:
        """Whether what comes now is dropped."""
        return len(self._queue) + len(self._tasks) >= WAITING

    def finish_segment(self) -> None:
        """Finishes the current segment, as nothing is to be scored for now. May be called from a thread."""
        with self._making:
            log, self._log = self._log, None
        if log is not None:
            log.close()

    def close(self) -> None:
        """At the end of the worker: what still waits is dropped."""
        for _ in range(len(self._queue) + len(self._tasks)):
            self._counts.count_shadow("dropped")
        self.finish_segment()

    def _next(self) -> None:
        """One at a time, so that whoever asks meanwhile waits for one at most."""
        try:
            now(self._score(self._queue[0]))
        finally:
            self._queue.popleft()
            if self._queue:
                asyncio.get_running_loop().call_soon(self._next)

    async def _score(self, pair: _ShadowRequest) -> None:
        began = time.monotonic()
        error, outputs = None, dict[str, list[Any]]()
        try:
            with self._counts.at_work if pair.marked else nullcontext():  # if this ends the process, it is known who did it
                columns = columns_for(pair.other, pair.table, pair.ask)
                answers = await asked(pair.other, columns, pair.rows, began + pair.route.deadline_ms / 1000)
            outputs = protocol.answerer(pair.other.signature)(answers)
        except (ReleaseFailed, RequestError, TimeoutError) as failed:
            if isinstance(failed, BeyondModelError) or (isinstance(failed, RequestError) and pair.table.probation):
                self._counts.of(pair.route.project).count_shadow(
                    "dropped"
                )  # hostile input, or columns that only the old release needs: nobody's failure
                return
            error = why(failed, f"no answer within {pair.route.deadline_ms:g} ms")
            self._complain(pair.other.digest, error)
        seconds = time.monotonic() - began
        self._count(pair, error is not None, seconds)
        written = pair.answered is None or self._write(_record(pair, pair.answered, outputs, seconds, error))
        self._counts.of(pair.route.project).count_shadow(("failed" if error else "scored") if written else "dropped")

    def _count(self, pair: _ShadowRequest, error: bool, seconds: float) -> None:
        """As evidence, where pairs are that: of a shadow step both arms, in probation that of the release before."""
        tally, key, slow_ms = self._counts.count_arm, pair.route.tally_key, pair.route.slow_ms
        if is_shadow_only(pair.table):
            took = pair.answered.seconds if pair.answered is not None else 0.0
            failed = pair.answered is None or late(pair.route, took)
            tally(key, candidate=False, error=failed, slow=took * 1000 > slow_ms)
            tally(key, candidate=True, error=error, slow=seconds * 1000 > slow_ms)
            if failed and error:
                self._counts.count_both_failed(key)
        elif pair.table.probation:
            tally(key, candidate=False, error=error, slow=seconds * 1000 > slow_ms)

    def _write(self, record: Record) -> bool:
        """Whether it is written; why it is not is told once."""
        try:
            with self._making:
                if self._log is None:
                    self._log = LogWriter(self._folder, self._environment)
                self._log.append(record)
        except (OSError, NoriaError) as error:
            if not self._told:
                told = logs.facts(environment=self._environment)
                _log.error(f"shadow answers cannot be recorded: {error}", extra=told)
            self._told = True
            return False
        self._told = False
        return True


def _record(
    pair: _ShadowRequest, answered: RouterAnswer, outputs: Mapping[str, Sequence[Any]], seconds: float, error: str | None
) -> Record:
    return Record(
        id=pair.first,
        rows=pair.rows,
        at=moment(),
        project=pair.route.project,
        rollout=pair.route.rollout_id,
        release=answered.version,
        other=pair.version,
        answered={name: [row[name] for row in pair.outputs] for name in pair.outputs[0]},
        outputs=outputs,
        latency_ms=answered.seconds * 1000,
        other_ms=seconds * 1000,
        error=error,
    )
