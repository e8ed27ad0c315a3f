"""What a collection of garbage asks the ledger: runs, remembered results, trees, and how far the last one went."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from noria.pipeline.run import Run, StepRecord
from noria.storage.bound_store import BoundStore
from noria.storage.ledger import Ledger
from noria.storage.rows import StructTable, parse_json


class RememberedResult(msgspec.Struct, frozen=True):
    """A remembered result of a step."""

    project: str
    key: str
    name: str
    at: float
    record: StepRecord
    inputs: dict[str, str] = {}  # dataset, step or file -> digest


class KeepStore(BoundStore):
    def __init__(self, ledger: Ledger, project: str) -> None:
        super().__init__(ledger, project)
        self._runs = StructTable(ledger.database, "runs", Run)

    def collection_time(self) -> float:
        """Runs that ended before this may have lost their files to a collection; 0 when there was none."""
        row = self._database.row("SELECT before FROM collected WHERE project = ?", (self.project,))
        return float(row["before"]) if row else 0.0

    def note_collection(self, before: float) -> None:
        """Remember how far a collection went; the farthest one counts."""
        self._database.execute(
            "INSERT INTO collected (project, before) VALUES (?, ?) "
            "ON CONFLICT (project) DO UPDATE SET before = max(before, excluded.before)",
            (self.project, before),
        )

    def runs(self, since: float) -> Iterator[Run]:
        """Runs that ended since then, and those of releases, one at a time."""
        sql = (
            "SELECT * FROM runs WHERE project = ? AND (COALESCE(ended_at, started_at) >= ? "
            "OR id IN (SELECT run_id FROM releases WHERE releases.project = runs.project))"
        )
        for row in self._database.each(sql, (self.project, since)):
            yield self._runs.read(row)

    def results(self) -> Iterator[RememberedResult]:
        """Every remembered result of a step, one at a time."""
        for row in self._database.each("SELECT key, name, at, record, facts FROM steps WHERE project = ?", (self.project,)):
            record = parse_json(row["record"], kind=StepRecord, strict=False)
            facts: Mapping[str, Any] = parse_json(row["facts"])
            yield RememberedResult(self.project, row["key"], row["name"], row["at"], record, dict(facts.get("inputs", {})))

    def forget_results(self, keys: Iterable[str]) -> int:
        """Take results out of the ledger; how many went."""
        return self._database.execute_many(
            "DELETE FROM steps WHERE project = ? AND key = ?", [(self.project, key) for key in sorted(keys)]
        )

    # --- the stat index

    def trees(self) -> list[str]:
        """Every tree that has marks, by its path."""
        rows = self._database.rows("SELECT DISTINCT place FROM marks WHERE project = ? AND place LIKE 'tree:%'", (self.project,))
        return [str(place).removeprefix("tree:") for (place,) in rows]

    def forget_tree(self, tree: str) -> int:
        """Drop the marks of a tree that is gone; how many there were."""
        return self._database.execute("DELETE FROM marks WHERE project = ? AND place = ?", (self.project, f"tree:{tree}"))
