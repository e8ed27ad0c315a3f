"""What a project clock is, and how it is read: for the audit log, which stamps each event with it, and for its store."""

from __future__ import annotations

import msgspec

from noria.storage.connection import Database


class ProjectClock(msgspec.Struct, frozen=True):
    """At wall time ``wall`` the project's time was ``at``; since then it runs ``speed`` times as fast. Seconds since 1970."""

    wall: float
    at: float
    speed: float

    def now(self, wall: float) -> float:
        return self.at + (wall - self.wall) * self.speed


def read_clock(database: Database, project: str) -> ProjectClock | None:
    """The replay's clock, or None on the wall clock."""
    row = database.row("SELECT wall, at, speed FROM clocks WHERE project = ?", (project,))
    return ProjectClock(row["wall"], row["at"], row["speed"]) if row else None
