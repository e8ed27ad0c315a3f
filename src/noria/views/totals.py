"""Totals for a monitoring system, which reads them again and again."""

from __future__ import annotations

import msgspec

from noria.evaluation.store import EvaluationStore
from noria.kernel.verdict import GateVerdict
from noria.storage.bound_store import BoundStore


class Totals(msgspec.Struct, frozen=True):
    """Of one project, since it began."""

    turns: dict[str, int] = {}  # by outcome
    alerts: dict[str, int] = {}  # by kind
    events: dict[str, int] = {}  # by kind
    rollouts: dict[str, int] = {}  # by state
    deliveries: dict[str, int] = {}  # accepted, quarantined
    releases: dict[str, int] = {}  # released, barred
    gates: tuple[GateVerdict, ...] = ()  # of the newest candidate that was judged
    gates_of: str = ""  # the environment whose champion it was compared with
    user_s: float = 0.0  # in the project's own code, over all turns


class TotalStore(BoundStore):
    def read(self) -> Totals:
        newest = EvaluationStore(self.ledger, self.project).newest()
        row = self._database.row("SELECT total(user_s) AS seconds FROM turns WHERE project = ?", (self.project,))
        return Totals(
            turns=self._count_by("SELECT outcome AS what, count(*) AS many FROM turns WHERE project = ? GROUP BY 1"),
            alerts=self._count_by("SELECT kind AS what, count(*) AS many FROM alerts WHERE project = ? GROUP BY 1"),
            events=self._count_by("SELECT kind AS what, count(*) AS many FROM events WHERE project = ? GROUP BY 1"),
            rollouts=self._count_by("SELECT state AS what, count(*) AS many FROM rollouts WHERE project = ? GROUP BY 1"),
            deliveries=self._count_by(
                "SELECT CASE WHEN accepted THEN 'accepted' ELSE 'quarantined' END AS what, count(*) AS many "
                "FROM deliveries WHERE project = ? GROUP BY 1",
            ),
            releases=self._count_by(
                "SELECT CASE WHEN barred IS NULL THEN 'sealed' ELSE 'barred' END AS what, count(*) AS many "
                "FROM releases WHERE project = ? GROUP BY 1",
            ),
            gates=newest.gates if newest is not None else (),
            gates_of=newest.environment if newest is not None else "",
            user_s=float(row["seconds"]) if row else 0.0,
        )

    def _count_by(self, statement: str) -> dict[str, int]:
        return {str(row["what"]): int(row["many"]) for row in self._database.rows(statement, (self.project,))}
