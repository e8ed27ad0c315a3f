"""One turn of the wheel, from trigger to release. Read it from top to bottom: that is the line."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress

from noria.delivery import champion
from noria.delivery.context import DeliveryContext
from noria.delivery.rollout import roll_out
from noria.engine.plan import plan
from noria.evaluation.evaluate import evaluate
from noria.evaluation.gate import gate
from noria.kernel.errors import ConfigError, DataError, LeaseLostError, NoriaError, RefusedError, StepError, StoppedError
from noria.kernel.trigger import TriggerKind
from noria.kernel.verdict import Outcome
from noria.pipeline.check import check
from noria.pipeline.context import PinnedRun
from noria.pipeline.graph import restore
from noria.pipeline.pin import fix, pin
from noria.pipeline.recording import keep
from noria.pipeline.run import StepRecord
from noria.pipeline.train import run_steps, train
from noria.pipeline.turn_record import Stage, Turn, TurnOutcome
from noria.releases.packaging import package, same_as
from noria.releases.release import Release
from noria.releases.sealing import refused, release, sealed_by
from noria.trust.audit import run_digest

GATE = {Outcome.FAIL: TurnOutcome.GATE_FAILED, Outcome.NOT_ENOUGH_DATA: TurnOutcome.NOT_ENOUGH_DATA}


def turn(line: DeliveryContext, started: Turn) -> Turn:
    """Turn the wheel once.

    A turn that was interrupted is told again from the start: its commit and run are pinned in the ledger, what was
    delivered stays delivered, every finished step is remembered by content, a sealed release keeps its version and a
    begun rollout goes on. So nothing is done twice, and nothing is half done.
    """
    sheet = pin(line, started)
    try:
        return stages(line, sheet)
    except StepError as error:  # its run is kept: with what finished, and the log of what failed
        return end(line, sheet, TurnOutcome.STEP_FAILED, str(error))


def stages(line: DeliveryContext, sheet: PinnedRun) -> Turn:
    """The stages, in their order. Raises StepError when the project's own code fails."""
    before = sealed_by(line, sheet)
    if before is not None:  # interrupted after that: the rollout alone may be left
        outcome, text = roll_out(line, sheet.project, before)
        return end(line, sheet, outcome, text, before, before.metrics)

    enter(line, sheet, Stage.CHECK)
    checked = check(line, sheet)
    if not checked.passed:
        with suppress(DataError):  # without any data there is no run to keep the tests' log
            fix(line, sheet)
        return end(line, sheet, TurnOutcome.CHECK_FAILED, checked.sentence())
    if sheet.refused and not asked_for_more(line, sheet):
        return end(line, sheet, TurnOutcome.QUARANTINED, "; ".join(sheet.refused))
    fix(line, sheet)
    settled = plan(line, sheet)
    if settled is not None:
        if sheet.by_hand:
            restore(line, sheet)
        return end(line, sheet, settled[0], settled[1].text)

    enter(line, sheet, Stage.TRAIN)
    if sheet.project.model is None:
        return end(line, sheet, TurnOutcome.DONE, counted(run_steps(line, sheet).values()))
    trained = train(line, sheet)
    enter(line, sheet, Stage.PACKAGE)
    packaged = package(line, sheet, trained)
    serving = champion.serving(line, sheet.project)
    if serving is not None and same_as(line, packaged, serving):
        return end(line, sheet, TurnOutcome.NOTHING_CHANGED, f"the model came out byte for byte as {serving.version}'s")

    enter(line, sheet, Stage.EVALUATE)
    measured = evaluate(line, sheet, packaged, serving)
    verdict = gate(line, sheet, measured[0])
    metrics = {name: measure.value for name, measure in measured[0].metrics.items()}
    if not verdict.passed:
        return end(line, sheet, GATE[verdict.outcome], verdict.sentence(), metrics=metrics)

    refusal = refused(sheet)
    if refusal:
        return end(line, sheet, TurnOutcome.NOT_RELEASED, f"{refusal}\n  {verdict.sentence()}", metrics=metrics)

    sealed = release(line, sheet, packaged, measured, verdict)
    line.ledger.turns.update(sheet.turn.id, release=sealed.version, stage=Stage.ROLLOUT)
    outcome, text = roll_out(line, sheet.project, sealed)
    return end(line, sheet, outcome, text, sealed, metrics)


