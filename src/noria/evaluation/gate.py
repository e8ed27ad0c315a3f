"""Gate: one verdict from all measurements."""

from __future__ import annotations

import time

from noria.evaluation import judge_gate as judge
from noria.evaluation.records import Assessment
from noria.evaluation.store import EvaluationStore
from noria.kernel.verdict import Verdict
from noria.pipeline.context import PinnedRun, PipelineContext
from noria.releases.evidence import Evaluation


def gate(context: PipelineContext, pinned_run: PinnedRun, evaluation: Evaluation) -> Verdict:
    """Pass, fail or not enough data, each with its numbers; recorded in the audit log, and with the evaluation for whoever asks
    about the turn."""
    verdict = judge.judge(pinned_run.project.gates, evaluation)
    facts = {name: measure.value for name, measure in evaluation.metrics.items()}
    EvaluationStore.of(context).put(
        Assessment(
            turn_id=pinned_run.turn.id,
            project=context.name,
            run_id=pinned_run.run_id,
            environment=next(reversed(list(pinned_run.project.environments)), ""),
            evaluation=evaluation,
            outcome=verdict.outcome,
            reasons=verdict.reasons,
            gates=tuple(judge.each(pinned_run.project.gates, verdict, evaluation)),
            at=time.time(),
        )
    )
    context.event(f"gate.{verdict.outcome.name.lower()}", pinned_run.run_id, f"gate: {verdict.sentence()}", metrics=facts)
    return verdict
