"""A process and all that it started."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence

import psutil

from noria.kernel.words import limit_size


class ProcessTree:
    """A process and all that it started: how much memory they hold together, looked at every now and then."""

    def __init__(self, pid: int, limit: int | None) -> None:
        self._pid, self._limit = pid, limit
        self.known: list[psutil.Process] = []
        self.peak_bytes = 0

    def judge(self) -> tuple[str, str] | None:
        """Kind and sentence when they outgrew their limit."""
        self.known = descendants(self._pid)
        try:
            everyone = [psutil.Process(self._pid), *self.known]
        except psutil.Error:  # it ended
            return None
        used = _resident(everyone)
        if self._limit is not None and used > self._limit and self.known:  # pages that a fork shares were counted more than once
            used = _proportional(everyone)
        self.peak_bytes = max(self.peak_bytes, used)
        if self._limit is not None and used > self._limit:
            return "memory", f"used more than {limit_size(self._limit)} of memory"
        return None


def descendants(pid: int) -> list[psutil.Process]:
    """What a process started, and what those started. Linux tells the children of each; elsewhere all processes are read."""
    try:
        if not os.path.exists(f"/proc/{os.getpid()}/task/{os.getpid()}/children"):
            return psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []
    found: list[psutil.Process] = []
    waiting = [pid]
    while waiting:
        for child in _children(waiting.pop()):
            with contextlib.suppress(psutil.Error):
                found.append(psutil.Process(child))
                waiting.append(child)
    return found


def _children(pid: int) -> list[int]:
    found: list[str] = []
    with contextlib.suppress(OSError):  # it ended meanwhile
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children") as file:
                found += file.read().split()
    return [int(child) for child in found]


def _resident(processes: Sequence[psutil.Process]) -> int:
    total = 0
    for process in processes:
        with contextlib.suppress(psutil.Error):
            total += process.memory_info().rss
    return total


def _proportional(processes: Sequence[psutil.Process]) -> int:
    """As resident, with each shared page divided among those that share it; slower by milliseconds."""
    total = 0
    for process in processes:
        with contextlib.suppress(psutil.Error):
            total += getattr(process.memory_full_info(), "pss", 0) or process.memory_info().rss
    return total
