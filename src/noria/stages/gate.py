"""Gate: one verdict from all measurements."""

from __future__ import annotations

from noria.decide import gate as judge
from noria.domain.evaluation import Evaluation
from noria.domain.verdict import Verdict
from noria.stages.line import Line, Sheet


def gate(line: Line, sheet: Sheet, evaluation: Evaluation) -> Verdict:
    """Pass, fail or not enough data, each with its numbers; recorded in the audit log."""
    verdict = judge.judge(sheet.project.gates, evaluation)
    facts = {name: measure.value for name, measure in evaluation.metrics.items()}
    line.event(f"gate.{verdict.outcome.name.lower()}", sheet.run_id, f"gate: {verdict.sentence()}", metrics=facts)
    return verdict
