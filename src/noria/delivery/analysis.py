"""One analysis of a rollout or a release on probation: gathers new evidence, asks the judge, acts."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from noria.config import Environment, Project
from noria.delivery import champion, judge_guards
from noria.delivery import judge_advance as judge
from noria.delivery import rollout as stage
from noria.delivery.approval_store import ApprovalStore
from noria.delivery.context import DeliveryContext
from noria.delivery.driver import EngineCounts, EngineStats
from noria.delivery.judge_advance import AnalysisMoment
from noria.delivery.judge_guards import Evidence
from noria.delivery.rollout_record import Advice, Analysis, Interval, Rollout, RolloutState
from noria.delivery.rollout_store import RolloutStore
from noria.delivery.shadow_evidence import ShadowEvidence
from noria.kernel.errors import RefusedError
from noria.kernel.policy import StepKind
from noria.kernel.task import Task
from noria.kernel.tasks import find_metric
from noria.kernel.verdict import Outcome
from noria.kernel.words import percent
from noria.models.signature import Signature
from noria.predictions.damage import tell_damage
from noria.releases.bundle import read_manifest
from noria.releases.store import ReleaseStore
from noria.serving.client import ArmTallies
from noria.serving.route import Route
from noria.serving.route_store import RouteStore
from noria.serving.tallies import Tally, total
from noria.stats import betting
from noria.storage.clock import ClockStore

if TYPE_CHECKING:
    from noria.delivery.judge_advance import AnalysisMoment, Ruling
    from noria.delivery.judge_guards import Evidence
    from noria.delivery.shadow_evidence import ShadowEvidence
    from noria.stats.metrics import Floats

LOOK_REQUESTS = 20  # requests of the candidate that make an interval worth recording ...
LOOK_GROWTH = 0.05  # ... and their growth, so that the record of a long rollout stays short
TOLD_S = 2.0  # between two notes of the state of an undecided rollout
PAIRED = 0.5  # of a pair of which one failed: the chance that it is the candidate


class AnalysisContext(msgspec.Struct, frozen=True):
    """A rollout's project, environment, and shadow evidence."""

    project: Project
    environment: Environment
    book: ShadowEvidence | None  # None: the policy needs nothing from the prediction log
    engine: EngineStats


def evidence_of(context: DeliveryContext, environment: Environment, rollout: Rollout) -> ShadowEvidence | None:
    """Creates the reader of shadow evidence, if a guard needs it."""
    guards = environment.rollout.guards
    if guards.quality is None and guards.quantile is None:
        return None

    folders = (context.state / "log" / environment.name, context.state / "shadow" / environment.name)
    metric = find_metric(guards.quality.metric) if guards.quality is not None else None
    certain = metric is not None and metric.of_classes
    classes = signature_of(context, rollout.digest).classes if guards.quality is not None else ()
    return ShadowEvidence(*folders, rollout.id, context.name, rollout.release, classes=classes, certain=certain)


def analyse(context: DeliveryContext, around: AnalysisContext, rollout: Rollout) -> Ruling | None:
    """Analyses a rollout on live traffic; a held one is only checked for harm.

    Raises ServingError when the engine does not answer.
    """
    environment = around.environment
    route = RouteStore.of(context).get(environment.name)
    stats = around.engine.stats()
    if stage.is_withdrawn_by_crashes(context, rollout, stats) or route is None or route.rollout_id != rollout.id:
        return None
    step = environment.rollout.steps[rollout.step]
    shadow = step.kind is StepKind.SHADOW
    rollout, route = _record(context, rollout, route, stats, PAIRED if shadow else route.share, paired=shadow)
    ruling = judge.judge(
        environment.rollout, rollout.step, _evidence(context, around, rollout), _moment(context, around, rollout)
    )
    _note(context, rollout, ruling)
    _act(context, around, rollout, route, ruling)
    return ruling


def stop_for_lost_evidence(context: DeliveryContext, environment: Environment, rollout: Rollout, why: str) -> None:
    """Holds a rollout whose engine does not answer, or whose replay fails, once patience has run out. No data is not healthy."""
    if rollout.state not in (RolloutState.REPLAY, RolloutState.CANARY):
        return
    waited = ClockStore.of(context).now() - rollout.patient_clock
    if rollout.state is RolloutState.REPLAY and waited <= environment.rollout.patience_s:
        RolloutStore.of(context).update(rollout.id, look=Analysis(time.time(), why, ()))
    elif waited > environment.rollout.patience_s:
        stage.hold(context, rollout, f"{rollout.release} held, there is no evidence: {why}")


