"""An engine that dies whenever it speaks to the server, once at every place: the next one goes on, and it ends the same."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from engine_stub import Scripted, digest_of, line_of

from noria import config
from noria.delivery import champion
from noria.delivery import rollout as stage
from noria.delivery.context import DeliveryContext
from noria.delivery.rollout_controller import RolloutController
from noria.delivery.rollout_record import RolloutState
from noria.delivery.rollout_store import RolloutStore
from noria.releases.store import ReleaseStore
from noria.serving.route import Route
from noria.serving.route_store import RouteStore
from noria.storage.clock import ClockStore
from noria.storage.jobs import JobStore

YAML = """\
project: p
environments:
  production:
    rollout: {steps: [{shadow: 50%}, 10%, {pause: 10s}, 50%, 100%], replay: 0, probation: 60s}
"""


class DiedError(BaseException):
    """As `kill -9`: nobody catches it."""


class Dying(Scripted):
    """Dies at its n-th call from now: before it did anything, or after."""

    at, before, calls = 0, True, 0

    def die_at(self, at: int, *, before: bool) -> None:
        self.at, self.before, self.calls = at, before, 0

    def _call(self, before: bool) -> None:
        self.calls += before
        if self.calls == self.at and before is self.before:
            self.at = 0
            raise DiedError

    def load(self, digest: str) -> str:
        self._call(True)
        said = super().load(digest)
        self._call(False)
        return said

    def set_routes(self, route: Route) -> str:
        self._call(True)
        said = super().set_routes(route)
        self._call(False)
        return said

    def drain(self, environment: str, digest: str) -> None:
        self._call(True)
        super().drain(environment, digest)


CHAIN = """\
project: p
environments:
  staging: {rollout: {steps: [50%, 100%], replay: 0}}
  canary: {after: staging, rollout: direct}
  production: {after: canary, rollout: {steps: [50%, 100%], replay: 0}}
"""


def looked(context: DeliveryContext, controller: RolloutController) -> RolloutController:
    """One look, and who goes on after it: another one where that died."""
    controller._rests.clear()
    try:
        controller.reconcile()
    except DiedError:
        context.ledger.database.execute("UPDATE jobs SET lease_until = 0", ())  # its lease runs out
        return RolloutController(context)
    return controller


def play(context: DeliveryContext, engine: Dying, bad: bool) -> None:
    """Look until nothing is open, a new controller after each death; requests come in by the ledger's route."""
    controller = RolloutController(context)
    for _ in range(60):
        active, probing = (
            RolloutStore(context.ledger, "p").active("production"),
            RolloutStore(context.ledger, "p").probing("production"),
        )
        route = RouteStore(context.ledger, "p").get("production")
        assert route is not None
        if active is None and probing is None:
            return
        if not engine.told or engine.told[-1].revision != route.revision:
            engine.told.append(route)  # the server follows the ledger by itself
        if route.rollout_id is not None:
            engine.see((500, 1, 0), (500, 60 if bad and route.share >= 0.5 else 1, 0))
        now = ClockStore(context.ledger, "p").now()
        ClockStore(context.ledger, "p").set(now + 5.0, 1.0)
        controller = looked(context, controller)
    raise AssertionError("it never ended")


@pytest.mark.parametrize("bad", [False, True], ids=["good", "bad"])
@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
def test_a_death_at_every_call_changes_nothing_of_the_end(tmp_path: Path, bad: bool, before: bool) -> None:
    deaths, at = 0, 1
    while True:
        engine = Dying()
        context = line_of(tmp_path / f"{at}", engine, 2, YAML)
        environment = config.load(context.home).environments["production"]
        champion.promote(context, environment, ReleaseStore(context.ledger, "p").get("v1"), "the first")
        engine.die_at(at, before=before)
        with contextlib.suppress(DiedError):
            stage.start_rollout(context, config.load(context.home), environment, ReleaseStore(context.ledger, "p").get("v2"))
        play(context, engine, bad)
        died = engine.at == 0
        ended = RolloutStore(context.ledger, "p").list()[0]
        route = RouteStore(context.ledger, "p").get("production")
        kinds = [event.kind for event in context.ledger.events.tail("p", after=0, limit=1000)]
        assert route is not None
        if bad:
            assert (ended.state, route.champion, route.other) == (RolloutState.ROLLED_BACK, digest_of("v1"), None)
            assert ReleaseStore(context.ledger, "p").get("v2").barred
        else:
            assert (ended.state, route.champion, route.shadow) == (RolloutState.PROMOTED, digest_of("v2"), 0.0)
            assert kinds.count("probation.passed") == 1
        assert kinds.count("rollout.started") == 1
        assert kinds.count("rollout.advanced") == 3
        assert kinds.count("rollout.promoted") == (1 if bad else 2)
        context.ledger.close()
        if not died:
            break
        deaths, at = deaths + 1, at + 1
    assert deaths >= 5


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
def test_a_death_between_two_environments_does_not_end_the_way(tmp_path: Path, before: bool) -> None:
    """Among the places: after staging was promoted, and before the next environment knows of it."""
    at = 1
    while True:
        engine = Dying()
        context = line_of(tmp_path / f"{at}", engine, 2, CHAIN)
        project = config.load(context.home)
        for environment in project.environments.values():
            champion.promote(context, environment, ReleaseStore(context.ledger, "p").get("v1"), "the first")
        stage.roll_out(context, project, ReleaseStore(context.ledger, "p").get("v2"))
        engine.die_at(at, before=before)
        walk(context, engine)
        assert [RouteStore(context.ledger, "p").champions(name) for name in project.environments] == [["v2", "v1"]] * 3
        rollouts = RolloutStore(context.ledger, "p").list()
        assert [(r.environment, r.state) for r in reversed(rollouts)] == [
            ("staging", RolloutState.PROMOTED),
            ("production", RolloutState.PROMOTED),
        ]
        kinds = [event.kind for event in context.ledger.events.tail("p", after=0, limit=1000)]
        assert (kinds.count("rollout.started"), kinds.count("rollout.promoted")) == (2, 6)
        assert JobStore(context.ledger, "p").open(champion.ONWARD) == []
        context.ledger.close()
        if engine.at:
            break
        at += 1
    assert at >= 4


def walk(context: DeliveryContext, engine: Dying) -> None:
    """Look until production serves v2, a new controller after each death; requests come in wherever a release is tried."""
    controller, served = RolloutController(context), 0
    for _ in range(40):
        for name in config.load(context.home).environments:
            route = RouteStore(context.ledger, "p").get(name)
            if route is not None and route.candidate is not None:
                engine.told.append(route)
                engine.see((1_500, 0, 0), (1_500, 0, 0))
        controller = looked(context, controller)
        active = any(RolloutStore(context.ledger, "p").active(name) for name in config.load(context.home).environments)
        served += not active and not JobStore(context.ledger, "p").open(champion.ONWARD)
        if served == 3:  # and nothing comes after
            return
    raise AssertionError("it never ended")
