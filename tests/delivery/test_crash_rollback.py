"""A champion that crashes again and again gives way to the release before it, once; the ledger is real, the server is not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from engine_stub import Scripted, digest_of, line_of

from noria.delivery import champion as champion_stage
from noria.delivery import rollout as stage
from noria.delivery import rollout_controller
from noria.delivery.context import DeliveryContext
from noria.delivery.driver import EngineCounts, EngineStats
from noria.delivery.rollout_record import Rollout, RolloutState
from noria.delivery.rollout_store import RolloutStore
from noria.releases.store import ReleaseStore
from noria.serving.crash_record import CHAMPION, Crashes, candidate_of
from noria.serving.route import Route
from noria.serving.route_store import RouteStore

V1, V2, V3 = digest_of("v1"), digest_of("v2"), digest_of("v3")


@pytest.fixture
def server() -> Scripted:
    return Scripted()


@pytest.fixture
def context(tmp_path: Path, server: Scripted) -> Iterator[DeliveryContext]:
    context = line_of(tmp_path, server, 3)
    with context.ledger.transaction():
        RouteStore.of(context).put(Route("p", "production", 0, V1, "v1"))
        RouteStore.of(context).put(Route("p", "production", 0, V2, "v2", previous=V1, previous_version="v1"))
    yield context
    context.ledger.close()


def canary(context: DeliveryContext) -> Rollout:
    """v3 takes a tenth beside v2."""
    rollout = Rollout("r-1", "p", "production", None, "v3", V3, RolloutState.CANARY, 0, 0.0)
    with context.ledger.transaction():
        RolloutStore.of(context).start(rollout)
        route = Route("p", "production", 0, V2, "v2", V3, "v3", 0.1, V1, "v1", rollout.id)
        RouteStore.of(context).put(route)
    return rollout


def asked(context: DeliveryContext) -> EngineStats:
    return EngineStats(context.driver, "p", "production")


def champion(context: DeliveryContext) -> str:
    route = RouteStore(context.ledger, "p").get("production")
    assert route is not None
    return route.champion_version


def test_a_champion_in_a_crash_loop_gives_way_and_is_barred(context: DeliveryContext, server: Scripted) -> None:
    server.crashes = {V2: Crashes(2, 2, "SIGSEGV in worker 0")}
    rollout_controller.guard(context, "production", asked(context))
    assert champion(context) == "v2"
    server.here = False
    rollout_controller.guard(context, "production", asked(context))
    server.here = True
    server.crashes = {V2: Crashes(3, 3, "SIGSEGV in worker 0", CHAMPION)}
    rollout_controller.guard(context, "production", asked(context))
    assert champion(context) == "v1"
    assert len(server.told) == 1
    assert ReleaseStore(context.ledger, "p").get("v2").barred == (
        "production rolled back from v2 to v1: v2 rolled back: it crashed 3 processes within 1 min (SIGSEGV in worker 0)"
    )
    (event,) = context.ledger.events.tail("p", kinds=("environment.rolled_back",))
    assert "production rolled back from v2 to v1: v2 rolled back: it crashed 3 processes" in event.text
    server.crashes = {V1: Crashes(9, 9, "SIGSEGV in worker 0")}
    rollout_controller.guard(context, "production", asked(context))
    assert champion(context) == "v1"  # there is no fit release to go back to


def test_a_champion_that_the_server_refuses_gives_way(context: DeliveryContext, server: Scripted) -> None:
    """Number 58: the server could not serve the new release, status said that it does, and nothing rolled back."""
    server.refused = {V2: "a name is odd"}
    rollout_controller.guard(context, "production", asked(context), champion_stage.find_refusal)
    assert champion(context) == "v2"  # tried again, it loads
    server.broken = {V1: "damaged", V2: "damaged"}
    rollout_controller.guard(context, "production", asked(context), champion_stage.find_refusal)
    assert champion(context) == "v2"  # nothing loads: the trouble is another, and no release is barred for it
    assert ReleaseStore(context.ledger, "p").get("v2").barred is None
    server.broken = {V2: "a name is odd"}
    rollout_controller.guard(context, "production", asked(context), champion_stage.find_refusal)
    assert champion(context) == "v1"
    barred = ReleaseStore(context.ledger, "p").get("v2").barred
    assert barred == "production rolled back from v2 to v1: v2 rolled back: it could not be loaded: a name is odd"


def test_a_crash_loop_bars_nobody_where_the_release_before_does_not_load_either(
    context: DeliveryContext, server: Scripted
) -> None:
    """Number 58: a lost key makes every release unloadable; one after the other would have been barred."""
    server.crashes = {V2: Crashes(3, 3, "worker 0 cannot start with it: damaged", CHAMPION)}
    server.broken = {V1: "damaged"}
    rollout_controller.guard(context, "production", asked(context))
    assert champion(context) == "v2"


def test_the_pilot_waits_for_whoever_promoted_before_it_acts_on_a_refusal(
    context: DeliveryContext, server: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Number 58: as above, as the daemon meets it."""
    controller = rollout_controller.RolloutController(context)
    server.refused = server.broken = {V2: "a name is odd"}
    controller.reconcile()
    assert champion(context) == "v2"
    monkeypatch.setattr(rollout_controller, "REFUSED_S", 0.0)
    monkeypatch.setattr(controller, "_rests", {})
    controller.reconcile()
    assert champion(context) == "v1"


