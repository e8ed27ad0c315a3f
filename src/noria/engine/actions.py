"""What a person may do, by command or by call: roll back, promote, ask for a turn, set the replay's clock.

Each has its entry in `engine.action_table`.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime

from noria import config
from noria.config import Environment
from noria.delivery import champion
from noria.delivery import rollout as stage
from noria.delivery.approval_store import ApprovalStore
from noria.delivery.context import DeliveryContext
from noria.delivery.rollout_record import Rollout, RolloutState
from noria.delivery.rollout_store import RolloutStore
from noria.engine.action import demand_person
from noria.kernel.errors import NotFoundError, RefusedError, UsageError
from noria.kernel.trigger import TriggerKind
from noria.kernel.words import plural
from noria.pipeline.trigger_store import TriggerStore
from noria.releases.release import Release
from noria.releases.store import ReleaseStore
from noria.serving.route_store import RouteStore


def environment_named(context: DeliveryContext, name: str | None) -> Environment:
    """The environment of that name; the last one, where production is, when none is named."""
    environments = config.load(context.home).environments
    if name is None:
        return list(environments.values())[-1]
    if name not in environments:
        raise NotFoundError(f"there is no environment {name!r}", hint=f"noria.yaml has: {', '.join(environments)}.")
    return environments[name]


def roll_back(context: DeliveryContext, environment: str | None, actor: str, to: str | None = None) -> dict[str, object]:
    """Put the release before back, or the one that is named; a rollout on its way is ended instead, where none is named.

    What leaves is barred. ``ms`` is from here to the last worker's acknowledgement. To what never served there no way leads back:
    it goes out, and needs what a promotion needs. Raises NotFoundError, RefusedError.
    """
    begun = time.perf_counter()
    target = environment_named(context, environment)
    wanted = ReleaseStore.of(context).get(to) if to is not None else None
    if wanted is not None and not wanted.barred and wanted.version not in RouteStore.of(context).champions(target.name):
        _demand_may_go_out(context, wanted, target, actor)
    text = stage.rollback_environment(context, target.name, f"asked by {actor}", wanted.version if wanted else None)
    route = RouteStore.of(context).get(target.name)
    return _done(target, route.champion_version if route else None, text, begun)


def promote(
    context: DeliveryContext, release: str, environment: str | None, actor: str, *, force: bool = False
) -> dict[str, object]:
    """Make a sealed release the champion by hand; it lifts a bar, and counts as an approval.

    Raises RefusedError while more people must approve, and in a freeze unless ``force``.
    """
    begun = time.perf_counter()
    target = environment_named(context, environment)
    sealed = ReleaseStore.of(context).get(release)
    route = RouteStore.of(context).get(target.name)
    if route is not None and route.champion == sealed.digest and route.candidate is None:
        raise RefusedError(f"{sealed.version} already serves {target.name}", hint="`noria status` shows what serves where.")
    _demand_may_go_out(context, sealed, target, actor, force=force)
    active = RolloutStore.of(context).active(target.name)
    rollout = active if active is not None and active.digest == sealed.digest else None
    champion.serve_candidate(context, route, sealed)  # before anything is changed
    if rollout is None:
        stage.supersede(context, target.name, f"{sealed.version} was promoted by {actor}")
    if sealed.barred:
        lift(context, sealed.version, actor)
    text = champion.promote(context, target, sealed, f"asked by {actor}", rollout, tried=True)
    serves = RouteStore.of(context).get(target.name)
    return _done(target, serves.champion_version if serves else None, text, begun)


def _demand_may_go_out(
    context: DeliveryContext, release: Release, target: Environment, actor: str, *, force: bool = False
) -> None:
    """Nothing is frozen, and enough people said yes, this one among them. Raises RefusedError."""
    demand_person(actor)
    frozen = stage.freeze_words(context, target)
    if frozen is not None and not force:
        raise RefusedError(
            f"nothing goes out until {frozen}",
            hint=f"`noria promote {release.version} --force` does all the same; a rollback to what served before always may.",
        )
    missing = _record_approval(context, release, target, actor)
    if missing:
        raise RefusedError(
            f"{release.version} needs {plural(missing, 'more approval')} for {target.name}; yours is recorded",
            hint=f"Others say `noria approve {release.version}`, or promote it.",
        )


def approve(context: DeliveryContext, release: str, environment: str | None, actor: str) -> dict[str, object]:
    """One person's approval of a sealed release for an environment; a rollout that waits for it goes on by itself."""
    begun = time.perf_counter()
    target = environment_named(context, environment)
    sealed = ReleaseStore.of(context).get(release)
    if sealed.barred:
        raise RefusedError(
            f"{sealed.version} is barred: {sealed.barred}", hint=f"`noria release lift {sealed.version}` lifts it."
        )
    missing = _record_approval(context, sealed, target, actor)
    text = f"{sealed.version} is approved for {target.name} by {actor}"
    return _done(target, sealed.version, f"{text}; {missing} more needed" if missing else text, begun) | {"missing": missing}


def _record_approval(context: DeliveryContext, release: Release, environment: Environment, actor: str) -> int:
    """Record an approval; how many more the environment asks for."""
    with context.ledger.transaction():
        ApprovalStore.of(context).add(release.version, environment.name, actor)
        text = f"{actor} approves of {release.version} for {environment.name}"
        context.event("release.approved", release.version, text, environment=environment.name)
    return max(0, environment.approvals - ApprovalStore.of(context).count(release.version, environment.name))


