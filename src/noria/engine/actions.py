"""The functions behind the actions of people: roll back, promote, trigger a turn, set the replay's clock.

Each has its entry in `engine.action_table`.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime

from msgspec.structs import replace

from noria import config
from noria.config import Environment
from noria.data import quarantine_decisions
from noria.delivery import champion
from noria.delivery import rollout as stage
from noria.delivery.approval_store import ApprovalStore
from noria.delivery.context import DeliveryContext
from noria.delivery.rollout_record import Rollout, RolloutState
from noria.delivery.rollout_store import RolloutStore
from noria.engine.action import demand_person
from noria.engine.policy_change import policy_change
from noria.kernel.errors import NotFoundError, RefusedError, UsageError
from noria.kernel.trigger import TriggerKind
from noria.kernel.words import plural
from noria.pipeline.trigger_store import TriggerStore
from noria.releases.decision_store import DecisionStore
from noria.releases.policy_store import PolicyStore
from noria.releases.release import Release
from noria.releases.store import ReleaseStore
from noria.serving.route_store import RouteStore
from noria.storage.clock import ClockStore


def environment_named(context: DeliveryContext, name: str | None) -> Environment:
    """The environment of that name; the last one, where production is, when none is named."""
    environments = config.load(context.home).environments
    if name is None:
        return list(environments.values())[-1]
    if name not in environments:
        raise NotFoundError(f"there is no environment {name!r}", hint=f"noria.yaml has: {', '.join(environments)}.")
    return environments[name]


def roll_back(context: DeliveryContext, environment: str | None, actor: str, to: str | None = None) -> dict[str, object]:
    """Returns to the previous release, or to the named one.

    Without a name, a rollout under way is ended instead. The release that stops serving is barred. ``ms`` is from here to the
    last worker's acknowledgement. A release that never served there cannot be rolled back to: it is promoted, under the rules of
    a promotion. Raises NotFoundError, RefusedError.
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
    """Raises RefusedError during a freeze, or while approvals are missing; this actor's approval is recorded."""
    demand_person(actor)
    frozen = stage.freeze_words(context, target)
    if frozen is not None and not force:
        raise RefusedError(
            f"nothing is released until {frozen}",
            hint=f"`noria promote {release.version} --force` promotes it anyway; a rollback is always allowed.",
        )
    undecided = DecisionStore.of(context).undecided(release.version)
    if undecided:
        raise RefusedError(
            f"{release.version} waits for a person: {'; '.join(decision.asked for decision in undecided)}",
            hint=f"`noria release accept {release.version} --why REASON` accepts it; `noria rollout abort` declines it.",
        )
    missing = _record_approval(context, release, target, actor)
    if missing:
        raise RefusedError(
            f"{release.version} needs {plural(missing, 'more approval')} for {target.name}; your approval is recorded",
            hint=f"Others can run `noria approve {release.version}`, or promote it.",
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


def accept(context: DeliveryContext, release: str, why: str, actor: str) -> dict[str, object]:
    """Accepts what gates or policy left to a person about a sealed release; a rollout that waits for it goes on by itself."""
    reason = _reason(why, "accepting a release")
    with context.ledger.transaction():
        sealed = ReleaseStore.of(context).get(release)
        if sealed.barred:
            text = f"{sealed.version} is barred: {sealed.barred}"
            raise RefusedError(text, hint=f"`noria release lift {sealed.version}` lifts the bar.")
        undecided = DecisionStore.of(context).undecided(sealed.version)
        if not undecided:
            raise RefusedError(f"nothing about {sealed.version} waits for a decision", hint="`noria status` shows what waits.")
        for decision in undecided:
            DecisionStore.of(context).accept(sealed.version, decision.kind, actor, reason)
        asked = "; ".join(decision.asked for decision in undecided)
        text = f"{actor} accepts {sealed.version}: {reason} ({asked})"
        kinds = [str(decision.kind) for decision in undecided]
        context.event("release.accepted", sealed.version, text, kinds=kinds, why=reason)
    return {"release": sealed.version, "accepted": kinds, "text": text}


def approve_policy(context: DeliveryContext, why: str, actor: str) -> dict[str, object]:
    """Approves what noria.yaml and contracts in the project's folder change of the policy in force: they judge from now on."""
    reason = _reason(why, "approving a change of policy")
    with context.ledger.transaction():
        change = policy_change(context, config.load(context.home))
        if change is None:
            raise RefusedError("the policy of the project's folder is the one in force", hint="`noria policy` shows it.")
        if change.approval is not None:
            raise RefusedError(f"{change.approval.actor} approved this change already", hint="`noria run` judges by it.")
        PolicyStore.of(context).approve(change.before, change.after, change.text, actor, reason)
        text = f"{actor} approves a change of the policy of {change.since}: {change.text} ({reason})"
        context.event("policy.approved", change.after, text, before=change.before, after=change.after, why=reason)
    return {"since": change.since, "changes": change.text, "text": text}


def _record_approval(context: DeliveryContext, release: Release, environment: Environment, actor: str) -> int:
    """Record an approval; how many more the environment asks for."""
    with context.ledger.transaction():
        ApprovalStore.of(context).add(release.version, environment.name, actor)
        text = f"{actor} approves of {release.version} for {environment.name}"
        context.event("release.approved", release.version, text, environment=environment.name)
    return max(0, environment.approvals - ApprovalStore.of(context).count(release.version, environment.name))


def hold(context: DeliveryContext, environment: str | None, actor: str, why: str = "") -> dict[str, object]:
    """Holds a rollout at its step until somebody resumes it; evidence of harm still ends it."""
    target, rollout, begun = *_under_way(context, environment), time.perf_counter()
    if rollout.state is RolloutState.HELD:
        text = f"the rollout of {rollout.release} is already held: {rollout.reason}"
        raise RefusedError(text, hint="`noria rollout resume` resumes it.")
    text = stage.hold(context, rollout, f"{rollout.release} held by {actor}{f': {why}' if why else ''}")
    return _done(target, rollout.release, text, begun)


def resume(context: DeliveryContext, environment: str | None, actor: str) -> dict[str, object]:
    """Resumes a held rollout; its patience starts again."""
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
    """Ask the daemon to start a turn."""
    with context.ledger.transaction():
        made = TriggerStore.of(context).add(TriggerKind.MANUAL, f"{actor}: {reason}")
        if made is None:
            raise RefusedError("an equal trigger is already waiting")
        context.event("trigger.seen", made.id, f"manual: {reason} ({actor})")
    return {"trigger": made.id, "text": f"a turn is requested: {reason}; the daemon starts it, now or when `noria up` runs"}


def set_clock(context: DeliveryContext, at: str, speed: float, actor: str) -> dict[str, object]:
    """Anchor the project clock of a replay: ``at`` (ISO 8601) is now, and it runs ``speed`` times as fast as the wall clock."""
    try:
        moment = datetime.fromisoformat(at)
        moment = moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError):  # in UTC it may lie outside of the years 1 to 9999
        raise UsageError(f"{at!r} is not a time", hint="Use ISO 8601, as in 2013-04-01T00:00:00+00:00.") from None
    if not 0.0 <= speed <= 1e9:
        raise UsageError(f"speed {speed:g} is not between 0 and a billion")
    ClockStore.of(context).set(moment.timestamp(), speed, actor)
    told = moment.isoformat()
    return {"at": told, "speed": speed, "actor": actor, "text": f"the project clock stands at {told}, speed {speed:g}"}


