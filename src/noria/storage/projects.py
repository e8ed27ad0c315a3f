"""The projects of a ledger."""

from __future__ import annotations

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
