"""How a release reaches traffic, and the evidence on the way."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from enum import StrEnum
from functools import reduce

import msgspec
from msgspec.structs import replace

from noria.kernel.policy import SLOW_MS


class Route(msgspec.Struct, frozen=True):
    """The desired state of one environment; the server applies the row with the highest revision."""

    project: str
    environment: str
    revision: int  # grows with every change
    champion: str  # digest of the release that serves
    champion_version: str  # v11
    candidate: str | None = None
    candidate_version: str | None = None
    share: float = 0.0  # of requests that the candidate answers, 0 to 1
    previous: str | None = None  # digest kept resident for a rollback
    previous_version: str | None = None
    rollout_id: str | None = None
    slow_ms: float = SLOW_MS  # an answer later than this counts as slow
    deadline_ms: float = 1000.0  # the candidate's deadline; after it the champion answers
    shadow: float = 0.0  # share of requests that the release which does not answer scores too
    sticky: bool = False  # a request goes where its key goes

    def without_candidate(self) -> Route:
        """The champion alone: what the end of a rollout leaves, and what a server makes of a candidate that crashes."""
        return replace(self, candidate=None, candidate_version=None, share=0.0, shadow=0.0, sticky=False, rollout_id=None)

    @property
    def other(self) -> str | None:
        """The release that scores what it does not answer: the candidate, or in probation the champion before."""
        return (self.candidate or self.previous) if self.shadow else None

    @property
    def tally_key(self) -> int:
        """Under which the server counts: revisions of different projects may be the same number."""
        return tally_key(self.project, self.revision)


def tally_key(project: str, revision: int) -> int:
    return zlib.crc32(project.encode()) << 24 | revision


def revision_of(key: int, project: str) -> int | None:
    """The revision in a key; None when it is another project's."""
    return key & 0xFFFFFF if key >> 24 == zlib.crc32(project.encode()) else None


class RolloutState(StrEnum):
    WAITING = "waiting"  # for a server, an approval, or the end of a freeze
    REPLAY = "replay"  # logged requests go to the candidate, live ones not yet
    CANARY = "canary"  # at one of its steps
    HELD = "held"  # patience ended without a verdict, or a person said so: a person decides
    PROBATION = "probation"  # serves all traffic, and is still judged
    PROMOTED = "promoted"  # serves all traffic
    ROLLED_BACK = "rolled back"  # evidence or a person said no
    SUPERSEDED = "superseded"  # a newer candidate took its place


class Tally(msgspec.Struct, frozen=True):
    """Counts of one arm at one traffic share since the rollout's step began (cumulative)."""

    requests: int = 0
    errors: int = 0  # the release raised, broke, or passed its deadline
    slow: int = 0  # answered later than the guard's limit
    both: int = 0  # of the candidate's errors in a shadow step, those on requests that the champion failed too

    def less(self, other: Tally) -> Tally:
        """What came in since ``other``."""
        return Tally(self.requests - other.requests, self.errors - other.errors, self.slow - other.slow, self.both - other.both)

    def plus(self, other: Tally) -> Tally:
        return Tally(self.requests + other.requests, self.errors + other.errors, self.slow + other.slow, self.both + other.both)


def total(tallies: Iterable[Tally]) -> Tally:
    """The sum of counts."""
    return reduce(Tally.plus, tallies, Tally())


class Interval(msgspec.Struct, frozen=True):
    """What came in between two looks, at one traffic share."""

    share: float  # the chance that an event is the candidate's when it is no worse: 0.5 of requests that both scored
    champion: Tally
    candidate: Tally
    revision: int = 0  # of the route that was in force
    paired: bool = False  # one release answered and the other scored afterwards: their slow answers cannot be compared


class GuardStatus(msgspec.Struct, frozen=True):
    """Where one guard stood at a look. Evidence are e-values: 1 says nothing."""

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
    """The newest look at a rollout."""

    at: float  # wall clock
    text: str
    stands: tuple[GuardStatus, ...] = ()
    code: str = ""  # of the reason that decided, as `rollout.pause`; empty in those of earlier versions


ASKS_APPROVAL = "rollout.approve"  # the code of a look that waits for people


CHAMPION = "champion"


class Crashes(msgspec.Struct, frozen=True):
    """Processes that died while a release was running in them, since it got its place."""

    deaths: int
    burst: int  # the most of them within any minute
    how: str  # of the last: "SIGSEGV in worker 0"
    role: str = CHAMPION  # that it died in; ``candidate_of`` a rollout


def candidate_of(rollout_id: str | None) -> str:
    """The role of a release that a rollout delivers."""
    return f"candidate of {rollout_id}"


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
