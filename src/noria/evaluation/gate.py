"""Gate: one verdict from all measurements."""

from __future__ import annotations

import time
from collections.abc import Sequence

from msgspec.structs import replace

from noria.evaluation import judge_behaviours, judge_gate, judge_holdout
from noria.evaluation.look_store import LookStore
from noria.evaluation.records import Assessment, HoldoutBudget, HoldoutRows
from noria.evaluation.store import EvaluationStore
from noria.kernel.verdict import Reason, Verdict, combine
from noria.pipeline.context import PinnedRun, PipelineContext
from noria.releases.evidence import Measured


def gate(
    context: PipelineContext,
    pinned_run: PinnedRun,
    measured: Measured,
    seen: HoldoutRows | None = None,
    notes: Sequence[Reason] = (),
) -> tuple[Verdict, Measured]:
    """Judges the gates: pass, fail or not enough data, each with its numbers; returns the verdict and what it was based on.

    The verdict is recorded in the audit log and with the evaluation of the turn. A turn is judged once: an interrupted one gets
    its first verdict again, whatever a new measurement of latency would say. ``seen``: the held-out rows; each look is counted.
    ``notes``: what the verdict says besides.
    """
    first = EvaluationStore.of(context).of_turn(pinned_run.turn.id)
    if first is not None and first.outcome is not None:
        return Verdict(first.outcome, first.reasons), replace(measured, evaluation=first.evaluation)
    gates, evaluation = pinned_run.judging.gates, measured.evaluation
    holdout = _count(context, pinned_run, seen) if seen is not None else None
    verdict = combine((*judge_holdout.judge(gates, evaluation, holdout), *judge_behaviours.judge(evaluation.behaviours), *notes))
    facts = {name: measure.value for name, measure in evaluation.metrics.items()}
    assessed = Assessment(
        turn_id=pinned_run.turn.id,
        project=context.name,
        run_id=pinned_run.run_id,
        environment=next(reversed(list(pinned_run.project.environments)), ""),
        evaluation=evaluation,
        outcome=verdict.outcome,
        reasons=verdict.reasons,
        gates=tuple(judge_gate.each(gates, verdict, evaluation)),
        at=time.time(),
        holdout=holdout,
    )
    with context.ledger.transaction():
        context.check_lease()
        EvaluationStore.of(context).put(assessed, measured.curves)
        if seen is not None:
            LookStore.of(context).add(assessed.turn_id, seen, assessed.at)
        context.event(f"gate.{verdict.outcome.name.lower()}", pinned_run.run_id, f"gate: {verdict.sentence()}", metrics=facts)
    return verdict, measured


def _count(context: PipelineContext, pinned_run: PinnedRun, seen: HoldoutRows) -> HoldoutBudget:
    model = pinned_run.judging.model
    return judge_holdout.count(seen, LookStore.of(context).list(), model.holdout.budget if model is not None else None)
