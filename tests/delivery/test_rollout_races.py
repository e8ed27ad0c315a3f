"""Two that change one rollout at the same moment, and what is barred while it is on its way: nothing is told twice or wrongly."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from engine_stub import Scripted, digest_of
from test_rollout import CANARY, GOOD, World

from noria import config
from noria.delivery import champion
from noria.delivery import rollout as stage
from noria.delivery.driver import Embedded, EngineCounts
from noria.delivery.rollout_record import RolloutState
from noria.delivery.rollout_store import RolloutStore
from noria.engine import actions
from noria.engine.turn_end import end
from noria.kernel.errors import LeaseLostError, RefusedError, ServingError
from noria.kernel.trigger import TriggerKind
from noria.pipeline.context import StartedRun
from noria.pipeline.trigger_store import TriggerStore
from noria.pipeline.turn_record import Turn, TurnOutcome
from noria.pipeline.turn_store import TurnStore
from noria.releases.release import Release, ServedForm
from noria.releases.store import ReleaseStore
from noria.serving.client import Server
from noria.serving.route import Route
from noria.serving.route_store import RouteStore
from noria.storage.jobs import JobStore
from noria.storage.ledger import Ledger

CHAIN = """\
project: p
environments:
  staging: {rollout: direct}
  production: {after: staging, rollout: {steps: [50%, 100%], replay: 0}}
"""
TWO = """\
project: p
environments:
  staging: {rollout: {steps: [50%, 100%], replay: 0, probation: 1d}}
  production: {after: staging, rollout: {steps: [50%, 100%], replay: 0}}
