"""The project clock: wall time, or a replay's clock that runs from an anchor at a stated speed."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from noria.storage.bound_store import BoundStore
from noria.storage.project_clock import ProjectClock, read_clock


class ClockStore(BoundStore):
    def read(self) -> ProjectClock | None:
        """The replay's clock, or None on the wall clock."""
        return read_clock(self._database, self.project)

    def set(self, at: float, speed: float, actor: str = "engine") -> None:
        """From now on the project's time is ``at`` and runs at ``speed``; recorded as an event."""
        with self._database.transaction():
            self._database.execute(
                "INSERT INTO clocks (project, wall, at, speed) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (project) DO UPDATE SET wall = excluded.wall, at = excluded.at, speed = excluded.speed",
                (self.project, time.time(), at, speed),
            )
            moment = datetime.fromtimestamp(at, UTC)
            text = f"the project clock stands at {moment:%Y-%m-%d %H:%M} UTC, speed {speed:g}"
            self.ledger.events.append(self.project, "clock.set", self.project, text, actor=actor)

    def now(self) -> float:
        """The project's time, seconds since 1970."""
        wall = time.time()
        clock = self.read()
        return clock.now(wall) if clock else wall

    def speed(self) -> float:
        clock = self.read()
        return clock.speed if clock else 1.0