def analyse_probation(context: DeliveryContext, around: AnalysisContext, rollout: Rollout) -> Ruling | None:
    """Analyses a release on probation, which serves all traffic while the previous one stays loaded."""
    environment = around.environment
    route = RouteStore.of(context).get(environment.name)
    if route is None or route.champion != rollout.digest:
        champion.end_probation(context, environment.name, "it no longer serves")
        return None
    if (
        route.rollout_id == rollout.id and route.candidate is None
    ):  # otherwise a newer candidate is being rolled out: labels still come
        stats = around.engine.stats()
        share = _share_on_probation(route, stats.tallies.get(route.revision))
        rollout, route = _record(context, rollout, route, stats, share, paired=True)
    moment = _moment(context, around, rollout)
    ruling = judge.judge_probation(environment.rollout, _evidence(context, around, rollout), moment)
    _note(context, rollout, ruling)
    if ruling.advice is Advice.ROLL_BACK:
        _put_back(context, rollout, route, ruling, over=moment.step_s >= environment.rollout.probation_s)
    elif ruling.advice is Advice.PROMOTE:
        _end_probation(context, rollout, route, ruling, f"{rollout.release} serves {rollout.environment}: {ruling.reason.text}")
    return ruling


def _put_back(context: DeliveryContext, rollout: Rollout, route: Route, ruling: Ruling, *, over: bool) -> None:
    """Returns to the previous release.

    If none can take over, that is recorded once, and newer releases may still come; with ``over``, the probation ends by the
    clock anyway.
    """
    environment, why = rollout.environment, f"{rollout.release} rolled back in probation: {ruling.reason.text}"
    champion.demand_unchanged(context, rollout)
    try:
        champion.rollback_target(context, route, None)
    except RefusedError as error:
        told = f"{rollout.release} does harm in probation and keeps serving: {error.message}"
        text = f"{told}; {ruling.reason.text}"
        if over:
            _end_probation(context, rollout, route, ruling, text)
        elif told != rollout.reason:
            with champion.route_change(context, rollout):
                RolloutStore.of(context).update(rollout.id, reason=told)
                context.event("probation.harm", rollout.id, text, release=rollout.release)
        return
    stage.supersede(context, environment, f"{rollout.release}, which it is compared with, is rolled back")
    champion.restore_previous(context, environment, why, rollout=rollout, leaving=rollout.digest)


def _end_probation(context: DeliveryContext, rollout: Rollout, route: Route, ruling: Ruling, text: str) -> None:
    kind = "probation.passed" if ruling.reason.outcome is Outcome.PASS else "probation.undecided"
    made = replace(route, shadow=0.0, rollout_id=None) if route.rollout_id == rollout.id else None
    with champion.route_change(context, rollout):
        if made is not None:
            made = champion.put_after(context, route, made)
        RolloutStore.of(context).update(rollout.id, state=RolloutState.PROMOTED, reason=text, ended_at=time.time())
        context.event(kind, rollout.id, text, release=rollout.release)
    if made is not None:
        context.driver.set_routes(made)


def _share_on_probation(route: Route, arms: ArmTallies | None) -> float:
    seen = arms or ArmTallies()
    return judge_guards.share_on_probation(route.shadow, seen.candidate.requests - seen.candidate.errors, seen.champion.requests)


def _moment(context: DeliveryContext, around: AnalysisContext, rollout: Rollout) -> AnalysisMoment:
    clock = ClockStore.of(context).now()
    return AnalysisMoment(
        patient_s=clock - rollout.patient_clock,
        step_s=clock - rollout.step_clock,
        approvals=ApprovalStore.of(context).count(rollout.release, rollout.environment, since=rollout.step_at),
        deferred=around.project.monitor.label_delay_s >= around.environment.rollout.patience_s,
    )


# -- evidence