"""


class Busy(Scripted):
    """Somebody does something while it loads, or while it is asked how things stand: ``meanwhile`` is called once."""

    meanwhile: Callable[[], object] | None = None
    at, calls = "", 0

    def at_next(self, call: str, meanwhile: Callable[[], object], calls: int = 1) -> None:
        self.at, self.meanwhile, self.calls = call, meanwhile, calls

    def _now(self, call: str) -> None:
        self.calls -= call == self.at
        if self.calls == 0 and self.meanwhile is not None:
            act, self.meanwhile = self.meanwhile, None
            act()

    def load(self, digest: str) -> str:
        self._now("load")
        return super().load(digest)

    def set_routes(self, route: Route) -> str:
        self._now("set_routes")
        return super().set_routes(route)

    def drain(self, environment: str, digest: str) -> None:
        super().drain(environment, digest)
        self._now("drain")

    def stats(self, project: str, environment: str) -> EngineCounts:
        found = super().stats(project, environment)
        self._now("stats")
        return found


@pytest.fixture
def engine() -> Busy:
    return Busy()


@pytest.fixture
def world(tmp_path: Path, engine: Busy) -> Iterator[World]:
    made = World(tmp_path, engine)
    yield made
    made.context.ledger.close()


def chain(world: World, yaml: str) -> config.Project:
    """v1 serves everywhere."""
    (world.folder / "noria.yaml").write_text(yaml)
    project = config.load(world.folder)
    for environment in project.environments.values():
        champion.promote(world.context, environment, ReleaseStore(world.context.ledger, "p").get("v1"), "the first")
    for _ in range(20):  # the scripted engine counts by revision alone: let no two environments have the same
        RouteStore.of(world.context).put(route_of(world, "production"))
    return project


def of_a_turn(world: World, digit: str) -> tuple[Turn, Release]:
    """A turn that runs, and the release that it sealed."""
    ledger = world.context.ledger
    TriggerStore(ledger, "p").add(TriggerKind.MANUAL, "by hand")
    turn = TurnStore(ledger, "p").start()
    assert turn is not None
    release = ReleaseStore(ledger, "p").seal(digit * 64, f"run-{digit}", turn.id, ServedForm.COMPILED, "commit", {}, digit * 64)
    bundle = world.context.bundle(release.digest)
    bundle.mkdir(parents=True)
    (bundle / "manifest.json").write_text('{"signature": {"task": "binary"}}')
    return turn, release


def route_of(world: World, environment: str) -> Route:
    found = RouteStore(world.context.ledger, "p").get(environment)
    assert found is not None
    return found


def tried(world: World, environment: str, good: bool = True) -> None:
    """Requests come in where a release is tried, and a look is taken."""
    world.engine.told.append(route_of(world, environment))
    world.see(*(((1_500, 0, 0), (1_500, 0, 0)) if good else ((1_500, 1, 0), (1_500, 200, 0))))


# -- two at once


def test_what_was_ended_meanwhile_is_not_resumed(world: World) -> None:
    world.policy(CANARY)
    world.enter("v2")
    actions.hold(world.context, None, "ann")
    read = world.newest
    actions.abort(world.context, None, "bob")
    with pytest.raises(LeaseLostError, match="changed meanwhile"):
        stage.resume(world.context, read, "resumed by ann")
    assert world.newest.state is RolloutState.ROLLED_BACK
    assert RolloutStore(world.context.ledger, "p").active("production") is None


def test_what_a_newer_release_superseded_is_not_rolled_back_after_that(world: World) -> None:
    world.policy(CANARY)
    world.enter("v2")
    read = world.newest
    world.enter("v3")
    with pytest.raises(LeaseLostError, match="changed meanwhile"):
        stage.roll_back(world.context, read, "harm")
    assert RolloutStore.of(world.context).get(read.id).state is RolloutState.SUPERSEDED
    assert world.bar("v2") is None


def test_what_was_aborted_while_it_waited_does_not_begin(world: World) -> None:
    world.policy("steps: [10%, 100%], replay: 50")
    world.engine.here = False
    world.enter("v2")
    read = world.newest
    actions.abort(world.context, None, "ann")
    for act in (
        lambda: stage.begin(world.context, world.environment, read, world.route),
        lambda: stage.proceed(world.context, world.environment, read),
    ):
        with pytest.raises(LeaseLostError, match="changed meanwhile"):
            act()
        assert world.newest.state is RolloutState.ROLLED_BACK
        world.engine.here = not world.engine.here


def test_a_champion_that_was_rolled_back_meanwhile_is_not_put_back_by_the_first_step(
    world: World, engine: Busy, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.policy(CANARY)
    actions.promote(world.context, "v2", None, "ann")
    engine.here = False
    world.enter("v3")
    engine.here = True
    read = world.route
    real = RouteStore.get
    actions.roll_back(world.context, None, "ann")  # v2 -> v1; v3 only waits
    assert world.route.champion_version == "v1"
    found = [read]
    monkeypatch.setattr(RouteStore, "get", lambda *of: found.pop() if found else real(*of))
    with pytest.raises(LeaseLostError, match="changed meanwhile"):
        stage.live(world.context, world.environment, world.newest, onward=True)
    assert (world.route.champion_version, world.route.candidate) == ("v1", None)
    assert world.look().state is RolloutState.CANARY


def look_at_the_rollout(world: World) -> None:
    """A look that asks the engine for the rollout's sake: the champion was looked at a moment ago."""
    world.controller._rests = {"production": math.inf}
    world.controller.reconcile()


def test_counts_that_begin_anew_do_not_bring_an_aborted_candidate_back(world: World, engine: Busy) -> None:
    world.policy(CANARY)
    world.enter("v2")
    world.see((450, 0, 0), (50, 0, 0))
    engine.tallies.clear()  # the server started anew
    engine.see((9, 0, 0), (1, 0, 0))
    engine.at_next("stats", lambda: actions.abort(world.context, None, "ann"))
    with pytest.raises(LeaseLostError, match="changed meanwhile"):
        look_at_the_rollout(world)
    assert (world.route.candidate, world.newest.state) == (None, RolloutState.ROLLED_BACK)


