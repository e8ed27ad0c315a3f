"""What a person may do, by command or by call: roll back, promote, ask for a turn, set the replay's clock."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from noria import config
from noria.config import Environment
from noria.domain.rollout import RolloutState
from noria.domain.trigger import TriggerKind
from noria.errors import NotFoundError, RefusedError, UsageError
from noria.stages import rollout as stage
from noria.stages.line import Line


def environment_named(line: Line, name: str | None) -> Environment:
    """The environment of that name; the last one, where production is, when none is named."""
    environments = config.load(line.home).environments
    if name is None:
        return list(environments.values())[-1]
    if name not in environments:
        raise NotFoundError(f"there is no environment {name!r}", hint=f"noria.yaml has: {', '.join(environments)}.")
    return environments[name]


def roll_back(line: Line, environment: str | None, actor: str) -> dict[str, object]:
    """Put the previous release back. ``ms`` is from here to the last worker's acknowledgement."""
    begun = time.perf_counter()
    target = environment_named(line, environment)
    text = stage.revert(line, target.name, f"asked by {actor}")
    route = line.ledger.routes.get(line.name, target.name)
    return {
        "environment": target.name,
        "release": route.champion_version if route else None,
        "text": text,
        "ms": round((time.perf_counter() - begun) * 1000, 1),
    }


def promote(line: Line, version: str, environment: str | None, actor: str) -> dict[str, object]:
    """Make a sealed release the champion by hand; it lifts a bar, and counts as an approval."""
    begun = time.perf_counter()
    target = environment_named(line, environment)
    release = line.ledger.releases.get(line.name, version)
    route = line.ledger.routes.get(line.name, target.name)
    if route is not None and route.champion == release.digest and route.candidate is None:
        raise RefusedError(f"{release.version} already serves {target.name}", hint="`noria status` shows what serves where.")
    active = line.ledger.rollouts.active(line.name, target.name)
    rollout = active if active is not None and active.digest == release.digest else None
    if rollout is None or rollout.state is RolloutState.WAITING:
        stage.supersede(line, target.name, f"{release.version} was promoted by {actor}")
        rollout = None
    with line.ledger.transaction():
        line.ledger.approvals.add(line.name, release.version, target.name, actor)
        if release.barred:
            line.ledger.releases.unbar(line.name, release.version)
    text = stage.promote(line, target, release, f"asked by {actor}", rollout)
    return {
        "environment": target.name,
        "release": release.version,
        "text": text,
        "ms": round((time.perf_counter() - begun) * 1000, 1),
    }


def trigger(line: Line, reason: str, actor: str) -> dict[str, object]:
    """Ask the daemon for a turn."""
    with line.ledger.transaction():
        made = line.ledger.triggers.add(line.name, TriggerKind.MANUAL, f"{actor}: {reason}")
        if made is None:
            raise RefusedError("an equal trigger is already waiting")
        line.event("trigger.seen", made.id, f"manual: {reason} ({actor})")
    return {"trigger": made.id}


def set_clock(line: Line, at: str, speed: float, actor: str) -> dict[str, object]:
    """Anchor the project clock of a replay: ``at`` (ISO 8601) is now, and it runs ``speed`` times as fast as the wall clock."""
    try:
        moment = datetime.fromisoformat(at)
    except ValueError:
        raise UsageError(f"{at!r} is not a time", hint="Use ISO 8601, as in 2013-04-01T00:00:00+00:00.") from None
    if not 0.0 <= speed <= 1e9:
        raise UsageError(f"speed {speed:g} is not between 0 and a billion")
    stamp = moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()
    line.ledger.clock.set(line.name, stamp, speed)
    return {"at": datetime.fromtimestamp(stamp, UTC).isoformat(), "speed": speed, "actor": actor}
