"""Quality windows and alerts."""

from __future__ import annotations

import builtins

from noria.monitor.records import Alert, Window
from noria.storage.bound_store import BoundStore
from noria.storage.ledger import Ledger
from noria.storage.rows import StructTable


class QualityStore(BoundStore):
    def __init__(self, ledger: Ledger, project: str) -> None:
        super().__init__(ledger, project)
        self._table = StructTable(
            ledger.database, "windows", Window, key=("project", "environment", "release", "start", "metric")
        )

    def put(self, window: Window) -> None:
        """Write a window, or write it anew."""
        self._table.insert(window, replace=True)

    def has_equal(self, window: Window) -> bool:
        """Whether a window was judged before, from as many predictions and labels, with the same result."""
        where = "project = ? AND environment = ? AND release = ? AND start = ? AND metric = ?"
        found = self._table.one(where, window.project, window.environment, window.release, window.start, window.metric)
        return found is not None and (found.predictions, found.labelled, found.value) == (
            window.predictions,
            window.labelled,
            window.value,
        )

    def judged_until(self, environment: str) -> dict[str, float]:
        """Release -> the end of its newest window."""
        sql = 'SELECT release, max("end") AS until FROM windows WHERE project = ? AND environment = ? GROUP BY release'
        return {str(row["release"]): float(row["until"]) for row in self._database.rows(sql, (self.project, environment))}

    def windows(self, limit: int = 100, *, environment: str | None = None, release: str | None = None) -> builtins.list[Window]:
        """The newest first; of an environment or a release, where one is named."""
        where = "project = ? AND environment = COALESCE(?, environment) AND release = COALESCE(?, release)"
        return self._table.many(f'{where} ORDER BY "end" DESC, release LIMIT ?', self.project, environment, release, limit)


class AlertStore(BoundStore):
    def __init__(self, ledger: Ledger, project: str) -> None:
        super().__init__(ledger, project)
        self._table = StructTable(ledger.database, "alerts", Alert)

    def add(self, alert: Alert) -> None:
        self._table.insert(alert)

    def list(self, limit: int = 50) -> builtins.list[Alert]:
        """Newest first."""
        return self._table.many("project = ? ORDER BY at DESC LIMIT ?", self.project, limit)
