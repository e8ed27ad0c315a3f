"""Whether what the ledger says holds now is what its events say became of it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from noria.data.snapshot import Delivery
from noria.kernel.event import Event
from noria.kernel.words import plural
from noria.pipeline.turn_record import Turn, TurnOutcome
from noria.releases.release import Release
from noria.serving.route import Route

SEALED = ("release.sealed", "release.imported")
LIFTED = ("release.lifted", "rollout.promoted")  # promoting a release by hand lifts its bar
BARRED = ("release.withdrawn", "rollout.rolled_back", "environment.rolled_back")
APPROVED = "release.approved"
ACCEPTED = "release.accepted"
POLICY = "policy.approved"
DELIVERED = ("data.accepted", "data.quarantined")
DECIDED = {"data.released": "released", "data.discarded": "discarded"}  # of files in quarantine
STARTED, ENDED = "turn.started", "turn.ended"
KINDS = (*SEALED, *LIFTED, *BARRED, APPROVED, ACCEPTED, POLICY, *DELIVERED, *DECIDED, STARTED, ENDED)


class Approved(msgspec.Struct, frozen=True):
    """One person's approval, as the ledger has it."""

    release: str
    environment: str
    actor: str


class Decided(msgspec.Struct, frozen=True):
    """What a person decided of a file in quarantine, as the ledger has it."""

    delivery: str
    outcome: str
    actor: str


class RecordedState(msgspec.Struct, frozen=True):
    """What holds now in one project. ``runs``: id and digest of each run of a turn; ``never_accepted``: dataset and name of each
    file that counts as accepted, and that no delivery brought."""

    releases: Sequence[Release]
    routes: Sequence[Route]
    approvals: Sequence[Approved]
    deliveries: Iterable[Delivery]
    turns: Iterable[Turn] = ()
    runs: Iterable[tuple[str, str]] = ()
    never_accepted: Sequence[tuple[str, str]] = ()
    decisions: Sequence[Decided] = ()
    accepted: Sequence[tuple[str, str, str]] = ()  # release, kind and actor of each decision that was taken
    policies: Sequence[tuple[str, str]] = ()  # digest and actor of each policy that was approved


class _Ended(msgspec.Struct, frozen=True):
    """How a turn ended, and its run. The digest is empty where the event is of before there was one."""

    outcome: str
    run: str
    digest: str


class _Told(msgspec.Struct):
    """What the events of one project say, the newest last."""

    sealed: dict[str, str] = {}  # version -> digest
    barred: dict[str, str] = {}  # version -> why, as long as it holds
    champions: dict[str, str] = {}  # environment -> digest
    approvals: set[Approved] = set()
    accepted: set[tuple[str, str, str]] = set()  # release, kind, actor
    policies: set[tuple[str, str]] = set()  # digest, actor
    deliveries: dict[str, tuple[bool, str, str]] = {}  # id -> whether it was accepted, its digest, that of its good rows
    decisions: set[Decided] = set()
    kept: dict[str, int] = {}  # dataset -> files that were accepted many at once, with one event
    turns: dict[str, _Ended | None] = {}  # id -> how it ended, if it did


def judge_state(events: Iterable[Event], states: Mapping[str, RecordedState]) -> list[str]:
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
    elif event.kind in DECIDED:
        told.decisions.add(Decided(event.subject, DECIDED[event.kind], event.actor))
    elif event.kind == POLICY:
        told.policies.add((event.subject, event.actor))
    elif event.kind == ACCEPTED:
        told.accepted |= {(event.subject, str(kind), event.actor) for kind in facts.get("kinds", ())}
    elif event.kind in DELIVERED and "files" in facts:
        told.kept[event.subject] = told.kept.get(event.subject, 0) + int(facts["files"])
    elif event.kind in DELIVERED:
        digests = str(facts.get("digest", "")), str(facts.get("kept", ""))
        told.deliveries[event.subject] = event.kind == DELIVERED[0], *digests
    elif event.kind == STARTED:
        told.turns[event.subject] = None
    elif event.kind == ENDED:
        ended = (str(facts.get(name, "")) for name in ("outcome", "run", "run_digest"))
        told.turns[event.subject] = _Ended(*ended)
    elif event.kind in LIFTED:
        told.barred.pop(event.subject, None)
    elif event.kind in BARRED:
        told.barred[barred_version(event)] = event.text
    if event.kind == "rollout.promoted":
        told.champions[str(facts.get("environment", ""))] = str(facts.get("digest", ""))
    elif event.kind == "environment.rolled_back":
        told.champions[event.subject] = str(facts.get("champion", ""))


