"""CPU and memory of the server tree's processes, measured by the parent and passed to the workers for `/metrics`."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    import psutil

PSS_EVERY_S = 15.0  # the kernel walks all pages of a process for it, in about 2 ms
CGROUPS = Path("/sys/fs/cgroup")


class Process(msgspec.Struct, frozen=True):
    """One process of the tree."""

    name: str  # "parent", "worker-0", "host-1a2b3c4d5e6f"
    pid: int
    cpu_s: float  # since it began
    cpu: float  # of a core, since the sample before; 0 at first
    rss: int  # bytes; pages that processes share count in each
    pss: int | None = None  # bytes; shared pages are divided. None until it was measured


class WorkerUsage(msgspec.Struct, frozen=True):
    """What is told about one environment's workers, and all processes of its tree but other environments' workers."""

    workers: int
    busy: float
    wanted: float
    wait_s: float
    processes: tuple[Process, ...] = ()


class UsageMeter:
    """Remembers the processes between samples."""

    def __init__(self) -> None:
        self._known: dict[int, psutil.Process] = {}
        self._pss: dict[int, tuple[float, int]] = {}
        self._used: dict[int, tuple[float, float]] = {}  # when, and how much CPU time until then

    def read(self, pids: Mapping[str, int]) -> list[Process]:
        """Name -> process id; one that ended meanwhile is left out."""
        found = []
        for name, pid in pids.items():
            process = self._read(name, pid)
            if process is not None:
                found.append(process)
        for gone in self._known.keys() - set(pids.values()):
            del self._known[gone]
            self._pss.pop(gone, None)
            self._used.pop(gone, None)
        return found

    def _read(self, name: str, pid: int) -> Process | None:
        import psutil  # 50 ms to import: not on the way to the first answer

        with contextlib.suppress(psutil.Error, OSError):
            process = self._known.get(pid)
            if process is None:
                process = self._known[pid] = psutil.Process(pid)
            with process.oneshot():
                times, memory = process.cpu_times(), process.memory_info()
            used_s = times.user + times.system
            return Process(name, pid, round(used_s, 2), self._rate(pid, used_s), memory.rss, self._pss_of(process))
        return None

    def _rate(self, pid: int, used_s: float) -> float:
        now = time.monotonic()
        at, before_s = self._used.get(pid, (now, used_s))
        self._used[pid] = (now, used_s)
        return round((used_s - before_s) / (now - at), 3) if now > at else 0.0

    def _pss_of(self, process: psutil.Process) -> int | None:
        now = time.monotonic()
        at, size = self._pss.get(process.pid, (0.0, 0))
        if not at:  # not at once: a process that just starts has enough to do
            self._pss[process.pid] = (now, 0)
        elif now - at > (PSS_EVERY_S if size else 1.0):
            size = getattr(process.memory_full_info(), "pss", 0)
            self._pss[process.pid] = (now, size)
        return size or None


def cores(groups: Path = CGROUPS, own: Path = Path("/proc/self/cgroup")) -> float:
    """How many cores this process may use: its affinity, and what a container or a service allows of their time."""
    most = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    with contextlib.suppress(OSError, ValueError, StopIteration):
        path = next(line.split(":", 2)[2] for line in own.read_text().splitlines() if line.startswith("0::"))
        folder = groups / path.strip("/")
        for place in (folder, *folder.parents):
            if place.is_relative_to(groups):
                most = min(most, _quota(place))
    return most


def _quota(folder: Path) -> float:
    """``150000 100000`` is one core and a half; ``max`` none at all."""
    try:
        quota, period = (folder / "cpu.max").read_text().split()
        return int(quota) / int(period) if quota != "max" else float("inf")
    except (OSError, ValueError, ZeroDivisionError):
        return float("inf")
