"""A shell command as a job: no interpreter around it, its own process group, the same limits."""

from __future__ import annotations

import contextlib
import os
import resource
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import psutil

from noria.kernel import orphans
from noria.kernel.process_tree import ProcessTree
from noria.kernel.words import lasting
from noria.pipeline.executors.limits import SAMPLE_S, THREADS, JobEnd, PoolWork, drain, fd_of
from noria.pipeline.executors.log import Log


class Command:
    """A shell command in a process group of its own, without an interpreter around it."""

    def __init__(self, work: PoolWork, log: Log, cancelled: threading.Event, kept_to: tuple[int, ...]) -> None:
        assert work.command is not None
        self._work, self._log, self._cancelled = work, log, cancelled
        self._begun = time.perf_counter()
        self._mark = orphans.new_mark()
        with _on_cores(kept_to):
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", work.command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd=work.cwd,
                env=work.env | (dict.fromkeys(THREADS, str(work.cpus)) if work.cpus else {}) | {orphans.MARK: self._mark},
                start_new_session=True,
            )
        self.pid = self._process.pid  # of its session, too
        self._tree = ProcessTree(self.pid, work.memory_bytes)
        self._usage: Any = None

    def watch(self) -> JobEnd:
        """Until the command ends, by itself or by its limits; what it left behind in its group ends with it."""
        ending: tuple[str, str] | None = None
        output = fd_of(self._process.stdout)
        os.set_blocking(output, False)
        with selectors.DefaultSelector() as selector, _watch_process_end(self._process.pid) as end:
            selector.register(output, selectors.EVENT_READ)
            if end is not None:
                selector.register(end, selectors.EVENT_READ)
            due = self._begun + SAMPLE_S
            while ending is None and not self._has_ended():
                for key, _ in selector.select(SAMPLE_S):
                    if key.fd == output and not self._listen(output):
                        selector.unregister(output)
                if time.perf_counter() >= due:
                    ending, due = self._judge(), time.perf_counter() + SAMPLE_S
        for process in self._tree.known:  # psutil kills none that only has the number of one that it knew
            with contextlib.suppress(psutil.Error):
                process.kill()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        orphans.end(self._process.pid, self._mark)
        while self._usage is None:
            self._reap(0)
        while self._listen(output):
            pass
        assert self._process.stdout is not None
        self._process.stdout.close()
        return self._report(ending)

    def _listen(self, output: int) -> bool:
        """Whether there was something, and may be more."""
        printed = drain(output)
        self._log.write(printed or b"")
        return bool(printed)

    def _has_ended(self) -> bool:
        self._reap(os.WNOHANG)
        return self._usage is not None

    def _reap(self, how: int) -> None:
        """Once it ended: its exit code, and what it and the processes it waited for used."""
        if self._usage is None:
            pid, status, usage = os.wait4(self._process.pid, how)
            if pid:
                self._process.returncode = os.waitstatus_to_exitcode(status)
                self._usage = usage

    def _judge(self) -> tuple[str, str] | None:
        if self._cancelled.is_set():
            return "cancelled", "was cancelled"
        if time.perf_counter() - self._begun > self._work.timeout_s:
            return "timeout", f"timed out after {lasting(self._work.timeout_s)}"
        return self._tree.judge()

    def _report(self, ending: tuple[str, str] | None) -> JobEnd:
        seconds = time.perf_counter() - self._begun
        code = self._process.returncode
        if ending is None and code:  # a shell reports a signal as 128 + its number
            signalled = -code if code < 0 else code - 128
            words = f"was killed by signal {signalled}" if signalled > 0 else f"ended with exit code {code}"
            ending = ("killed" if signalled > 0 else "exited", words)
        kind, error = ending or ("ok", None)
        usage = self._usage
        return JobEnd(
            ok=ending is None,
            result={} if ending is None else None,
            error=error,
            kind=kind,
            seconds=seconds,
            user_s=seconds,
            peak_rss_mb=max(self._tree.peak_bytes, _peak_bytes(usage)) / 1e6,
            log_tail=self._log.tail(),
            cpu_s=usage.ru_utime + usage.ru_stime,
            read_mb=usage.ru_inblock * 512 / 1e6,
            written_mb=usage.ru_oublock * 512 / 1e6,
        )


def _peak_bytes(usage: Any) -> int:
    """The largest resident memory of one of its processes; 0 when that is hidden.

    Linux counts what the parent held at the moment of the fork as the child's, so that no more than ours says nothing.
    """
    ours = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) if usage.ru_maxrss > ours else 0


@contextlib.contextmanager
def _watch_process_end(pid: int) -> Iterator[int | None]:
    """Something to select on that tells of a process's end, where the system has it."""
    if not hasattr(os, "pidfd_open"):
        yield None
        return
    end = os.pidfd_open(pid)
    try:
        yield end
    finally:
        os.close(end)


@contextlib.contextmanager
def _on_cores(kept_to: tuple[int, ...]) -> Iterator[None]:
    """What this thread starts inside is kept to these cores from its first instruction on."""
    if not kept_to or not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, kept_to)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