@pytest.mark.parametrize("over", [False, True], ids=["harm", "over"])
def test_a_person_rolls_back_while_probation_is_judged(world: World, engine: Busy, over: bool) -> None:
    """Neither does it come back because probation is over, nor is the release rolled back that a person put in its place."""
    world.policy("steps: [10%, 100%], replay: 0, probation: 1d, pairs: 25%")
    world.enter("v2")
    assert world.see(*GOOD).state is RolloutState.PROBATION
    if over:
        world.pass_time(90_000)
        engine.at_next("stats", lambda: actions.roll_back(world.context, None, "ann"))
    else:
        engine.see((250, 0, 0), (1_000, 200, 0))
        engine.at_next("stats", lambda: actions.promote(world.context, "v3", None, "ann"))
    with pytest.raises(LeaseLostError, match="changed meanwhile"):
        look_at_the_rollout(world)
    assert world.route.champion_version == ("v1" if over else "v3")
    assert world.newest.state is (RolloutState.ROLLED_BACK if over else RolloutState.PROMOTED)
    assert (world.bar("v2") is not None, world.bar("v3")) == (over, None)
    assert len(world.events("probation.undecided") + world.events("probation.passed")) == 0


@pytest.mark.parametrize("back", [False, True], ids=["promote", "rollback"])
def test_a_rollout_that_begins_while_a_person_acts_is_not_orphaned(world: World, engine: Busy, back: bool) -> None:
    world.policy(CANARY)
    if back:
        actions.promote(world.context, "v2", None, "ann")
        actions.promote(world.context, "v3", None, "ann")
        engine.at_next("load", lambda: world.enter("v4"))
    else:
        world.enter("v2")
        engine.at_next("drain", lambda: world.enter("v4"))
    with pytest.raises(LeaseLostError, match="changed meanwhile"):
        actions.roll_back(world.context, None, "ann", "v1") if back else actions.promote(world.context, "v3", None, "ann")
    active = RolloutStore(world.context.ledger, "p").active("production")
    assert active is not None
    assert (active.release, world.route.rollout_id) == ("v4", active.id)
    assert world.route.champion_version == ("v3" if back else "v1")


def test_a_promotion_that_fails_leaves_the_bar_and_the_rollout_as_they_were(world: World, engine: Busy) -> None:
    world.policy(CANARY)
    world.enter("v2")
    ReleaseStore(world.context.ledger, "p").bar("v3", "withdrawn by bob: leaks")
    engine.broken[digest_of("v3")] = "it is damaged"
    with pytest.raises(ServingError, match="v3 could not be loaded"):
        actions.promote(world.context, "v3", None, "ann")
    assert world.bar("v3") == "withdrawn by bob: leaks"
    assert world.newest.state is RolloutState.CANARY


def test_the_server_is_told_of_a_rollback_when_the_ledger_has_it(world: World, engine: Busy) -> None:
    """It reads the ledger by itself: what is not committed it does not see, and it would go on with the candidate."""
    world.policy(CANARY)
    world.enter("v2")
    other, seen = Ledger.open(world.context.state), list[Route | None]()
    engine.at_next("set_routes", lambda: seen.append(RouteStore(other, "p").get("production")))
    actions.abort(world.context, None, "ann")
    assert [route and route.candidate for route in seen] == [None]
    assert len(seen) == 1
    assert seen[0] is not None
    other.close()


