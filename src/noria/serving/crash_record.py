"""The processes that died under a release: what a server counts, by the role the release had."""

from __future__ import annotations

import msgspec

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
