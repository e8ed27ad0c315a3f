"""The champion of an environment: promotion and rollback. The route changes in one transaction; then the engine is notified."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
from msgspec.structs import replace

from noria.config import Environment, Project
from noria.delivery import judge_rollback_target
from noria.delivery.context import DeliveryContext
from noria.delivery.driver import EngineCounts, reachable
from noria.delivery.rollout_record import Rollout, RolloutState
from noria.delivery.rollout_store import RolloutStore
from noria.kernel.errors import LeaseLostError, NotFoundError, RefusedError, ServingError
from noria.kernel.verdict import Outcome, Reason
from noria.pipeline.context import PipelineContext
from noria.pipeline.served_training import ServedTraining
from noria.pipeline.turn_record import TurnOutcome
from noria.pipeline.turn_store import TurnStore
from noria.releases.bundle import MANIFEST
from noria.releases.release import Release
from noria.releases.store import ReleaseStore
from noria.serving import judge_crash
from noria.serving.crash_record import CHAMPION
from noria.serving.route import Route
from noria.serving.route_store import RouteStore
from noria.storage.clock import ClockStore
from noria.storage.jobs import JobStore

ONWARD = "onward"  # the kind of the job that takes a promoted release on to the next environments
ASK_AGAIN = "`noria status` shows what serves where; then try again."
OUTCOMES = {
    RolloutState.WAITING: TurnOutcome.RELEASED,
    RolloutState.REPLAY: TurnOutcome.ROLLING_OUT,
    RolloutState.CANARY: TurnOutcome.ROLLING_OUT,
    RolloutState.HELD: TurnOutcome.HELD,
    RolloutState.PROBATION: TurnOutcome.PROMOTED,
    RolloutState.PROMOTED: TurnOutcome.PROMOTED,
    RolloutState.ROLLED_BACK: TurnOutcome.ROLLED_BACK,
    RolloutState.SUPERSEDED: TurnOutcome.SUPERSEDED,
}


def serving(context: PipelineContext, project: Project) -> Release | None:
    """The release that a candidate must match: the one that serves the last environment, where quality counts most."""
    for environment in reversed(list(project.environments)):
        route = RouteStore.of(context).get(environment)
        if route is not None:
            return ReleaseStore.of(context).get(route.champion_version)
    return None


def served_training(context: PipelineContext, project: Project) -> ServedTraining | None:
    """How the release that a candidate must match was trained; None where nothing serves."""
    release = serving(context, project)
    if release is None:
        return None
    if release.imported or release.commit is None:
        return ServedTraining(release.version)
    evidence = context.bundle(release.digest) / "evidence"
    try:
        params = msgspec.json.decode((evidence / "params.json").read_bytes(), type=dict[str, Any])
        trained = msgspec.json.decode((evidence / "training.json").read_bytes())
        inputs = tuple(str(one["name"]) for one in trained["signature"]["inputs"])
    except (OSError, msgspec.DecodeError, LookupError, TypeError):
        return ServedTraining(release.version, release.commit, note="its record of parameters and inputs no longer exists")
    return ServedTraining(release.version, release.commit, params, inputs)


def close(context: DeliveryContext, rollout: Rollout, state: RolloutState, text: str) -> None:
    """Records the state of a rollout and of its turn, which ends unless the rollout is held or on probation."""
    now = time.time()
    ended = None if state in (RolloutState.HELD, RolloutState.PROBATION) else now
    clock = ClockStore.of(context).now()
    changes: dict[str, Any] = {"step_clock": clock, "step_at": now, "look": None} if state is RolloutState.PROBATION else {}
    RolloutStore.of(context).update(rollout.id, state=state, reason=text, ended_at=ended, **changes)
    if rollout.turn_id:
        turn_ended = None if state is RolloutState.HELD else now
        TurnStore.of(context).update(rollout.turn_id, outcome=OUTCOMES[state], reason=text, ended_at=turn_ended)


def demand_unchanged(context: DeliveryContext, rollout: Rollout) -> None:
    """Checks in the transaction that changes a rollout: raises LeaseLostError when somebody changed it since it was read."""
    now = RolloutStore.of(context).get(rollout.id)
    if (now.state, now.step) != (rollout.state, rollout.step):
        raise LeaseLostError(f"the rollout of {rollout.release} has been changed meanwhile: it is {now.state}")


@contextmanager
def route_change(context: DeliveryContext, rollout: Rollout, *, fit: bool = False) -> Iterator[None]:
    """Opens the transaction that changes a rollout, under the lease and from the state that was read. Raises LeaseLostError.

    ``fit``: the release is to get traffic.
    """
    with context.ledger.transaction():
        context.check_lease()
        demand_unchanged(context, rollout)
        if fit:
            demand_fit(context, rollout.release)
        yield


def demand_fit(context: DeliveryContext, version: str) -> None:
    """Checks in a transaction that a release may get traffic: raises LeaseLostError when it was barred since it was chosen."""
    barred = ReleaseStore.of(context).get(version).barred
    if barred:
        raise LeaseLostError(f"{version} has been barred meanwhile: {barred}", hint=f"`noria release lift {version}` lifts it.")


def put_after(context: DeliveryContext, read: Route | None, made: Route) -> Route:
    """Stores the next route in the open transaction. Raises LeaseLostError when somebody changed the route it was made from."""
    now = RouteStore.of(context).get(made.environment)
    if now != read:
        serves = now.champion_version if now else "nothing"
        raise LeaseLostError(f"the route of {made.environment} has been changed meanwhile: {serves} serves", hint=ASK_AGAIN)
    return RouteStore.of(context).put(made)


def serve_candidate(context: DeliveryContext, route: Route | None, release: Release) -> None:
    """Loads a release that no route names. Raises ServingError when that fails."""
    if route is None or release.digest not in (route.champion, route.candidate, route.previous):
        failure = context.driver.load(release.digest)
        if failure:
            raise unloadable(release.version, failure)


def promote(
    context: DeliveryContext,
    environment: Environment,
    release: Release,
    why: str,
    rollout: Rollout | None = None,
    *,
    onward: bool = False,
    tried: bool = False,
) -> str:
    """Makes ``release`` the champion; the one it replaces stays loaded. Returns one sentence.

    ``onward``: an engine shall bring it to the environments that come after, whatever becomes of this one.
    ``tried``: it was loaded already. If the server refuses it after all, the previous release is restored and this one is barred.

    Raises ServingError when it cannot be loaded, LeaseLostError when the route or the release was changed meanwhile; then
    nothing has changed.
    """
    route = RouteStore.of(context).get(environment.name)
    _demand_free(route, rollout)
    if not tried:
        serve_candidate(context, route, release)
    text = f"{release.version} serves all of {environment.name}: {why}"
    champion, state = _next_route(context, environment, release, route, rollout)
    with context.ledger.transaction():
        context.check_lease()
        if rollout is not None:
            demand_unchanged(context, rollout)
        demand_fit(context, release.version)
        made = put_after(context, route, champion)
        end_probation(context, environment.name, f"{release.version} took its place", but=rollout)
        if rollout is not None:
            close(context, rollout, state, text)
            if onward:
                JobStore.of(context).add(ONWARD, rollout.id, dedupe=f"{ONWARD}:{rollout.id}")
        context.event("rollout.promoted", release.version, text, environment=environment.name, digest=release.digest)
    failure = context.driver.set_routes(made)
    if failure and route is not None:
        why = f"{release.version} could not be loaded: {failure}"
        return restore_previous(context, environment.name, why, rollout=rollout, leaving=release.digest)
    if failure:
        raise unloadable(release.version, failure)
    return text


def promotion_words(context: DeliveryContext, environment: str, release: Release) -> str:
    """What the newest promotion of a release to an environment said: that it serves, and why."""
    for event in context.ledger.events.newest(context.name, kind="rollout.promoted"):
        if event.subject == release.version and event.facts.get("environment") == environment:
            return event.text
    return f"{release.version} serves all of {environment}"


def _demand_free(route: Route | None, rollout: Rollout | None) -> None:
    """Raises LeaseLostError when another rollout is at a step: replacing its route would leave it without an end."""
    if route is not None and route.candidate is not None and (rollout is None or route.rollout_id != rollout.id):
        text = f"the route of {route.environment} has been changed meanwhile: {route.candidate_version} is tried there"
        raise LeaseLostError(text, hint=ASK_AGAIN)


def _next_route(
    context: DeliveryContext, environment: Environment, release: Release, route: Route | None, rollout: Rollout | None
) -> tuple[Route, RolloutState]:
    """Returns the route with the new champion, and whether the champion is on probation."""
    changed = route is not None and route.champion != release.digest
    previous: tuple[str | None, str | None] = (None, None)
    if route is not None and changed:
        previous = (route.champion, route.champion_version)
    if route is not None and not changed:
        previous = (route.previous, route.previous_version)
    champion = Route(
        project=context.name,
        environment=environment.name,
        revision=0,
        champion=release.digest,
        champion_version=release.version,
        previous=previous[0],
        previous_version=previous[1],
        slow_ms=environment.rollout.guards.slow_ms,
    )
    if rollout is None or not changed or environment.rollout.probation_s <= 0:
        return champion, RolloutState.PROMOTED
    return replace(champion, shadow=environment.rollout.pairs, rollout_id=rollout.id), RolloutState.PROBATION


def unloadable(version: str, failure: str) -> ServingError:
    return ServingError(f"{version} could not be loaded: {failure}", hint="`noria show` shows what it is made of.")


def end_probation(context: DeliveryContext, environment: str, why: str, but: Rollout | None = None) -> None:
    """Ends the probation of a release that is replaced."""
    with context.ledger.transaction():
        probing = RolloutStore.of(context).probing(environment)
        if probing is not None and (but is None or probing.id != but.id):
            text = f"{probing.release} was promoted; its probation was cut short: {why}"
            RolloutStore.of(context).update(probing.id, state=RolloutState.PROMOTED, reason=text, ended_at=time.time())
            context.event("probation.cut", probing.id, text, release=probing.release)


def restore_previous(
    context: DeliveryContext,
    environment: str,
    why: str,
    wanted: str | None = None,
    rollout: Rollout | None = None,
    leaving: str | None = None,
) -> str:
    """Returns to an earlier release and bars the one that stops serving. If the earlier one is loaded, only the route changes;
    otherwise it is loaded first. ``leaving``: the digest found wanting, so that no other release is blamed.

    Raises NotFoundError, RefusedError when nothing can take over, ServingError when it cannot be loaded, LeaseLostError when
    the route was changed meanwhile.
    """
    route = RouteStore.of(context).get(environment)
    if route is None:
        raise NotFoundError(f"nothing serves in {environment}", hint="`noria status` shows the environments.")
    _demand_free(route, None)
    if leaving is not None and route.champion != leaving:
        text = f"the route of {environment} has been changed meanwhile: {route.champion_version} serves"
        raise LeaseLostError(text, hint=ASK_AGAIN)
    found = rollback_target(context, route, wanted)
    release = ReleaseStore.of(context).get(found.version)
    if release.digest != route.previous or not reachable(context.driver, context.name, environment):
        failure = context.driver.load(release.digest)
        if failure:
            raise unloadable(release.version, failure)
    text = f"{environment} rolled back from {route.champion_version} to {release.version}: {why}"
    flipped = replace(
        route.without_candidate(),
        champion=release.digest,
        champion_version=release.version,
        previous=route.champion,
        previous_version=route.champion_version,
    )
    probing = rollout or RolloutStore.of(context).probing(environment)
    with context.ledger.transaction():
        context.check_lease()
        demand_fit(context, release.version)
        made = put_after(context, route, flipped)
        ReleaseStore.of(context).bar(route.champion_version, text)
        if probing is not None and probing.digest == route.champion:
            close(context, probing, RolloutState.ROLLED_BACK, text)
        context.event("environment.rolled_back", environment, text, champion=flipped.champion)
    failure = context.driver.set_routes(made)
    if failure:
        raise ServingError(
            f"{text}; but {release.version} could not be loaded: {failure}", hint="`noria status` shows what answers."
        )
    return text


def rollback_target(context: DeliveryContext, route: Route, wanted: str | None) -> judge_rollback_target.RollbackTarget:
    """Returns the release that a rollback goes to. Raises RefusedError."""
    releases = ReleaseStore.of(context).list()
    here = {r.version for r in releases if (context.bundle(r.digest) / MANIFEST).is_file()}
    history = RouteStore.of(context).champions(route.environment)
    found = judge_rollback_target.target(history, {r.version: r.barred for r in releases}, route.champion_version, wanted, here)
    if isinstance(found, judge_rollback_target.Refusal):
        raise RefusedError(found.text, hint=found.hint)
    return found


def crash_loop(context: DeliveryContext, route: Route, stats: EngineCounts) -> Reason | None:
    """Returns why the champion must be replaced by an earlier release, or None."""
    crashes = stats.crashes.get(route.champion)
    if crashes is None or crashes.role != CHAMPION:
        return None
    reason = judge_crash.of_champion(crashes, _previous(context, route) is not None)
    return reason if reason is not None and _previous_loads(context, route) else None


def find_refusal(context: DeliveryContext, route: Route, stats: EngineCounts) -> Reason | None:
    """Returns why a champion that the server refuses must be replaced.

    None: tried again, it loads, or the previous release does not load either.
    """
    if route.champion not in stats.failed:
        return None
    why = context.driver.load(route.champion)
    if not why:
        context.driver.set_routes(route)
        return None
    if not _previous_loads(context, route):
        return None
    return Reason("environment.refused", f"it could not be loaded: {why}", Outcome.FAIL)


def _previous(context: DeliveryContext, route: Route) -> Release | None:
    """Returns the previous release, if it may take over."""
    release = ReleaseStore.of(context).get(route.previous_version) if route.previous_version is not None else None
    return release if release is not None and release.barred is None else None


def _previous_loads(context: DeliveryContext, route: Route) -> bool:
    """Whether the previous release loads. If none loads, the cause is elsewhere, and no release is barred for it."""
    release = _previous(context, route)
    return release is not None and not context.driver.load(release.digest)