def test_a_turn_that_died_when_its_rollout_had_begun_is_still_to_be_ended(world: World, engine: Busy) -> None:
    """Its run and its event are written at its end: that it is rolling out, or was aborted since, is no end."""
    world.policy(CANARY)
    ledger, project = world.context.ledger, config.load(world.folder)
    turn, release = of_a_turn(world, "9")
    TurnStore(ledger, "p").update(turn.id, release=release.version)
    engine.at_next("set_routes", _die)
    with pytest.raises(KeyboardInterrupt):
        stage.roll_out(world.context, project, release)
    assert [left.id for left in TurnStore(ledger, "p").unfinished()] == [turn.id]
    actions.abort(world.context, None, "ann")
    assert [left.id for left in TurnStore(ledger, "p").unfinished()] == [turn.id]
    assert stage.roll_out(world.context, project, release)[0] is TurnOutcome.ROLLED_BACK
    TurnStore(ledger, "p").update(turn.id, run_id="run-9")  # as `engine.turn_end.end`
    assert TurnStore(ledger, "p").unfinished() == []
    turn, release = of_a_turn(world, "8")
    TurnStore(ledger, "p").update(
        turn.id, release=release.version, outcome=TurnOutcome.ERROR
    )  # told again, and it broke: that is an end
    assert TurnStore(ledger, "p").unfinished() == []


def test_a_turn_that_ends_as_its_release_begins_does_not_say_that_it_waits(world: World, engine: Busy) -> None:
    world.policy(CANARY)
    engine.here = False
    turn, release = of_a_turn(world, "9")
    outcome, text = stage.roll_out(world.context, config.load(world.folder), release)
    engine.here = True
    assert (outcome, world.look().state) == (TurnOutcome.RELEASED, RolloutState.CANARY)  # before the turn has written its end
    sheet = StartedRun(turn, "run-9", config.load(world.folder), world.folder, None, None, {})
    ended = end(world.context, sheet, outcome, text, release)
    assert (ended.outcome, ended.reason) == (TurnOutcome.ROLLING_OUT, world.newest.reason)


def _die() -> None:
    raise KeyboardInterrupt


