"""The project clock: wall time, or a replay's clock that runs from an anchor at a stated speed."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol

import msgspec

from noria.storage.connection import Database


class EventLog(Protocol):
    """What the clock needs of the audit log, which needs the clock."""

    def append(self, project: str, kind: str, subject: str, text: str, *, actor: str = ...) -> object: ...


class ProjectClock(msgspec.Struct, frozen=True):
    """At wall time ``wall`` the project's time was ``at``; since then it runs ``speed`` times as fast. Seconds since 1970."""

    wall: float
    at: float
    speed: float

    def now(self, wall: float) -> float:
        return self.at + (wall - self.wall) * self.speed


class ClockStore:
    events: EventLog

    def __init__(self, database: Database) -> None:
        self._database = database

    def read(self, project: str) -> ProjectClock | None:
        """The replay's clock, or None on the wall clock."""
        row = self._database.row("SELECT wall, at, speed FROM clocks WHERE project = ?", (project,))
        return ProjectClock(row["wall"], row["at"], row["speed"]) if row else None

    def set(self, project: str, at: float, speed: float, actor: str = "engine") -> None:
        """From now on the project's time is ``at`` and runs at ``speed``; recorded as an event."""
        with self._database.transaction():
            self._database.execute(
                "INSERT INTO clocks (project, wall, at, speed) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (project) DO UPDATE SET wall = excluded.wall, at = excluded.at, speed = excluded.speed",
                (project, time.time(), at, speed),
            )
            moment = datetime.fromtimestamp(at, UTC)
            text = f"the project clock stands at {moment:%Y-%m-%d %H:%M} UTC, speed {speed:g}"
            self.events.append(project, "clock.set", project, text, actor=actor)

    def now(self, project: str) -> float:
        """The project's time, seconds since 1970."""
        wall = time.time()
        clock = self.read(project)
        return clock.now(wall) if clock else wall

    def speed(self, project: str) -> float:
        clock = self.read(project)
        return clock.speed if clock else 1.0
