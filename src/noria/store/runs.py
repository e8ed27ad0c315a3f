"""Runs, and the results of steps remembered by what they depend on."""

from __future__ import annotations

import builtins
import time
from collections.abc import Mapping
from typing import Any

import msgspec

from noria.domain.run import Run, StepRecord
from noria.errors import NotFoundError
from noria.store.connection import Database
from noria.store.rows import Table, to_json


class RunStore:
    def __init__(self, database: Database) -> None:
        self._table = Table(database, "runs", Run)

    def put(self, run: Run) -> None:
        """Write a run, or write it anew."""
        self._table.insert(run, replace=True)

    def get(self, run_id: str) -> Run:
        """Raises NotFoundError."""
        found = self._table.one("id = ?", run_id)
        if found is None:
            raise NotFoundError(f"there is no run {run_id}", hint="`noria runs` lists them.")
        return found

    def list(self, project: str, limit: int = 50) -> builtins.list[Run]:
        """Newest first."""
        return self._table.many("project = ? ORDER BY started_at DESC LIMIT ?", project, limit)


class StepStore:
    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, project: str, key: str) -> StepRecord | None:
        """The remembered result of an equal step."""
        row = self._database.row("SELECT record FROM steps WHERE project = ? AND key = ?", (project, key))
        return msgspec.json.decode(row["record"], type=StepRecord, strict=False) if row else None

    def put(self, project: str, record: StepRecord, facts: Mapping[str, Any]) -> None:
        """Remember a result and what it came from."""
        self._database.execute(
            "INSERT INTO steps (project, key, name, record, facts, at) VALUES (?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (project, key) DO UPDATE SET "
            "name = excluded.name, record = excluded.record, facts = excluded.facts, at = excluded.at",
            (
                project,
                record.key,
                record.name,
                to_json(record),
                msgspec.json.encode(facts, order="sorted").decode(),
                time.time(),
            ),
        )

    def latest(self, project: str, name: str) -> tuple[StepRecord, dict[str, Any]] | None:
        """The newest result of a step of this name, and what it came from."""
        row = self._database.row(
            "SELECT record, facts FROM steps WHERE project = ? AND name = ? ORDER BY at DESC LIMIT 1", (project, name)
        )
        if row is None:
            return None
        return msgspec.json.decode(row["record"], type=StepRecord, strict=False), msgspec.json.decode(row["facts"])
