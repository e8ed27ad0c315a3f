"""Projects, and who approved what."""

from __future__ import annotations

import builtins
import time

import msgspec

from noria.storage.connection import Database
from noria.storage.rows import StructTable


class ProjectRow(msgspec.Struct, frozen=True):
    name: str
    home: str
    created_at: float


class ProjectStore:
    def __init__(self, database: Database) -> None:
        self._table = StructTable(database, "projects", ProjectRow, key=("name",))

    def ensure(self, name: str, home: str) -> None:
        """Make the project known; its home may have moved."""
        found = self._table.one("name = ?", name)
        if found is None or found.home != home:
            created = found.created_at if found else time.time()
            self._table.insert(ProjectRow(name, home, created), replace=True)

    def list(self) -> list[ProjectRow]:
        return self._table.many("TRUE ORDER BY name")


class Approval(msgspec.Struct, frozen=True):
    project: str
    release: str
    environment: str
    actor: str
    at: float


class ApprovalStore:
    def __init__(self, database: Database) -> None:
        self._table = StructTable(database, "approvals", Approval, key=("project", "release", "environment", "actor"))

    def add(self, project: str, release: str, environment: str, actor: str) -> None:
        """One actor's approval counts once."""
        self._table.insert(Approval(project, release, environment, actor, time.time()), replace=True)

    def list(self, project: str) -> builtins.list[Approval]:
        return self._table.many("project = ? ORDER BY at", project)

    def count(self, project: str, release: str, environment: str, since: float = 0.0) -> int:
        """People who approved at ``since`` (wall clock) or later."""
        where = "project = ? AND release = ? AND environment = ? AND at >= ?"
        return len(self._table.many(where, project, release, environment, since))
