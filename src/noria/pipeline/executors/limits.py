"""What jobs on this machine may use, and what they do use: cores, memory, and the streams they print to."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import psutil

from noria.kernel.errors import StepError
from noria.pipeline.executors.task import cores

LOOK_S = 1.0  # a job that waits for room looks around this often, besides being told
SAMPLE_S = 0.05  # between two looks at a job's memory and clock
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


class PoolWork(msgspec.Struct, frozen=True):
    """One job: ``target``, a function ``module:name`` from a JSON object to a JSON object, or ``command``, for the shell."""

    target: str | None
    job: dict[str, Any]
    cwd: Path
    paths: tuple[Path, ...]  # put first on sys.path
    env: dict[str, str]  # the whole environment of the job
    timeout_s: float
    memory_bytes: int | None  # resident memory of the process tree
    log: Path  # standard output and error
    command: str | None = None
    cpus: int | None = None  # cores it is kept to; None: any, and one slot


class JobEnd(msgspec.Struct, frozen=True):
    """How a job ended. ``kind``: ok, raised, timeout, memory, killed, exited, cancelled."""

    ok: bool
    result: dict[str, Any] | None
    error: str | None  # one sentence, when not ok
    kind: str
    seconds: float  # wall time from a free slot to the end
    user_s: float  # of these, inside the project's own code
    peak_rss_mb: float  # megabytes (10^6 bytes), the whole tree
    log_tail: str
    cpu_s: float = 0.0
    read_mb: float = 0.0
    written_mb: float = 0.0
    read: tuple[str, ...] = ()  # files of the project that it opened, relative to its folder


class Slots:
    """The machine's cores and memory, handed out to jobs in the order in which they ask."""

    def __init__(self, count: int) -> None:
        self._room = threading.Condition()
        known = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(cores()))
        self._free = [known[i % len(known)] for i in range(count)]
        self._count = count
        self._memory = self._all_memory = int(psutil.virtual_memory().total)
        self._queue: list[object] = []

    @contextlib.contextmanager
    def hold(self, work: PoolWork, cancelled: threading.Event) -> Iterator[tuple[int, ...]]:
        """Wait for room; the cores that the job is kept to, none when it may use any. Raises StepError when it is cancelled."""
        wanted = min(work.cpus or 1, self._count)
        memory = min(work.memory_bytes or 0, self._all_memory)
        mine = self._take(wanted, memory, cancelled)
        try:
            yield tuple(sorted(set(mine))) if work.cpus else ()
        finally:
            with self._room:
                self._free += mine
                self._memory += memory
                self._room.notify_all()

    def look(self) -> None:
        """Those who wait look around: one of them was cancelled."""
        with self._room:
            self._room.notify_all()

    def _take(self, wanted: int, memory: int, cancelled: threading.Event) -> list[int]:
        ticket = object()
        with self._room:
            self._queue.append(ticket)
            try:
                while self._queue[0] is not ticket or len(self._free) < wanted or self._memory < memory:
                    if cancelled.is_set():
                        raise StepError("was cancelled")
                    self._room.wait(LOOK_S)
            finally:
                self._queue.remove(ticket)
                self._room.notify_all()
            mine, self._free = self._free[:wanted], self._free[wanted:]
            self._memory -= memory
            return mine


def drain(fd: int) -> bytes | None:
    """Up to one pipe's worth, without waiting: empty at the end, None when there is nothing yet."""
    try:
        return os.read(fd, 1 << 16)
    except BlockingIOError:
        return None


def fd_of(stream: Any) -> int:
    assert stream is not None
    return int(stream.fileno())
