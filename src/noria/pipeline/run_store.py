"""Runs, and the results of steps remembered by what they depend on."""

from __future__ import annotations

import builtins
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from noria.kernel import names
from noria.kernel.errors import AmbiguousError, NotFoundError, UsageError
from noria.kernel.pins import Pins
from noria.pipeline.run import Run, RunKind, StepRecord, lasting
from noria.storage.bound_store import BoundStore
from noria.storage.connection import Value
from noria.storage.ledger import Ledger
from noria.storage.rows import StructTable, parse_json, to_json

AT_ONCE = 500  # ids in one statement
NAMED = 5  # runs that an ambiguous beginning names


def run_digest(run: Run) -> str:
    """Of what never changes in a run: the event of its turn's end holds it."""
    return names.digest_bytes(to_json(lasting(run)).encode())


class RunStore(BoundStore):
    def __init__(self, ledger: Ledger, project: str) -> None:
        super().__init__(ledger, project)
        self._table = StructTable(ledger.database, "runs", Run)

    def put(self, run: Run) -> None:
        """Write a run, or write it anew."""
        self._table.insert(replace(run, reason=self._database.hide(run.reason)), replace=True)

    def get(self, run_id: str) -> Run:
        """Raises NotFoundError."""
        found = self._table.one("id = ?", run_id)
        if found is None:
            raise NotFoundError(f"there is no run {run_id}", hint="`noria runs` lists them.")
        return found

    def list(self, limit: int = 50) -> builtins.list[Run]:
        """Newest first."""
        return self._table.many("project = ? ORDER BY started_at DESC LIMIT ?", self.project, limit)

    def each(self, kind: RunKind) -> Iterator[Run]:
        """Every run of a kind, one at a time."""
        rows = self._database.each("SELECT * FROM runs WHERE project = ? AND kind = ?", (self.project, str(kind)))
        return (self._table.read(row) for row in rows)

    def find(self, beginning: str) -> Run:
        """The run whose id is ``beginning`` or the only one whose id begins so. Raises NotFoundError."""
        exact = self._table.one("project = ? AND id = ?", self.project, beginning)
        if exact is not None:
            return exact
        found = self._table.many(
            "project = ? AND id >= ? AND id < ? LIMIT ?", self.project, beginning, beginning + "\U0010ffff", NAMED + 1
        )
        if len(found) > 1:
            named = ", ".join(r.id for r in found[:NAMED]) + (" and others" if len(found) > NAMED else "")
            raise AmbiguousError(f"{beginning} may be any of {named}", hint="Give more characters.")
        if not found:
            raise NotFoundError(f"there is no run {beginning}", hint="`noria runs` lists them.")
        return found[0]

    def counts(self) -> dict[RunKind, int]:
        """How many runs of each kind there are."""
        rows = self._database.rows("SELECT kind, count(*) AS n FROM runs WHERE project = ? GROUP BY kind", (self.project,))
        return {RunKind(r["kind"]): int(r["n"]) for r in rows}

    def latest(self, pins: Pins, outcomes: Collection[str]) -> Run | None:
        """The newest turn's run with exactly these pins that ended in one of these ways."""
        marks = ", ".join("?" * len(outcomes))
        where = f"project = ? AND kind = ? AND pins = ? AND outcome IN ({marks}) ORDER BY started_at DESC, id DESC"
        return self._table.one(where, self.project, str(RunKind.TURN), to_json(pins), *outcomes)

    def query_rows(self, kind: RunKind | None, columns: Collection[str], limit: int | None) -> Iterator[dict[str, Any]]:
        """These columns of each run, as they are stored, newest first."""
        sql = f"SELECT {', '.join(sorted(columns))} FROM runs WHERE project = ?"  # noqa: S608  # columns are ours, values are bound
        values: builtins.list[Value] = [self.project]
        if kind is not None:
            sql, values = f"{sql} AND kind = ?", [*values, str(kind)]
        sql += " ORDER BY started_at DESC, id DESC"
        if limit is not None:
            sql, values = f"{sql} LIMIT ?", [*values, limit]
        yield from (dict(row) for row in self._database.each(sql, values))

    def by_ids(self, ids: Sequence[str]) -> builtins.list[Run]:
        """Whole runs in this order."""
        found: dict[str, Run] = {}
        for start in range(0, len(ids), AT_ONCE):
            part = ids[start : start + AT_ONCE]
            marks = ", ".join("?" * len(part))
            found |= {run.id: run for run in self._table.many(f"id IN ({marks})", *part)}
        return [found[run_id] for run_id in ids if run_id in found]

    def tag(self, run_id: str, add: Sequence[str] = (), remove: Sequence[str] = ()) -> Run:
        """Add and remove tags; the run as changed. Raises NotFoundError, UsageError for a tag that is not one short line."""
        for name in add:
            if not name.strip() or not name.isprintable() or len(name) > 200:
                raise UsageError(f"a tag is one line of at most 200 characters, not {name[:200]!r}")
        with self._database.transaction():
            run = self.get(run_id)
            tags = tuple(t for t in dict.fromkeys((*run.tags, *add)) if t not in remove)
            self._table.update("id", run_id, {"tags": tags})
            return self.get(run_id)

    def write_note(self, run_id: str, note: str) -> Run:
        """Put a note in the place of the former one; the run as changed. Raises NotFoundError."""
        with self._database.transaction():
            if not self._table.update("id", run_id, {"note": note}):
                raise NotFoundError(f"there is no run {run_id}", hint="`noria runs` lists them.")
            return self.get(run_id)

    def step_facts(self, run: Run) -> dict[str, dict[str, Any]]:
        """What each step of a run depended on, by the step's name: files, inputs, parameters, command, environment, as digests.

        A step that never succeeded has none.
        """
        keys = {record.name: record.key for record in run.steps}
        found: dict[str, dict[str, Any]] = {}
        for name, key in keys.items():
            row = self._database.row("SELECT facts FROM steps WHERE project = ? AND key = ?", (run.project, key))
            if row is not None:
                found[name] = parse_json(row["facts"])
        return found


