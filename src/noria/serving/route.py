"""A route: which releases of an environment answer requests, and in what shares."""

from __future__ import annotations

import zlib

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
