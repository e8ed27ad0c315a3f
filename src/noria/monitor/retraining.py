"""Retraining: turns a breach into a trigger when policy allows it, which closes the wheel's circle."""

from __future__ import annotations

from noria.config import Project
from noria.delivery.context import DeliveryContext
from noria.kernel.trigger import Trigger
from noria.monitor import judge_retraining as judge
from noria.monitor.judge_retraining import Breach, RetrainDecision
from noria.pipeline.trigger_store import TriggerStore
from noria.serving.route_store import RouteStore
from noria.storage.clock import ClockStore


def learn(context: DeliveryContext, project: Project, breaches: tuple[Breach, ...]) -> Trigger | None:
    """Records the trigger for the breaches, if policy allows it."""
    serving = {route.champion_version for route in RouteStore.of(context).all()}
    # the others are only alerts: a release that was replaced needs no retraining
    breaches = tuple(b for b in breaches if b.kind in project.retrain.on and b.release in serving)
    if not breaches:
        return None
    wish = decide_retraining(context, project, breaches)
    if wish.kind is None:
        context.event("retrain.declined", context.name, wish.reason)
        return None
    subject = ",".join(f"{b.kind}:{b.release}:{b.text}" for b in breaches)
    with context.ledger.transaction():
        trigger = TriggerStore.of(context).add(wish.kind, wish.reason, dedupe=f"breach:{subject}")
        if trigger is not None:
            context.event("retrain.wanted", trigger.id, f"the monitor requests a turn: {wish.reason}")
    return trigger


def decide_retraining(context: DeliveryContext, project: Project, breaches: tuple[Breach, ...]) -> RetrainDecision:
    """Ask the judge: what started lately counts against `at_most`."""
    return judge.decide(project.retrain, breaches, recent_starts(context, project), ClockStore.of(context).now())


def recent_starts(context: DeliveryContext, project: Project) -> tuple[float, ...]:
    """When turns started, on the project clock, within the time that `at_most` speaks of."""
    period_s = project.retrain.at_most_period_s
    if period_s is None:
        return ()
    return tuple(context.ledger.events.clock_times(context.name, "turn.started", ClockStore.of(context).now() - period_s))
