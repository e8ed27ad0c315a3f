"""A rollout's whole way by a real ledger and an engine that says what it is told: every state, and who may change it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from engine_stub import Scripted, digest_of, line_of

from noria import config
from noria.delivery import champion
from noria.delivery import rollout as stage
from noria.delivery.rollout_controller import RolloutController
from noria.delivery.rollout_record import Rollout, RolloutState
from noria.delivery.rollout_store import RolloutStore
from noria.engine import actions
from noria.kernel.errors import LeaseLostError, NotFoundError, RefusedError, ServingError
from noria.kernel.trigger import TriggerKind
from noria.pipeline.trigger_store import TriggerStore
from noria.pipeline.turn_record import TurnOutcome
from noria.pipeline.turn_store import TurnStore
from noria.releases.release import ServedForm
from noria.releases.store import ReleaseStore
from noria.serving.crash_record import Crashes, candidate_of
from noria.serving.replay_result import Replayed
from noria.serving.route import Route
from noria.serving.route_store import RouteStore
from noria.storage.clock import ClockStore

CANARY = "steps: [10%, 50%, 100%], replay: 0"
GOOD = ((4_500, 0, 0), (500, 0, 0))
BAD = ((3_700, 2, 0), (412, 30, 0))


@pytest.fixture
def engine() -> Scripted:
    return Scripted()


class World:
    """A project with four releases, v1 serving."""

    def __init__(self, folder: Path, engine: Scripted) -> None:
        self.folder, self.engine = folder, engine
        self.context = line_of(folder, engine, 4)
        self.controller = RolloutController(self.context)

    def policy(self, rollout: str, more: str = "") -> None:
        """Write noria.yaml; v1 serves where nobody does yet."""
        text = f"project: p\nenvironments: {{production: {{rollout: {{{rollout}}}{more}}}}}\n"
        (self.folder / "noria.yaml").write_text(text)
        if self.route_or_none() is None:
            environment = self.environment
            with_v1 = ReleaseStore(self.context.ledger, "p").get("v1")
            champion.promote(self.context, environment, with_v1, "the first")

    @property
    def environment(self) -> config.Environment:
        return config.load(self.folder).environments["production"]

    def route_or_none(self) -> Route | None:
        return RouteStore(self.context.ledger, "p").get("production")

    @property
    def route(self) -> Route:
        found = self.route_or_none()
        assert found is not None
        return found

    def enter(self, version: str) -> tuple[TurnOutcome, str]:
        return stage.start_rollout(
            self.context, config.load(self.folder), self.environment, ReleaseStore(self.context.ledger, "p").get(version)
        )

    def look(self) -> Rollout:
        """One look, at once; the newest rollout after it."""
        self.controller._rests.clear()
        self.controller.reconcile()
        return self.newest

    @property
    def newest(self) -> Rollout:
        return RolloutStore(self.context.ledger, "p").list()[0]

    def see(self, champion: tuple[int, int, int], candidate: tuple[int, int, int]) -> Rollout:
        self.engine.see(champion, candidate)
        return self.look()

    def pass_time(self, seconds: float) -> None:
        now = ClockStore(self.context.ledger, "p").now()
        ClockStore(self.context.ledger, "p").set(now + seconds, 1.0)

    def bar(self, version: str) -> str | None:
        return ReleaseStore(self.context.ledger, "p").get(version).barred

    def events(self, kind: str) -> list[str]:
        return [e.text for e in self.context.ledger.events.tail("p", after=0, limit=1000) if e.kind == kind]


@pytest.fixture
def world(tmp_path: Path, engine: Scripted) -> Iterator[World]:
    made = World(tmp_path, engine)
    yield made
    for (
        replay
    ) in made.controller._replays.values():  # its thread reads the ledger until it ends, and a closed one crashes the process
        replay.exception(timeout=120)
    made.context.ledger.close()


def test_a_good_release_goes_step_by_step_to_all_traffic(world: World) -> None:
    world.policy(CANARY)
    assert world.enter("v2")[0] is TurnOutcome.ROLLING_OUT
    assert (world.route.candidate_version, world.route.share, world.route.shadow) == ("v2", 0.1, 0.0)
    assert world.see(*GOOD).step == 1
    assert world.route.share == 0.5
    done = world.see((1_500, 0, 0), (1_500, 0, 0))
    assert (done.state, done.before) == (RolloutState.PROMOTED, "v1")
    assert (world.route.champion_version, world.route.previous_version, world.route.candidate) == ("v2", "v1", None)
    assert done.look is not None
    assert "harm of the guards' size is ruled out" in done.look.text
    assert world.engine.told[-1] == world.route


def test_harm_rolls_back_bars_and_says_so(world: World) -> None:
    world.policy(CANARY)
    world.enter("v2")
    ended = world.see(*BAD)
    assert ended.state is RolloutState.ROLLED_BACK
    assert "errors: 30 of 32 events on the canary at 10 % of traffic" in ended.reason
    assert (world.route.champion_version, world.route.candidate, world.route.share) == ("v1", None, 0.0)
    assert world.bar("v2") == ended.reason
    assert world.engine.drained == [digest_of("v2")]
    assert world.events("rollout.rolled_back") == [ended.reason]


def test_a_crash_and_a_failed_load_are_evidence(world: World) -> None:
    world.policy(CANARY)
    world.engine.broken[digest_of("v2")] = "it is damaged"
    assert world.enter("v2") == (TurnOutcome.ROLLED_BACK, "v2 could not be loaded: it is damaged")
    world.enter("v3")
    world.engine.crashes[digest_of("v3")] = Crashes(2, 2, "SIGSEGV in worker 0", candidate_of(world.newest.id))
    assert "v3 rolled back: it crashed 2 processes" in world.look().reason
    assert world.route.candidate is None


def test_no_data_is_not_healthy(world: World) -> None:
    world.policy(CANARY + ", patience: 1h")
    world.enter("v2")
    world.pass_time(3_590)
    assert world.look().state is RolloutState.CANARY
    world.pass_time(20)
    held = world.look()
    assert held.state is RolloutState.HELD
    assert "no data is not healthy" in held.reason
    assert world.route.share == 0.1  # a person decides


def test_a_server_that_is_silent_holds_when_patience_ends(world: World) -> None:
    world.policy(CANARY + ", patience: 1h")
    world.enter("v2")
    world.engine.here = False
    assert world.look().state is RolloutState.CANARY
    world.pass_time(3_700)
    assert "there is no evidence: the model server does not answer" in world.look().reason
    assert world.newest.state is RolloutState.HELD


def test_a_person_holds_and_resumes_and_harm_ends_a_held_one(world: World) -> None:
    world.policy(CANARY)
    world.enter("v2")
    assert "held by ann: look at the logs first" in str(
        actions.hold(world.context, None, "ann", "look at the logs first")["text"]
    )
    assert world.see(*GOOD).state is RolloutState.HELD
    assert world.newest.step == 0
    with pytest.raises(RefusedError, match="already held"):
        actions.hold(world.context, None, "ann")
    actions.resume(world.context, None, "bob")
    assert world.look().step == 1
    with pytest.raises(RefusedError, match="not held"):
        actions.resume(world.context, None, "bob")
    actions.hold(world.context, None, "ann")
    assert world.see((1_000, 0, 0), (1_000, 300, 0)).state is RolloutState.ROLLED_BACK


def test_after_patience_a_person_resumes_with_new_patience(world: World) -> None:
    world.policy(CANARY + ", patience: 1h")
    world.enter("v2")
    world.pass_time(4_000)
    assert world.look().state is RolloutState.HELD
    actions.resume(world.context, None, "ann")
    assert world.look().state is RolloutState.CANARY
    assert world.see(*GOOD).step == 1


def test_what_a_person_ended_meanwhile_is_not_moved_on(world: World) -> None:
    """The controller has read the rollout and judged it; before it acts, somebody aborts, or promotes."""
    world.policy(CANARY)
    world.enter("v2")
    read, release = world.newest, ReleaseStore(world.context.ledger, "p").get("v2")
    actions.abort(world.context, None, "ann")
    for act in (
        lambda: stage.advance(world.context, world.environment, read, world.route, "safe"),
        lambda: champion.promote(world.context, world.environment, release, "safe", read),
        lambda: stage.hold(world.context, read, "patience"),
        lambda: stage.roll_back(world.context, read, "harm"),
    ):
        with pytest.raises(LeaseLostError, match="changed meanwhile: it is rolled back"):
            act()
    assert (world.newest.state, world.route.champion_version, world.route.candidate) == (RolloutState.ROLLED_BACK, "v1", None)
    world.enter("v3")
    read = world.newest
    actions.promote(world.context, "v3", None, "ann")
    with pytest.raises(LeaseLostError, match="changed meanwhile"):
        stage.roll_back(world.context, read, "harm")
    assert (world.route.champion_version, world.bar("v3")) == ("v3", None)


def test_abort_ends_it_and_bars(world: World) -> None:
    world.policy(CANARY)
    with pytest.raises(NotFoundError, match="no rollout is under way"):
        actions.abort(world.context, None, "ann")
    world.enter("v2")
    assert "v2 aborted by ann: not today" in str(actions.abort(world.context, None, "ann", "not today")["text"])
    assert (world.newest.state, world.route.candidate) == (RolloutState.ROLLED_BACK, None)
    assert world.bar("v2") is not None


def test_shadow_counts_pairs_and_gives_no_traffic(world: World) -> None:
    world.policy("steps: [{shadow: 20%}, 10%, 100%], replay: 0")
    _, text = world.enter("v2")
    assert "scores 20 % of the requests too, and answers none" in text
    assert (world.route.share, world.route.shadow, world.route.other) == (0.0, 0.2, digest_of("v2"))
    assert world.see((400, 0, 0), (400, 0, 0)).step == 1
    assert world.newest.blocks[0].share == 0.5  # of two that were asked the same, either may fail
    assert (world.route.share, world.route.shadow) == (0.1, 0.0)
    assert world.see(*GOOD).state is RolloutState.PROMOTED


def test_a_pause_and_an_approval_on_the_way(world: World) -> None:
    world.policy("steps: [10%, {pause: 10m}, {approve: 1}, 100%], replay: 0, patience: 5m")
    world.enter("v2")
    assert world.see(*GOOD).step == 1
    told = len(world.engine.told)
    assert "paused for" in str(world.look().look)
    world.pass_time(601)  # longer than patience, which a pause does not use up
    assert world.look().step == 2
    assert world.route.share == 0.1
    assert len(world.engine.told) <= told + 1
    world.pass_time(1_000)
    assert world.look().state is RolloutState.CANARY
    actions.approve(world.context, "v2", None, "ann")
    assert world.look().state is RolloutState.PROMOTED


def test_approvals_before_it_begins(world: World) -> None:
    world.policy(CANARY, ", approvals: 2")
    assert world.enter("v2") == (TurnOutcome.RELEASED, "v2 waits for 2 approvals for production (`noria approve v2`)")
    assert actions.approve(world.context, "v2", None, "ann")["missing"] == 1
    assert actions.approve(world.context, "v2", None, "ann")["missing"] == 1  # one person counts once
    assert world.look().reason == "v2 waits for 1 approval for production (`noria approve v2`)"
    with pytest.raises(RefusedError, match="v3 needs 1 more approval"):
        actions.promote(world.context, "v3", None, "ann")
    actions.approve(world.context, "v2", None, "bob")
    assert world.look().state is RolloutState.CANARY
    assert len(world.events("rollout.waiting")) == 2


def test_nothing_goes_out_in_a_freeze_and_a_rollback_may(world: World) -> None:
    world.policy(CANARY, ', freeze: ["2027-01-01 .. 2027-01-03"]')
    ClockStore(world.context.ledger, "p").set(1_798_800_000.0, 1.0)  # 2027-01-01 10:40 UTC
    outcome, text = world.enter("v2")
    assert (outcome, "2027-01-04 00:00 UTC" in text) == (TurnOutcome.RELEASED, True)
    assert world.look().state is RolloutState.WAITING
    with pytest.raises(RefusedError, match="nothing is released until the freeze"):
        actions.promote(world.context, "v2", None, "ann")
    world.pass_time(3 * 86_400)
    assert world.look().state is RolloutState.CANARY
    ClockStore(world.context.ledger, "p").set(1_798_800_000.0, 1.0)
    stayed = world.see(*GOOD)
    assert (stayed.step, "frozen until the freeze" in str(stayed.look)) == (0, True)
    assert actions.promote(world.context, "v2", None, "ann", force=True)["release"] == "v2"
    assert actions.roll_back(world.context, None, "ann")["release"] == "v1"


def test_a_waiting_release_that_a_person_promotes_is_promoted_not_superseded(world: World) -> None:
    world.policy(CANARY + ", probation: 1d")
    world.engine.here = False
    world.enter("v2")
    world.engine.here = True
    actions.promote(world.context, "v2", None, "ann")
    assert world.newest.state is RolloutState.PROBATION
    assert world.route.champion_version == "v2"


def test_a_freeze_that_was_named_after_the_release_was_sealed_holds_too(world: World) -> None:
    world.policy(CANARY)
    ClockStore(world.context.ledger, "p").set(1_798_800_000.0, 1.0)  # 2027-01-01 10:40 UTC
    world.enter("v2")
    sealed = world.context.bundle(digest_of("v2")) / "code"
    sealed.mkdir()
    (sealed / "noria.yaml").write_text((world.folder / "noria.yaml").read_text())
    world.policy(CANARY, ', freeze: ["2027-01-01 .. 2027-01-03"]')
    assert world.see(*GOOD).step == 0
    (world.folder / "noria.yaml").write_text("project: [")  # it is being edited: what is sealed holds
    assert world.look().step == 1


def test_a_newer_release_supersedes_an_undecided_one(world: World) -> None:
    world.policy(CANARY)
    world.enter("v2")
    first = world.newest.id
    world.enter("v3")
    assert RolloutStore.of(world.context).get(first).state is RolloutState.SUPERSEDED
    assert (world.route.candidate_version, world.bar("v2")) == ("v3", None)
    assert RolloutStore(world.context.ledger, "p").active("production") == world.newest


def test_without_a_server_it_waits_and_goes_on_by_itself(world: World) -> None:
    world.policy(CANARY)
    world.engine.here = False
    assert world.enter("v2")[0] is TurnOutcome.RELEASED
    assert "has no running server" in world.look().reason
    world.engine.here = True
    assert world.look().state is RolloutState.CANARY


# -- the ways back


def promoted(world: World, *versions: str) -> None:
    for version in versions:
        actions.promote(world.context, version, None, "ann")


def test_rolling_back_twice_goes_one_further_and_never_to_what_failed(world: World) -> None:
    world.policy(CANARY)
    promoted(world, "v2", "v3")
    world.engine.loaded.clear()
    assert actions.roll_back(world.context, None, "ann")["release"] == "v2"
    assert world.engine.loaded == []  # it was resident: a pointer flip
    assert actions.roll_back(world.context, None, "ann")["release"] == "v1"
    assert world.engine.loaded == [digest_of("v1")]
    with pytest.raises(RefusedError, match="no release to return to"):
        actions.roll_back(world.context, None, "ann")
    assert "asked by ann" in str(world.bar("v3"))


def test_a_rollback_to_what_could_not_be_served_is_no_success(world: World) -> None:
    """Number 48: with a key that was lost, or a damaged bundle, it reported success, and the next start served nothing."""
    world.policy(CANARY)
    promoted(world, "v2", "v3")
    world.engine.broken[digest_of("v2")] = "it is damaged"
    world.engine.here = False  # the one before is resident nowhere
    with pytest.raises(ServingError, match="v2 could not be loaded: it is damaged"):
        actions.roll_back(world.context, None, "ann")
    assert (world.route.champion_version, world.bar("v3")) == ("v3", None)
    world.engine.here = True
    with pytest.raises(ServingError, match="but v2 could not be loaded: it is damaged"):
        actions.roll_back(world.context, None, "ann")


def test_rolling_back_to_a_named_release(world: World) -> None:
    world.policy(CANARY)
    promoted(world, "v2", "v3")
    with pytest.raises(RefusedError, match="already serves"):
        actions.roll_back(world.context, None, "ann", "v3")
    ReleaseStore(world.context.ledger, "p").bar("v1", "withdrawn by bob: leaks")
    with pytest.raises(RefusedError, match="v1 is barred: withdrawn by bob: leaks"):
        actions.roll_back(world.context, None, "ann", "v1")
    ReleaseStore(world.context.ledger, "p").unbar("v1")
    (world.folder / "state" / "releases" / digest_of("v1") / "manifest.json").unlink()
    with pytest.raises(RefusedError, match="bundle of v1 is no longer on this machine"):
        actions.roll_back(world.context, None, "ann", "v1")
    world.engine.broken[digest_of("v4")] = "it is damaged"
    with pytest.raises(ServingError, match="v4 could not be loaded: it is damaged"):
        actions.roll_back(world.context, None, "ann", "v4")
    assert world.route.champion_version == "v3"
    assert actions.roll_back(world.context, None, "ann", "v2")["release"] == "v2"


def test_a_rollback_to_what_never_served_there_goes_out_as_a_promotion_does(world: World) -> None:
    """Else `--to` would be a way around approvals and freezes."""
    world.policy(CANARY, ", approvals: 2")
    world.enter("v2")
    with pytest.raises(NotFoundError, match="there is no release v9"):
        actions.roll_back(world.context, None, "ann", "v9")
    with pytest.raises(RefusedError, match="v2 needs 1 more approval for production"):
        actions.roll_back(world.context, None, "ann", "v2")
    world.policy(CANARY, ', freeze: ["2027-01-01 .. 2027-01-03"]')
    ClockStore(world.context.ledger, "p").set(1_798_800_000.0, 1.0)  # 2027-01-01 10:40 UTC
    with pytest.raises(RefusedError, match="nothing is released until the freeze") as frozen:
        actions.roll_back(world.context, None, "ann", "v2")
    assert "noria promote v2 --force" in str(frozen.value.hint)
    assert world.route.champion_version == "v1"
    world.policy(CANARY, ", approvals: 2")
    assert actions.roll_back(world.context, None, "bob", digest_of("v2")[:12])["release"] == "v2"
    assert (world.newest.state, world.newest.reason) == (
        RolloutState.SUPERSEDED,
        "v2 superseded: it takes all traffic at once, asked by bob",
    )
    world.policy(CANARY, ', freeze: ["2027-01-01 .. 2027-01-03"]')
    ReleaseStore(world.context.ledger, "p").unbar("v1")
    assert actions.roll_back(world.context, None, "ann", "v1")["release"] == "v1"  # it served here before


def test_a_rollback_ends_a_rollout_that_is_under_way(world: World) -> None:
    world.policy(CANARY)
    world.enter("v2")
    assert actions.roll_back(world.context, None, "ann")["release"] == "v1"
    assert world.newest.state is RolloutState.ROLLED_BACK


# -- probation


def on_probation(world: World) -> Rollout:
    world.policy("steps: [10%, 100%], replay: 0, probation: 1d, pairs: 25%")
    world.enter("v2")
    return world.see(*GOOD)


def test_probation_keeps_the_old_release_scoring_and_ends_by_the_clock(world: World) -> None:
    assert on_probation(world).state is RolloutState.PROBATION
    assert (world.route.champion_version, world.route.shadow, world.route.other) == ("v2", 0.25, digest_of("v1"))
    assert world.route.rollout_id == world.newest.id
    assert world.see((250, 0, 0), (1_000, 0, 9)).state is RolloutState.PROBATION
    assert world.newest.blocks[-1].share == pytest.approx(0.8)
    assert world.newest.blocks[-1].paired
    assert world.newest.look is not None
    assert world.newest.look.stands[1].harm == 1.0
    world.pass_time(86_401)
    ended = world.look()
    assert (ended.state, "probation is over" in ended.reason) == (RolloutState.PROMOTED, True)
    assert (world.route.champion_version, world.route.shadow, world.route.previous_version) == ("v2", 0.0, "v1")


def test_probation_goes_on_when_a_newer_candidate_has_gone(world: World) -> None:
    probing = on_probation(world)
    world.see((250, 0, 0), (1_000, 0, 0))
    world.enter("v3")
    assert (world.route.candidate_version, world.route.champion_version) == ("v3", "v2")
    actions.abort(world.context, None, "ann")
    assert (world.route.champion_version, world.route.shadow, world.route.other) == ("v2", 0.25, digest_of("v1"))
    assert world.route.rollout_id == probing.id
    world.see((250, 0, 0), (1_000, 900, 0))
    assert RolloutStore.of(world.context).get(probing.id).state is RolloutState.ROLLED_BACK
    assert world.route.champion_version == "v1"


def test_dropped_pairs_blame_nobody(world: World) -> None:
    """Half of the pairs never came: a failure is the new release's by a greater chance than was planned, and that is all."""
    on_probation(world)
    assert world.see((110, 1, 0), (1_000, 3, 0)).blocks[-1].share == pytest.approx(1 / (1 + 110 / 997))
    world.see((10, 0, 0), (10_000, 10_000, 0))
    assert world.newest.state is RolloutState.ROLLED_BACK  # one that always fails has few pairs too


