"""A rollout of a release into an environment, with the evidence so far."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from noria.serving.tallies import Tally


class RolloutState(StrEnum):
    WAITING = "waiting"  # for a server, an approval, or the end of a freeze
    REPLAY = "replay"  # logged requests go to the candidate, live ones not yet
    CANARY = "canary"  # at one of its steps
    HELD = "held"  # patience ended without a verdict, or a person held it: a person decides
    PROBATION = "probation"  # serves all traffic, and is still judged
    PROMOTED = "promoted"  # serves all traffic
    ROLLED_BACK = "rolled back"  # evidence or a person ended it
    SUPERSEDED = "superseded"  # a newer candidate took its place


class Interval(msgspec.Struct, frozen=True):
    """What came in between two analyses, at one traffic share."""

    share: float  # the chance that an event is the candidate's when it is no worse: 0.5 of requests that both scored
    champion: Tally
    candidate: Tally
    revision: int = 0  # of the route that was in force
    paired: bool = False  # one release answered and the other scored afterwards: their slow answers cannot be compared


class GuardStatus(msgspec.Struct, frozen=True):
    """The status of one guard at an analysis. Evidence is an e-value: 1 says nothing."""

    guard: str  # errors, slow answers, brier, p99
    text: str  # 7 of 9 events on the canary at 10 % of traffic in 412 of its requests
    harm: float
    harm_needed: float
    safe: float
    safe_needed: float  # at this step

    @property
    def harmful(self) -> bool:
        return self.harm >= self.harm_needed

    @property
    def cleared(self) -> bool:
        return self.safe >= self.safe_needed


def evidence_words(evidence: float) -> str:
    """``0.83``, ``8.4``, ``212``; beyond a million, how much more tells a person nothing: ``>1,000,000``."""
    if evidence > 1e6:
        return ">1,000,000"
    return f"{evidence:,.0f}" if evidence >= 10 else f"{evidence:.2g}"


class Analysis(msgspec.Struct, frozen=True):
    """The newest analysis of a rollout."""

    at: float  # wall clock
    text: str
    stands: tuple[GuardStatus, ...] = ()
    code: str = ""  # of the reason that decided, as `rollout.pause`, or of what it waits for; empty in those of earlier versions


ASKS_APPROVAL = "rollout.approve"  # the code of a look that waits for people
ASKS_DECISION = "rollout.decide"  # ... for a person who accepts what the gates or the policy left open
FROZEN = "rollout.frozen"  # ... for the end of a freeze
NO_SERVER = "rollout.no_server"  # ... for a server whose traffic could judge it


class Advice(StrEnum):
    WAIT = "wait"  # the evidence does not decide yet
    ADVANCE = "advance"  # next step
    PROMOTE = "promote"  # last step passed
    ROLL_BACK = "roll back"  # harm is shown
    HOLD = "hold"  # patience ended


class Rollout(msgspec.Struct, frozen=True):
    """Moments called ``..._clock`` are of the project clock; the others of the wall clock."""

    id: str
    project: str
    environment: str
    turn_id: str | None
    release: str  # v12
    digest: str
    state: RolloutState
    step: int  # index into the policy's steps
    started_at: float
    ended_at: float | None = None
    reason: str = ""
    blocks: tuple[Interval, ...] = ()  # the evidence so far
    before: str | None = None  # the champion that it is compared with: v11
    patient_clock: float = 0.0  # patience counts from here: the first live request, or when a person resumed it
    step_clock: float = 0.0  # when its step began, or its probation
    step_at: float = 0.0  # the same on the wall clock
    resumes: RolloutState | None = None  # what a held one goes on with
    look: Analysis | None = None
    plan: tuple[str, ...] = ()  # its steps, in words