def _evidence(context: DeliveryContext, around: AnalysisContext, rollout: Rollout) -> Evidence:
    if around.book is None:
        return Evidence(rollout.blocks)
    around.book.poll()
    of_log, of_shadow = around.book.damage()
    tell_damage(context, rollout.environment, of_log, around.book.told)
    tell_damage(context, rollout.environment, of_shadow, around.book.told, shadow=True)
    guards = around.environment.rollout.guards
    found = Evidence(rollout.blocks, latencies=around.book.latencies()) if guards.quantile else Evidence(rollout.blocks)
    if guards.quality is None:
        return found
    labelled = around.book.labelled_pairs()
    if labelled.count == 0:
        return replace(found, pairs=labelled.pairs)
    loss = _loss(task_of(context, rollout.digest), guards.quality.metric, guards.quality.bound)
    differences = loss(labelled.y, labelled.new) - loss(labelled.y, labelled.old)
    return replace(found, differences=differences, pairs=labelled.pairs)


def _loss(task: Task, metric: str, bound: float) -> Callable[[Any, Any], Floats]:
    return lambda y, prediction: betting.clipped_losses(metric, task, y, prediction, bound)


def task_of(context: DeliveryContext, digest: str) -> Task:
    """The task of a release's model."""
    return signature_of(context, digest).task


def signature_of(context: DeliveryContext, digest: str) -> Signature:
    """The signature of a release."""
    return read_manifest(context.bundle(digest), digest).signature


def _record(
    context: DeliveryContext, rollout: Rollout, route: Route, stats: EngineCounts, share: float, *, paired: bool = False
) -> tuple[Rollout, Route]:
    """Appends what came in since the last analysis as a new interval; earlier ones never change.

    Returns the rollout and the route as they then are.
    """
    arms = stats.tallies.get(route.revision)
    if arms is None:
        return rollout, route
    seen = [b for b in rollout.blocks if b.revision == route.revision]
    champions = arms.champion.less(total(b.champion for b in seen))
    candidates = arms.candidate.less(total(b.candidate for b in seen))
    if candidates.requests < 0 or champions.requests < 0:  # the server restarted and counts from zero:
        with context.ledger.transaction():
            fresh = champion.put_after(context, route, route)  # a new revision separates old counts from new ones
        context.driver.set_routes(fresh)
        return rollout, fresh
    block = Interval(share, champions, candidates, route.revision, paired)
    if not _worth([b.candidate for b in rollout.blocks], block.candidate):
        return rollout, route
    grown = replace(rollout, blocks=(*rollout.blocks, block))
    RolloutStore.of(context).update(rollout.id, blocks=grown.blocks)
    return grown, route


def _worth(seen: list[Tally], new: Tally) -> bool:
    """Whether an interval should be recorded: often enough for a timely verdict, seldom enough for a short record."""
    requests, events = sum(t.requests for t in seen), sum(t.errors + t.slow for t in seen)
    return new.requests >= max(LOOK_REQUESTS, LOOK_GROWTH * requests) or new.errors + new.slow >= max(1, LOOK_GROWTH * events)


# -- acting


def _note(context: DeliveryContext, rollout: Rollout, ruling: Ruling) -> None:
    """Records the state of the rollout: not at each analysis, but at those that decide."""
    now, last = time.time(), rollout.look
    if ruling.advice is Advice.WAIT and last is not None and (last.text == ruling.reason.text or now - last.at < TOLD_S):
        return
    RolloutStore.of(context).update(rollout.id, look=Analysis(now, ruling.reason.text, ruling.stands, ruling.reason.code))


def _act(context: DeliveryContext, around: AnalysisContext, rollout: Rollout, route: Route, ruling: Ruling) -> None:
    environment = around.environment
    if ruling.advice is Advice.ROLL_BACK:
        stage.roll_back(context, rollout, f"{rollout.release} rolled back: {ruling.reason.text}")
    elif rollout.state is not RolloutState.CANARY or ruling.advice is Advice.WAIT:
        return  # held: a person decides
    elif ruling.advice is Advice.HOLD:
        stage.hold(context, rollout, f"{rollout.release} held at {percent(route.share)}: {ruling.reason.text}")
    elif (frozen := stage.freeze_words(context, environment)) is not None:
        text = f"{ruling.reason.text}; frozen until {frozen}"
        RolloutStore.of(context).update(rollout.id, look=Analysis(time.time(), text, ruling.stands, ruling.reason.code))
    elif ruling.advice is Advice.PROMOTE:
        release = ReleaseStore.of(context).get(rollout.release)
        champion.promote(context, environment, release, ruling.reason.text, rollout, onward=True)
    else:
        stage.advance(context, environment, rollout, route, ruling.reason.text)