def test_slow_answers_are_not_known_from_pairs(world: World) -> None:
    world.policy("steps: [shadow, 10%, 100%], replay: 0")
    world.enter("v2")
    assert world.see((4_000, 0, 0), (4_000, 0, 900)).step == 1  # slower at scoring afterwards is no harm
    assert world.see((180, 0, 0), (20, 0, 1)).state is RolloutState.CANARY  # and calm pairs vouch for no canary
    assert world.newest.look is not None
    assert world.newest.look.stands[1].safe < 5


def test_harm_in_probation_puts_the_old_release_back(world: World) -> None:
    on_probation(world)
    ended = world.see((250, 0, 0), (1_000, 90, 0))
    assert ended.state is RolloutState.ROLLED_BACK
    assert "in probation: errors: 90 of 90 events" in ended.reason
    assert (world.route.champion_version, world.route.shadow) == ("v1", 0.0)
    assert world.bar("v2") is not None


def test_a_newer_release_cuts_a_probation_short_only_when_it_takes_its_place(world: World) -> None:
    first = on_probation(world)
    world.enter("v3")
    assert RolloutStore.of(world.context).get(first.id).state is RolloutState.PROBATION
    world.see(*GOOD)
    assert "cut short: v3 took its place" in RolloutStore.of(world.context).get(first.id).reason
    assert world.newest.state is RolloutState.PROBATION


