"""The rollout controller advances rollouts and probations, one analysis after another, under a lease."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING

from msgspec.structs import replace

from noria import config
from noria.config import Environment, Project
from noria.delivery import analysis, champion
from noria.delivery import rollout as stage
from noria.delivery.analysis import AnalysisContext
from noria.delivery.context import DeliveryContext
from noria.delivery.driver import EngineCounts, EngineStats
from noria.delivery.rollout_record import Rollout, RolloutState
from noria.delivery.rollout_store import RolloutStore
from noria.kernel.errors import ConfigError, LeaseLostError, ServingError
from noria.kernel.policy import Freeze
from noria.kernel.verdict import Reason
from noria.releases.store import ReleaseStore
from noria.serving.route import Route
from noria.serving.route_store import RouteStore
from noria.storage.jobs import JobStore
from noria.storage.lease import HeldJob

if TYPE_CHECKING:
    from noria.delivery.shadow_evidence import ShadowEvidence

SLOW = (RolloutState.WAITING, RolloutState.PROBATION, RolloutState.HELD)  # may last for days, and each analysis costs a write
SLOW_S = 1.0
AGAIN_S = 30.0  # between two replays of a rollout, and between two attempts to load a refused champion
REFUSED_S = 5.0  # a champion must be refused for this long before the controller acts
ONWARD_S = 60.0  # between two attempts to reach the next environments; after the fifth, a person must look


class RolloutController:
    """Advances rollouts. It keeps only what it has read of the prediction log; the state of each rollout is in the ledger."""

    def __init__(self, context: DeliveryContext) -> None:
        self._context = context
        self._books: dict[str, ShadowEvidence | None] = {}  # by rollout
        self._rests: dict[str, float] = {}  # by rollout, by environment: not looked at before, monotonic seconds
        self._policies: dict[str, Project] = {}  # by release: what is sealed does not change
        self._refused: dict[str, tuple[int, float]] = {}  # by environment: since when its champion is refused, at which revision
        self._replays: dict[str, Future[None]] = {}  # by rollout: it takes seconds, and nobody else shall wait

    def reconcile(self) -> None:
        """Analyses everything under way once; a release that gets promoted goes on to the next environment."""
        under_way, failed = set[str](), list[BaseException]()
        self._collect_replays()
        for name in self._environments():
            try:
                self._reconcile_environment(name, under_way)
            except BaseException as error:  # noqa: BLE001 - raised below: one environment's trouble holds up no other
                failed.append(error)
        try:
            self._continue_promoted()
        except BaseException as error:  # noqa: BLE001 - raised below
            failed.append(error)
        self._books = {key: book for key, book in self._books.items() if key in under_way}
        self._rests = {key: until for key, until in self._rests.items() if until > time.monotonic()}
        if failed:
            raise next((error for error in failed if not isinstance(error, LeaseLostError)), failed[0])

    def _reconcile_environment(self, name: str, under_way: set[str]) -> None:
        """Analyses one environment: its champion, its release on probation, its rollout."""
        context = self._context
        engine = EngineStats(context.driver, context.name, name)
        if time.monotonic() >= self._rests.get(name, 0.0):
            self._rests[name] = time.monotonic() + SLOW_S
            if guard(context, name, engine) or self._handle_refusal(name, engine):
                return  # another release serves now: the engine's counts of the one before are outdated
        probing, active = RolloutStore.of(context).probing(name), RolloutStore.of(context).active(name)
        for rollout in filter(None, (probing, active)):
            under_way.add(rollout.id)
            if self._is_due(rollout):
                self._under_lease(rollout, engine)

    def _handle_refusal(self, name: str, engine: EngineStats) -> bool:
        """Replaces a champion that the server refuses, unless its promoter did so first; returns whether it did."""
        context, now = self._context, time.monotonic()
        route = RouteStore.of(context).get(name)
        with contextlib.suppress(ServingError):  # no server, no refusal
            if route is None or route.champion not in engine.stats().failed:
                self._refused.pop(name, None)
                return False
            revision, since = self._refused.setdefault(name, (route.revision, now))
            if revision != route.revision:
                self._refused[name] = (route.revision, now)
            elif now - since >= REFUSED_S:
                self._rests[name] = now + AGAIN_S  # each attempt loads releases
                return guard(context, name, engine, champion.find_refusal)
        return False

    def _collect_replays(self) -> None:
        """Collects the replays that ended; raises what one of them raised."""
        for key in [key for key, replay in self._replays.items() if replay.done()]:
            replay = self._replays.pop(key)
            self._rests[f"replay {key}"] = (
                time.monotonic() + AGAIN_S
            )  # after a failure: a machine without memory has none a moment later
            replay.result()

    def _continue_promoted(self) -> None:
        """Takes promoted releases on to the next environments, also those that a killed engine promoted."""
        context = self._context
        for rollout_id in JobStore.of(context).open(champion.ONWARD):
            if time.monotonic() < self._rests.get(f"{champion.ONWARD} {rollout_id}", 0.0):
                continue
            self._rests[f"{champion.ONWARD} {rollout_id}"] = time.monotonic() + ONWARD_S  # where it fails
            held = HeldJob.claim(context.ledger, context.name, champion.ONWARD, rollout_id)
            if held is None:
                continue
            with held:
                rollout = RolloutStore.of(context).get(rollout_id)
                stage.continue_rollout(held.over(context), project_of(context, rollout), rollout)
                held.finish("")

    def _is_due(self, rollout: Rollout) -> bool:
        """Whether a rollout is due. A replay runs in the background."""
        if rollout.id in self._replays:
            return False
        if rollout.state is RolloutState.REPLAY:
            if time.monotonic() >= self._rests.get(f"replay {rollout.id}", 0.0):
                self._replays[rollout.id] = in_background(lambda: self._under_lease(rollout, self._engine_stats(rollout)))
            return False
        if time.monotonic() < self._rests.get(rollout.id, 0.0):
            return False
        if rollout.state in SLOW:
            self._rests[rollout.id] = time.monotonic() + SLOW_S
        return True

    def _environments(self) -> list[str]:
        """Returns the environments that have a route, or whose first release waits."""
        context = self._context
        named = [route.environment for route in RouteStore.of(context).all()]
        return list(dict.fromkeys([*named, *RolloutStore.of(context).waiting()]))

    def _engine_stats(self, rollout: Rollout) -> EngineStats:
        return EngineStats(self._context.driver, self._context.name, rollout.environment)

    def _under_lease(self, rollout: Rollout, engine: EngineStats) -> None:
        """Analyses a rollout, unless another engine holds its lease."""
        context = self._context
        held = HeldJob.claim(context.ledger, context.name, "rollout", rollout.id)
        if held is None:
            return
        with held:
            self._analyse(held.over(context), rollout.id, engine)
            now = RolloutStore.of(context).get(rollout.id)
            if now.ended_at is not None:
                held.finish(str(now.state))

    def _analyse(self, context: DeliveryContext, rollout_id: str, engine: EngineStats) -> None:
        """Analyses one rollout. A server that does not answer is waited for: no data is not healthy, but not harm either."""
        rollout = RolloutStore.of(context).get(rollout_id)
        if rollout.ended_at is not None:
            return  # by somebody else, before the lease was had
        barred = ReleaseStore.of(context).get(rollout.release).barred
        if barred and rollout.state is not RolloutState.PROBATION:  # in another environment, since it is on its way here
            stage.roll_back(context, rollout, f"{rollout.release} rolled back: it is barred: {barred}")
            return
        project, environment = self._policy(rollout)
        try:
            if rollout.state is RolloutState.WAITING:
                stage.proceed(context, environment, rollout)
            elif rollout.state is RolloutState.REPLAY:
                stage.replay(context, environment, rollout)
            elif rollout.state is RolloutState.PROBATION:
                analysis.analyse_probation(context, self._make_context(context, project, environment, rollout, engine), rollout)
            elif rollout.state is RolloutState.CANARY or rollout.resumes is not RolloutState.WAITING:
                analysis.analyse(context, self._make_context(context, project, environment, rollout, engine), rollout)
        except ServingError as error:
            analysis.stop_for_lost_evidence(context, environment, rollout, error.message)

    def _policy(self, rollout: Rollout) -> tuple[Project, Environment]:
        """Returns the policy of a rollout, with the freezes of the current project file added."""
        if rollout.digest not in self._policies:
            self._policies[rollout.digest] = project_of(self._context, rollout)
        project = self._policies[rollout.digest]
        environment = project.environments[rollout.environment]
        today: tuple[Freeze, ...] = ()
        with contextlib.suppress(ConfigError):  # while somebody edits it
            now = config.load(self._context.home).environments.get(rollout.environment)
            today = now.freeze if now is not None else ()
        return project, replace(environment, freeze=tuple(dict.fromkeys((*environment.freeze, *today))))

    def _make_context(
        self, context: DeliveryContext, project: Project, environment: Environment, rollout: Rollout, engine: EngineStats
    ) -> AnalysisContext:
        if rollout.id not in self._books:
            self._books[rollout.id] = analysis.evidence_of(context, environment, rollout)
        return AnalysisContext(project, environment, self._books[rollout.id], engine)


def in_background(work: Callable[[], None]) -> Future[None]:
    """Runs in a thread that does not keep the process alive: an interrupted replay is repeated."""
    done: Future[None] = Future()

    def run() -> None:
        try:
            work()
            done.set_result(None)
        except BaseException as error:  # noqa: BLE001 - whatever it was, the controller raises it
            done.set_exception(error)

    threading.Thread(target=run, name="replay", daemon=True).start()
    return done


def project_of(context: DeliveryContext, rollout: Rollout) -> Project:
    """Returns the project with the policy of a rollout: the one sealed with the release."""
    sealed = context.bundle(rollout.digest) / "code"
    return config.load(sealed if (sealed / "noria.yaml").is_file() else context.home)


Judge = Callable[[DeliveryContext, Route, EngineCounts], Reason | None]


def guard(context: DeliveryContext, environment: str, engine: EngineStats, judge: Judge = champion.crash_loop) -> bool:
    """Rolls back a champion that crashes repeatedly or does not load; returns whether it was tried."""
    route = RouteStore.of(context).get(environment)
    with contextlib.suppress(ServingError):  # no server, no crashes
        reason = judge(context, route, engine.stats()) if route is not None else None
        held = (
            HeldJob.claim(context.ledger, context.name, "guard", f"{environment} {route.revision}") if route and reason else None
        )
        if route and reason and held:
            with held:
                held.finish(stage.restore_after_crashes(held.over(context), route, reason.text))
            return True
    return False