def withdraw(context: DeliveryContext, release: str, why: str, actor: str) -> dict[str, object]:
    """Bar a sealed release, and turns with its pins, until a person lifts it. Raises RefusedError while it serves somewhere, or
    is on its way."""
    reason = f"withdrawn by {actor}: {_reason(why, 'withdrawing a release')}"
    with context.ledger.transaction():  # so that nothing is promoted in between
        sealed = ReleaseStore.of(context).get(release)
        if sealed.barred:
            raise RefusedError(
                f"{sealed.version} is already barred: {sealed.barred}", hint=f"`noria release lift {sealed.version}`."
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
                hint=f"`noria rollback --environment {route.environment}` returns to an earlier release, and bars this one.",
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


def release_delivery(context: DeliveryContext, delivery: str, why: str, actor: str) -> dict[str, object]:
    """Let a refused file in as it is: it becomes part of its dataset, and a turn is asked for where data starts turns."""
    project = context.contracts(context, config.load(context.home))
    refused, made = quarantine_decisions.release(
        replace(context, actor=actor), project, delivery, _reason(why, "releasing a file")
    )
    if "data" in project.retrain.on:
        with context.ledger.transaction():
            asked = TriggerStore.of(context).add(TriggerKind.DATA, f"{refused.name} was released from quarantine")
            assert asked is not None, "without a key for it, no trigger is the same as another"
            context.event("trigger.seen", asked.id, f"{asked.kind}: {asked.reason}")
    text = f"{refused.name} {made.reason}; {plural(made.rows_passed, 'row')} of it are part of {refused.dataset} now"
    found = {"delivery": refused.id, "name": refused.name, "dataset": refused.dataset, "accepted_as": made.id}
    return found | {"rows": made.rows_passed, "text": text}


def discard_delivery(context: DeliveryContext, delivery: str, why: str, actor: str) -> dict[str, object]:
    """Say that a refused file will not come again: its rows go with the next collection."""
    refused = quarantine_decisions.discard(replace(context, actor=actor), delivery, _reason(why, "discarding a file"))
    text = f"{refused.name} discarded by {actor}; `noria gc` deletes its rows"
    return {"delivery": refused.id, "name": refused.name, "dataset": refused.dataset, "text": text}


def _reason(why: str, what: str) -> str:
    """The reason that a person gives, on one line. Raises UsageError without one."""
    if not why.strip():
        raise UsageError(f"{what} needs a reason", hint="Give it with `--why`: it is shown with the decision for ever.")
    return " ".join(why.split())


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
