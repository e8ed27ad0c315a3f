"""Evaluations in the ledger: one for each turn that measured a candidate, whether it was released or not."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from noria.evaluation.records import Assessment
from noria.kernel.verdict import GateVerdict, Outcome, Reason
from noria.releases.evidence import Evaluation
from noria.stats.measures import Comparison, Measure
from noria.storage.bound_store import BoundStore
from noria.storage.rows import UNREADABLE, damage_error, parse_json

NAN = float("nan")


class EvaluationStore(BoundStore):
    def put(self, assessed: Assessment) -> Assessment:
        """Keep it; of a turn that was interrupted and runs again the first one stands, and is returned."""
        with self._database.transaction():
            self._database.execute(
                "INSERT INTO evaluations (turn_id, project, run_id, environment, outcome, reasons, gates, evaluation, at) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (
                    assessed.turn_id,
                    assessed.project,
                    assessed.run_id,
                    assessed.environment,
                    str(assessed.outcome) if assessed.outcome is not None else None,
                    _json(assessed.reasons),
                    _json(assessed.gates),
                    _json(assessed.evaluation),
                    assessed.at,
                ),
            )
            return self.of_turns([assessed.turn_id])[assessed.turn_id]

    def of_turns(self, turn_ids: Iterable[str]) -> dict[str, Assessment]:
        """By turn, of those that measured a candidate."""
        wanted = list(turn_ids)
        marks = ", ".join("?" * len(wanted))
        sql = f"SELECT * FROM evaluations WHERE turn_id IN ({marks})"  # noqa: S608  # marks only
        return {row["turn_id"]: _read(row) for row in self._database.rows(sql, wanted)}

    def of_turn(self, turn_id: str) -> Assessment | None:
        return self.of_turns([turn_id]).get(turn_id)

    def of_run(self, run_id: str) -> Assessment | None:
        """The one of a run, by the turn that it was first made in."""
        row = self._database.row("SELECT * FROM evaluations WHERE project = ? AND run_id = ? LIMIT 1", (self.project, run_id))
        return _read(row) if row is not None else None

    def newest(self) -> Assessment | None:
        row = self._database.row("SELECT * FROM evaluations WHERE project = ? ORDER BY at DESC LIMIT 1", (self.project,))
        return _read(row) if row is not None else None


def _json(value: Any) -> str:
    """What could not be measured (NaN) is null."""
    return msgspec.json.encode(value, order="sorted").decode()


def _read(row: sqlite3.Row) -> Assessment:
    try:
        return Assessment(
            turn_id=row["turn_id"],
            project=row["project"],
            run_id=row["run_id"],
            environment=row["environment"],
            evaluation=read_evaluation(parse_json(row["evaluation"])),
            outcome=Outcome(row["outcome"]) if row["outcome"] is not None else None,
            reasons=tuple(_reason(facts) for facts in parse_json(row["reasons"])),
            gates=parse_json(row["gates"], tuple[GateVerdict, ...], strict=False),
            at=row["at"],
        )
    except UNREADABLE as error:
        raise damage_error("evaluations", error) from error


def read_evaluation(facts: Mapping[str, Any]) -> Evaluation:
    """An evaluation as any Noria wrote it; what could not be measured is null there, and NaN here."""
    return Evaluation(
        rows=facts.get("rows") or 0,
        positives=facts.get("positives") or 0,
        metrics=_measures(facts.get("metrics")),
        versus=_comparisons(facts.get("versus")),
        champion=facts.get("champion"),
        slices={
            column: {value: _measures(found) for value, found in values.items()}
            for column, values in (facts.get("slices") or {}).items()
        },
        latency_p50_ms=_float(facts.get("latency_p50_ms", 0.0)),
        latency_p99_ms=_float(facts.get("latency_p99_ms", 0.0)),
        latency_rounds_ms=tuple(map(_float, facts.get("latency_rounds_ms") or ())),
        model_size_mb=_float(facts.get("model_size_mb", 0.0)),
        holdout=facts.get("holdout") or "",
        champion_note=facts.get("champion_note") or "",
        best=facts.get("best"),
        versus_best=_comparisons(facts.get("versus_best")),
        remarks=tuple(facts.get("remarks") or ()),
    )


def _measures(found: Mapping[str, Any] | None) -> dict[str, Measure]:
    return {
        name: Measure(_float(m.get("value")), _float(m.get("low")), _float(m.get("high")), m.get("n") or 0, m.get("positives"))
        for name, m in (found or {}).items()
    }


def _comparisons(found: Mapping[str, Any] | None) -> dict[str, Comparison]:
    return {name: _comparison(c) for name, c in (found or {}).items()}


def _comparison(c: Mapping[str, Any]) -> Comparison:
    bounds = (_float(c.get("low")), _float(c.get("high")))
    beside = (_float(c.get("champion")), _float(c.get("difference")))
    return Comparison(*beside, *bounds, c.get("n") or 0, c.get("differing"), c.get("alike"))


def _reason(facts: Mapping[str, Any]) -> Reason:
    numbers = {name: _float(value) for name, value in (facts.get("numbers") or {}).items()}
    return Reason(facts["code"], facts["text"], Outcome(facts.get("outcome", Outcome.PASS)), numbers)


def _float(value: Any) -> float:
    return NAN if value is None else float(value)
