"""Turns of the wheel."""

from __future__ import annotations

import builtins
import time
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from noria.kernel import names
from noria.kernel.errors import NotFoundError
from noria.pipeline.trigger_store import TriggerStore
from noria.pipeline.turn_record import Turn, TurnOutcome
from noria.storage.bound_store import BoundStore
from noria.storage.ledger import Ledger
from noria.storage.rows import StructTable, parse_json

DELIVERED = tuple(  # what a rollout says of its turn
    str(outcome)
    for outcome in (
        TurnOutcome.RELEASED,
        TurnOutcome.ROLLING_OUT,
        TurnOutcome.HELD,
        TurnOutcome.PROMOTED,
        TurnOutcome.ROLLED_BACK,
        TurnOutcome.SUPERSEDED,
    )
)


class TurnStore(BoundStore):
    def __init__(self, ledger: Ledger, project: str) -> None:
        super().__init__(ledger, project)
        self._triggers = TriggerStore(ledger, project)
        self._table = StructTable(ledger.database, "turns", Turn)

    def start(self) -> Turn | None:
        """One turn for everything that is pending; None when nothing is. Turn, triggers and event in one transaction."""
        with self._database.transaction():
            pending = self._triggers.pending()
            if not pending:
                return None
            row = self._database.row("SELECT max(number) AS number FROM turns WHERE project = ?", (self.project,))
            made = Turn(
                id=names.new_id("turn"),
                project=self.project,
                number=int((row["number"] if row else 0) or 0) + 1,
                triggers=tuple(t.id for t in pending),
                trigger="; ".join(f"{t.kind}: {t.reason}" for t in pending),
                started_at=time.time(),
            )
            self._table.insert(made)
            self._triggers.take(made.id)
            self.ledger.events.append(
                self.project, "turn.started", made.id, f"turn {made.number} starts: {made.trigger}", {"triggers": len(pending)}
            )
        return made

    def get(self, turn_id: str) -> Turn:
        """Raises NotFoundError."""
        found = self._table.one("id = ?", turn_id)
        if found is None:
            raise NotFoundError(f"there is no turn {turn_id}", hint="`noria runs` lists them.")
        return found

    def find(self, ref: str) -> Turn | None:
        """The turn of that number or id, however old it is."""
        number = int(ref) if ref.isascii() and ref.isdecimal() and len(ref) < 19 else -1
        return self._table.one("project = ? AND (number = ? OR id = ?)", self.project, number, ref)

    def update(self, turn_id: str, **changes: Any) -> Turn:
        """The turn as changed. Raises NotFoundError."""
        if "reason" in changes:
            changes["reason"] = self._database.hide(changes["reason"])
        with self._database.transaction():
            self._table.update("id", turn_id, changes)
            return self.get(turn_id)

    def list(self, limit: int = 50) -> builtins.list[Turn]:
        """Newest first."""
        return self._table.many("project = ? ORDER BY number DESC LIMIT ?", self.project, limit)

    def each(self) -> Iterator[Turn]:
        """Every turn, one at a time."""
        return (self._table.read(row) for row in self._database.each("SELECT * FROM turns WHERE project = ?", (self.project,)))

    def ended_early(self) -> Turn | None:
        """The newest turn, where it ended before it came to a run."""
        newest = next(iter(self.list(1)), None)
        early = newest is not None and newest.run_id is None and newest.outcome is not TurnOutcome.RUNNING
        return newest if early else None

    def unfinished(self) -> builtins.list[Turn]:
        """Turns that a crash left, oldest first; also those whose release was on its way already: it has its run at its end."""
        begun = f"release IS NOT NULL AND run_id IS NULL AND outcome IN ({', '.join('?' * len(DELIVERED))})"
        where = f"project = ? AND (outcome = ? OR ({begun})) ORDER BY number"
        return self._table.many(where, self.project, str(TurnOutcome.RUNNING), *DELIVERED)

    def recorded(self, turn_id: str, stage: str) -> dict[str, Any] | None:
        """What the turn fixed at this stage, if it came that far."""
        row = self._database.row("SELECT facts FROM turn_records WHERE turn_id = ? AND stage = ?", (turn_id, stage))
        return parse_json(row["facts"]) if row else None

    def record(self, turn_id: str, stage: str, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Fix facts for the rest of the turn's life; the first record wins, and is returned."""
        with self._database.transaction():
            self._database.execute(
                "INSERT INTO turn_records (project, turn_id, stage, facts) "
                "VALUES (COALESCE((SELECT project FROM turns WHERE id = ?), ''), ?, ?, ?) ON CONFLICT DO NOTHING",
                (turn_id, turn_id, stage, msgspec.json.encode(facts, order="sorted").decode()),
            )
            found = self.recorded(turn_id, stage)
        assert found is not None, "it was just written"
        return found
