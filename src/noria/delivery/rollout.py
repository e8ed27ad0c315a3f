"""Roll out: brings a sealed release to all traffic of an environment, step by step, as evidence and policy allow.

A rollout waits (for a server, approvals, the end of a freeze), answers logged requests, takes its steps, and is on probation
when it serves all traffic. Each change is one transaction; then the engine is notified. The state is only in the ledger.
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
from noria.delivery.rollout_record import ASKS_APPROVAL, ASKS_DECISION, FROZEN, NO_SERVER, Analysis, Rollout, RolloutState
from noria.delivery.rollout_store import RolloutStore
from noria.kernel import names
from noria.kernel.errors import LeaseLostError, RefusedError, ServingError
from noria.kernel.policy import Assign, RolloutStep, StepKind
from noria.kernel.verdict import Outcome, Reason
from noria.kernel.words import percent, plural
from noria.pipeline.turn_record import TurnOutcome
from noria.pipeline.turn_store import TurnStore
from noria.releases.decision_store import DecisionStore
from noria.releases.release import Release
from noria.releases.store import ReleaseStore
from noria.serving import judge_crash
from noria.serving.crash_record import candidate_of
from noria.serving.route import Route
from noria.serving.route_store import RouteStore
from noria.storage.clock import ClockStore
from noria.storage.jobs import JobStore


def roll_out(context: DeliveryContext, project: Project, release: Release) -> tuple[TurnOutcome, str]:
    """Starts the delivery of a release: directly, or by steps, as the policy of each environment says.

    Returns the turn's outcome so far and one sentence. The rollout controller advances a rollout that live traffic decides.
    """
    environments = list(project.environments.values())
    outcome, text = TurnOutcome.RELEASED, f"{release.version} waits for a promotion"
    started = RolloutStore.of(context).of_turn(release.turn_id)
    if started is not None:  # the turn was interrupted
        outcome, text = OUTCOMES[started.state], started.reason
        if outcome is not TurnOutcome.PROMOTED or JobStore.of(context).known(ONWARD, started.id):
            return outcome, text
        environments = environments[list(project.environments).index(started.environment) + 1 :]
    for environment in environments:
        route = RouteStore.of(context).get(environment.name)
        if route is not None and route.champion == release.digest:
            outcome, text = TurnOutcome.PROMOTED, champion.promotion_words(context, environment.name, release)
            continue  # the turn was interrupted after that
        if _overtaken(context, environment, release):  # ... and rerun late
            newer = f"{release.version} superseded: a newer release came to {environment.name}"
            return (TurnOutcome.SUPERSEDED, newer) if outcome is TurnOutcome.RELEASED else (outcome, text)
        outcome, text = start_rollout(context, project, environment, release)
        if outcome is not TurnOutcome.PROMOTED:
            return outcome, text
    return outcome, text


def start_rollout(
    context: DeliveryContext, project: Project, environment: Environment, release: Release
) -> tuple[TurnOutcome, str]:
    """Starts a release's rollout in one environment as its policy says; a release that was barred meanwhile does not start."""
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
    """Checks in a transaction that no other rollout began; only one is under way at a time. Raises LeaseLostError."""
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
    """Returns the outcome of a promotion: the server may have refused the release after all."""
    barred = ReleaseStore.of(context).get(release.version).barred
    return TurnOutcome.ROLLED_BACK if barred else TurnOutcome.PROMOTED


def _at_once(environment: Environment, rollout: Rollout, route: Route | None) -> bool:
    """Whether the release is promoted at once, because nothing can judge it."""
    return route is None or environment.rollout.direct or route.champion == rollout.digest


def _waits(context: DeliveryContext, environment: Environment, rollout: Rollout, route: Route | None) -> Reason | None:
    """Returns what a rollout waits for before it starts, or None."""
    frozen = freeze_words(context, environment)
    if frozen is not None:
        return Reason(FROZEN, f"{rollout.release} waits until {frozen}")
    undecided = DecisionStore.of(context).undecided(rollout.release)
    if undecided:
        asked = "; ".join(decision.asked for decision in undecided)
        accept = f"noria release accept {rollout.release} --why REASON"
        return Reason(ASKS_DECISION, f"{rollout.release} waits for a person (`{accept}`): {asked}")
    given = ApprovalStore.of(context).count(rollout.release, environment.name)
    if given < environment.approvals:
        missing = environment.approvals - given
        needed = f"{plural(missing, 'approval')} for {environment.name}"
        return Reason(ASKS_APPROVAL, f"{rollout.release} waits for {needed} (`noria approve {rollout.release}`)")
    if not _at_once(environment, rollout, route) and not driver.reachable(context.driver, context.name, environment.name):
        why = f"{environment.name} has no running server whose traffic could judge it"
        return Reason(NO_SERVER, f"{rollout.release} waits: {why}")
    return None