def enter(line: DeliveryContext, sheet: PinnedRun, stage: Stage) -> None:
    """Tell whoever looks what the turn does now."""
    line.ledger.turns.update(sheet.turn.id, stage=stage)


def counted(records: Iterable[StepRecord]) -> str:
    """What became of the steps of a project without a model."""
    states = Counter(record.state for record in records)
    if not states:
        return "the data is taken in; this project has neither steps nor a model"
    return ", ".join(f"{count} {'step' if count == 1 else 'steps'} {state}" for state, count in states.items())


def asked_for_more(line: DeliveryContext, sheet: PinnedRun) -> bool:
    """Whether something else than the refused data started the turn: a commit, the schedule, the monitor."""
    more = (TriggerKind.PUSH, TriggerKind.SCHEDULE, TriggerKind.BREACH)
    return any(t.kind in more for t in line.ledger.triggers.of_turn(sheet.turn.id))


def end(
    line: DeliveryContext,
    sheet: PinnedRun,
    outcome: TurnOutcome,
    text: str,
    sealed: Release | None = None,
    metrics: dict[str, float] | None = None,
) -> Turn:
    """Record how the turn ended, its run and its event, in one transaction.

    A rollout may have begun or ended meanwhile: then it knows better.
    """
    now = time.time()
    with line.ledger.transaction():
        line.check_lease()
        recorded = line.ledger.turns.get(sheet.turn.id)
        decided = recorded.outcome not in (TurnOutcome.RUNNING, TurnOutcome.ROLLING_OUT)
        decided |= (recorded.outcome, outcome) == (TurnOutcome.ROLLING_OUT, TurnOutcome.RELEASED)  # what it waited for came
        facts = {}
        if sheet.pins is not None:
            run = keep(line, sheet, str(recorded.outcome if decided else outcome), text, metrics or {}, now)
            facts = {"run": run.id, "run_digest": run_digest(line.ledger.runs.get(run.id))}  # as it is read back
        run_id = sheet.run_id if sheet.pins is not None else None  # a turn that ended at the check has no run
        changes: dict[str, object] = {"run_id": run_id, "user_s": sheet.user_s, "overhead_s": overhead(line, sheet, now)}
        if not decided:
            changes |= {"outcome": outcome, "reason": text, "ended_at": None if outcome is TurnOutcome.ROLLING_OUT else now}
        if sealed is not None:
            changes["release"] = sealed.version
        ended = line.ledger.turns.update(sheet.turn.id, **changes)
        line.event("turn.ended", sheet.turn.id, _sentence(ended), outcome=str(ended.outcome), **facts)
    return ended


def _sentence(ended: Turn) -> str:
    """`turn 4 promoted: v2 serves ...`, without saying the outcome twice."""
    reason = ended.reason.removeprefix(f"{ended.outcome}: ")
    return f"turn {ended.number} {ended.outcome}: {reason}"


def overhead(line: DeliveryContext, sheet: PinnedRun, now: float) -> float:
    """Seconds from the first trigger to here, less those inside the project's own functions and tests."""
    first = min((t.at for t in line.ledger.triggers.of_turn(sheet.turn.id)), default=sheet.turn.started_at)
    return max(0.0, now - first - sheet.user_s)


def fail(line: DeliveryContext, started: Turn, error: NoriaError) -> Turn:
    """A turn that an error ended, in words. Losing the lease, or being told to stop, is not an end."""
    if isinstance(error, LeaseLostError | StoppedError):
        raise error
    outcome = TurnOutcome.ERROR
    if isinstance(error, StepError):
        outcome = TurnOutcome.STEP_FAILED
    elif isinstance(error, RefusedError):
        outcome = TurnOutcome.BARRED if "barred" in error.message else TurnOutcome.NOT_RELEASED
    elif isinstance(error, ConfigError | DataError):
        outcome = TurnOutcome.CHECK_FAILED
    with line.ledger.transaction():
        line.check_lease()
        ended = line.ledger.turns.update(started.id, outcome=outcome, reason=str(error), ended_at=time.time())
        line.event("turn.ended", started.id, _sentence(ended), outcome=str(outcome))
    return ended
