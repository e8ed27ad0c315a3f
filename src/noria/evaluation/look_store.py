"""Looks at holdouts in the ledger: each verdict that was told, on which rows, of which candidate."""

from __future__ import annotations

import sqlite3

import numpy as np

from noria.evaluation.records import HoldoutRows
from noria.storage.bound_store import BoundStore
from noria.storage.rows import UNREADABLE, damage_error

MOST = 1000  # looks that one count reads, the newest; each has up to 8 kB


class LookStore(BoundStore):
    def add(self, turn_id: str, seen: HoldoutRows, at: float) -> None:
        """Adds the look of a turn; a turn has one."""
        self._database.execute(
            "INSERT INTO holdout_looks (turn_id, project, candidate, row_count, smallest, at, keyed) "
            "VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (turn_id, self.project, seen.candidate, seen.rows, np.array(seen.smallest, "<u8").tobytes(), at, seen.keyed),
        )

    def list(self) -> list[HoldoutRows]:
        """The newest looks, oldest first."""
        sql = "SELECT candidate, row_count, smallest, keyed FROM holdout_looks WHERE project = ? ORDER BY at DESC LIMIT ?"
        return [_read(row) for row in reversed(self._database.rows(sql, (self.project, MOST)))]

    def forget_unkeyed(self) -> int:
        """Deletes looks of earlier versions, in which a known key can be found; how many there were."""
        return self._database.execute("DELETE FROM holdout_looks WHERE project = ? AND keyed = 0", (self.project,))


def _read(row: sqlite3.Row) -> HoldoutRows:
    try:
        hashes = np.frombuffer(row["smallest"], dtype="<u8")
        return HoldoutRows(str(row["candidate"]), int(row["row_count"]), tuple(hashes.tolist()), bool(row["keyed"]))
    except UNREADABLE as error:
        raise damage_error("holdout_looks", error) from error