def test_a_rollback_by_hand_ends_probation(world: World) -> None:
    on_probation(world)
    assert actions.roll_back(world.context, None, "ann")["release"] == "v1"
    assert world.newest.state is RolloutState.ROLLED_BACK


def test_the_same_sealed_release_goes_from_staging_to_production_with_its_approvals(world: World) -> None:
    yaml = "project: p\nenvironments:\n  staging: {rollout: {steps: [50%, 100%], replay: 0}}\n"
    yaml += "  production: {after: staging, approvals: 1, rollout: direct}\n"
    (world.folder / "noria.yaml").write_text(yaml)
    for environment in config.load(world.folder).environments.values():
        champion.promote(world.context, environment, ReleaseStore(world.context.ledger, "p").get("v1"), "the first")
    project = config.load(world.folder)
    assert stage.roll_out(world.context, project, ReleaseStore(world.context.ledger, "p").get("v2"))[0] is TurnOutcome.ROLLING_OUT
    staging = RouteStore(world.context.ledger, "p").get("staging")
    assert staging is not None
    world.engine.told[-1] = staging
    world.see((1_500, 0, 0), (1_500, 0, 0))
    assert world.newest.state is RolloutState.WAITING
    assert (world.newest.environment, world.newest.digest) == ("production", digest_of("v2"))
    actions.approve(world.context, "v2", "production", "ann")
    world.look()
    assert world.route.champion == digest_of("v2")


