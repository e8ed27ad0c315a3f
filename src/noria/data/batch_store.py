"""The facts of accepted files, by which the next one is judged."""

from __future__ import annotations

import time

import msgspec

from noria.data.batch_facts import BatchFacts, PastBatch
from noria.storage.bound_store import BoundStore
from noria.storage.rows import parse_json


class BatchStore(BoundStore):
    def history(self, dataset: str, leave_out: str, most: int) -> list[PastBatch]:
        """The newest accepted files that are still part of a dataset, the oldest first, without the one called ``leave_out``."""
        sql = (
            "SELECT b.unusual, b.facts FROM batch_facts AS b JOIN files AS f "
            "ON f.project = b.project AND f.dataset = b.dataset AND f.name = b.name AND f.digest = b.digest "
            "WHERE b.project = ? AND b.dataset = ? AND b.name <> ? ORDER BY b.at DESC LIMIT ?"
        )
        rows = self._database.rows(sql, (self.project, dataset, leave_out, most))
        return [PastBatch(parse_json(row["facts"], kind=BatchFacts), bool(row["unusual"])) for row in reversed(rows)]

    def put(self, dataset: str, name: str, digest: str, batch: PastBatch) -> None:
        """Keep the facts of a file that was accepted, in place of those of its earlier version."""
        self._database.execute(
            "INSERT INTO batch_facts (project, dataset, name, digest, at, unusual, facts) VALUES (?, ?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (project, dataset, name) DO UPDATE SET digest = excluded.digest, at = excluded.at, "
            "unusual = excluded.unusual, facts = excluded.facts",
            (
                self.project,
                dataset,
                name,
                digest,
                time.time(),
                batch.unusual,
                msgspec.json.encode(batch.facts).decode(),
            ),
        )
