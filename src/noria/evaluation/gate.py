"""Gate: one verdict from all measurements."""

from __future__ import annotations

import msgspec

from noria.evaluation import judge_gate as judge
from noria.kernel.verdict import Verdict
from noria.pipeline.context import Line, Sheet
from noria.pipeline.turn_store import EVALUATION, GATE
from noria.releases.evidence import Evaluation


def gate(line: Line, sheet: Sheet, evaluation: Evaluation) -> Verdict:
    """Pass, fail or not enough data, each with its numbers; recorded in the audit log, and gate by gate for
    whoever asks about the turn."""
    verdict = judge.judge(sheet.project.gates, evaluation)
    facts = {name: measure.value for name, measure in evaluation.metrics.items()}
    found = msgspec.to_builtins(verdict) | {
        "environment": next(reversed(list(sheet.project.environments)), ""),  # whose champion it was compared with
        "gates": msgspec.to_builtins(judge.each(sheet.project.gates, verdict, evaluation)),
    }
    line.ledger.turns.record(sheet.turn.id, EVALUATION, msgspec.to_builtins(evaluation))
    line.ledger.turns.record(sheet.turn.id, GATE, found)
    line.event(f"gate.{verdict.outcome.name.lower()}", sheet.run_id, f"gate: {verdict.sentence()}", metrics=facts)
    return verdict
