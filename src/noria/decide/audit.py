"""Whether what the ledger says holds now is what its events say became of it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from noria.domain.data import Delivery
from noria.domain.event import Event
from noria.domain.release import Release
from noria.domain.rollout import Route

SEALED = ("release.sealed", "release.imported")
LIFTED = ("release.lifted", "rollout.promoted")  # promoting a release by hand lifts its bar
BARRED = ("release.withdrawn", "rollout.rolled_back", "environment.rolled_back")
APPROVED = "release.approved"
DELIVERED = ("data.accepted", "data.quarantined")
KINDS = (*SEALED, *LIFTED, *BARRED, APPROVED, *DELIVERED)


class Approved(msgspec.Struct, frozen=True):
    """One person's approval, as the ledger has it."""

    release: str
    environment: str
    actor: str


@dataclass(frozen=True, slots=True)
class State:
    """What holds now in one project."""

    releases: Sequence[Release]
    routes: Sequence[Route]
    approvals: Sequence[Approved]
    deliveries: Iterable[Delivery]


@dataclass(slots=True)
class _Told:
    """What the events of one project say, the newest last."""

    sealed: dict[str, str] = field(default_factory=dict)  # version -> digest
    barred: dict[str, str] = field(default_factory=dict)  # version -> why, as long as it holds
    champions: dict[str, str] = field(default_factory=dict)  # environment -> digest
    approvals: set[Approved] = field(default_factory=set)
    deliveries: dict[str, bool] = field(default_factory=dict)  # id -> whether it was accepted


def judge_state(events: Iterable[Event], states: Mapping[str, State]) -> list[str]:
    """One sentence for each thing in the ledger, by project, that no event bears out."""
    told = {project: _Told() for project in states}
    for event in events:
        if event.project in told:
            _follow(told[event.project], event)
    return [f"{project}: {text}" for project, state in states.items() for text in _against(told[project], state)]


def _follow(told: _Told, event: Event) -> None:
    facts: Mapping[str, Any] = event.facts
    if event.kind in SEALED:
        told.sealed[event.subject] = str(facts.get("digest", ""))
    elif event.kind == APPROVED:
        who = {event.actor, event.text.partition(" approves of ")[0]}
        told.approvals |= {Approved(event.subject, str(facts.get("environment", "")), actor) for actor in who}
    elif event.kind in DELIVERED:
        told.deliveries[event.subject] = event.kind == DELIVERED[0]
    elif event.kind in LIFTED:
        told.barred.pop(event.subject, None)
    elif event.kind in BARRED:
        told.barred[_leaving(event)] = event.text
    if event.kind == "rollout.promoted":
        told.champions[str(facts.get("environment", ""))] = str(facts.get("digest", ""))
    elif event.kind == "environment.rolled_back":
        told.champions[event.subject] = str(facts.get("champion", ""))


def _leaving(event: Event) -> str:
    """The version that an event bars."""
    if event.kind == "environment.rolled_back":
        return event.text.removeprefix(f"{event.subject} rolled back from ").partition(" ")[0]
    return str(event.facts.get("release", event.subject))


def _against(told: _Told, state: State) -> Iterable[str]:
    versions = {release.version for release in state.releases}
    for release in state.releases:
        yield from _release(told, release)
    for version in told.sealed.keys() - versions:
        yield f"{version} was sealed, and the ledger has no such release any more"
    for route in state.routes:
        due = told.champions.get(route.environment)
        if due != route.champion:
            known = next((version for version, digest in told.sealed.items() if digest == due), "nothing")
            yield f"{route.champion_version} is to serve {route.environment}; by the events it is {known}"
    for one in state.approvals:
        if one not in told.approvals:
            yield f"an approval of {one.release} for {one.environment} by {one.actor} is in no event"
    for delivery in state.deliveries:
        accepted = told.deliveries.get(delivery.id)
        if accepted is not None and accepted != delivery.accepted:
            yield f"{delivery.name} was {'accepted' if accepted else 'quarantined'}; the ledger says otherwise"


def _release(told: _Told, release: Release) -> Iterable[str]:
    digest = told.sealed.get(release.version)
    if digest is None:
        yield f"{release.version} is in no event: nobody sealed it"
    elif digest != release.digest:
        yield f"{release.version} is not the bundle that was sealed: {release.digest[:12]}, not {digest[:12]}"
    if release.barred is None and release.version in told.barred:
        yield f"{release.version} is not barred any more, and nobody lifted the bar: {told.barred[release.version]}"
    if release.barred is not None and release.version not in told.barred:
        yield f"{release.version} is barred, and no event says why"
