"""Rate limits over all workers: a memory-mapped table whose size does not depend on the number of callers.

The generic cell rate algorithm (ITU-T I.371, 1993, the virtual scheduling form): one number for each caller, the time at which
its budget is whole again. Workers write without a lock: two that meet in the same microsecond may let one request more through.
"""

from __future__ import annotations

import mmap
import os
import time
from hashlib import blake2b
from pathlib import Path

from noria.kernel.access import RateLimit
from noria.kernel.errors import DiskFullError, ServingError

CELLS = 8192  # callers that can be beyond a whole budget at the same time
PLACES = 8  # where a caller may stand, one behind the other
SIZE_BYTES = CELLS * 16


def rates_path(state: Path, environment: str) -> Path:
    """``.noria/serving/production.rates``."""
    return state / "serving" / f"{environment}.rates"


def create(path: Path) -> None:
    """An empty table: its times are of this boot. Raises DiskFullError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.posix_fallocate(handle, 0, SIZE_BYTES)
    except OSError as error:
        raise DiskFullError(f"no room for {SIZE_BYTES} bytes of rates: {error.strerror}", where=str(path)) from error
    finally:
        os.close(handle)


class RateLimits:
    """The budgets of all callers."""

    def __init__(self, path: Path, rate: RateLimit) -> None:
        try:
            with path.open("r+b") as file:
                self._map = mmap.mmap(file.fileno(), SIZE_BYTES)
        except (OSError, ValueError) as error:
            raise ServingError(f"the rates cannot be opened: {error}", where=str(path)) from error
        self._cells = memoryview(self._map).cast("q")
        self._step_ns = max(1, int(rate.per_s * 1e9 / rate.most))
        self._ahead_ns = self._step_ns * (rate.most - 1)  # how far ahead of now the whole budget reaches

    def wait_s(self, caller: str) -> float:
        """0.0 when the caller may ask now, which is then counted; else the seconds until it may."""
        now = time.monotonic_ns()
        at = self._find(int.from_bytes(blake2b(caller.encode(), digest_size=8).digest(), signed=True), now)
        whole = max(self._cells[at + 1], now)
        if whole - now > self._ahead_ns:
            return (whole - now - self._ahead_ns) / 1e9
        self._cells[at + 1] = whole + self._step_ns
        return 0.0

    def close(self) -> None:
        self._cells.release()
        self._map.close()

    def _find(self, caller: int, now: int) -> int:
        """The caller's cell. A new caller takes one whose budget is whole again, or else the one that is so first."""
        cells = self._cells
        first = caller % (CELLS - PLACES) * 2
        places = range(first, first + PLACES * 2, 2)
        for at in places:
            if cells[at] == caller:
                return at
        at = min(places, key=lambda place: cells[place + 1])
        cells[at], cells[at + 1] = caller, min(cells[at + 1], now)
        return at
