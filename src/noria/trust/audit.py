"""Audit: does the hash chain hold, is its end what was signed, and is what holds now what the events say?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from noria.data.quarantine_store import QuarantineStore
from noria.data.store import DataStore
from noria.delivery.approval_store import ApprovalStore
from noria.kernel.errors import StoreError
from noria.pipeline.run import RunKind
from noria.pipeline.run_store import RunStore, run_digest
from noria.pipeline.turn_store import TurnStore
from noria.releases import signing
from noria.releases.decision_store import DecisionStore
from noria.releases.policy_store import PolicyStore
from noria.releases.store import ReleaseStore
from noria.serving.route_store import RouteStore
from noria.storage.events import ChainEnd
from noria.storage.heads import FILE
from noria.storage.ledger import Ledger
from noria.trust.judge_audit import KINDS, Approved, Decided, RecordedState, judge_state

MOST = 20  # problems that are told
ACCEPTED = "audit.accepted"  # the kind of an event: a person goes on in spite of what was found
AT_ONCE = 10_000  # events that one look of a daemon checks, of those that were appended ...
AGAIN = 200  # ... and of the older ones, which it goes through again and again


class Audit(msgspec.Struct, frozen=True):
    """What a verification found. ``unsigned``: newest events that no signed head covers."""

    events: int
    first_bad_seq: int | None
    problems: tuple[str, ...]
    unsigned: int
    text: str
    state: tuple[str, ...] = ()  # all that no event bears out; of the problems, only the first are of it

    @property
    def ok(self) -> bool:
        return not self.problems


def verify(ledger: Ledger, state: Path) -> Audit:
    """Read every event, and compare. Changes nothing."""
    chain = ledger.events.verify()
    problems = [] if chain.ok else [chain.text]
    problems += _head(ledger, state, chain.count) if chain.ok else []
    accepted = _accepted_state(ledger)
    with ledger.database.consistent_read():
        found = [text for text in judge_state(ledger.events.each(KINDS), _states(ledger)) if text not in accepted]
    problems += found[:MOST]
    if len(found) > MOST:
        problems.append(f"and {len(found) - MOST:,} more of the kind")
    unsigned = ledger.head.unsigned(chain.count)
    if problems:
        text = "; ".join(problems)
    elif unsigned == chain.count and chain.count:
        text = f"{chain.text}; its end is not signed yet: the next event signs it"
    else:
        text = f"{chain.text}, and its end is the one that was signed"
        text += f"; {unsigned:,} newer events are not signed yet" if unsigned else ""
    return Audit(chain.count, chain.first_bad_seq, tuple(problems), unsigned, text, tuple(found))


def _accepted_state(ledger: Ledger) -> frozenset[str]:
    """What a person has accepted of the state that no event bears out."""
    told: list[Mapping[str, Any]] = [event.facts for event in ledger.events.each((ACCEPTED,))]
    return frozenset(text for facts in told for text in facts.get("state", ()))


class ChainWatch:
    """Looks after the chain while a daemon works: the whole at the start, then what was appended since the last look, and of the
    older events a few at each look."""

    def __init__(self, ledger: Ledger, state: Path) -> None:
        self._ledger, self._state = ledger, state
        self._newest = self._older = ChainEnd()

    def begin(self) -> str:
        """What is wrong with chain, signed head and state; empty where nothing is."""
        found = verify(self._ledger, self._state)
        self._newest = self._ledger.events.place(found.events)
        return "" if found.ok else found.text

    def look(self) -> str:
        """The same of the chain and its head, at the cost of what is new."""
        events = self._ledger.events
        self._newest, problem = events.verify_after(self._newest, AT_ONCE)
        if not problem:
            self._older, problem = events.verify_after(self._older, AGAIN)
        if self._older.seq >= self._newest.seq:
            self._older = ChainEnd()
        return problem or "; ".join(_head(self._ledger, self._state, self._newest.seq))


def _head(ledger: Ledger, state: Path, events: int) -> list[str]:
    """What the signed head says against the chain."""
    keys: tuple[str, ...] = ()
    try:
        keys = signing.known_keys(state)
    except StoreError as error:
        if (state / FILE).exists():
            return [f"the signed head cannot be verified: {error.message}"]
    problem = ledger.head.problem(lambda said, seal: any(signing.verify(key, said, seal) for key in keys), events)
    return [problem] if problem else []


def _states(ledger: Ledger) -> dict[str, RecordedState]:
    return {
        project.name: RecordedState(
            ReleaseStore(ledger, project.name).list(),
            RouteStore(ledger, project.name).all(),
            [Approved(a.release, a.environment, a.actor) for a in ApprovalStore(ledger, project.name).list()],
            DataStore(ledger, project.name).each_delivery(),
            TurnStore(ledger, project.name).each(),
            ((run.id, run_digest(run)) for run in RunStore(ledger, project.name).each(RunKind.TURN)),
            DataStore(ledger, project.name).files_without_delivery(),
            [Decided(d.delivery, d.outcome, d.actor) for d in QuarantineStore(ledger, project.name).decisions()],
            [(d.release, str(d.kind), d.actor) for d in DecisionStore(ledger, project.name).list() if d.actor is not None],
            [(approval.after, approval.actor) for approval in PolicyStore(ledger, project.name).list()],
        )
        for project in ledger.projects.list()
    }
