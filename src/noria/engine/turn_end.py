"""How a turn enters a stage and how it ends: its outcome, its run and its event, in one transaction."""

from __future__ import annotations

import time

from noria.delivery.context import DeliveryContext
from noria.kernel.errors import ConfigError, DataError, LeaseLostError, NoriaError, RefusedError, StepError, StoppedError
from noria.pipeline.context import PinnedRun, StartedRun
from noria.pipeline.recording import keep
from noria.pipeline.run_store import RunStore, run_digest
from noria.pipeline.trigger_store import TriggerStore
from noria.pipeline.turn_record import Stage, Turn, TurnOutcome
from noria.pipeline.turn_store import TurnStore
from noria.releases.release import Release


def enter(context: DeliveryContext, run: StartedRun, stage: Stage) -> None:
    """Tell whoever looks what the turn does now."""
    TurnStore.of(context).update(run.turn.id, stage=stage)


def end(
    context: DeliveryContext,
    run: StartedRun,
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
        recorded = TurnStore.of(context).get(run.turn.id)
        decided = recorded.outcome not in (TurnOutcome.RUNNING, TurnOutcome.ROLLING_OUT)
        decided |= (recorded.outcome, outcome) == (TurnOutcome.ROLLING_OUT, TurnOutcome.RELEASED)  # what it waited for came
        facts = {}
        if isinstance(run, PinnedRun):  # a turn that ended at the check has no run
            kept = keep(context, run, str(recorded.outcome if decided else outcome), text, metrics or {}, now)
            facts = {"run": kept.id, "run_digest": run_digest(RunStore.of(context).get(kept.id))}  # as it is read back
        changes: dict[str, object] = {
            "run_id": facts.get("run"),
            "user_s": run.user_s,
            "overhead_s": overhead(context, run, now),
        }
        if not decided:
            changes |= {"outcome": outcome, "reason": text, "ended_at": None if outcome is TurnOutcome.ROLLING_OUT else now}
        if sealed is not None:
            changes["release"] = sealed.version
        ended = TurnStore.of(context).update(run.turn.id, **changes)
        context.event("turn.ended", run.turn.id, _sentence(ended), outcome=str(ended.outcome), **facts)
    return ended


def _sentence(ended: Turn) -> str:
    """`turn 4 promoted: v2 serves ...`, without saying the outcome twice."""
    reason = ended.reason.removeprefix(f"{ended.outcome}: ")
    return f"turn {ended.number} {ended.outcome}: {reason}"


def overhead(context: DeliveryContext, run: StartedRun, now: float) -> float:
    """Seconds from the first trigger to here, less those inside the project's own functions and tests."""
    first = min((t.at for t in TriggerStore.of(context).of_turn(run.turn.id)), default=run.turn.started_at)
    return max(0.0, now - first - run.user_s)


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