def barred_version(event: Event) -> str:
    """The version that an event bars."""
    if event.kind == "environment.rolled_back":
        return event.text.removeprefix(f"{event.subject} rolled back from ").partition(" ")[0]
    return str(event.facts.get("release", event.subject))


def _against(told: _Told, state: RecordedState) -> Iterable[str]:
    versions = {release.version for release in state.releases}
    for release in state.releases:
        yield from _release(told, release)
    for version in told.sealed.keys() - versions:
        yield f"{version} was sealed, but is no longer in the ledger"
    for route in state.routes:
        due = told.champions.get(route.environment)
        if due != route.champion:
            known = next((version for version, digest in told.sealed.items() if digest == due), "nothing")
            yield f"{route.champion_version} is to serve {route.environment}; by the events it is {known}"
    for one in state.approvals:
        if one not in told.approvals:
            yield f"an approval of {one.release} for {one.environment} by {one.actor} is in no event"
    for version, kind, actor in state.accepted:
        if (version, kind, actor) not in told.accepted:
            yield f"that {actor} accepted {version} ({kind}) is in no event"
    for digest, actor in state.policies:
        if (digest, actor) not in told.policies:
            yield f"that {actor} approved the policy {digest[:12]} is in no event"
    yield from _data(told, state)
    yield from _turns(told, state)


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


def _data(told: _Told, state: RecordedState) -> Iterable[str]:
    silent: dict[str, int] = {}  # dataset -> deliveries without an event of their own
    for delivery in state.deliveries:
        if delivery.id not in told.deliveries:
            silent[delivery.dataset] = silent.get(delivery.dataset, 0) + 1
            continue
        accepted, digest, kept = told.deliveries[delivery.id]
        if accepted != delivery.accepted:
            yield f"{delivery.name} was {'accepted' if accepted else 'quarantined'}; the ledger says otherwise"
        elif digest != delivery.digest:
            yield f"{delivery.name} has not the content that was judged: {delivery.digest[:12]}, not {digest[:12]}"
        elif kept != delivery.kept_digest:
            yield f"{delivery.name} has other good rows than were accepted: {delivery.kept_digest[:12]}, not {kept[:12]}"
    for dataset, found in silent.items():
        due = told.kept.get(dataset, 0)
        if found > due:
            yield f"{dataset} has {plural(found - due, 'judged file')} more than its events say"
    for one in set(state.decisions) ^ told.decisions:
        where = "is in no event" if one in state.decisions else "is no longer in the ledger"
        yield f"that {one.actor} {one.outcome} {one.delivery} {where}"
    for dataset, name in state.never_accepted:
        yield f"{name} counts as accepted into {dataset}, and never arrived with this content"


def _turns(told: _Told, state: RecordedState) -> Iterable[str]:
    gone = set(told.turns)
    released = {release.turn_id for release in state.releases if release.version in told.sealed}
    for turn in state.turns:
        gone.discard(turn.id)
        if turn.id not in told.turns:
            yield f"turn {turn.number} is in no event: nobody started it"
        elif turn.id not in released:  # what a rollout says of its turn has events of its own
            ended = told.turns[turn.id]
            due = ended.outcome if ended else TurnOutcome.RUNNING
            if turn.outcome != due:
                yield f"turn {turn.number} is {turn.outcome}; by the events it is {due}"
    for turn_id in sorted(gone):
        yield f"turn {turn_id} started, but is no longer in the ledger"
    due_runs = {ended.run: ended.digest for ended in told.turns.values() if ended and ended.digest}
    for run_id, digest in state.runs:
        if due_runs.pop(run_id, digest) != digest:
            yield f"run {run_id} is not the one that was recorded at the end of its turn"
    for run_id in sorted(due_runs):
        yield f"run {run_id} was recorded, but is no longer in the ledger"
