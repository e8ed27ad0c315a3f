"""Roll out: the desired route of an environment, changed in one transaction, then told to the server."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from noria import names
from noria.adapters.server import ArmTallies
from noria.config import Environment, Project
from noria.decide import crash
from noria.domain.release import Release
from noria.domain.rollout import CHAMPION, Advice, Block, Rollout, RolloutState, Route, Tally, candidate_of
from noria.domain.turn import TurnOutcome
from noria.domain.verdict import Reason
from noria.errors import NotFoundError, RefusedError, ServingError
from noria.stages.line import Line

if TYPE_CHECKING:
    from noria.decide.advance import Ruling

LOOK_REQUESTS = 20  # candidate requests that make a look worth recording


def roll_out(line: Line, project: Project, release: Release) -> tuple[TurnOutcome, str]:
    """Begin delivery: straight into environments that allow it, by canary where the policy says so.

    Returns the turn's outcome so far and one sentence. A rollout that live traffic decides is driven by the engine.
    """
    started = line.ledger.rollouts.of_turn(release.turn_id) if release.turn_id else None
    if started is not None:
        return _outcome(started), started.reason
    outcome, text = TurnOutcome.RELEASED, f"{release.version} waits for a promotion"
    for environment in project.environments.values():
        if environment.approvals > line.ledger.approvals.count(line.name, release.version, environment.name):
            return TurnOutcome.RELEASED, f"{release.version} waits for {environment.approvals} approval(s) for {environment.name}"
        outcome, text = enter(line, project, environment, release)
        if outcome is not TurnOutcome.PROMOTED:
            return outcome, text
    return outcome, text


def _outcome(rollout: Rollout) -> TurnOutcome:
    return {
        RolloutState.WAITING: TurnOutcome.RELEASED,
        RolloutState.REPLAY: TurnOutcome.ROLLING_OUT,
        RolloutState.CANARY: TurnOutcome.ROLLING_OUT,
        RolloutState.PROBATION: TurnOutcome.PROMOTED,
        RolloutState.HELD: TurnOutcome.HELD,
        RolloutState.PROMOTED: TurnOutcome.PROMOTED,
        RolloutState.ROLLED_BACK: TurnOutcome.ROLLED_BACK,
        RolloutState.SUPERSEDED: TurnOutcome.SUPERSEDED,
    }[rollout.state]


def enter(line: Line, project: Project, environment: Environment, release: Release) -> tuple[TurnOutcome, str]:
    """Bring a release into one environment as its policy says."""
    supersede(line, environment.name, f"{release.version} took its place")
    route = line.ledger.routes.get(line.name, environment.name)
    if route is None or environment.rollout.direct or route.champion == release.digest:
        text = promote(line, environment, release, "first release" if route is None else "direct rollout")
        return TurnOutcome.PROMOTED, text
    rollout = Rollout(
        id=names.new_id("rollout"),
        project=line.name,
        environment=environment.name,
        turn_id=release.turn_id,
        release=release.version,
        digest=release.digest,
        state=RolloutState.CANARY if line.server.alive() else RolloutState.WAITING,
        step=0,
        started_at=time.time(),
        reason="",
    )
    return _begin(line, environment, route, rollout)


def _begin(line: Line, environment: Environment, route: Route, rollout: Rollout) -> tuple[TurnOutcome, str]:
    share = environment.rollout.steps[0].share
    if rollout.state is RolloutState.WAITING:
        text = f"{rollout.release} waits: {environment.name} has no running server whose traffic could judge it"
        with line.ledger.transaction():
            line.ledger.rollouts.start(replace(rollout, reason=text))
            line.event("rollout.waiting", rollout.id, text, release=rollout.release)
        return TurnOutcome.RELEASED, text
    text = f"{rollout.release} takes {share:.0%} of {environment.name}, beside {route.champion_version}"
    with line.ledger.transaction():
        line.check_lease()
        line.ledger.rollouts.start(replace(rollout, reason=text))
        line.ledger.routes.put(_canary(route, rollout, environment, share))
        line.event("rollout.started", rollout.id, text, release=rollout.release, share=share)
    failure = told(line, rollout.digest)
    if failure:
        return TurnOutcome.ROLLED_BACK, roll_back(line, rollout, f"{rollout.release} could not be loaded: {failure}")
    return TurnOutcome.ROLLING_OUT, text


def _canary(route: Route, rollout: Rollout, environment: Environment, share: float) -> Route:
    return replace(
        route,
        candidate=rollout.digest,
        candidate_version=rollout.release,
        share=share,
        rollout_id=rollout.id,
        slow_ms=environment.rollout.guards.slow_ms,
    )


def told(line: Line, digest: str) -> str:
    """Nudge the server; the reason why it cannot load ``digest``, or an empty text. Without a server: nothing to tell."""
    if not line.server.alive():
        return ""
    return line.server.sync().failed.get(digest, "")


def supersede(line: Line, environment: str, why: str) -> None:
    """An undecided rollout makes room for a newer one."""
    active = line.ledger.rollouts.active(line.name, environment)
    if active is None:
        return
    _end(line, active, RolloutState.SUPERSEDED, f"{active.release} superseded: {why}", drop_candidate=True)


def promote(line: Line, environment: Environment, release: Release, why: str, rollout: Rollout | None = None) -> str:
    """Make ``release`` the champion; the one it replaces stays resident. Returns one sentence."""
    route = line.ledger.routes.get(line.name, environment.name)
    text = f"{release.version} serves all of {environment.name}: {why}"
    champion = Route(
        project=line.name,
        environment=environment.name,
        revision=0,
        champion=release.digest,
        champion_version=release.version,
        previous=route.champion if route and route.champion != release.digest else route.previous if route else None,
        previous_version=(
            route.champion_version if route and route.champion != release.digest else route.previous_version if route else None
        ),
        slow_ms=environment.rollout.guards.slow_ms,
    )
    with line.ledger.transaction():
        line.check_lease()
        line.ledger.routes.put(champion)
        if rollout is not None:
            _close(line, rollout, RolloutState.PROMOTED, text)
        line.event("rollout.promoted", release.version, text, environment=environment.name, digest=release.digest)
    failure = told(line, release.digest)
    if failure and route is not None:
        return revert(line, environment.name, f"{release.version} could not be loaded: {failure}")
    if failure:
        raise ServingError(f"{release.version} could not be loaded: {failure}", hint="`noria show` tells what it is made of.")
    return text


def revert(line: Line, environment: str, why: str) -> str:
    """Put the previous release back: a pointer flip. An undecided canary is ended instead."""
    active = line.ledger.rollouts.active(line.name, environment)
    if active is not None and active.state is not RolloutState.WAITING:
        return roll_back(line, active, why)
    route = line.ledger.routes.get(line.name, environment)
    if route is None:
        raise NotFoundError(f"nothing serves in {environment}", hint="`noria status` shows the environments.")
    if route.previous is None or route.previous_version is None:
        raise RefusedError(
            f"{route.champion_version} is the only release {environment} has had: there is nothing to roll back to",
            hint="`noria releases` lists what could be promoted.",
        )
    text = f"{environment} rolled back from {route.champion_version} to {route.previous_version}: {why}"
    flipped = replace(
        route,
        champion=route.previous,
        champion_version=route.previous_version,
        previous=route.champion,
        previous_version=route.champion_version,
        candidate=None,
        candidate_version=None,
        share=0.0,
        rollout_id=None,
    )
    with line.ledger.transaction():
        line.check_lease()
        line.ledger.routes.put(flipped)
        line.event("environment.rolled_back", environment, text, champion=flipped.champion)
    told(line, flipped.champion)
    return text


def roll_back(line: Line, rollout: Rollout, why: str) -> str:
    """End a canary: the champion takes all traffic, the candidate is barred until a person lifts it."""
    with line.ledger.transaction():
        line.ledger.releases.bar(line.name, rollout.release, why)
        _end(line, rollout, RolloutState.ROLLED_BACK, why, drop_candidate=True)
    told(line, rollout.digest)
    return why


def hold(line: Line, rollout: Rollout, why: str) -> str:
    """Patience ended: the share stays as it is, and a person decides."""
    _end(line, rollout, RolloutState.HELD, why, drop_candidate=False)
    return why


def _end(line: Line, rollout: Rollout, state: RolloutState, text: str, *, drop_candidate: bool) -> None:
    with line.ledger.transaction():
        line.check_lease()
        route = line.ledger.routes.get(line.name, rollout.environment)
        if drop_candidate and route is not None and route.rollout_id == rollout.id:
            line.ledger.routes.put(replace(route, candidate=None, candidate_version=None, share=0.0, rollout_id=None))
        _close(line, rollout, state, text)
        line.event(f"rollout.{state.name.lower()}", rollout.id, text, release=rollout.release)


def _close(line: Line, rollout: Rollout, state: RolloutState, text: str) -> None:
    ended = None if state is RolloutState.HELD else time.time()
    line.ledger.rollouts.update(rollout.id, state=state, reason=text, ended_at=ended)
    if rollout.turn_id:
        outcome = _outcome(replace(rollout, state=state))
        line.ledger.turns.update(rollout.turn_id, outcome=outcome, reason=text, ended_at=ended)


def fallen(line: Line, rollout: Rollout) -> bool:
    """Roll a candidate back that the server refuses, or has suspended because it crashes; whether it did."""
    health = line.server.health(rollout.environment)
    refused = health.failed.get(rollout.digest)
    crashes = health.crashes.get(rollout.digest)
    crashed = crash.of_candidate(crashes) if crashes and crashes.role == candidate_of(rollout.id) else None
    if refused:
        roll_back(line, rollout, f"{rollout.release} could not be loaded: {refused}")
    elif crashed is not None:
        roll_back(line, rollout, f"{rollout.release} rolled back: {crashed.text}")
    return bool(refused) or crashed is not None


def crash_loop(line: Line, route: Route) -> Reason | None:
    """Why the champion must give way to the release before it, or None. Raises ServingError without a server."""
    if route.previous_version is None:
        return None
    crashes = line.server.health(route.environment).crashes.get(route.champion)
    fit = line.ledger.releases.get(line.name, route.previous_version).barred is None
    return crash.of_champion(crashes, fit) if crashes and crashes.role == CHAMPION else None


def give_way(line: Line, route: Route, reason: Reason) -> str:
    """Put the previous release back and bar the champion, unless somebody changed the route meanwhile. Returns one sentence."""
    if line.ledger.routes.get(line.name, route.environment) != route:
        return "the route has changed"
    supersede(line, route.environment, f"{route.champion_version} crashes")
    why = f"{route.champion_version} rolled back: {reason.text}"
    line.ledger.releases.bar(line.name, route.champion_version, why)
    return revert(line, route.environment, why)


def look(line: Line, environment: Environment, rollout: Rollout) -> Ruling | None:
    """Take one look at the evidence and act on it; None when nothing new came in and patience has not ended."""
    route = line.ledger.routes.get(line.name, environment.name)
    if route is None or route.rollout_id != rollout.id:
        return None
    arms = line.server.stats(line.name, environment.name).get(route.revision)
    rollout = _record(line, rollout, route, arms) if arms is not None else rollout
    from noria.decide import advance as judge  # numerics: only a canary under way needs them

    ruling = judge.judge(environment.rollout, rollout.step, rollout.blocks, time.time() - rollout.started_at, _seed(rollout.id))
    _act(line, environment, rollout, route, ruling)
    return ruling


def _seed(rollout_id: str) -> int:
    """A number that no outcome can influence, the same at every look."""
    return int(names.digest_bytes(rollout_id.encode())[:8], 16)


def _record(line: Line, rollout: Rollout, route: Route, arms: ArmTallies) -> Rollout:
    """Append what came in since the last look as a block of its own: an earlier block is never rearranged."""
    seen = [b for b in rollout.blocks if b.revision == route.revision]
    champion = _less(arms.champion, [b.champion for b in seen])
    candidate = _less(arms.candidate, [b.candidate for b in seen])
    if candidate.requests < 0 or champion.requests < 0:  # the server started anew and counts from zero:
        line.ledger.routes.put(route)  # a new revision keeps what was seen apart from what comes
        told(line, rollout.digest)
        return rollout
    block = Block(route.share, champion, candidate, route.revision)
    if block.candidate.requests < LOOK_REQUESTS and not (block.candidate.errors or block.candidate.slow):
        return rollout
    grown = replace(rollout, blocks=(*rollout.blocks, block))
    line.ledger.rollouts.update(rollout.id, blocks=grown.blocks)
    return grown


def _less(total: Tally, seen: list[Tally]) -> Tally:
    """What is new since the looks in ``seen``."""
    return Tally(
        total.requests - sum(t.requests for t in seen),
        total.errors - sum(t.errors for t in seen),
        total.slow - sum(t.slow for t in seen),
    )


def _act(line: Line, environment: Environment, rollout: Rollout, route: Route, ruling: Ruling) -> None:
    if ruling.advice is Advice.ROLL_BACK:
        roll_back(line, rollout, f"{rollout.release} rolled back: {ruling.reason.text}")
    elif ruling.advice is Advice.PROMOTE:
        release = line.ledger.releases.get(line.name, rollout.release)
        promote(line, environment, release, ruling.reason.text, rollout)
    elif ruling.advice is Advice.ADVANCE:
        _advance(line, environment, rollout, route, ruling)
    elif ruling.advice is Advice.HOLD and rollout.state is RolloutState.CANARY:
        hold(line, rollout, f"{rollout.release} held at {route.share:.0%}: {ruling.reason.text}")


def _advance(line: Line, environment: Environment, rollout: Rollout, route: Route, ruling: Ruling) -> None:
    share = environment.rollout.steps[rollout.step + 1].share
    text = f"{rollout.release} goes from {route.share:.0%} to {share:.0%}: {ruling.reason.text}"
    with line.ledger.transaction():
        line.check_lease()
        line.ledger.routes.put(replace(route, share=share))
        line.ledger.rollouts.update(rollout.id, step=rollout.step + 1, reason=text)
        line.event("rollout.advanced", rollout.id, text, share=share)
    told(line, rollout.digest)


def resume(line: Line, project: Project, rollout: Rollout) -> None:
    """A rollout that waited for a server begins when there is one."""
    if rollout.state is not RolloutState.WAITING or not line.server.alive():
        return
    environment = project.environments[rollout.environment]
    route = line.ledger.routes.get(line.name, rollout.environment)
    if route is None:
        return
    share = environment.rollout.steps[0].share
    text = f"{rollout.release} takes {share:.0%} of {environment.name}, beside {route.champion_version}"
    with line.ledger.transaction():
        line.check_lease()
        line.ledger.rollouts.update(rollout.id, state=RolloutState.CANARY, started_at=time.time(), reason=text)
        line.ledger.routes.put(_canary(route, rollout, environment, share))
        if rollout.turn_id:
            line.ledger.turns.update(rollout.turn_id, outcome=TurnOutcome.ROLLING_OUT, reason=text)
        line.event("rollout.started", rollout.id, text, release=rollout.release, share=share)
    failure = told(line, rollout.digest)
    if failure:
        roll_back(line, rollout, f"{rollout.release} could not be loaded: {failure}")
