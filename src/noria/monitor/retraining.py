"""Learn: when the evidence asks for it, a breach becomes a trigger, and the circle closes with one row."""

from __future__ import annotations

from noria.config import Project
from noria.delivery.context import DeliveryContext
from noria.kernel.trigger import Trigger
from noria.monitor import judge_retraining as judge
from noria.monitor.judge_retraining import Breach, RetrainDecision
from noria.pipeline.trigger_store import TriggerStore
from noria.serving.route_store import RouteStore


def learn(context: DeliveryContext, project: Project, breaches: tuple[Breach, ...]) -> Trigger | None:
    """The trigger that the breaches ask for, if policy lets them."""
    serving = {route.champion_version for route in RouteStore.of(context).all()}
    # the others are alerts, for people: a release that was replaced needs no retrain
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
            context.event("retrain.wanted", trigger.id, f"the monitor asks for a turn: {wish.reason}")
    return trigger


def decide_retraining(context: DeliveryContext, project: Project, breaches: tuple[Breach, ...]) -> RetrainDecision:
    """Ask the judge: what started lately counts against `at_most`."""
    return judge.decide(project.retrain, breaches, recent_starts(context, project), context.ledger.clock.now(context.name))


def recent_starts(context: DeliveryContext, project: Project) -> tuple[float, ...]:
    """When turns started, on the project clock, within the time that `at_most` speaks of."""
    period_s = project.retrain.at_most_period_s
    if period_s is None:
        return ()
    return tuple(
        context.ledger.events.clock_times(context.name, "turn.started", context.ledger.clock.now(context.name) - period_s)
    )