def test_what_a_replay_lets_through_at_once_goes_on_to_the_next_environment(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("noria.delivery.replay_process.replay", lambda *_: Replayed(why="nothing was logged yet"))
    yaml = "project: p\nenvironments:\n  staging: {rollout: {steps: [100%], replay: 50}}\n"
    (world.folder / "noria.yaml").write_text(yaml + "  production: {after: staging, rollout: direct}\n")
    project = config.load(world.folder)
    for environment in project.environments.values():
        champion.promote(world.context, environment, ReleaseStore(world.context.ledger, "p").get("v1"), "the first")
    assert stage.roll_out(world.context, project, ReleaseStore(world.context.ledger, "p").get("v2"))[0] is TurnOutcome.ROLLING_OUT
    deadline = time.monotonic() + 120
    while world.route.champion_version != "v2":
        world.look()
        assert time.monotonic() < deadline


def test_a_replay_that_breaks_is_tried_again_later_and_held_beyond_patience(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine without memory ends it each time: that must not go on at each look, nor for ever."""
    tried, why = list[float](), "the replay of logged requests ended by SIGKILL"

    def broken(*_: object) -> Replayed:
        tried.append(time.monotonic())
        raise ServingError(why)

    monkeypatch.setattr("noria.delivery.replay_process.replay", broken)
    world.policy("steps: [10%, 100%], replay: 50, patience: 1h")
    world.enter("v2")
    until(lambda: (world.controller.reconcile(), world.newest.look)[1])
    for _ in range(5):
        world.controller.reconcile()
    assert (len(tried), world.newest.state) == (1, RolloutState.REPLAY)
    assert world.newest.look is not None
    assert world.newest.look.text == why
    until(lambda: (world.look(), len(tried) > 1)[1])  # when it has rested
    assert world.newest.state is RolloutState.REPLAY
    world.pass_time(3601.0)
    until(lambda: world.look().state is RolloutState.HELD)
    assert world.newest.reason == f"v2 held, there is no evidence: {why}"
    seen = len(tried)
    world.look()
    assert (len(tried), world.newest.state, world.route.candidate) == (seen, RolloutState.HELD, None)
    actions.resume(world.context, None, "ann")
    assert world.newest.state is RolloutState.REPLAY
    until(lambda: (world.look(), len(tried) > seen)[1])
    assert (world.newest.state, world.route.champion_version) == (RolloutState.REPLAY, "v1")  # patience counts anew


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_turn_that_died_between_two_environments_takes_up_where_it_was(world: World) -> None:
    yaml = "project: p\nenvironments:\n  staging: {rollout: {steps: [100%], replay: 0}}\n"
    (world.folder / "noria.yaml").write_text(yaml + "  production: {after: staging, rollout: direct}\n")
    project, ledger = config.load(world.folder), world.context.ledger
    for environment in project.environments.values():
        champion.promote(world.context, environment, ReleaseStore(ledger, "p").get("v1"), "the first")
    TriggerStore(ledger, "p").add(TriggerKind.MANUAL, "by hand")
    turn = TurnStore(ledger, "p").start()
    assert turn is not None
    release = ReleaseStore(ledger, "p").seal("9" * 64, "run-9", turn.id, ServedForm.COMPILED, "commit", {}, "9" * 64)
    assert (
        stage.start_rollout(world.context, project, project.environments["staging"], release)[0] is TurnOutcome.PROMOTED
    )  # and it dies
    told = len(world.engine.told)
    assert stage.roll_out(world.context, project, release)[0] is TurnOutcome.PROMOTED
    assert world.route.champion_version == release.version
    assert [route.environment for route in world.engine.told[told:]] == ["production"]
    assert stage.roll_out(world.context, project, release)[0] is TurnOutcome.PROMOTED
