"""Judges whether a freeze is in force, and when it ends. Moments are seconds since 1970-01-01 UTC.

A window begins when the clock of its zone first shows its start, and ends when that clock has shown its end for the last time:
an hour that comes twice in autumn lies in it twice, and an end that is left out in spring is where the clock jumps.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from noria.kernel.policy import Freeze

DAY_S = 86_400
WEEK_MIN = 7 * 24 * 60
EPOCH = datetime(1970, 1, 1)
FIRST_S, LAST_S = 0, int(datetime(9990, 1, 1, tzinfo=UTC).timestamp())  # a replay's clock may run further than dates do
HORIZON_S = 400 * DAY_S  # windows of the week that leave no gap for so long leave none ever


def find_freeze(windows: tuple[Freeze, ...], now: float) -> tuple[Freeze, float] | None:
    """The window in force, the one that lasts longest of several, and when none will be any more: infinite where the windows
    leave no gap. None when nothing is frozen."""
    if not windows or not FIRST_S <= now < LAST_S or (found := _longest(windows, now)) is None:
        return None
    window, until = found
    dated = [window.end * 60.0 for window in windows if not window.weekly]
    horizon = min(max(now, *dated, until) + HORIZON_S, LAST_S)
    while (following := _longest(windows, until)) is not None:
        until = following[1]
        if until >= horizon:
            return window, math.inf
    return window, until


def _longest(windows: tuple[Freeze, ...], at: float) -> tuple[Freeze, float] | None:
    """Of the windows in force at a moment the one that ends last, and when."""
    found = [(end, -i) for i, window in enumerate(windows) for start, end in _spans(window, at) if start <= at < end]
    if not found:
        return None
    end, i = max(found)
    return windows[-i], end


def _spans(window: Freeze, at: float) -> Iterator[tuple[float, float]]:
    """When the window is in force, as far as it matters at that moment."""
    zone = ZoneInfo(window.zone)
    if not window.weekly:
        yield _instant(window.start, zone, last=False), _instant(window.end, zone, last=True)
        return
    shown = datetime.fromtimestamp(at, zone).replace(tzinfo=None)
    day = (shown - EPOCH).days
    monday = (day - shown.weekday()) * 24 * 60
    length = (window.end - window.start) % WEEK_MIN
    for week in (-1, 0, 1):
        start = monday + week * WEEK_MIN + window.start
        yield _instant(start, zone, last=False), _instant(start + length, zone, last=True)


def _instant(minutes: int, zone: ZoneInfo, *, last: bool) -> float:
    """When the zone's clock shows so many minutes since 1970-01-01: the first time, or the last; where it jumps over them,
    when it jumps."""
    minutes = min(max(minutes, FIRST_S // 60), LAST_S // 60)
    shown = EPOCH + timedelta(minutes=minutes)
    first, second = (minutes * 60 - _offset_s(shown.replace(tzinfo=zone, fold=fold)) for fold in (0, 1))
    if first <= second:
        return second if last else first
    return _jump(second, first, zone)


def _jump(early: float, late: float, zone: ZoneInfo) -> float:
    """The whole second between two moments from which on the offset is the later one's."""
    after = _offset_s(datetime.fromtimestamp(late, zone))
    low, high = int(early), int(late)
    while high - low > 1:
        middle = (low + high) // 2
        if _offset_s(datetime.fromtimestamp(middle, zone)) == after:
            high = middle
        else:
            low = middle
    return high


def _offset_s(moment: datetime) -> int:
    return int((moment.utcoffset() or timedelta()).total_seconds())
