"""The pilot: drives undecided rollouts, one look after another, under a lease."""

from __future__ import annotations

import contextlib
from dataclasses import replace

from noria import config
from noria.config import Project
from noria.decide.advance import Ruling
from noria.domain.rollout import Rollout, RolloutState
from noria.domain.turn import TurnOutcome
from noria.engine.lease import Held
from noria.errors import ServingError
from noria.stages import rollout as stage
from noria.stages.line import Line


def project_of(line: Line, rollout: Rollout) -> Project:
    """The policy that judges a rollout: the one sealed with the release."""
    sealed = line.bundle(rollout.digest) / "code"
    return config.load(sealed if (sealed / "noria.yaml").is_file() else line.home)


def drive(line: Line) -> list[Rollout]:
    """One look at every undecided rollout; those that ended with it."""
    ended = []
    for route in line.ledger.routes.all():
        if route.project == line.name:
            guard(line, route.environment)
        active = line.ledger.rollouts.active(line.name, route.environment) if route.project == line.name else None
        if active is None:
            continue
        held = Held.claim(line.ledger, line.name, "rollout", active.id)
        if held is None:
            continue
        with held:
            look(replace(line, check_lease=held.check), active.id)
            now = line.ledger.rollouts.get(active.id)
            if now.ended_at is not None:
                held.done(str(now.state))
                ended.append(now)
    for rollout in ended:
        onward(line, rollout)
    return ended


def guard(line: Line, environment: str) -> None:
    """Roll a champion back that crashes again and again."""
    route = line.ledger.routes.get(line.name, environment)
    with contextlib.suppress(ServingError):  # no server, no crashes
        reason = stage.crash_loop(line, route) if route is not None else None
        held = Held.claim(line.ledger, line.name, "guard", f"{environment} {route.revision}") if route and reason else None
        if route and reason and held:
            with held:
                held.done(stage.give_way(replace(line, check_lease=held.check), route, reason))


def look(line: Line, rollout_id: str) -> Ruling | None:
    """One look at one rollout. A server that does not answer is waited for: no data is not healthy, and not harm."""
    rollout = line.ledger.rollouts.get(rollout_id)
    project = project_of(line, rollout)
    try:
        if rollout.state is RolloutState.WAITING:
            stage.resume(line, project, rollout)
            return None
        if stage.fallen(line, rollout) or rollout.state is not RolloutState.CANARY:
            return None
        return stage.look(line, project.environments[rollout.environment], rollout)
    except ServingError:
        return None


def onward(line: Line, rollout: Rollout) -> None:
    """A release that was promoted goes on to the environments that come after."""
    if rollout.state is not RolloutState.PROMOTED:
        return
    project = project_of(line, rollout)
    release = line.ledger.releases.get(line.name, rollout.release)
    for environment in project.environments.values():
        if environment.after != rollout.environment:
            continue
        if environment.approvals > line.ledger.approvals.count(line.name, release.version, environment.name):
            line.event("rollout.needs_approval", release.version, f"{release.version} waits for approval for {environment.name}")
            continue
        outcome, text = stage.enter(line, project, environment, release)
        if release.turn_id and outcome is not TurnOutcome.PROMOTED:
            line.ledger.turns.update(release.turn_id, outcome=outcome, reason=text)
