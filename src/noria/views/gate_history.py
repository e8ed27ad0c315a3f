"""How gates did: how often each fired, was overridden, let through what failed live, or refused what was good.

The rules, which `noria report gates` prints:

- A gate *fired* when it did not pass a candidate: it failed, or had not enough data.
- It was *overridden* when a person accepted such a candidate (`noria release accept`).
- It *missed* a release that it passed and that failed live: guards, replay or crashes rolled it back, not a person, or a quality
  window breached while it served.
- It *cost* a good release when it alone stopped a candidate, and a later release whose value of the gate's metric lies within the
  candidate's 95 % bounds (within 5 % where there are none) served and did not fail live; or when an overridden one did so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from noria.delivery.rollout_record import RolloutState
from noria.delivery.rollout_store import RolloutStore
from noria.evaluation.records import Assessment
from noria.evaluation.store import EvaluationStore
from noria.kernel.verdict import GateVerdict, Outcome
from noria.monitor.store import AlertStore
from noria.releases.decision_store import DecisionKind, DecisionStore
from noria.releases.store import ReleaseStore
from noria.serving.route_store import RouteStore
from noria.storage.ledger import Ledger
from noria.trust.judge_audit import barred_version

MOST = 10_000  # rollouts and alerts that are read, newest first
NEAR = 0.05  # of a value without bounds
ENGINE, HARM = "engine", "rollout.harm"
ENOUGH = 10  # candidates that a gate has judged before it may count as one that never fires
RULES = (
    "A gate fired when it did not pass a candidate. It missed a release that it passed and that guards, replay or crashes rolled "
    "back, or whose quality breached. It cost a good release when it alone stopped a candidate, and a later release, whose value "
    "(each on its own holdout) lies within that candidate's 95 % bounds, or within 5 % where there are none, served and did not "
    "fail live; or when a person overrode it and the release did so."
)


class GateHistory(msgspec.Struct):
    """What came of one gate, as it is written; each list names turns (`turn 7`) or releases (v8)."""

    gate: str
    judged: int = 0
    failed: list[str] = []
    undecided: list[str] = []
    overridden: list[str] = []
    missed: list[str] = []
    cost: list[str] = []

    @property
    def fired(self) -> int:
        return len(self.failed) + len(self.undecided)


class ReleaseFacts(msgspec.Struct, frozen=True):
    """What became of a release."""

    version: str
    turn_id: str | None
    metrics: Mapping[str, float]
    served: bool
    failed_live: bool
    overridden: bool

    @property
    def did_well(self) -> bool:
        return self.served and not self.failed_live


def gate_history(ledger: Ledger, project: str) -> list[GateHistory]:
    """Reads the newest evaluations, and what became of their releases."""
    turns = ledger.database.rows("SELECT id, number FROM turns WHERE project = ?", (project,))
    names = {str(row["id"]): f"turn {row['number']}" for row in turns}
    return count(EvaluationStore(ledger, project).list(), _releases(ledger, project), names)


def count(assessments: Sequence[Assessment], releases: Sequence[ReleaseFacts], turns: Mapping[str, str]) -> list[GateHistory]:
    """Counts what came of each gate; ``assessments`` newest first, ``turns``: what people call a turn."""
    by_turn = {release.turn_id: release for release in releases}
    found: dict[str, GateHistory] = {}
    later: list[ReleaseFacts] = []  # than the assessment in hand
    for assessed in assessments:
        release = by_turn.get(assessed.turn_id)
        for verdict in assessed.gates:
            history = found.setdefault(verdict.gate, GateHistory(verdict.gate))
            _add(history, verdict, assessed, release, later, turns.get(assessed.turn_id, assessed.turn_id))
        if release is not None:
            later.append(release)
    return sorted(found.values(), key=lambda one: (-one.fired, one.gate))


def _add(
    history: GateHistory,
    verdict: GateVerdict,
    assessed: Assessment,
    release: ReleaseFacts | None,
    later: Sequence[ReleaseFacts],
    turn: str,
) -> None:
    history.judged += 1
    if verdict.outcome == Outcome.PASS:
        if release is not None and release.failed_live:
            history.missed.append(release.version)
        return
    (history.failed if verdict.outcome == Outcome.FAIL else history.undecided).append(turn)
    if release is not None and release.overridden:
        history.overridden.append(release.version)
        if release.did_well:
            history.cost.append(release.version)
        return
    alone = sum(one.outcome != Outcome.PASS for one in assessed.gates) == 1
    if release is None and alone and any(one.did_well and _near(verdict, assessed, one) for one in later):
        history.cost.append(turn)


def _near(verdict: GateVerdict, assessed: Assessment, release: ReleaseFacts) -> bool:
    """Whether a release is nearly equal to a candidate by the metric of a gate."""
    value, measure = release.metrics.get(verdict.metric), assessed.evaluation.metrics.get(verdict.metric)
    if value is None or verdict.value is None:
        return False
    if measure is None or not math.isfinite(measure.low + measure.high):
        return abs(value - verdict.value) <= NEAR * abs(verdict.value)
    return measure.low <= value <= measure.high


def _releases(ledger: Ledger, project: str) -> list[ReleaseFacts]:
    routes = RouteStore(ledger, project)
    served = {version for route in routes.all() for version in routes.champions(route.environment)}
    failed = _failed_live(ledger, project)
    accepted = {
        one.release for one in DecisionStore(ledger, project).list() if one.kind is DecisionKind.GATES and one.actor is not None
    }
    return [
        ReleaseFacts(one.version, one.turn_id, one.metrics, one.version in served, one.version in failed, one.version in accepted)
        for one in ReleaseStore(ledger, project).list()
    ]


def _failed_live(ledger: Ledger, project: str) -> set[str]:
    """Releases that evidence rolled back, not a person, and those whose quality breached."""
    found = {alert.release for alert in AlertStore(ledger, project).list(MOST) if alert.kind == "quality"}
    for rollout in RolloutStore(ledger, project).list(MOST):
        if rollout.state is RolloutState.ROLLED_BACK and rollout.look is not None and rollout.look.code == HARM:
            found.add(rollout.release)
    for kind in ("rollout.rolled_back", "environment.rolled_back"):
        events = ledger.events.newest(project, MOST, kind)
        found |= {barred_version(event) for event in events if event.actor == ENGINE}
    return found


def named(histories: Sequence[GateHistory]) -> dict[str, list[str]]:
    """The gates that a person should look at: those that never fired in ``ENOUGH`` candidates, and those that cost good ones."""
    return {
        "never_fired": [one.gate for one in histories if not one.fired and one.judged >= ENOUGH],
        "cost_good_releases": [one.gate for one in histories if one.cost],
    }


def document(histories: Sequence[GateHistory]) -> dict[str, Any]:
    """For ``--json``."""
    gates = [msgspec.to_builtins(one) | {"fired": one.fired} for one in histories]
    return {"gates": gates, **named(histories), "rules": RULES}