def test_what_ended_before_the_lease_was_had_is_not_ended_again(
    world: World, engine: Busy, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.policy(CANARY)
    actions.promote(world.context, "v2", None, "ann")
    world.enter("v3")
    claim = JobStore.add
    engine.refused[digest_of("v3")] = "a worker cannot load it"

    def add(jobs: JobStore, kind: str, subject: str, dedupe: str | None = None) -> str | None:
        if kind == "rollout" and world.newest.ended_at is None:
            actions.abort(world.context, None, "ann")
        return claim(jobs, kind, subject, dedupe)

    monkeypatch.setattr(JobStore, "add", add)
    assert world.look().reason == "v3 aborted by ann"
    assert world.events("rollout.rolled_back") == ["v3 aborted by ann"]


def test_a_rollback_leaves_a_release_alone_that_only_waits_held_or_not(world: World, engine: Busy) -> None:
    world.policy(CANARY)
    actions.promote(world.context, "v2", None, "ann")
    engine.here = False
    world.enter("v3")
    actions.hold(world.context, None, "ann")
    actions.roll_back(world.context, None, "ann")
    assert (world.route.champion_version, world.newest.state, world.bar("v3")) == ("v1", RolloutState.HELD, None)


# -- barred while on its way


def test_what_staging_rolled_back_does_not_go_to_production_when_the_freeze_ends(world: World) -> None:
    project = chain(world, CHAIN.replace("after: staging,", "after: staging, approvals: 1,"))
    turn, release = of_a_turn(world, "9")
    assert stage.roll_out(world.context, project, release)[0] is TurnOutcome.RELEASED
    actions.approve(world.context, release.version, "production", "ann")
    actions.roll_back(world.context, "staging", "bob")
    assert world.look().state is RolloutState.ROLLED_BACK
    assert "staging rolled back from v5 to v1: asked by bob" in world.newest.reason
    assert route_of(world, "production").champion_version == "v1"
    assert TurnStore.of(world.context).get(turn.id).outcome is TurnOutcome.ROLLED_BACK


def test_harm_in_stagings_probation_ends_the_canary_in_production(world: World) -> None:
    project = chain(world, TWO)
    stage.roll_out(world.context, project, ReleaseStore(world.context.ledger, "p").get("v2"))
    tried(world, "staging")
    assert (world.newest.environment, world.newest.state) == ("production", RolloutState.CANARY)
    tried(world, "staging", good=False)
    world.look()
    assert route_of(world, "staging").champion_version == "v1"
    assert world.newest.state is RolloutState.ROLLED_BACK
    assert (route_of(world, "production").candidate, route_of(world, "production").champion_version) == (None, "v1")


def test_a_turn_that_is_told_again_does_not_deliver_what_was_barred_meanwhile(world: World) -> None:
    project = chain(world, CHAIN)
    _, release = of_a_turn(world, "9")
    stage.start_rollout(world.context, project, project.environments["staging"], release)  # and the engine dies
    actions.roll_back(world.context, "staging", "ann")
    outcome, text = stage.roll_out(world.context, project, release)
    assert (outcome, "v5 is barred: staging rolled back" in text) == (TurnOutcome.BARRED, True)
    assert [route_of(world, name).champion_version for name in project.environments] == ["v1", "v1"]


def test_what_is_withdrawn_while_it_is_tried_does_not_serve(world: World, engine: Busy) -> None:
    world.policy(CANARY)
    (world.folder / "noria.yaml").write_text("project: p\nenvironments: {production: {rollout: direct}}\n")
    engine.at_next("load", lambda: actions.withdraw(world.context, "v2", "leaks", "bob"))
    with pytest.raises(LeaseLostError, match="v2 has been barred meanwhile: withdrawn by bob: leaks"):
        world.enter("v2")
    assert world.route.champion_version == "v1"


def test_a_direct_release_that_the_server_refuses_after_all_is_rolled_back_and_goes_no_further(
    world: World, engine: Busy
) -> None:
    project = chain(world, CHAIN)
    _, release = of_a_turn(world, "9")
    engine.at_next("set_routes", lambda: engine.broken.update({release.digest: "a worker cannot load it"}))
    outcome, text = stage.roll_out(world.context, project, release)
    assert (outcome, "staging rolled back from v5 to v1: v5 could not be loaded" in text) == (TurnOutcome.ROLLED_BACK, True)
    assert [route_of(world, name).champion_version for name in project.environments] == ["v1", "v1"]
    assert RolloutStore(world.context.ledger, "p").list() == []


def test_where_nothing_can_be_gone_back_to_a_newer_release_still_comes_in(world: World) -> None:
    """Harm in probation, and the release before was withdrawn: it goes on serving, says so once, and the remedy is let in."""
    world.policy("steps: [10%, 100%], replay: 0, probation: 1d, pairs: 25%")
    world.enter("v2")
    first = world.see(*GOOD)
    actions.withdraw(world.context, "v1", "leaks", "bob")
    world.see((250, 0, 0), (1_000, 200, 0))
    world.look()
    with pytest.raises(RefusedError, match="no release to return to"):
        actions.roll_back(world.context, None, "ann")
    world.enter("v3")
    assert world.look().state is RolloutState.CANARY
    assert RolloutStore.of(world.context).get(first.id).state is RolloutState.PROBATION
    assert len(world.events("probation.harm")) == 1
    assert "there is no release to return to from v2: v1 is barred" in world.events("probation.harm")[0]
    world.pass_time(90_000)
    world.look()
    ended = RolloutStore.of(world.context).get(first.id)
    assert (ended.state, "does harm in probation and keeps serving" in ended.reason) == (RolloutState.PROMOTED, True)
    assert world.newest.state is not RolloutState.SUPERSEDED


# -- the way on


@pytest.mark.parametrize("where", ["staging", "production"])
def test_a_turn_that_is_told_again_late_brings_its_release_over_no_newer_one(world: World, where: str) -> None:
    project = chain(world, CHAIN)
    _, release = of_a_turn(world, "9")
    _, newer = of_a_turn(world, "8")
    if where == "production":
        stage.start_rollout(world.context, project, project.environments["staging"], release)  # and the engine dies
    actions.promote(world.context, newer.version, where, "ann")
    outcome, _ = stage.roll_out(world.context, project, release)
    assert outcome is (TurnOutcome.PROMOTED if where == "production" else TurnOutcome.SUPERSEDED)
    assert route_of(world, where).champion_version == newer.version
    assert [rollout.release for rollout in RolloutStore(world.context.ledger, "p").list()] == []


def test_an_engine_that_comes_back_late_brings_no_older_release_over_a_newer_one(world: World) -> None:
    project = chain(world, TWO.replace(", probation: 1d", ""))
    _promote_in_staging_and_die(world, project)
    stage.start_rollout(
        world.context, project, project.environments["staging"], ReleaseStore(world.context.ledger, "p").get("v3")
    )
    actions.promote(world.context, "v3", "staging", "ann")
    actions.promote(world.context, "v3", "production", "ann")
    world.look()
    assert JobStore(world.context.ledger, "p").open(champion.ONWARD) == []
    assert route_of(world, "production").champion_version == "v3"
    assert route_of(world, "production").candidate is None


def test_an_engine_that_comes_back_late_leaves_a_newer_rollout_alone(world: World) -> None:
    project = chain(world, TWO.replace(", probation: 1d", ""))
    _promote_in_staging_and_die(world, project)
    stage.start_rollout(
        world.context, project, project.environments["production"], ReleaseStore(world.context.ledger, "p").get("v3")
    )
    world.look()
    active = RolloutStore(world.context.ledger, "p").active("production")
    assert active is not None
    assert active.release == "v3"


def _promote_in_staging_and_die(world: World, project: config.Project) -> None:
    stage.roll_out(world.context, project, ReleaseStore(world.context.ledger, "p").get("v2"))
    staging = project.environments["staging"]
    release = ReleaseStore(world.context.ledger, "p").get("v2")
    champion.promote(world.context, staging, release, "safe", world.newest, onward=True)
    assert len(JobStore(world.context.ledger, "p").open(champion.ONWARD)) == 1


def test_a_way_on_that_fails_is_tried_again_for_minutes_and_holds_nothing_up(world: World, engine: Busy) -> None:
    """production serves nothing yet, and cannot load what staging promoted."""
    (world.folder / "noria.yaml").write_text(TWO.replace(", probation: 1d", ""))
    project = config.load(world.folder)
    champion.promote(
        world.context, project.environments["staging"], ReleaseStore(world.context.ledger, "p").get("v1"), "the first"
    )
    _promote_in_staging_and_die(world, project)
    engine.broken[digest_of("v2")] = "the disk is slow today"
    with pytest.raises(ServingError, match="slow today"):
        world.controller.reconcile()
    for _ in range(10):
        world.controller.reconcile()
    assert len(JobStore(world.context.ledger, "p").open(champion.ONWARD)) == 1
    engine.broken.clear()
    world.look()
    assert route_of(world, "production").champion_version == "v2"


def test_a_rollout_that_breaks_does_not_stop_those_of_other_environments(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    project = chain(world, TWO.replace("after: staging, ", ""))
    for name, version in (("staging", "v2"), ("production", "v3")):
        stage.start_rollout(
            world.context, project, project.environments[name], ReleaseStore(world.context.ledger, "p").get(version)
        )
    real = stage.is_withdrawn_by_crashes
    monkeypatch.setattr(
        stage,
        "is_withdrawn_by_crashes",
        lambda line, rollout, stats: 1 / 0 if rollout.release == "v3" else real(line, rollout, stats),
    )
    with pytest.raises(ZeroDivisionError):
        tried(world, "staging")
    assert route_of(world, "staging").champion_version == "v2"


def test_a_server_that_goes_away_while_it_is_told_a_route_follows_the_ledger_later(tmp_path: Path) -> None:
    class Gone(Server):
        def is_alive(self) -> bool:
            return True

    assert Embedded(Gone(tmp_path)).set_routes(Route("p", "production", 1, digest_of("v1"), "v1")) == ""
