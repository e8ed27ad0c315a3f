"""The status at a glance, read from the ledger; the page, the control API and `noria status` share it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from noria.data.snapshot import Delivery
from noria.data.store import DataStore
from noria.delivery.rollout_record import Analysis, Rollout
from noria.delivery.rollout_store import RolloutStore
from noria.evaluation.records import Assessment, HoldoutBudget
from noria.evaluation.store import EvaluationStore
from noria.kernel.event import Event
from noria.kernel.policy import Freeze
from noria.monitor.records import Alert, Window
from noria.monitor.store import AlertStore, QualityStore
from noria.pipeline.trigger_store import TriggerStore
from noria.pipeline.turn_record import Turn
from noria.pipeline.turn_store import TurnStore
from noria.releases.release import Release
from noria.releases.store import ReleaseStore
from noria.serving.route import Route
from noria.serving.route_store import RouteStore
from noria.serving.tallies import Tally, total
from noria.storage.clock import ClockStore
from noria.views.runtime_status import StatusContext, surroundings

if TYPE_CHECKING:
    from noria.config import Project
    from noria.storage.ledger import Ledger

TURNS, WINDOWS, DELIVERIES, ALERTS, EVENTS, ENDED = 100, 120, 8, 5, 30, 50  # how much of each is shown
JUDGED = 20  # turns whose gates and evaluation are shown


class RolloutView(msgspec.Struct, frozen=True):
    """A rollout that is undecided or on probation, with its evidence so far."""

    rollout: Rollout
    share: float  # of requests that the candidate answers now
    steps: tuple[float, ...]  # the policy's, where it is known
    champion: Tally  # totals over the whole rollout
    candidate: Tally
    shadow: float = 0.0  # share of requests that the release which does not answer scores too
    freezes: tuple[Freeze, ...] = ()  # of its environment, where the project file is known
    now: float = 0.0  # project clock


class EnvironmentView(msgspec.Struct, frozen=True):
    name: str
    address: str | None
    route: Route | None
    release: Release | None  # the one that serves
    canary: RolloutView | None
    probation: RolloutView | None = None  # of the release that serves
    ready: str | None = None  # the release before, where it may take over: it is not barred
    trouble: str = ""  # when the server does not answer with the champion: what it does instead, and why


class ClockView(msgspec.Struct, frozen=True):
    """The project clock; ``wall`` when it is simply the time of day."""

    at: float
    speed: float
    wall: bool


class StatusView(msgspec.Struct, frozen=True):
    project: str
    at: float  # wall time of this view
    around: StatusContext
    clock: ClockView
    environments: tuple[EnvironmentView, ...] = ()
    turns: tuple[Turn, ...] = ()  # newest first
    releases: tuple[Release, ...] = ()  # newest first
    windows: tuple[Window, ...] = ()  # oldest first
    deliveries: tuple[Delivery, ...] = ()  # newest first
    quarantined_rows: int = 0
    waiting_triggers: int = 0
    alerts: tuple[Alert, ...] = ()  # newest first
    events: tuple[Event, ...] = ()  # newest first
    ended: tuple[Rollout, ...] = ()  # rollouts that ended, newest first
    judged: Mapping[str, Assessment] = {}  # by turn, of the newest, whether they were released or not
    holdout: HoldoutBudget | None = None  # as the newest verdict left it

    @classmethod
    def read(cls, ledger: Ledger, project: str, state: Path, policy: Project | None = None) -> StatusView:
        """Reads the ledger and the processes of a state folder; ``policy`` adds settings of the project file."""
        return read(ledger, project, surroundings(state, policy))

    @property
    def next_step(self) -> str:
        """Suggests what to do before the first turn."""
        if self.turns:
            return ""
        return "no turn yet; the daemon waits for data or a commit" if self.around.daemon else "no turn yet; next: noria run"


def nothing_yet(project: str, around: StatusContext) -> StatusView:
    """The view of a project that has no ledger."""
    now = time.time()
    names = around.environments
    empty = tuple(EnvironmentView(name, around.addresses.get(name), None, None, None) for name in names)
    return StatusView(project, now, around, ClockView(now, 1.0, True), empty)


def read(ledger: Ledger, project: str, around: StatusContext) -> StatusView:
    """Reads the ledger and changes nothing."""
    now = time.time()
    releases = tuple(ReleaseStore(ledger, project).list())
    turns = tuple(TurnStore(ledger, project).list(TURNS))
    clock = ClockStore(ledger, project).read()
    newest = EvaluationStore(ledger, project).newest()
    return StatusView(
        project=project,
        at=now,
        around=around,
        clock=ClockView(clock.now(now), clock.speed, False) if clock else ClockView(now, 1.0, True),
        environments=_environments(ledger, project, around, {r.digest: r for r in releases}),
        turns=turns,
        judged=EvaluationStore(ledger, project).of_turns(turn.id for turn in turns[:JUDGED]),
        holdout=newest.holdout if newest is not None else None,
        releases=releases,
        windows=tuple(sorted(QualityStore(ledger, project).windows(WINDOWS), key=lambda w: (w.start, w.release))),
        deliveries=tuple(DataStore(ledger, project).deliveries(DELIVERIES)),
        quarantined_rows=DataStore(ledger, project).quarantined_rows(),
        waiting_triggers=len(TriggerStore(ledger, project).pending()),
        alerts=tuple(AlertStore(ledger, project).list(ALERTS)),
        events=newest_events(ledger, project, EVENTS),
        ended=tuple(RolloutStore(ledger, project).ended(ENDED)),
    )


def newest_events(ledger: Ledger, project: str, limit: int) -> tuple[Event, ...]:
    """The last events, newest first."""
    return tuple(ledger.events.newest(project, limit))


def _environments(
    ledger: Ledger, project: str, around: StatusContext, releases: Mapping[str, Release]
) -> tuple[EnvironmentView, ...]:
    routes = {route.environment: route for route in RouteStore(ledger, project).all()}
    waiting = RolloutStore(ledger, project).waiting()  # a first release has no route yet
    names = dict.fromkeys([*around.environments, *sorted({*routes, *waiting})])
    return tuple(_environment(ledger, project, around, releases, name, routes.get(name)) for name in names)


def _environment(
    ledger: Ledger, project: str, around: StatusContext, releases: Mapping[str, Release], name: str, route: Route | None
) -> EnvironmentView:
    active, probing = RolloutStore(ledger, project).active(name), RolloutStore(ledger, project).probing(name)
    canary = _canary(active, route, around.steps.get(name, ())) if active else None
    if canary is not None:
        canary = replace(canary, freezes=around.freezes.get(name, ()), now=ClockStore(ledger, project).now())
    return EnvironmentView(
        name=name,
        address=around.addresses.get(name),
        route=route,
        release=releases.get(route.champion) if route else None,
        ready=_ready(route, releases),
        canary=canary,
        probation=_canary(probing, route, ()) if probing else None,
        trouble=_trouble(route, around, releases) if route and around.server else "",
    )


def _trouble(route: Route, around: StatusContext, releases: Mapping[str, Release]) -> str:
    """Says why the champion does not answer; empty when it does."""
    answering = around.answering.get((route.environment, route.project))
    why = f": {around.failed[route.champion]}" if route.champion in around.failed else ""
    if route.environment in around.idle:
        return f"no worker answers{why}"
    if answering == route.champion:
        return ""
    other = releases.get(answering or "")
    return f"{route.champion_version} does not answer{why}; {f'{other.version} does' if other else 'nothing does'}"


def _ready(route: Route | None, releases: Mapping[str, Release]) -> str | None:
    previous = releases.get(route.previous or "") if route else None
    return previous.version if previous is not None and previous.barred is None else None


def _canary(rollout: Rollout, route: Route | None, steps: tuple[float, ...]) -> RolloutView:
    own = route if route is not None and route.rollout_id == rollout.id else None
    return RolloutView(
        rollout,
        own.share if own else 0.0,
        steps,
        total(b.champion for b in rollout.blocks),
        total(b.candidate for b in rollout.blocks),
        own.shadow if own else 0.0,
    )


def document(view: StatusView) -> dict[str, Any]:
    """The view with stable keys, for `noria status --json` and GET /api/status."""
    return {
        "project": view.project,
        "goal": view.around.goal,
        "at": view.at,
        "clock": msgspec.to_builtins(view.clock),
        "daemon": view.around.daemon,
        "standstill": view.around.standstill or None,
        "server": view.around.server,
        "server_use": msgspec.to_builtins(view.around.use) if view.around.use is not None else None,
        "addresses": dict(view.around.addresses),
        "environments": [environment_facts(e) for e in view.environments],
        "turns": [turn_facts(t) for t in view.turns],
        "quality": [msgspec.to_builtins(w) for w in view.windows],
        "deliveries": [delivery_facts(d) for d in view.deliveries],
        "quarantined_rows": view.quarantined_rows,
        "waiting_triggers": view.waiting_triggers,
        "alerts": [msgspec.to_builtins(a) for a in view.alerts],
        "holdout": msgspec.to_builtins(view.holdout) | {"left": view.holdout.left} if view.holdout is not None else None,
        "next": view.next_step,
    }


def environment_facts(environment: EnvironmentView) -> dict[str, Any]:
    """``name``, ``address``, ``release``, ``digest``, ``previous``, ``revision``, ``trouble``, ``canary``, ``probation``."""
    route = environment.route
    return {
        "name": environment.name,
        "address": environment.address,
        "release": route.champion_version if route else None,
        "digest": route.champion if route else None,
        "previous": route.previous_version if route else None,
        "revision": route.revision if route else None,
        "trouble": environment.trouble,
        "metrics": environment.release.metrics if environment.release else {},
        "canary": canary_facts(environment.canary) if environment.canary else None,
        "probation": canary_facts(environment.probation) if environment.probation else None,
    }


def canary_facts(canary: RolloutView) -> dict[str, Any]:
    """``release``, ``state``, ``share``, ``step``, ``plan``, ``reason``, the newest ``look``, and the counts of both arms."""
    rollout = canary.rollout
    return {
        "rollout": rollout.id,
        "release": rollout.release,
        "state": str(rollout.state),
        "share": canary.share,
        "step": rollout.step,
        "steps": list(canary.steps),
        "plan": list(rollout.plan),
        "shadow": canary.shadow,
        "before": rollout.before,
        "started_at": rollout.started_at,
        "reason": rollout.reason,
        "looks": len(rollout.blocks),
        "look": look_facts(rollout.look) if rollout.look else None,
        "champion": msgspec.to_builtins(canary.champion),
        "candidate": msgspec.to_builtins(canary.candidate),
    }


def ended_facts(rollout: Rollout) -> dict[str, Any]:
    """A rollout that ended: ``rollout``, ``release``, ``environment``, ``before``, ``state``, ``reason`` and its times."""
    return {
        "rollout": rollout.id,
        "release": rollout.release,
        "environment": rollout.environment,
        "before": rollout.before,
        "state": str(rollout.state),
        "reason": rollout.reason,
        "started_at": rollout.started_at,
        "ended_at": rollout.ended_at,
    }


def look_facts(look: Analysis) -> dict[str, Any]:
    """``at``, ``text``, and where each guard stands."""
    stands = [msgspec.to_builtins(stand) | {"harmful": stand.harmful, "cleared": stand.cleared} for stand in look.stands]
    return {"at": look.at, "text": look.text, "guards": stands}


def turn_facts(turn: Turn) -> dict[str, Any]:
    """A turn's fields, with ``outcome`` and ``stage`` as text."""
    facts: dict[str, Any] = msgspec.to_builtins(turn)
    return facts | {"stage": str(turn.stage), "outcome": str(turn.outcome), "triggers": list(turn.triggers)}


def release_facts(release: Release) -> dict[str, Any]:
    """A release's fields, with ``form`` as text."""
    facts: dict[str, Any] = msgspec.to_builtins(release)
    return facts | {"form": str(release.form)}


def delivery_facts(delivery: Delivery) -> dict[str, Any]:
    """A delivery's fields; counts and digests only."""
    facts: dict[str, Any] = msgspec.to_builtins(delivery)
    return facts


def event_facts(event: Event) -> dict[str, Any]:
    """An event's fields."""
    facts: dict[str, Any] = msgspec.to_builtins(event)
    return facts
