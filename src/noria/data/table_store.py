"""What was decided of each dataset's table: its columns with their types, and from where the files came that decided it."""

from __future__ import annotations

import msgspec

from noria.data.table import TableType
from noria.storage.bound_store import BoundStore
from noria.storage.rows import parse_json


class Settled(msgspec.Struct, frozen=True):
    """``source`` and ``basis``: what noria.yaml and the contract said when it was decided; ``type``: of the accepted files."""

    source: str
    basis: str = ""
    type: TableType = TableType()


class TableStore(BoundStore):
    """One row for each dataset."""

    def get(self, dataset: str) -> Settled | None:
        """What was decided; None before anything was."""
        row = self._database.row(
            "SELECT source, basis, type FROM tables WHERE project = ? AND dataset = ?", (self.project, dataset)
        )
        return None if row is None else Settled(row["source"], row["basis"], parse_json(row["type"], kind=TableType))

    def put(self, dataset: str, settled: Settled) -> None:
        """Write it, or write it anew."""
        content = msgspec.json.encode(settled.type).decode()
        self._database.execute(
            "INSERT INTO tables (project, dataset, source, basis, type) VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT (project, dataset) DO UPDATE SET source = excluded.source, basis = excluded.basis, type = excluded.type",
            (self.project, dataset, settled.source, settled.basis, content),
        )