def hold(context: DeliveryContext, environment: str | None, actor: str, why: str = "") -> dict[str, object]:
    """A rollout stays where it is until somebody resumes it; harm still ends it."""
    target, rollout, begun = *_under_way(context, environment), time.perf_counter()
    if rollout.state is RolloutState.HELD:
        text = f"the rollout of {rollout.release} is held already: {rollout.reason}"
        raise RefusedError(text, hint="`noria rollout resume` goes on with it.")
    text = stage.hold(context, rollout, f"{rollout.release} held by {actor}{f': {why}' if why else ''}")
    return _done(target, rollout.release, text, begun)


def resume(context: DeliveryContext, environment: str | None, actor: str) -> dict[str, object]:
    """A held rollout goes on; patience counts anew."""
    target, rollout, begun = *_under_way(context, environment), time.perf_counter()
    return _done(target, rollout.release, stage.resume(context, rollout, f"resumed by {actor}"), begun)


def abort(context: DeliveryContext, environment: str | None, actor: str, why: str = "") -> dict[str, object]:
    """End a rollout: the champion takes all traffic, the candidate is barred until a person lifts it."""
    target, rollout, begun = *_under_way(context, environment), time.perf_counter()
    text = stage.roll_back(context, rollout, f"{rollout.release} aborted by {actor}{f': {why}' if why else ''}")
    return _done(target, rollout.release, text, begun)


def _under_way(context: DeliveryContext, environment: str | None) -> tuple[Environment, Rollout]:
    target = environment_named(context, environment)
    rollout = RolloutStore.of(context).active(target.name)
    if rollout is None:
        probing = RolloutStore.of(context).probing(target.name)
        on = f"; {probing.release} is on probation, `noria rollback` ends that" if probing else ""
        raise NotFoundError(f"no rollout is under way in {target.name}{on}", hint="`noria status` shows what serves where.")
    return target, rollout


def _done(environment: Environment, release: str | None, text: str, begun: float) -> dict[str, object]:
    ms = round((time.perf_counter() - begun) * 1000, 1)
    return {"environment": environment.name, "release": release, "text": text, "ms": ms}


def trigger(context: DeliveryContext, reason: str, actor: str) -> dict[str, object]:
    """Ask the daemon for a turn."""
    with context.ledger.transaction():
        made = TriggerStore.of(context).add(TriggerKind.MANUAL, f"{actor}: {reason}")
        if made is None:
            raise RefusedError("an equal trigger is already waiting")
        context.event("trigger.seen", made.id, f"manual: {reason} ({actor})")
    return {"trigger": made.id, "text": f"a turn is asked for: {reason}; the daemon begins it, now or when it starts"}


def set_clock(context: DeliveryContext, at: str, speed: float, actor: str) -> dict[str, object]:
    """Anchor the project clock of a replay: ``at`` (ISO 8601) is now, and it runs ``speed`` times as fast as the wall clock."""
    try:
        moment = datetime.fromisoformat(at)
        moment = moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError):  # in UTC it may lie outside of the years 1 to 9999
        raise UsageError(f"{at!r} is not a time", hint="Use ISO 8601, as in 2013-04-01T00:00:00+00:00.") from None
    if not 0.0 <= speed <= 1e9:
        raise UsageError(f"speed {speed:g} is not between 0 and a billion")
    context.ledger.clock.set(context.name, moment.timestamp(), speed, actor)
    told = moment.isoformat()
    return {"at": told, "speed": speed, "actor": actor, "text": f"the project clock stands at {told}, speed {speed:g}"}


def withdraw(context: DeliveryContext, release: str, why: str, actor: str) -> dict[str, object]:
    """Bar a sealed release, and turns with its pins, until a person lifts it. Raises RefusedError while it serves somewhere, or
    is on its way."""
    if not why.strip():
        raise UsageError("a release is withdrawn for a reason", hint="`--why` tells it.")
    reason = f"withdrawn by {actor}: {' '.join(why.split())}"
    with context.ledger.transaction():  # nothing is promoted in between
        sealed = ReleaseStore.of(context).get(release)
        if sealed.barred:
            raise RefusedError(
                f"{sealed.version} is barred already: {sealed.barred}", hint=f"`noria release lift {sealed.version}`."
            )
        _refuse_in_use(context, sealed)
        ReleaseStore.of(context).bar(sealed.version, reason)
        context.event("release.withdrawn", sealed.version, f"{sealed.version} {reason}")
    return {"release": sealed.version, "barred": reason, "text": f"{sealed.version} {reason}"}


def _refuse_in_use(context: DeliveryContext, release: Release) -> None:
    for route in RouteStore.of(context).all():
        if route.champion == release.digest:
            raise RefusedError(
                f"{release.version} serves {route.environment}",
                hint=f"`noria rollback --environment {route.environment}` puts an earlier release back, and bars this one.",
            )
        if route.project == context.name and route.candidate == release.digest:
            raise _on_its_way(release, route.environment)
    for rollout in RolloutStore.of(context).list():
        if rollout.digest == release.digest and rollout.ended_at is None:
            raise _on_its_way(release, rollout.environment)


def _on_its_way(release: Release, environment: str) -> RefusedError:
    return RefusedError(
        f"{release.version} is being rolled out to {environment}",
        hint=f"`noria rollout abort --environment {environment}` ends that, and bars it.",
    )


def lift(context: DeliveryContext, release: str, actor: str) -> dict[str, object]:
    """Lift the bar of a release: it may be promoted again, and turns may release its pins. Raises RefusedError when there is
    none."""
    with context.ledger.transaction():
        sealed = ReleaseStore.of(context).get(release)
        if not sealed.barred:
            raise RefusedError(f"{sealed.version} is not barred", hint=f"`noria promote {sealed.version}` lets it serve.")
        ReleaseStore.of(context).unbar(sealed.version)
        text = f"the bar of {sealed.version} is lifted by {actor}; it was: {sealed.barred}"
        context.event("release.lifted", sealed.version, text)
    return {"release": sealed.version, "was": sealed.barred, "text": text}
