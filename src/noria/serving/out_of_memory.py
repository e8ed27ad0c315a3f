"""Detects processes that the kernel ended because memory ran out (Linux), which otherwise looks like any SIGKILL."""

from __future__ import annotations

import contextlib
from pathlib import Path


class OutOfMemory:
    """Counts the kernel's out-of-memory kills, by the counter of this process's control group (Linux)."""

    def __init__(self, counters: tuple[Path, ...] | None = None) -> None:
        self._counters = _counters() if counters is None else counters
        self._seen = self._read()

    def take_kill(self) -> bool:
        """Whether there was a kill that was not taken yet; takes it."""
        if self._read() <= self._seen:
            return False
        self._seen += 1
        return True

    def _read(self) -> int:
        for path in self._counters:
            with contextlib.suppress(OSError, ValueError, IndexError):
                found = [line.split()[1] for line in path.read_text().splitlines() if line.split()[0] == "oom_kill"]
                return int(found[0])
        return 0


def _counters() -> tuple[Path, ...]:
    """That of the control group where there is one; that of the whole machine tells of others as well."""
    groups: list[Path] = []
    with contextlib.suppress(OSError):
        lines = Path("/proc/self/cgroup").read_text().splitlines()
        groups += [Path("/sys/fs/cgroup") / line[4:] / "memory.events" for line in lines if line.startswith("0::")]
    return (*groups, Path("/proc/vmstat"))
