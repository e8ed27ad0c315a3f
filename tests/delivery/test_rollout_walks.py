"""Random walks: turns, looks of two engines, people, bad releases and deaths in any order and in the middle of one another.

Whatever happened, nothing barred is put in service, no rollout is without its route or its end, and nothing is told twice.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from engine_stub import Scripted, line_of

from noria import config
from noria.delivery import champion
from noria.delivery import rollout as stage
from noria.delivery.driver import EngineCounts
from noria.delivery.rollout_controller import RolloutController
from noria.delivery.rollout_record import RolloutState
from noria.delivery.rollout_store import RolloutStore
from noria.engine import actions
from noria.kernel.errors import NoriaError, ServingError
from noria.kernel.trigger import TriggerKind
from noria.pipeline.trigger_store import TriggerStore
from noria.pipeline.turn_record import TurnOutcome
from noria.pipeline.turn_store import TurnStore
from noria.releases.release import Release, ServedForm
from noria.releases.store import ReleaseStore
from noria.serving.client import ArmTallies
from noria.serving.crash_record import Crashes, candidate_of
from noria.serving.route import Route
from noria.serving.route_store import RouteStore
from noria.serving.tallies import Tally
from noria.storage.clock import ClockStore
from noria.storage.jobs import JobStore

YAML = """\
project: p
environments:
  staging: {rollout: STAGING}
  canary: {after: staging, rollout: {steps: [100%], replay: 0}}
  production:
    after: canary
    approvals: 1
    rollout: {steps: [{shadow: 50%}, 20%, {approve: 1}, 100%], replay: 0, probation: 60s, patience: 5m}
