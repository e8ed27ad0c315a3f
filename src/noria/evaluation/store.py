"""Evaluations in the ledger: one for each turn that measured a candidate, whether it was released or not."""

from __future__ import annotations

import builtins
import sqlite3
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from noria.evaluation.records import Assessment, HoldoutBudget
from noria.kernel.behaviour import BehaviourResult
from noria.kernel.verdict import GateVerdict, Outcome, Reason
from noria.releases.evidence import Evaluation
from noria.stats.curve_records import EvaluationCurves
from noria.stats.measures import Comparison, Measure
from noria.storage.bound_store import BoundStore
from noria.storage.rows import UNREADABLE, damage_error, parse_json

NAN = float("nan")


class EvaluationStore(BoundStore):
    def put(self, assessed: Assessment, curves: EvaluationCurves | None = None) -> Assessment:
        """Stores an evaluation. When an interrupted turn runs again, the first one stays and is returned.

        ``curves`` stand in a table of their own: who lists evaluations does not read them.
        """
        with self._database.transaction():
            self._database.execute(
                "INSERT INTO evaluations "
                "(turn_id, project, run_id, environment, outcome, reasons, gates, evaluation, at, holdout) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
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
                    _json(assessed.holdout) if assessed.holdout is not None else None,
                ),
            )
            if curves is not None:
                sql = "INSERT INTO evaluation_curves (turn_id, curves) VALUES (?, ?) ON CONFLICT DO NOTHING"
                self._database.execute(sql, (assessed.turn_id, _json(curves)))
            return self.of_turns([assessed.turn_id])[assessed.turn_id]

    def curves(self, turn_id: str) -> EvaluationCurves | None:
        """Returns the curves of a turn's candidate; None where none were recorded."""
        row = self._database.row("SELECT curves FROM evaluation_curves WHERE turn_id = ?", (turn_id,))
        if row is None:
            return None
        try:
            return msgspec.json.decode(row["curves"], type=EvaluationCurves)
        except UNREADABLE as error:
            raise damage_error("evaluation_curves", error) from error

    def of_turns(self, turn_ids: Iterable[str]) -> dict[str, Assessment]:
        """Returns evaluations by turn, for turns that measured a candidate."""
        wanted = list(turn_ids)
        marks = ", ".join("?" * len(wanted))
        sql = f"SELECT * FROM evaluations WHERE turn_id IN ({marks})"  # noqa: S608  # marks only
        return {row["turn_id"]: _read(row) for row in self._database.rows(sql, wanted)}

    def of_turn(self, turn_id: str) -> Assessment | None:
        return self.of_turns([turn_id]).get(turn_id)

    def of_run(self, run_id: str) -> Assessment | None:
        """Returns the evaluation of a run."""
        row = self._database.row("SELECT * FROM evaluations WHERE project = ? AND run_id = ? LIMIT 1", (self.project, run_id))
        return _read(row) if row is not None else None

    def list(self, limit: int = 1000) -> builtins.list[Assessment]:
        """Newest first."""
        sql = "SELECT * FROM evaluations WHERE project = ? ORDER BY at DESC LIMIT ?"
        return [_read(row) for row in self._database.rows(sql, (self.project, limit))]

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
            holdout=parse_json(row["holdout"], HoldoutBudget, strict=False) if row["holdout"] is not None else None,
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
        step_metrics={name: _float(value) for name, value in (facts.get("step_metrics") or {}).items()},
        unmeasured=dict(facts.get("unmeasured") or {}),
        behaviours=msgspec.convert(facts.get("behaviours") or (), tuple[BehaviourResult, ...]),
    )


def _measures(found: Mapping[str, Any] | None) -> dict[str, Measure]:
    return {
        name: Measure(
            _float(m.get("value")),
            _float(m.get("low")),
            _float(m.get("high")),
            m.get("n") or 0,
            m.get("positives"),
            **_group_facts(m),
        )
        for name, m in (found or {}).items()
    }


def _comparisons(found: Mapping[str, Any] | None) -> dict[str, Comparison]:
    return {name: _comparison(c) for name, c in (found or {}).items()}


def _comparison(c: Mapping[str, Any]) -> Comparison:
    bounds = (_float(c.get("low")), _float(c.get("high")))
    beside = (_float(c.get("champion")), _float(c.get("difference")))
    return Comparison(*beside, *bounds, c.get("n") or 0, c.get("differing"), c.get("alike"), **_group_facts(c))


def _group_facts(found: Mapping[str, Any]) -> dict[str, Any]:
    return {name: found.get(name) for name in ("groups", "unit", "widened", "freedom")} | {"counts": found.get("counts") or "row"}


def _reason(facts: Mapping[str, Any]) -> Reason:
    numbers = {name: _float(value) for name, value in (facts.get("numbers") or {}).items()}
    return Reason(facts["code"], facts["text"], Outcome(facts.get("outcome", Outcome.PASS)), numbers, facts.get("remedy") or "")


def _float(value: Any) -> float:
    return NAN if value is None else float(value)
