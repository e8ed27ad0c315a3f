"""One turn of the wheel, from trigger to release. Read it from top to bottom: that is the line."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress

from noria.delivery import champion
from noria.delivery.context import DeliveryContext
from noria.delivery.private_server import private_server
from noria.delivery.rollout import roll_out
from noria.engine.plan import plan
from noria.evaluation.evaluate import evaluate
from noria.evaluation.gate import gate
from noria.kernel.errors import ConfigError, DataError, LeaseLostError, NoriaError, RefusedError, StepError, StoppedError
from noria.kernel.trigger import TriggerKind
from noria.kernel.verdict import Outcome
from noria.kernel.words import plural
from noria.pipeline.check import check
from noria.pipeline.context import PinnedRun
from noria.pipeline.graph import restore
from noria.pipeline.pin import fix, pin
from noria.pipeline.recording import keep
from noria.pipeline.run import StepRecord
from noria.pipeline.run_store import RunStore
from noria.pipeline.train import run_steps, train
from noria.pipeline.trigger_store import TriggerStore
from noria.pipeline.turn_record import Stage, Turn, TurnOutcome
from noria.pipeline.turn_store import TurnStore
from noria.releases.packaging import package, same_as
from noria.releases.release import Release
from noria.releases.sealing import release, release_refusal, restore_sealed
from noria.trust.audit import run_digest

GATE = {Outcome.FAIL: TurnOutcome.GATE_FAILED, Outcome.NOT_ENOUGH_DATA: TurnOutcome.NOT_ENOUGH_DATA}


def turn(context: DeliveryContext, started: Turn) -> Turn:
    """Turn the wheel once.

    A turn that was interrupted is told again from the start: its commit and run are pinned in the ledger, what was
    delivered stays delivered, every finished step is remembered by content, a sealed release keeps its version and a
    begun rollout goes on. So nothing is done twice, and nothing is half done.
    """
    pinned_run = pin(context, started)
    try:
        return stages(context, pinned_run)
    except StepError as error:  # its run is kept: with what finished, and the log of what failed
        return end(context, pinned_run, TurnOutcome.STEP_FAILED, str(error))


def stages(context: DeliveryContext, pinned_run: PinnedRun) -> Turn:
    """The stages, in their order. Raises StepError when the project's own code fails."""
    before = restore_sealed(context, pinned_run)
    if before is not None:  # interrupted after that: the rollout alone may be left
        outcome, text = roll_out(context, pinned_run.project, before)
        return end(context, pinned_run, outcome, text, before, before.metrics)

    enter(context, pinned_run, Stage.CHECK)
    checked = check(context, pinned_run)
    if not checked.passed:
        with suppress(DataError):  # without any data there is no run to keep the tests' log
            fix(context, pinned_run)
        return end(context, pinned_run, TurnOutcome.CHECK_FAILED, checked.sentence())
    if pinned_run.refused and not has_other_trigger(context, pinned_run):
        return end(context, pinned_run, TurnOutcome.QUARANTINED, "; ".join(pinned_run.refused))
    fix(context, pinned_run)
    settled = plan(context, pinned_run)
    if settled is not None:
        if pinned_run.by_hand:
            restore(context, pinned_run)
        return end(context, pinned_run, settled[0], settled[1].text)

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
    measured = evaluate(context, pinned_run, packaged, serving, private_server)
    verdict = gate(context, pinned_run, measured[0])
    metrics = {name: measure.value for name, measure in measured[0].metrics.items()}
    if not verdict.passed:
        return end(context, pinned_run, GATE[verdict.outcome], verdict.sentence(), metrics=metrics)

    refusal = release_refusal(pinned_run)
    if refusal:
        return end(context, pinned_run, TurnOutcome.NOT_RELEASED, f"{refusal}\n  {verdict.sentence()}", metrics=metrics)

    sealed = release(context, pinned_run, packaged, measured, verdict)
    TurnStore.of(context).update(pinned_run.turn.id, release=sealed.version, stage=Stage.ROLLOUT)
    outcome, text = roll_out(context, pinned_run.project, sealed)
    return end(context, pinned_run, outcome, text, sealed, metrics)