class StepStore(BoundStore):
    def get(self, key: str) -> StepRecord | None:
        """The remembered result of an equal step."""
        row = self._database.row("SELECT record FROM steps WHERE project = ? AND key = ?", (self.project, key))
        return parse_json(row["record"], kind=StepRecord, strict=False) if row else None

    def put(self, record: StepRecord, facts: Mapping[str, Any]) -> None:
        """Remember a result and what it came from."""
        self._database.execute(
            "INSERT INTO steps (project, key, name, record, facts, at) VALUES (?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (project, key) DO UPDATE SET "
            "name = excluded.name, record = excluded.record, facts = excluded.facts, at = excluded.at",
            (
                self.project,
                record.key,
                record.name,
                to_json(record),
                msgspec.json.encode(facts, order="sorted").decode(),
                time.time(),
            ),
        )

    def forget(self, key: str) -> None:
        """A result that must not be taken again."""
        self._database.execute("DELETE FROM steps WHERE project = ? AND key = ?", (self.project, key))

    def facts(self, key: str) -> dict[str, Any]:
        """What the result came from; empty when it is not remembered."""
        row = self._database.row("SELECT facts FROM steps WHERE project = ? AND key = ?", (self.project, key))
        return parse_json(row["facts"]) if row else {}

    def latest(self, name: str) -> tuple[StepRecord, dict[str, Any]] | None:
        """The newest result of a step of this name, and what it came from."""
        row = self._database.row(
            "SELECT record, facts FROM steps WHERE project = ? AND name = ? ORDER BY at DESC LIMIT 1", (self.project, name)
        )
        if row is None:
            return None
        return parse_json(row["record"], kind=StepRecord, strict=False), parse_json(row["facts"])

    def read_by(self, name: str, limit: int = 20) -> builtins.list[builtins.list[str]]:
        """The sets of files that the newest results of a step of this name had opened, each once, the newest first."""
        rows = self._database.rows(
            "SELECT facts FROM steps WHERE project = ? AND name = ? ORDER BY at DESC LIMIT ?", (self.project, name, limit)
        )
        return [list(paths) for paths in dict.fromkeys(tuple(parse_json(row["facts"]).get("read", ())) for row in rows)]
