"""The stages that a turn with work enters after the plan: train, package, evaluate, gate, release, roll out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from noria.data import personal_key
from noria.delivery import champion
from noria.delivery.context import DeliveryContext
from noria.delivery.private_server import private_server
from noria.delivery.rollout import roll_out
from noria.engine.policy_change import PolicyChange, policy_change
from noria.engine.turn_end import end, enter
from noria.evaluation.evaluate import evaluate
from noria.evaluation.gate import gate
from noria.evaluation.holdout_rows import holdout_rows
from noria.kernel.policy import UndecidedPolicy
from noria.kernel.verdict import Outcome, Verdict
from noria.kernel.words import plural
from noria.pipeline.context import PinnedRun, StartedRun
from noria.pipeline.run import StepRecord
from noria.pipeline.train import run_steps, train
from noria.pipeline.turn_record import Stage, Turn, TurnOutcome
from noria.pipeline.turn_store import TurnStore
from noria.releases.decision_store import AskedDecision, DecisionKind
from noria.releases.packaging import package, same_as
from noria.releases.release import Release
from noria.releases.sealing import release, release_refusal, restore_sealed

GATE = {Outcome.FAIL: TurnOutcome.GATE_FAILED, Outcome.NOT_ENOUGH_DATA: TurnOutcome.NOT_ENOUGH_DATA}


def resume_rollout(context: DeliveryContext, run: StartedRun, sealed: Release) -> Turn:
    """A turn that was interrupted after it had sealed its release: the rollout alone may be left."""
    pinned_run = restore_sealed(context, run, sealed)
    outcome, text = roll_out(context, pinned_run.project, sealed)
    return end(context, pinned_run, outcome, text, sealed, sealed.metrics)


def make_release(context: DeliveryContext, pinned_run: PinnedRun) -> Turn:
    """From training to the rollout. Raises StepError when the project's own code fails."""
    enter(context, pinned_run, Stage.TRAIN)
    if pinned_run.project.model is None:
        return end(context, pinned_run, TurnOutcome.DONE, step_count_words(run_steps(context, pinned_run).values()))
    trained = train(context, pinned_run)
    enter(context, pinned_run, Stage.PACKAGE)
    packaged = package(context, pinned_run, trained)
    serving = champion.serving(context, pinned_run.project)
    if serving is not None and same_as(context, packaged, serving):
        return end(context, pinned_run, TurnOutcome.NOTHING_CHANGED, f"the model came out byte for byte as {serving.version}'s")

    enter(context, pinned_run, Stage.EVALUATE)
    change = policy_change(context, pinned_run.committed)
    if change is not None:
        pinned_run.policy = change.judging(pinned_run.project)
    measured = evaluate(context, pinned_run, packaged, serving, private_server)
    notes = (change.reason,) if change is not None else ()
    seen = holdout_rows(pinned_run, packaged, personal_key.demand(context))
    verdict, measured = gate(context, pinned_run, measured, seen, notes)
    metrics = {name: measure.value for name, measure in measured.evaluation.metrics.items()}
    held = verdict.outcome is Outcome.NOT_ENOUGH_DATA and pinned_run.judging.not_enough_data is UndecidedPolicy.HOLD
    if not verdict.passed and not held:
        return end(context, pinned_run, GATE[verdict.outcome], refusal_words(verdict, change), metrics=metrics)

    refusal = release_refusal(pinned_run)
    if refusal:
        return end(context, pinned_run, TurnOutcome.NOT_RELEASED, f"{refusal}\n  {verdict.sentence()}", metrics=metrics)

    asks = asked_decisions(verdict, held, change)
    sealed = release(context, pinned_run, packaged, measured, verdict, asks)
    TurnStore.of(context).update(pinned_run.turn.id, release=sealed.version, stage=Stage.ROLLOUT)
    outcome, text = roll_out(context, pinned_run.project, sealed)
    return end(context, pinned_run, outcome, text, sealed, metrics)


def refusal_words(verdict: Verdict, change: PolicyChange | None) -> str:
    """Why the candidate is refused; where a change of policy waits, also that, and how it is approved."""
    if change is None or not change.waits:
        return verdict.sentence()
    return f"{verdict.sentence()}; {change.reason.text} ({change.reason.remedy})"


def asked_decisions(verdict: Verdict, held: bool, change: PolicyChange | None) -> dict[DecisionKind, AskedDecision]:
    """What a person has to accept before the release goes out, or accepted already."""
    asks = {DecisionKind.GATES: AskedDecision(f"its gates have not enough data: {verdict.sentence()}")} if held else {}
    if change is not None and change.waits:
        asks[DecisionKind.POLICY] = AskedDecision(f"its commit changes the policy of {change.since}: {change.text}")
    elif change is not None and change.approval is not None:
        done = change.approval
        asks[DecisionKind.POLICY] = AskedDecision(f"its commit changes policy: {done.changes}", done.actor, done.why)
    return asks


def step_count_words(records: Iterable[StepRecord]) -> str:
    """What became of the steps of a project without a model."""
    states = Counter(record.state for record in records)
    if not states:
        return "the data is taken in; this project has neither steps nor a model"
    return ", ".join(f"{plural(count, 'step')} {state}" for state, count in states.items())
