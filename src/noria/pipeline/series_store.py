"""Metrics over time: what steps logged, one row for each metric of a step, so that 1,000 points are one write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from noria.storage.bound_store import BoundStore
from noria.storage.rows import parse_json

Points = Sequence[tuple[float, float]]  # (x, value), in the order they were logged


class SeriesStore(BoundStore):
    def put(self, run_id: str, step: str, series: Mapping[str, Points]) -> None:
        """Keep all series of one step of a run, in place of what the step logged before (a retry, a resumed turn)."""
        rows = [(self.project, run_id, step, metric, msgspec.json.encode(points).decode()) for metric, points in series.items()]
        with self._database.transaction():
            where = "project = ? AND run_id = ? AND step = ?"
            self._database.execute(f"DELETE FROM series WHERE {where}", (self.project, run_id, step))  # noqa: S608  # the text is ours
            self._database.execute_many("INSERT INTO series (project, run_id, step, metric, points) VALUES (?, ?, ?, ?, ?)", rows)

    def of_run(self, run_id: str) -> dict[str, dict[str, list[tuple[float, float]]]]:
        """Step -> metric -> points; empty when nothing was logged."""
        found: dict[str, dict[str, list[tuple[float, float]]]] = {}
        sql = "SELECT step, metric, points FROM series WHERE project = ? AND run_id = ? ORDER BY step, metric"
        for row in self._database.rows(sql, (self.project, run_id)):
            points = parse_json(row["points"], kind=list[tuple[float, float]])
            found.setdefault(row["step"], {})[row["metric"]] = points
        return found
