"""Plan: decides whether there is anything to do at all. Which steps are stale is decided step by step, from content."""

from __future__ import annotations

from noria.delivery.context import DeliveryContext
from noria.kernel.verdict import Outcome, Reason
from noria.pipeline import judge_staleness as judge
from noria.pipeline.context import PinnedRun
from noria.pipeline.run import Run
from noria.pipeline.run_store import RunStore
from noria.pipeline.turn_record import REPEATS, Turn, TurnOutcome
from noria.pipeline.turn_store import TurnStore
from noria.releases import judge_release as policy
from noria.releases.policy_store import PolicyStore
from noria.releases.store import ReleaseStore
from noria.serving.route_store import RouteStore

SETTLED = frozenset(
    {
        TurnOutcome.GATE_FAILED,
        TurnOutcome.NOT_ENOUGH_DATA,
        TurnOutcome.DONE,
        TurnOutcome.RELEASED,
        TurnOutcome.ROLLING_OUT,
        TurnOutcome.PROMOTED,
        TurnOutcome.ROLLED_BACK,
        TurnOutcome.HELD,
        TurnOutcome.SUPERSEDED,
    }
)


VERDICTS = frozenset({TurnOutcome.GATE_FAILED, TurnOutcome.NOT_ENOUGH_DATA})  # running nothing again does not make them pass


def plan(context: DeliveryContext, pinned_run: PinnedRun) -> tuple[TurnOutcome, Reason] | None:
    """Returns the outcome that ends the turn here, with its reason; None when there is work."""
    barred = policy.bar_reason(pinned_run.pins, ReleaseStore.of(context).barred_pins())
    if barred is not None:
        return TurnOutcome.BARRED, barred
    earlier = _earlier(context, pinned_run)
    same = judge.same_work(pinned_run.pins, earlier.pins if earlier else None)
    if earlier is None or same is None:
        return None
    worked = _that_worked(context, earlier)
    if worked is None:
        return TurnOutcome.NOTHING_CHANGED, Reason(
            "plan.nothing_changed", f"{same.text}; run {earlier.id} ended: {earlier.outcome}"
        )
    made = f" with {worked.release}" if worked.release else ""
    instead = _instead(context, pinned_run, worked)
    text = f"{same.text}; turn {worked.number} did this work and ended: {worked.outcome}{made}{instead}"
    if worked.outcome in VERDICTS and _policy_approved_since(context, worked):
        return None
    if worked.outcome not in VERDICTS:
        return TurnOutcome.NOTHING_CHANGED, Reason("plan.nothing_changed", text)
    TurnStore.of(context).record(pinned_run.turn.id, REPEATS, {"turn": worked.id})
    return worked.outcome, Reason("plan.same_verdict", f"{text}\n  {worked.reason}", Outcome.FAIL)


def _policy_approved_since(context: DeliveryContext, worked: Turn) -> bool:
    """Whether a person approved a change of policy after that verdict: then other gates may judge the same work."""
    newest = next(iter(PolicyStore.of(context).list()), None)
    return newest is not None and worked.ended_at is not None and newest.at > worked.ended_at


def _that_worked(context: DeliveryContext, run: Run) -> Turn | None:
    """Returns the turn that did the work of a run: its own, or the one whose verdict it repeats."""
    if run.turn_id is None:
        return None
    repeated = TurnStore.of(context).recorded(run.turn_id, REPEATS)
    return TurnStore.of(context).get(repeated["turn"] if repeated else run.turn_id)


def _earlier(context: DeliveryContext, pinned_run: PinnedRun) -> Run | None:
    found = RunStore.of(context).latest(pinned_run.pins, SETTLED)
    return found if found is not None and _whole(context, found) else None


def _whole(context: DeliveryContext, run: Run) -> bool:
    """Whether the results of its steps still exist: they may have been collected, or found damaged."""
    return all(record.output is None or context.blobs.exists(record.output) for record in run.steps)


def _instead(context: DeliveryContext, pinned_run: PinnedRun, worked: Turn) -> str:
    """Says what serves now instead of that turn's release.

    Neither a reset branch nor a rollback by a person brings it back by itself.
    """
    if worked.outcome is not TurnOutcome.PROMOTED or worked.release is None:
        return ""
    routes = [route for name in pinned_run.project.environments if (route := RouteStore.of(context).get(name)) is not None]
    others = [route for route in routes if worked.release not in (route.champion_version, route.candidate_version)]
    if not others:
        return ""
    served = ", ".join(f"{route.environment} serves {route.champion_version}" for route in others)
    place = others[-1].environment
    return f"; {served} now: `noria promote {worked.release} --environment {place}` returns to {worked.release}"
