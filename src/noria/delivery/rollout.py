"""Roll out: from a sealed release to all traffic of an environment, step by step, as evidence and policy allow.

A rollout waits (for a server, approvals, the end of a freeze), answers logged requests, takes its steps, and is on probation
when it serves all traffic. Each change is one transaction; then the engine is told. Where it stands is in the ledger alone.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime

from msgspec.structs import replace

from noria.config import Environment, Project
from noria.delivery import champion, driver, judge_freeze, replay_process
from noria.delivery import judge_replay as judge
from noria.delivery.approval_store import ApprovalStore
from noria.delivery.champion import ONWARD, OUTCOMES, close, demand_unchanged, route_change
from noria.delivery.context import DeliveryContext
from noria.delivery.rollout_record import Rollout, RolloutState
from noria.delivery.rollout_store import RolloutStore
from noria.kernel import names
from noria.kernel.errors import LeaseLostError, RefusedError, ServingError
from noria.kernel.policy import Assign, RolloutStep, StepKind
from noria.kernel.verdict import Outcome
from noria.kernel.words import percent, plural
from noria.pipeline.turn_record import TurnOutcome
from noria.pipeline.turn_store import TurnStore
from noria.releases.release import Release
from noria.releases.store import ReleaseStore
from noria.serving import judge_crash
from noria.serving.crash_record import candidate_of
from noria.serving.route import Route
from noria.serving.route_store import RouteStore


def roll_out(context: DeliveryContext, project: Project, release: Release) -> tuple[TurnOutcome, str]:
    """Begin delivery: straight into environments that allow it, by steps where the policy says so.

    Returns the turn's outcome so far and one sentence. A rollout that live traffic decides is moved on by the rollout controller.
    """
    environments = list(project.environments.values())
    outcome, text = TurnOutcome.RELEASED, f"{release.version} waits for a promotion"
    started = RolloutStore.of(context).of_turn(release.turn_id)
    if started is not None:  # the turn was interrupted
        outcome, text = OUTCOMES[started.state], started.reason
        if outcome is not TurnOutcome.PROMOTED or context.ledger.jobs.known(context.name, ONWARD, started.id):
            return outcome, text
        environments = environments[list(project.environments).index(started.environment) + 1 :]
    for environment in environments:
        route = RouteStore.of(context).get(environment.name)
        if route is not None and route.champion == release.digest:
            outcome, text = TurnOutcome.PROMOTED, f"{release.version} serves all of {environment.name}"
            continue  # the turn was interrupted after that
        if _overtaken(context, environment, release):  # ... and told again late
            newer = f"{release.version} superseded: a newer release came to {environment.name}"
            return (TurnOutcome.SUPERSEDED, newer) if outcome is TurnOutcome.RELEASED else (outcome, text)
        outcome, text = start_rollout(context, project, environment, release)
        if outcome is not TurnOutcome.PROMOTED:
            return outcome, text
    return outcome, text


def start_rollout(
    context: DeliveryContext, project: Project, environment: Environment, release: Release
) -> tuple[TurnOutcome, str]:
    """Bring a release into one environment as its policy says; one that was barred meanwhile stays where it is."""
    barred = ReleaseStore.of(context).get(release.version).barred
    if barred:
        return TurnOutcome.BARRED, f"{release.version} is barred: {barred}"
    supersede(context, environment.name, f"{release.version} took its place")
    route = RouteStore.of(context).get(environment.name)
    rollout = Rollout(
        id=names.new_id("rollout"),
        project=context.name,
        environment=environment.name,
        turn_id=release.turn_id,
        release=release.version,
        digest=release.digest,
        state=RolloutState.WAITING,
        step=0,
        started_at=time.time(),
        before=route.champion_version if route else None,
        plan=tuple(step.words for step in environment.rollout.steps),
    )
    why = _waits(context, environment, rollout, route)
    if why is None and _at_once(environment, rollout, route):
        return _promote(context, environment, release, route)
    with context.ledger.transaction():
        context.check_lease()
        champion.demand_fit(context, release.version)
        _demand_none_under_way(context, environment.name)
        RolloutStore.of(context).start(replace(rollout, reason=f"{rollout.release} waits"))
    if why is not None:
        return TurnOutcome.RELEASED, _wait(context, rollout, why)
    return begin(context, environment, rollout, route)


def _demand_none_under_way(context: DeliveryContext, environment: str) -> None:
    """In a transaction. Raises LeaseLostError when another rollout began since room was made: one is under way at a time."""
    active = RolloutStore.of(context).active(environment)
    if active is not None:
        raise LeaseLostError(f"the rollout of {active.release} to {environment} began meanwhile")


def _promote(
    context: DeliveryContext, environment: Environment, release: Release, route: Route | None
) -> tuple[TurnOutcome, str]:
    try:
        text = champion.promote(context, environment, release, "first release" if route is None else "direct rollout")
        return _came_of(context, release), text
    except ServingError as error:
        if route is None:
            raise
        with context.ledger.transaction():
            ReleaseStore.of(context).bar(release.version, error.message)
            context.event("rollout.rolled_back", release.version, error.message, release=release.version)
        return TurnOutcome.ROLLED_BACK, error.message


def _came_of(context: DeliveryContext, release: Release) -> TurnOutcome:
    """Of a promotion: the server may have refused the release after all."""
    barred = ReleaseStore.of(context).get(release.version).barred
    return TurnOutcome.ROLLED_BACK if barred else TurnOutcome.PROMOTED


def _at_once(environment: Environment, rollout: Rollout, route: Route | None) -> bool:
    """Whether there is nothing to judge it by, and nothing to write about it but that it serves."""
    return route is None or environment.rollout.direct or route.champion == rollout.digest


def _waits(context: DeliveryContext, environment: Environment, rollout: Rollout, route: Route | None) -> str | None:
    """What a rollout waits for before it begins, or None."""
    frozen = freeze_words(context, environment)
    if frozen is not None:
        return f"until {frozen}"
    given = ApprovalStore.of(context).count(rollout.release, environment.name)
    if given < environment.approvals:
        missing = environment.approvals - given
        return f"for {plural(missing, 'approval')} for {environment.name} (`noria approve {rollout.release}`)"
    if not _at_once(environment, rollout, route) and not driver.reachable(context.driver, context.name, environment.name):
        return f"{environment.name} has no running server whose traffic could judge it"
    return None


def freeze_words(context: DeliveryContext, environment: Environment) -> str | None:
    """``the freeze `fri 16:00 .. mon 08:00` ends, 2026-11-23 08:00 UTC``; None when nothing is frozen."""
    found = judge_freeze.find_freeze(environment.freeze, context.ledger.clock.now(context.name))
    if found is None:
        return None
    window, until = found
    ends = f"{datetime.fromtimestamp(until, UTC):%Y-%m-%d %H:%M} UTC" if until < judge_freeze.LAST_S else "which never ends"
    return f"the freeze `{window.text}` of {environment.name} ends, {ends}"


def _wait(context: DeliveryContext, rollout: Rollout, why: str) -> str:
    """Write down what it waits for, once."""
    text = f"{rollout.release} waits {why}" if why.startswith(("for ", "until ")) else f"{rollout.release} waits: {why}"
    if text != rollout.reason:
        with route_change(context, rollout):
            RolloutStore.of(context).update(rollout.id, reason=text)
            if rollout.turn_id:
                TurnStore.of(context).update(rollout.turn_id, reason=text)
            context.event("rollout.waiting", rollout.id, text, release=rollout.release)
    return text


def continue_rollout(context: DeliveryContext, project: Project, rollout: Rollout) -> None:
    """A release that its rollout promoted enters the environments that come after, where it has not done so already.

    It may be long ago: it goes no further than where it still serves, and never over a newer release.
    """
    passed = {rollout.environment}
    for environment in project.environments.values():
        release = ReleaseStore.of(context).get(rollout.release)
        if environment.after not in passed or release.barred or _overtaken(context, environment, release):
            continue
        route = RouteStore.of(context).get(environment.name)
        newest = RolloutStore.of(context).newest(environment.name, release.version)
        if route is not None and route.champion == release.digest:
            passed.add(environment.name)
        elif newest is None or newest.started_at < rollout.started_at:
            outcome, text = start_rollout(context, project, environment, release)
            if outcome is TurnOutcome.PROMOTED:
                passed.add(environment.name)
            else:
                _tell_turn(context, environment, release, outcome, text)


def _overtaken(context: DeliveryContext, environment: Environment, release: Release) -> bool:
    """Whether another release serves where it comes from, or a newer one is where it would go."""
    before = RouteStore.of(context).get(environment.after) if environment.after else None
    if environment.after and (before is None or before.champion != release.digest):
        return True
    route, active = (
        RouteStore.of(context).get(environment.name),
        RolloutStore.of(context).active(environment.name),
    )
    there = [route.champion_version] if route else []
    there += [active.release] if active else []
    return any(names.version_number(version) > names.version_number(release.version) for version in there)


def _tell_turn(context: DeliveryContext, environment: Environment, release: Release, outcome: TurnOutcome, text: str) -> None:
    """What came of a release in the next environment, unless its rollout there went on since and has said so itself."""
    with context.ledger.transaction():
        newest = RolloutStore.of(context).newest(environment.name, release.version)
        if release.turn_id and (newest is None or OUTCOMES[newest.state] is outcome):
            TurnStore.of(context).update(release.turn_id, outcome=outcome, reason=text)


def proceed(context: DeliveryContext, environment: Environment, rollout: Rollout) -> None:
    """One that waited begins when nothing is in its way any more."""
    route = RouteStore.of(context).get(environment.name)
    why = _waits(context, environment, rollout, route)
    if why is not None:
        _wait(context, rollout, why)
    else:
        begin(context, environment, rollout, route, onward=True)


def begin(
    context: DeliveryContext, environment: Environment, rollout: Rollout, route: Route | None, *, onward: bool = False
) -> tuple[TurnOutcome, str]:
    """Replay first, where the policy asks for it; else the first step. ``onward``: as in `champion.promote`."""
    if _at_once(environment, rollout, route):
        release = ReleaseStore.of(context).get(rollout.release)
        text = champion.promote(context, environment, release, "what it waited for is there", rollout, onward=onward)
        return _came_of(context, release), text
    if environment.rollout.replay.requests == 0 or route is None:
        return live(context, environment, rollout, onward=onward)
    text = f"{rollout.release} answers logged requests of {environment.name} before any live one"
    with route_change(context, rollout, fit=True):
        RolloutStore.of(context).update(
            rollout.id,
            state=RolloutState.REPLAY,
            before=route.champion_version,
            patient_clock=context.ledger.clock.now(context.name),
            reason=text,
        )
        if rollout.turn_id:
            TurnStore.of(context).update(rollout.turn_id, outcome=TurnOutcome.ROLLING_OUT, reason=text)
        context.event("rollout.replay", rollout.id, text, release=rollout.release)
    return TurnOutcome.ROLLING_OUT, text


def replay(context: DeliveryContext, environment: Environment, rollout: Rollout) -> None:
    """Send logged requests to both releases; a difference that is too large ends the rollout."""
    route = RouteStore.of(context).get(environment.name)
    assert route is not None, "only beside a champion"
    failure = context.driver.load(rollout.digest)
    if failure:
        roll_back(context, rollout, f"{rollout.release} could not be loaded: {failure}")
        return
    policy = environment.rollout
    facts = replay_process.replay(
        context.state,
        context.name,
        environment.name,
        route.champion,
        rollout.digest,
        policy.replay.requests,
        route.deadline_ms,
        policy.guards.slow_ms,
    )
    reason = judge.judge(policy.replay, policy.guards, policy.false_alarm, facts)
    if RolloutStore.of(context).get(rollout.id).state is not RolloutState.REPLAY:
        return  # a person ended or held it meanwhile
    if reason.outcome is Outcome.FAIL:
        roll_back(context, rollout, f"{rollout.release} rolled back before any live request: {reason.text}")
        return
    context.event("rollout.replayed", rollout.id, f"{rollout.release}: {reason.text}", **reason.numbers)
    live(context, environment, rollout, onward=True)


def live(context: DeliveryContext, environment: Environment, rollout: Rollout, *, onward: bool) -> tuple[TurnOutcome, str]:
    """The first step on live traffic. ``onward``: as in `champion.promote`."""
    route = RouteStore.of(context).get(environment.name)
    assert route is not None, "only beside a champion"
    step, clock = environment.rollout.steps[0], context.ledger.clock.now(context.name)
    if step.kind is StepKind.CANARY and step.share == 1:
        release = ReleaseStore.of(context).get(rollout.release)
        text = champion.promote(context, environment, release, "no step of it is judged", rollout, onward=onward)
        return _came_of(context, release), text
    text = f"{rollout.release} {_takes(step)} {environment.name}, beside {route.champion_version}"
    with route_change(context, rollout, fit=True):
        RolloutStore.of(context).update(
            rollout.id,
            state=RolloutState.CANARY,
            before=route.champion_version,
            started_at=time.time(),
            step_at=time.time(),
            step_clock=clock,
            patient_clock=clock,
            reason=text,
        )
        made = champion.put_after(context, route, at_step(route, rollout, environment, step))
        if rollout.turn_id:
            TurnStore.of(context).update(rollout.turn_id, outcome=TurnOutcome.ROLLING_OUT, reason=text)
        context.event("rollout.started", rollout.id, text, release=rollout.release, share=made.share, shadow=made.shadow)
    failure = context.driver.set_routes(made)
    if failure:
        return TurnOutcome.ROLLED_BACK, roll_back(context, rollout, f"{rollout.release} could not be loaded: {failure}")
    return TurnOutcome.ROLLING_OUT, text


def _takes(step: RolloutStep) -> str:
    if step.kind is StepKind.CANARY:
        return f"takes {percent(step.share)} of"
    if step.kind is StepKind.SHADOW:
        return f"scores {percent(step.share)} of the requests too, and answers none, in"
    return "is loaded, without traffic, in"


def at_step(route: Route, rollout: Rollout, environment: Environment, step: RolloutStep) -> Route:
    """The route while a rollout is at a step; a pause and a question leave the shares as they are."""
    policy = environment.rollout
    tried = replace(
        route,
        candidate=rollout.digest,
        candidate_version=rollout.release,
        rollout_id=rollout.id,
        slow_ms=policy.guards.slow_ms,
        sticky=policy.assign is Assign.KEY,
    )
    if step.kind is StepKind.CANARY:
        return replace(tried, share=step.share, shadow=policy.pairs if policy.guards.quality is not None else 0.0)
    if step.kind is StepKind.SHADOW:
        return replace(tried, share=0.0, shadow=step.share)
    if route.rollout_id == rollout.id:
        return tried
    return replace(tried, share=0.0, shadow=0.0)


def advance(context: DeliveryContext, environment: Environment, rollout: Rollout, route: Route, why: str) -> None:
    """The next step. What a pause or a question took does not count against patience."""
    steps, clock = environment.rollout.steps, context.ledger.clock.now(context.name)
    done, step = steps[rollout.step], steps[rollout.step + 1]
    rested = clock - rollout.step_clock if not done.judged else 0.0
    made = at_step(route, rollout, environment, step)
    moved = f"goes from {percent(route.share)} to {percent(made.share)}" if made.share != route.share else "goes on"
    text = f"{rollout.release} {moved}: {why}"
    with route_change(context, rollout, fit=True):
        made = champion.put_after(context, route, made) if made != route else route
        RolloutStore.of(context).update(
            rollout.id,
            step=rollout.step + 1,
            step_clock=clock,
            step_at=time.time(),
            patient_clock=rollout.patient_clock + rested,
            reason=text,
            look=None,
        )
        context.event("rollout.advanced", rollout.id, text, share=made.share, shadow=made.shadow)
    context.driver.set_routes(made)


def supersede(context: DeliveryContext, environment: str, why: str) -> None:
    """An undecided rollout makes room for a newer one."""
    active = RolloutStore.of(context).active(environment)
    if active is not None:
        _end(context, active, RolloutState.SUPERSEDED, f"{active.release} superseded: {why}")


def roll_back(context: DeliveryContext, rollout: Rollout, why: str) -> str:
    """End a rollout: the champion takes all traffic, the candidate is barred until a person lifts it."""
    _end(context, rollout, RolloutState.ROLLED_BACK, why)
    return why


def _end(context: DeliveryContext, rollout: Rollout, state: RolloutState, text: str) -> None:
    with context.ledger.transaction():
        context.check_lease()
        active = RolloutStore.of(context).active(rollout.environment)
        if active is None or active.id != rollout.id:  # held or not, it must be undecided still
            demand_unchanged(context, rollout)
        route = RouteStore.of(context).get(rollout.environment)
        made = None
        if route is not None and route.rollout_id == rollout.id:
            made = RouteStore.of(context).put(_alone(context, route))
        if state is RolloutState.ROLLED_BACK and ReleaseStore.of(context).get(rollout.release).barred is None:
            ReleaseStore.of(context).bar(rollout.release, text)  # else the first reason stays
        close(context, rollout, state, text)
        context.event(f"rollout.{state.name.lower()}", rollout.id, text, release=rollout.release)
    if made is not None:
        context.driver.set_routes(made)
        context.driver.drain(rollout.environment, rollout.digest)


def _alone(context: DeliveryContext, route: Route) -> Route:
    """The champion without the candidate. If it is on probation still, the release before scores requests again as it did."""
    alone = route.without_candidate()
    probing = RolloutStore.of(context).probing(route.environment)
    if probing is None or probing.digest != route.champion:
        return alone
    history = RouteStore.of(context).history(route.environment)
    judged = next((known for known in history if known.rollout_id == probing.id and known.candidate is None), None)
    return replace(alone, shadow=judged.shadow, rollout_id=probing.id) if judged is not None else alone


def hold(context: DeliveryContext, rollout: Rollout, why: str) -> str:
    """The share stays as it is, and a person decides. Harm still ends it."""
    with route_change(context, rollout):
        close(context, rollout, RolloutState.HELD, why)
        RolloutStore.of(context).update(rollout.id, resumes=rollout.state)
        context.event("rollout.held", rollout.id, why, release=rollout.release)
    return why


def resume(context: DeliveryContext, rollout: Rollout, why: str) -> str:
    """A held one goes on where it stood; patience counts anew. Raises RefusedError."""
    if rollout.state is not RolloutState.HELD:
        raise RefusedError(f"the rollout of {rollout.release} is not held: it is {rollout.state}")
    state = rollout.resumes or RolloutState.CANARY
    text = f"{rollout.release} goes on: {why}"
    with route_change(context, rollout):
        RolloutStore.of(context).update(
            rollout.id, state=state, resumes=None, reason=text, patient_clock=context.ledger.clock.now(context.name)
        )
        if rollout.turn_id:
            TurnStore.of(context).update(rollout.turn_id, outcome=OUTCOMES[state], reason=text)
        context.event("rollout.resumed", rollout.id, text, release=rollout.release)
    return text


def rollback_environment(context: DeliveryContext, environment: str, why: str, wanted: str | None = None) -> str:
    """Put an earlier release back; a rollout on its way is ended instead, unless a release is named."""
    active = RolloutStore.of(context).active(environment)
    waits = active is not None and RolloutState.WAITING in (active.state, active.resumes)
    if active is not None and not waits and wanted is None:
        return roll_back(context, active, f"{active.release} rolled back: {why}")
    if active is not None and wanted is not None:
        champion.rollback_target(context, RouteStore.of(context).get(environment) or _nothing(environment), wanted)
        itself = wanted == active.release
        supersede(
            context, environment, f"it takes all traffic at once, {why}" if itself else f"{environment} goes back to {wanted}"
        )
    return champion.restore_previous(context, environment, why, wanted)


def _nothing(environment: str) -> Route:
    raise RefusedError(f"nothing serves in {environment}")


def is_withdrawn_by_crashes(context: DeliveryContext, rollout: Rollout, stats: driver.EngineCounts) -> bool:
    """Roll a candidate back that the server refuses, or has suspended because it crashes; whether it did."""
    refused, crashes = stats.failed.get(rollout.digest), stats.crashes.get(rollout.digest)
    crashed = judge_crash.of_candidate(crashes) if crashes and crashes.role == candidate_of(rollout.id) else None
    if refused:
        roll_back(context, rollout, f"{rollout.release} could not be loaded: {refused}")
    elif crashed is not None:
        roll_back(context, rollout, f"{rollout.release} rolled back: {crashed.text}")
    return bool(refused) or crashed is not None


def restore_after_crashes(context: DeliveryContext, route: Route, why: str) -> str:
    """Put a release back that served before, unless somebody changed the route meanwhile. Returns one sentence."""
    if RouteStore.of(context).get(route.environment) != route:
        return "the route has changed"
    supersede(context, route.environment, f"{route.champion_version} gives way")
    text = f"{route.champion_version} rolled back: {why}"
    return champion.restore_previous(context, route.environment, text, leaving=route.champion)
