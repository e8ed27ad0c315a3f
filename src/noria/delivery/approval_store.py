"""Approvals of releases for environments."""

from __future__ import annotations

import builtins
import time

import msgspec

from noria.storage.bound_store import BoundStore
from noria.storage.ledger import Ledger
from noria.storage.rows import StructTable


class Approval(msgspec.Struct, frozen=True):
    project: str
    release: str
    environment: str
    actor: str
    at: float


class ApprovalStore(BoundStore):
    def __init__(self, ledger: Ledger, project: str) -> None:
        super().__init__(ledger, project)
        self._table = StructTable(ledger.database, "approvals", Approval, key=("project", "release", "environment", "actor"))

    def add(self, release: str, environment: str, actor: str) -> None:
        """Adds an approval; one actor counts once."""
        self._table.insert(Approval(self.project, release, environment, actor, time.time()), replace=True)

    def list(self) -> builtins.list[Approval]:
        return self._table.many("project = ? ORDER BY at", self.project)

    def count(self, release: str, environment: str, since: float = 0.0) -> int:
        """Counts the people who approved at ``since`` (wall clock) or later."""
        where = "project = ? AND release = ? AND environment = ? AND at >= ?"
        return len(self._table.many(where, self.project, release, environment, since))
