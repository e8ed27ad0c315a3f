"""Audit: does the hash chain hold, is its end what was signed, and is what holds now what the events say?"""

from __future__ import annotations

from pathlib import Path

import msgspec

from noria.adapters import signing
from noria.decide.audit import KINDS, Approved, State, judge_state
from noria.errors import StoreError
from noria.store.heads import FILE
from noria.store.ledger import Ledger

MOST = 20  # problems that are told


class Audit(msgspec.Struct, frozen=True):
    """What a verification found. ``unsigned``: newest events that no signed head covers."""

    events: int
    first_bad_seq: int | None
    problems: tuple[str, ...]
    unsigned: int
    text: str

    @property
    def ok(self) -> bool:
        return not self.problems


def verify(ledger: Ledger, state: Path) -> Audit:
    """Read every event, and compare. Changes nothing."""
    chain = ledger.events.verify()
    problems = [] if chain.ok else [chain.text]
    problems += _head(ledger, state, chain.count) if chain.ok else []
    found = judge_state(ledger.events.each(KINDS), _states(ledger))
    problems += found[:MOST]
    if len(found) > MOST:
        problems.append(f"and {len(found) - MOST:,} more of the kind")
    unsigned = ledger.head.unsigned(chain.count)
    if problems:
        text = "; ".join(problems)
    elif unsigned == chain.count and chain.count:
        text = f"{chain.text}; its end was not signed yet: the next event does it"
    else:
        text = f"{chain.text}, and its end is the one that was signed"
        text += f"; {unsigned:,} newer events are not signed yet" if unsigned else ""
    return Audit(chain.count, chain.first_bad_seq, tuple(problems), unsigned, text)


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


def _states(ledger: Ledger) -> dict[str, State]:
    routes = ledger.routes.all()
    return {
        project.name: State(
            ledger.releases.list(project.name),
            [route for route in routes if route.project == project.name],
            [Approved(a.release, a.environment, a.actor) for a in ledger.approvals.list(project.name)],
            ledger.data.each_delivery(project.name),
        )
        for project in ledger.projects.list()
    }
