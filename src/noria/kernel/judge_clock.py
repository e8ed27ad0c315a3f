"""Does the clock stand where its own history ends? What is deleted by its age must not go because a clock was set wrong."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

import msgspec

DAY_S = 86_400.0
GAP_S = 3 * DAY_S  # with nothing recorded in between: a machine that was off, or a clock that jumped
SETTLED_S = 2 * DAY_S  # on the other side of a gap, and the clock is believed


class ClockJump(msgspec.Struct, frozen=True):
    """Nothing was recorded between two moments, the later of which is not long ago."""

    before: float
    after: float

    @property
    def text(self) -> str:
        first, second = (f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M}" for at in (self.before, self.after))
        return f"nothing was recorded between {first} and {second} UTC: the machine was off, or its clock jumped"


def jump(moments: Iterable[float], now: float) -> ClockJump | None:
    """The gap behind which the clock stands only since a short while; None when there is none. ``moments``: when things were
    recorded, by the same clock, in any order."""
    after = now
    for moment in sorted((at for at in moments if at <= now), reverse=True):
        if now - after >= SETTLED_S:
            return None
        if after - moment > GAP_S:
            return ClockJump(moment, after)
        after = moment
    return None