def enter(context: DeliveryContext, pinned_run: PinnedRun, stage: Stage) -> None:
    """Tell whoever looks what the turn does now."""
    TurnStore.of(context).update(pinned_run.turn.id, stage=stage)


def step_count_words(records: Iterable[StepRecord]) -> str:
    """What became of the steps of a project without a model."""
    states = Counter(record.state for record in records)
    if not states:
        return "the data is taken in; this project has neither steps nor a model"
    return ", ".join(f"{plural(count, 'step')} {state}" for state, count in states.items())


def has_other_trigger(context: DeliveryContext, pinned_run: PinnedRun) -> bool:
    """Whether something else than the refused data started the turn: a commit, the schedule, the monitor."""
    more = (TriggerKind.PUSH, TriggerKind.SCHEDULE, TriggerKind.BREACH)
    return any(t.kind in more for t in TriggerStore.of(context).of_turn(pinned_run.turn.id))


def end(
    context: DeliveryContext,
    pinned_run: PinnedRun,
    outcome: TurnOutcome,
    text: str,
    sealed: Release | None = None,
    metrics: dict[str, float] | None = None,
) -> Turn:
    """Record how the turn ended, its run and its event, in one transaction.

    A rollout may have begun or ended meanwhile: then it knows better.
    """
    now = time.time()
    with context.ledger.transaction():
        context.check_lease()
        recorded = TurnStore.of(context).get(pinned_run.turn.id)
        decided = recorded.outcome not in (TurnOutcome.RUNNING, TurnOutcome.ROLLING_OUT)
        decided |= (recorded.outcome, outcome) == (TurnOutcome.ROLLING_OUT, TurnOutcome.RELEASED)  # what it waited for came
        facts = {}
        if pinned_run.pins is not None:
            run = keep(context, pinned_run, str(recorded.outcome if decided else outcome), text, metrics or {}, now)
            facts = {"run": run.id, "run_digest": run_digest(RunStore.of(context).get(run.id))}  # as it is read back
        run_id = pinned_run.run_id if pinned_run.pins is not None else None  # a turn that ended at the check has no run
        changes: dict[str, object] = {
            "run_id": run_id,
            "user_s": pinned_run.user_s,
            "overhead_s": overhead(context, pinned_run, now),
        }
        if not decided:
            changes |= {"outcome": outcome, "reason": text, "ended_at": None if outcome is TurnOutcome.ROLLING_OUT else now}
        if sealed is not None:
            changes["release"] = sealed.version
        ended = TurnStore.of(context).update(pinned_run.turn.id, **changes)
        context.event("turn.ended", pinned_run.turn.id, _sentence(ended), outcome=str(ended.outcome), **facts)
    return ended


def _sentence(ended: Turn) -> str:
    """`turn 4 promoted: v2 serves ...`, without saying the outcome twice."""
    reason = ended.reason.removeprefix(f"{ended.outcome}: ")
    return f"turn {ended.number} {ended.outcome}: {reason}"


def overhead(context: DeliveryContext, pinned_run: PinnedRun, now: float) -> float:
    """Seconds from the first trigger to here, less those inside the project's own functions and tests."""
    first = min((t.at for t in TriggerStore.of(context).of_turn(pinned_run.turn.id)), default=pinned_run.turn.started_at)
    return max(0.0, now - first - pinned_run.user_s)


def fail(context: DeliveryContext, started: Turn, error: NoriaError) -> Turn:
    """A turn that an error ended, in words. Losing the lease, or being told to stop, is not an end."""
    if isinstance(error, LeaseLostError | StoppedError):
        raise error
    outcome = TurnOutcome.ERROR
    if isinstance(error, StepError):
        outcome = TurnOutcome.STEP_FAILED
    elif isinstance(error, RefusedError):
        outcome = TurnOutcome.NOT_RELEASED
    elif isinstance(error, ConfigError | DataError):
        outcome = TurnOutcome.CHECK_FAILED
    with context.ledger.transaction():
        context.check_lease()
        ended = TurnStore.of(context).update(started.id, outcome=outcome, reason=str(error), ended_at=time.time())
        context.event("turn.ended", started.id, _sentence(ended), outcome=str(outcome))
    return ended
