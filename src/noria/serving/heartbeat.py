"""A worker's report once a second: how busy it was, and how late its event loop ran."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import msgspec

EVERY_S = 1.0
LOOK_S = 0.05  # between timers; each may be late


class Pulse(msgspec.Struct, frozen=True):
    """``busy``: the share of wall time that the process had the CPU. ``wait_ms``: how late timers fired, on average."""

    busy: float
    wait_ms: float
    heard_at: float  # seconds, monotonic, of whoever heard it

    def as_of(self, now: float) -> Pulse:
        """As it looks at ``now``: a worker that is silent for long is busy with one thing, and everything else waits."""
        late_s = now - self.heard_at - EVERY_S
        return self if late_s < EVERY_S else Pulse(1.0, max(self.wait_ms, late_s * 1000), self.heard_at)


async def beat(tell: Callable[[dict[str, Any]], None]) -> None:
    """Until cancelled."""
    while True:
        began, used = time.monotonic(), time.process_time()
        late_s, looks = 0.0, 0
        while (now := time.monotonic()) - began < EVERY_S:
            await asyncio.sleep(LOOK_S)
            late_s += max(0.0, time.monotonic() - now - LOOK_S)
            looks += 1
        busy = (time.process_time() - used) / (now - began)
        tell({"pulse": {"busy": round(min(1.0, busy), 4), "wait_ms": round(late_s / looks * 1000, 3)}})
