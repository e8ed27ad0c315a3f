"""Triggers: why turns start. Each is written down first, and acted upon by the wheel."""

from __future__ import annotations

import builtins
import time
from collections.abc import Mapping

from noria.kernel import names
from noria.kernel.trigger import Trigger, TriggerKind
from noria.storage.bound_store import BoundStore
from noria.storage.ledger import Ledger
from noria.storage.rows import StructTable


class TriggerStore(BoundStore):
    def __init__(self, ledger: Ledger, project: str) -> None:
        super().__init__(ledger, project)
        self._table = StructTable(ledger.database, "triggers", Trigger)

    def add(
        self, kind: TriggerKind, reason: str, detail: Mapping[str, str] | None = None, dedupe: str | None = None
    ) -> Trigger | None:
        """Write a trigger down; None when one with the same ``dedupe`` was ever written: nothing starts two turns."""
        with self._database.transaction():
            if dedupe is not None and self._table.one("project = ? AND dedupe = ?", self.project, dedupe) is not None:
                return None
            made = Trigger(names.new_id("trigger"), self.project, kind, reason, dict(detail or {}), time.time())
            self._table.insert(made, dedupe=dedupe)
        return made

    def pending(self) -> builtins.list[Trigger]:
        """Triggers that no turn took, oldest first."""
        return self._table.many("project = ? AND turn_id IS NULL ORDER BY at, id", self.project)

    def newest_commit(self) -> tuple[str, str] | None:
        """The commit that was told last, and the trigger that told it."""
        found = self._database.row(
            "SELECT id, dedupe FROM triggers WHERE project = ? AND dedupe LIKE 'commit:%' ORDER BY at DESC, id DESC LIMIT 1",
            (self.project,),
        )
        return None if found is None else (str(found["dedupe"]).split(":")[1], str(found["id"]))

    def of_turn(self, turn_id: str) -> builtins.list[Trigger]:
        return self._table.many("turn_id = ? ORDER BY at, id", turn_id)

    def take(self, turn_id: str) -> None:
        """All that is pending belongs to this turn."""
        self._database.execute("UPDATE triggers SET turn_id = ? WHERE project = ? AND turn_id IS NULL", (turn_id, self.project))