def test_an_undecided_candidate_makes_room_when_the_champion_falls(context: DeliveryContext, server: Scripted) -> None:
    rollout = canary(context)
    server.crashes = {V2: Crashes(4, 4, "SIGABRT in its host")}
    rollout_controller.guard(context, "production", asked(context))
    assert champion(context) == "v1"
    assert RolloutStore.of(context).get(rollout.id).state is RolloutState.SUPERSEDED
    assert ReleaseStore(context.ledger, "p").get("v3").barred is None


@pytest.mark.parametrize("state", [RolloutState.CANARY, RolloutState.HELD])
def test_a_candidate_that_crashed_or_is_refused_is_rolled_back(
    context: DeliveryContext, server: Scripted, state: RolloutState
) -> None:
    rollout = canary(context)
    RolloutStore.of(context).update(rollout.id, state=state)
    for harmless in (
        {},
        {V3: Crashes(1, 1, "SIGSEGV in worker 1", candidate_of(rollout.id))},
        {V3: Crashes(5, 5, "SIGSEGV in worker 1", candidate_of("r-0"))},
    ):
        server.crashes = harmless
        server.refused = {V1: "gone"}
        assert not stage.is_withdrawn_by_crashes(context, rollout, server.stats("p", "production"))
    server.crashes = {V3: Crashes(2, 2, "SIGSEGV in worker 1", candidate_of(rollout.id))}
    assert stage.is_withdrawn_by_crashes(context, rollout, server.stats("p", "production"))
    ended = RolloutStore.of(context).get(rollout.id)
    assert (ended.state, ended.reason) == (
        RolloutState.ROLLED_BACK, "v3 rolled back: it crashed 2 processes (SIGSEGV in worker 1)",
    )  # fmt: skip
    assert ReleaseStore(context.ledger, "p").get("v3").barred == ended.reason
    assert champion(context) == "v2"


def test_a_candidate_that_the_server_refuses_is_rolled_back(context: DeliveryContext, server: Scripted) -> None:
    rollout = canary(context)
    server.refused = {V3: "golden row 2 was answered 0.5, where 0.25 was due"}
    assert stage.is_withdrawn_by_crashes(context, rollout, server.stats("p", "production"))
    assert RolloutStore.of(context).get(rollout.id).reason.startswith("v3 could not be loaded: golden row 2 was answered 0.5")


def test_the_engine_is_asked_once_in_a_look(context: DeliveryContext, server: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    """The controller asked for the champion's crashes, for what the server refuses and for the rollout each anew; where nobody
    answered, it waited each time."""
    asked_at: list[str] = []
    ask = server.stats

    def stats(project: str, environment: str) -> EngineCounts:
        asked_at.append(environment)
        return ask(project, environment)

    monkeypatch.setattr(server, "stats", stats)
    yaml = "project: p\nenvironments:\n  production: {rollout: {steps: [10%, 100%], replay: 0}}\n"
    (context.home / "noria.yaml").write_text(yaml)
    canary(context)
    controller = rollout_controller.RolloutController(context)
    controller.reconcile()
    assert asked_at == ["production"]
    server.here = False
    controller = rollout_controller.RolloutController(context)
    controller.reconcile()
    assert asked_at == ["production"] * 2