"""
STAGING = ("direct", "{steps: [50%, 100%], replay: 0, probation: 30s}", "{steps: [10%, {pause: 5s}, 100%], replay: 0}")
UNDECIDED = (RolloutState.WAITING, RolloutState.REPLAY, RolloutState.CANARY, RolloutState.HELD)
STEPS, SEEDS = 60, 10


class DiedError(BaseException):
    """As `kill -9`: nobody catches it."""


class Chance(Scripted):
    """At any call something else may happen first, or the engine dies. Counts are kept by environment."""

    def __init__(self) -> None:
        super().__init__()
        self.meanwhile: Callable[[], None] = lambda: None
        self.counts: dict[tuple[str, int], ArmTallies] = {}

    def load(self, digest: str) -> str:
        self.meanwhile()
        return self.broken.get(digest, "")

    def set_routes(self, route: Route) -> str:
        self.meanwhile()
        return next((self.broken[d] for d in (route.candidate, route.champion) if d in self.broken), "")

    def drain(self, environment: str, digest: str) -> None:
        self.meanwhile()

    def stats(self, project: str, environment: str) -> EngineCounts:
        if not self.here:
            raise ServingError("the model server does not answer")
        found = {revision: seen for (name, revision), seen in self.counts.items() if name == environment}
        answer = EngineCounts(found, dict(self.refused), dict(self.crashes))
        self.meanwhile()
        return answer


class Walk:
    """One project on its way through chance."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.chance, self.engine = random.Random(seed), Chance()
        self.context = line_of(folder, self.engine, 1, YAML.replace("STAGING", STAGING[seed % len(STAGING)]))
        self.project, self.ledger = config.load(folder), self.context.ledger
        self.pilots = [RolloutController(self.context), RolloutController(self.context)]
        self.bad: set[str] = set()
        self.told_again: list[Release] = []  # turns that died, by their release
        self.wild, self.turning, self.depth, self.did = True, False, 0, list[str]()
        for environment in self.project.environments.values():
            champion.promote(self.context, environment, self.release("v1"), "the first")
        self.ledger.database.connection().execute("PRAGMA synchronous = OFF")  # nothing dies but by exception
        self.engine.meanwhile = self.interrupt
        self.watch_routes()

    def release(self, version: str) -> Release:
        return ReleaseStore(self.ledger, "p").get(version)

    def watch_routes(self) -> None:
        """Nothing that is barred is given requests; the ledger may die before any of its writes."""
        put, append = RouteStore(self.ledger, "p").put, self.ledger.events.append

        def checked(route: Route, expected_revision: int | None = None) -> Route:
            before = RouteStore(self.ledger, "p").get(route.environment)
            assert before is not None
            if route.champion != before.champion:
                assert self.release(route.champion_version).barred is None, (
                    f"{route.champion_version} is barred and gets to serve"
                )
            if route.candidate_version and (route.candidate, route.share) != (before.candidate, before.share):
                assert self.release(route.candidate_version).barred is None, f"{route.candidate_version} is barred and is tried"
            return put(route, expected_revision)

        def mortal(*of: Any, **facts: Any) -> Any:
            if self.wild and self.chance.random() < 0.02:
                raise DiedError
            return append(*of, **facts)

        RouteStore(self.ledger, "p").put = checked  # type: ignore[method-assign]
        self.ledger.events.append = mortal  # type: ignore[method-assign]

    def interrupt(self) -> None:
        """In the middle of something the engine dies, or somebody else acts."""
        assert not self.ledger.database.connection().in_transaction, "the server cannot see what is not committed"
        if not self.wild or self.depth > 2:
            return
        if self.chance.random() < 0.03:
            raise DiedError
        if self.chance.random() < 0.4:
            self.step()

    def step(self) -> None:
        """Something happens. Refusals are answers; who dies is followed by a new engine."""
        act = self.chance.choice(
            (self.turn, self.turn_again, self.look, self.look, self.look, self.person, self.person, self.world)
        )
        self.depth += 1
        try:
            act()
        except NoriaError as error:
            self.did.append(f"  {type(error).__name__}: {error.message}")
        except DiedError:
            if self.depth > 1:  # it is the same process
                raise
            self.did.append("  died")
            self.ledger.database.execute("UPDATE jobs SET lease_until = 0", ())
            self.pilots = [RolloutController(self.context), RolloutController(self.context)]
        finally:
            self.depth -= 1

    def turn(self) -> None:
        if self.turning:  # one at a time
            return
        TriggerStore(self.ledger, "p").add(TriggerKind.MANUAL, f"{self.chance.random()}")
        started = TurnStore(self.ledger, "p").start()
        assert started is not None
        number = len(ReleaseStore(self.ledger, "p").list()) + 1
        digest = f"{number:064x}"
        made = ReleaseStore(self.ledger, "p").seal(digest, f"run-{number}", started.id, ServedForm.COMPILED, "commit", {}, digest)
        bundle = self.context.bundle(digest)
        bundle.mkdir(parents=True, exist_ok=True)
        (bundle / "manifest.json").write_text('{"signature": {"task": "binary"}}')
        if self.chance.random() < 0.3:
            self.bad.add(digest)
        self.deliver(made)

    def turn_again(self) -> None:
        if self.told_again and not self.turning:
            self.deliver(self.told_again[-1])

    def deliver(self, release: Release) -> None:
        """As `engine.turn` does it from the seal on."""
        self.did.append(f"turn of {release.version}")
        if release not in self.told_again:
            self.told_again.append(release)
        self.turning = True
        try:
            outcome, text = stage.roll_out(self.context, self.project, release)
        finally:
            self.turning = False
        with self.ledger.transaction():
            recorded = TurnStore(self.ledger, "p").get(str(release.turn_id))
            if recorded.outcome in (TurnOutcome.RUNNING, TurnOutcome.ROLLING_OUT):
                TurnStore(self.ledger, "p").update(recorded.id, outcome=outcome, reason=text)
        self.told_again.remove(release)

    def look(self) -> None:
        controller = self.chance.choice(self.pilots)
        self.did.append("look")
        for name in self.project.environments:
            self.requests(name)
        controller._rests.clear()
        controller.reconcile()

    def requests(self, name: str) -> None:
        """Each release fails as it is; what nobody asks counts nothing."""
        route = RouteStore(self.ledger, "p").get(name)
        if route is None or route.rollout_id is None:
            return
        tried = route.candidate or route.champion
        old = 1_000 if route.candidate and not route.share else 2_000
        failed = 200 if tried in self.bad else 0
        key = (name, route.revision)
        seen = self.engine.counts.get(key, ArmTallies())
        arms = (Tally(old, 0, 0), Tally(1_000, failed, 0))
        if route.candidate is None:  # on probation the new release is the route's champion, and the old one scores
            arms = (Tally(1_000, 0, 0), Tally(1_000, failed, 0))
        self.engine.counts[key] = ArmTallies(_sum(seen.champion, arms[0]), _sum(seen.candidate, arms[1]))

    def person(self) -> None:
        version = self.chance.choice(ReleaseStore(self.ledger, "p").list()[:4]).version
        where = self.chance.choice(list(self.project.environments))
        acts: dict[str, Callable[[], object]] = {
            "hold": lambda: actions.hold(self.context, where, "ann"),
            "resume": lambda: actions.resume(self.context, where, "ann"),
            "abort": lambda: actions.abort(self.context, where, "ann"),
            "promote": lambda: actions.promote(self.context, version, where, "ann"),
            "roll back": lambda: actions.roll_back(self.context, where, "ann"),
            "roll back to": lambda: actions.roll_back(self.context, where, "ann", version),
            "approve": lambda: actions.approve(self.context, version, where, self.chance.choice(("ann", "bob"))),
            "withdraw": lambda: actions.withdraw(self.context, version, "leaks", "bob"),
            "lift": lambda: actions.lift(self.context, version, "bob"),
        }
        name = self.chance.choice(list(acts))
        self.did.append(f"ann: {name} {version} {where}")
        acts[name]()

    def world(self) -> None:
        """Time passes; the server goes or comes, starts anew, refuses a release, or one crashes there."""
        now = ClockStore(self.ledger, "p").now()
        ClockStore(self.ledger, "p").set(now + self.chance.choice((3.0, 20.0, 70.0)), 1.0)
        luck, newest = self.chance.random(), ReleaseStore(self.ledger, "p").list()[0].digest
        if luck < 0.15:
            self.engine.here = not self.engine.here
        elif luck < 0.25:
            self.engine.counts.clear()
        elif luck < 0.35:
            self.engine.broken = {} if self.engine.broken else {newest: "it is damaged"}
        elif luck < 0.45:
            active = RolloutStore(self.ledger, "p").active("production")
            if active is not None:
                self.engine.crashes = {active.digest: Crashes(2, 2, "SIGSEGV in worker 0", candidate_of(active.id))}

    # -- what always holds

    def check(self) -> None:
        for name in self.project.environments:
            route = RouteStore(self.ledger, "p").get(name)
            rollouts = [r for r in RolloutStore(self.ledger, "p").list(limit=1_000) if r.environment == name]
            active = [r for r in rollouts if r.state in UNDECIDED]
            probing = [r for r in rollouts if r.state is RolloutState.PROBATION]
            assert len(active) <= 1
            assert len(probing) <= 1
            assert route is not None
            for rollout in rollouts:
                assert (rollout.ended_at is None) == (rollout.state in (*UNDECIDED, RolloutState.PROBATION)), rollout
            state = active[0].resumes if active and active[0].state is RolloutState.HELD else active[0].state if active else None
            if state is RolloutState.CANARY:
                assert (route.rollout_id, route.candidate) == (active[0].id, active[0].digest)
            else:
                assert route.candidate is None
                assert route.share == 0.0
            if route.rollout_id is not None and route.candidate is None:
                assert [(r.id, r.digest) for r in probing] == [(route.rollout_id, route.champion)]

    def check_stories(self) -> None:
        events = self.ledger.events.tail("p", after=0, limit=100_000)
        told = Counter((event.kind, event.subject) for event in events)
        for rollout in RolloutStore(self.ledger, "p").list(limit=1_000):
            ends = ("rollout.rolled_back", "rollout.superseded")
            assert told["rollout.started", rollout.id] <= 1
            assert sum(told[kind, rollout.id] for kind in ends) <= 1
            assert sum(told[f"probation.{kind}", rollout.id] for kind in ("passed", "undecided", "cut")) <= 1
            if rollout.state is RolloutState.SUPERSEDED:
                assert told["rollout.superseded", rollout.id] == 1

    # -- the end

    def settle(self) -> None:
        """Everything works, people agree and nobody dies: then all that is under way comes to its end."""
        self.wild, self.engine.here = False, True
        self.engine.broken.clear()
        self.engine.crashes.clear()
        while self.told_again:
            self.deliver(self.told_again[-1])
        for _ in range(25):
            for name in self.project.environments:
                active = RolloutStore(self.ledger, "p").active(name)
                if active is not None and active.state is RolloutState.HELD:
                    actions.resume(self.context, name, "ann")
                if active is not None and not self.release(active.release).barred:
                    actions.approve(self.context, active.release, name, "cleo")
            ClockStore(self.ledger, "p").set(ClockStore(self.ledger, "p").now() + 40.0, 1.0)
            self.look()
            self.check()
            if self.is_over():
                return
        raise AssertionError("it never ended")

    def is_over(self) -> bool:
        names = self.project.environments
        busy = any(RolloutStore(self.ledger, "p").active(n) or RolloutStore(self.ledger, "p").probing(n) for n in names)
        return not busy and not JobStore(self.ledger, "p").open(champion.ONWARD)

    def check_turns(self) -> None:
        rollouts = RolloutStore(self.ledger, "p").list(limit=1_000)
        for turn in TurnStore(self.ledger, "p").list(limit=1_000):
            states = {champion.OUTCOMES[r.state] for r in rollouts if r.turn_id == turn.id}
            assert turn.outcome not in (TurnOutcome.RUNNING, TurnOutcome.ROLLING_OUT, TurnOutcome.HELD), turn
            direct = {TurnOutcome.PROMOTED, TurnOutcome.ROLLED_BACK, TurnOutcome.SUPERSEDED}
            assert turn.outcome in (states or direct) | {TurnOutcome.BARRED}, (turn, states)


def _sum(one: Tally, other: Tally) -> Tally:
    return Tally(one.requests + other.requests, one.errors + other.errors, one.slow + other.slow)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_whatever_happens_in_whatever_order_the_stories_agree(tmp_path: Path, seed: int) -> None:
    walk = Walk(tmp_path, seed)
    try:
        for _ in range(STEPS):
            walk.step()
            walk.check()
        walk.settle()
        walk.check_stories()
        walk.check_turns()
    except AssertionError as error:
        raise AssertionError("\n".join([str(error), *walk.did[-25:]])) from error
    finally:
        walk.ledger.close()
