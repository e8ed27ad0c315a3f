"""Rollouts and the evidence they gathered."""

from __future__ import annotations

import builtins
from typing import Any

from noria.delivery.rollout_record import Rollout
from noria.kernel.errors import NotFoundError
from noria.storage.bound_store import BoundStore
from noria.storage.ledger import Ledger
from noria.storage.rows import StructTable

UNDECIDED = "state IN ('waiting', 'replay', 'canary', 'held')"


class RolloutStore(BoundStore):
    def __init__(self, ledger: Ledger, project: str) -> None:
        super().__init__(ledger, project)
        self._table = StructTable(ledger.database, "rollouts", Rollout)

    def start(self, rollout: Rollout) -> None:
        self._table.insert(rollout)

    def get(self, rollout_id: str) -> Rollout:
        """Raises NotFoundError."""
        found = self._table.one("id = ?", rollout_id)
        if found is None:
            raise NotFoundError(f"there is no rollout {rollout_id}")
        return found

    def active(self, environment: str) -> Rollout | None:
        """The undecided rollout of an environment; there is at most one."""
        return self._table.one(
            f"project = ? AND environment = ? AND {UNDECIDED} ORDER BY started_at DESC", self.project, environment
        )

    def probing(self, environment: str) -> Rollout | None:
        """The release on probation in an environment; there is at most one."""
        return self._table.one("project = ? AND environment = ? AND state = 'probation'", self.project, environment)

    def waiting(self) -> builtins.list[str]:
        """Environments in which a release waits."""
        return [rollout.environment for rollout in self._table.many("project = ? AND state = 'waiting'", self.project)]

    def of_turn(self, turn_id: str | None) -> Rollout | None:
        """The newest rollout that a turn began."""
        return None if turn_id is None else self._table.one("turn_id = ? ORDER BY started_at DESC", turn_id)

    def newest(self, environment: str, release: str) -> Rollout | None:
        """The last rollout of a release in an environment."""
        where = "project = ? AND environment = ? AND release = ? ORDER BY started_at DESC"
        return self._table.one(where, self.project, environment, release)

    def update(self, rollout_id: str, **changes: Any) -> None:
        """Raises NotFoundError."""
        if not self._table.update("id", rollout_id, changes):
            raise NotFoundError(f"there is no rollout {rollout_id}")

    def ended(self, limit: int) -> builtins.list[Rollout]:
        """The last that ended, newest first."""
        return self._table.many("project = ? AND ended_at IS NOT NULL ORDER BY ended_at DESC LIMIT ?", self.project, limit)

    def list(
        self,
        limit: int = 50,
        *,
        environment: str | None = None,
        digest: str | None = None,
        turn_id: str | None = None,
    ) -> builtins.list[Rollout]:
        """The newest first; of an environment, a release or a turn, where one is named."""
        where = "project = ? AND environment = COALESCE(?, environment) AND digest = COALESCE(?, digest)"
        where, values = (where, ()) if turn_id is None else (f"{where} AND turn_id = ?", (turn_id,))
        order = "ORDER BY started_at DESC LIMIT ?"
        return self._table.many(f"{where} {order}", self.project, environment, digest, *values, limit)