def freeze_words(context: DeliveryContext, environment: Environment) -> str | None:
    """``the freeze `fri 16:00 .. mon 08:00` ends, 2026-11-23 08:00 UTC``; None when nothing is frozen."""
    found = judge_freeze.find_freeze(environment.freeze, ClockStore.of(context).now())
    if found is None:
        return None
    window, until = found
    ends = f"{datetime.fromtimestamp(until, UTC):%Y-%m-%d %H:%M} UTC" if until < judge_freeze.LAST_S else "which never ends"
    return f"the freeze `{window.text}` of {environment.name} ends, {ends}"


def _wait(context: DeliveryContext, rollout: Rollout, why: Reason) -> str:
    """Records once what the rollout waits for."""
    if why.text != rollout.reason or rollout.look is None:
        with route_change(context, rollout):
            look = Analysis(time.time(), why.text, code=why.code)
            RolloutStore.of(context).update(rollout.id, reason=why.text, look=look)
            if why.text == rollout.reason:
                return why.text  # of an earlier version, which kept no code
            if rollout.turn_id:
                TurnStore.of(context).update(rollout.turn_id, reason=why.text)
            context.event("rollout.waiting", rollout.id, why.text, release=rollout.release)
    return why.text


def continue_rollout(context: DeliveryContext, project: Project, rollout: Rollout) -> None:
    """Takes a promoted release on to the next environments where it has not been yet.

    If the promotion was long ago, the release must still serve, and it never replaces a newer one.
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
    """Records on the turn what happened in the next environment, unless the rollout there has already recorded it."""
    with context.ledger.transaction():
        newest = RolloutStore.of(context).newest(environment.name, release.version)
        if release.turn_id and (newest is None or OUTCOMES[newest.state] is outcome):
            TurnStore.of(context).update(release.turn_id, outcome=outcome, reason=text)


def proceed(context: DeliveryContext, environment: Environment, rollout: Rollout) -> None:
    """Starts a waiting rollout when nothing blocks it any more."""
    route = RouteStore.of(context).get(environment.name)
    why = _waits(context, environment, rollout, route)
    if why is not None:
        _wait(context, rollout, why)
    else:
        begin(context, environment, rollout, route, onward=True)


def begin(
    context: DeliveryContext, environment: Environment, rollout: Rollout, route: Route | None, *, onward: bool = False
) -> tuple[TurnOutcome, str]:
    """Starts with a replay if the policy asks for one, else with the first step. ``onward``: as in `champion.promote`."""
    if _at_once(environment, rollout, route):
        release = ReleaseStore.of(context).get(rollout.release)
        text = champion.promote(context, environment, release, "what it waited for has come", rollout, onward=onward)
        return _came_of(context, release), text
    if environment.rollout.replay.requests == 0 or route is None:
        return live(context, environment, rollout, onward=onward)
    text = f"{rollout.release} answers logged requests of {environment.name} before any live one"
    with route_change(context, rollout, fit=True):
        RolloutStore.of(context).update(
            rollout.id,
            state=RolloutState.REPLAY,
            before=route.champion_version,
            patient_clock=ClockStore.of(context).now(),
            reason=text,
            look=None,
        )
        if rollout.turn_id:
            TurnStore.of(context).update(rollout.turn_id, outcome=TurnOutcome.ROLLING_OUT, reason=text)
        context.event("rollout.replay", rollout.id, text, release=rollout.release)
    return TurnOutcome.ROLLING_OUT, text


def replay(context: DeliveryContext, environment: Environment, rollout: Rollout) -> None:
    """Sends logged requests to both releases; a difference that is too large ends the rollout."""
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
    """Starts the first step on live traffic. ``onward``: as in `champion.promote`."""
    route = RouteStore.of(context).get(environment.name)
    assert route is not None, "only beside a champion"
    step, clock = environment.rollout.steps[0], ClockStore.of(context).now()
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
            look=None,
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
    """Returns the route for a step of a rollout; a pause or an approval step keeps the shares."""
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
    steps, clock = environment.rollout.steps, ClockStore.of(context).now()
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
    """Ends an undecided rollout because a newer one takes its place."""
    active = RolloutStore.of(context).active(environment)
    if active is not None:
        _end(context, active, RolloutState.SUPERSEDED, f"{active.release} superseded: {why}")


def roll_back(context: DeliveryContext, rollout: Rollout, why: str) -> str:
    """Ends a rollout: the champion takes all traffic; the candidate is barred until a person lifts the bar."""
    _end(context, rollout, RolloutState.ROLLED_BACK, why)
    return why


def _end(context: DeliveryContext, rollout: Rollout, state: RolloutState, text: str) -> None:
    with context.ledger.transaction():
        context.check_lease()
        active = RolloutStore.of(context).active(rollout.environment)
        if active is None or active.id != rollout.id:  # held or not, it must still be undecided
            demand_unchanged(context, rollout)
        route = RouteStore.of(context).get(rollout.environment)
        made = None
        if route is not None and route.rollout_id == rollout.id:
            made = RouteStore.of(context).put(_alone(context, route))
        if state is RolloutState.ROLLED_BACK and ReleaseStore.of(context).get(rollout.release).barred is None:
            ReleaseStore.of(context).bar(rollout.release, text)  # otherwise the first reason stays
        close(context, rollout, state, text)
        context.event(f"rollout.{state.name.lower()}", rollout.id, text, release=rollout.release)
    if made is not None:
        context.driver.set_routes(made)
        context.driver.drain(rollout.environment, rollout.digest)


def _alone(context: DeliveryContext, route: Route) -> Route:
    """Returns the route of the champion alone. If it is still on probation, the previous release scores requests again."""
    alone = route.without_candidate()
    probing = RolloutStore.of(context).probing(route.environment)
    if probing is None or probing.digest != route.champion:
        return alone
    history = RouteStore.of(context).history(route.environment)
    judged = next((known for known in history if known.rollout_id == probing.id and known.candidate is None), None)
    return replace(alone, shadow=judged.shadow, rollout_id=probing.id) if judged is not None else alone


def hold(context: DeliveryContext, rollout: Rollout, why: str) -> str:
    """Holds a rollout at its share until a person decides. Harm still ends it."""
    with route_change(context, rollout):
        close(context, rollout, RolloutState.HELD, why)
        RolloutStore.of(context).update(rollout.id, resumes=rollout.state)
        context.event("rollout.held", rollout.id, why, release=rollout.release)
    return why


def resume(context: DeliveryContext, rollout: Rollout, why: str) -> str:
    """Resumes a held rollout at its step; its patience starts again. Raises RefusedError."""
    if rollout.state is not RolloutState.HELD:
        raise RefusedError(f"the rollout of {rollout.release} is not held: it is {rollout.state}")
    state = rollout.resumes or RolloutState.CANARY
    text = f"{rollout.release} goes on: {why}"
    with route_change(context, rollout):
        RolloutStore.of(context).update(
            rollout.id, state=state, resumes=None, reason=text, patient_clock=ClockStore.of(context).now()
        )
        if rollout.turn_id:
            TurnStore.of(context).update(rollout.turn_id, outcome=OUTCOMES[state], reason=text)
        context.event("rollout.resumed", rollout.id, text, release=rollout.release)
    return text


def rollback_environment(context: DeliveryContext, environment: str, why: str, wanted: str | None = None) -> str:
    """Returns to an earlier release, or ends the rollout under way, unless a release is named."""
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
    """Rolls back a candidate that the server refuses, or suspended because it crashes; returns whether it did."""
    refused, crashes = stats.failed.get(rollout.digest), stats.crashes.get(rollout.digest)
    crashed = judge_crash.of_candidate(crashes) if crashes and crashes.role == candidate_of(rollout.id) else None
    if refused:
        roll_back(context, rollout, f"{rollout.release} could not be loaded: {refused}")
    elif crashed is not None:
        roll_back(context, rollout, f"{rollout.release} rolled back: {crashed.text}")
    return bool(refused) or crashed is not None


def restore_after_crashes(context: DeliveryContext, route: Route, why: str) -> str:
    """Returns to a release that served before, unless somebody changed the route meanwhile. Returns one sentence."""
    if RouteStore.of(context).get(route.environment) != route:
        return "the route has changed"
    supersede(context, route.environment, f"{route.champion_version} is replaced")
    text = f"{route.champion_version} rolled back: {why}"
    return champion.restore_previous(context, route.environment, text, leaving=route.champion)
