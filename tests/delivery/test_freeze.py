"""Windows of the week and of the calendar, in zones whose clocks jump, against a minute-by-minute reading of the clock."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from noria.config.freezing import parse
from noria.delivery.judge_freeze import WEEK_MIN, find_freeze
from noria.kernel.policy import Freeze

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "America/St_Johns")
DAY_MIN = 24 * 60


def at(text: str, zone: str = "UTC") -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


def until(text: str, now: str, zone: str = "UTC") -> datetime | None:
    found = find_freeze((parse(text),), at(now, zone))
    return datetime.fromtimestamp(found[1], UTC) if found else None


@pytest.mark.parametrize(
    ("now", "ends"),
    [
        ("2026-11-20 15:59", None),  # a Friday
        ("2026-11-20 16:00", "2026-11-23T08:00+00:00"),
        ("2026-11-22 12:00", "2026-11-23T08:00+00:00"),
        ("2026-11-23 07:59:59", "2026-11-23T08:00+00:00"),
        ("2026-11-23 08:00", None),
    ],
)
def test_a_window_wraps_round_the_week(now: str, ends: str | None) -> None:
    assert until("fri 16:00 .. mon 08:00", now) == (datetime.fromisoformat(ends) if ends else None)


def test_a_date_without_a_time_begins_and_ends_with_its_day() -> None:
    assert until("2026-12-18 .. 2027-01-04", "2026-12-17 23:59:59") is None
    assert until("2026-12-18 .. 2027-01-04", "2026-12-18") == datetime(2027, 1, 5, tzinfo=UTC)
    assert until("2026-12-18 .. 2027-01-04", "2027-01-04 23:59:59") is not None
    assert until("2026-12-18 .. 2027-01-04", "2027-01-05") is None
    assert until("2026-12-18 12:00 .. 2027-01-04 06:00 Europe/Berlin", "2026-12-18 11:00") == datetime(2027, 1, 4, 5, tzinfo=UTC)


def test_a_zone_keeps_its_own_time_in_summer_and_winter() -> None:
    for month, hour in ((1, 15), (7, 14)):
        friday = next(d for i in range(7) if (d := datetime(2026, month, 1 + i, hour, tzinfo=UTC)).weekday() == 4)
        window = (parse("fri 16:00 .. mon 08:00 Europe/Berlin"),)
        assert find_freeze(window, friday.timestamp() - 1) is None
        assert find_freeze(window, friday.timestamp()) is not None


def test_an_hour_that_comes_twice_is_frozen_twice_and_one_that_is_left_out_ends_where_the_clock_jumps() -> None:
    """In Berlin 2026-10-25 02:30 comes at 00:30 and at 01:30 UTC, and 2026-03-29 02:30 never."""
    assert until("sun 00:00 .. sun 02:30 Europe/Berlin", "2026-10-25 00:45") == datetime(2026, 10, 25, 1, 30, tzinfo=UTC)
    assert until("sun 00:00 .. sun 02:30 Europe/Berlin", "2026-03-29 00:30") == datetime(2026, 3, 29, 1, tzinfo=UTC)
    assert until("sun 02:30 .. sun 05:00 Europe/Berlin", "2026-03-29 00:59") is None
    assert until("sun 02:30 .. sun 05:00 Europe/Berlin", "2026-03-29 01:00") == datetime(2026, 3, 29, 3, tzinfo=UTC)


def test_the_longest_of_several_is_named_and_the_end_is_when_none_is_in_force() -> None:
    windows = tuple(map(parse, ("fri 16:00 .. mon 08:00", "2026-11-22 .. 2026-11-25", "wed 20:00 .. thu 06:00")))
    found = find_freeze(windows, at("2026-11-22 10:00"))
    assert found == (windows[1], at("2026-11-26 06:00"))  # the third begins before the second ends
    assert find_freeze(windows, at("2026-11-21 10:00")) == (windows[0], at("2026-11-26 06:00"))
    assert find_freeze((), at("2026-11-21 10:00")) is None


def test_windows_that_leave_no_gap_never_end() -> None:
    windows = (parse("mon 00:00 .. thu 12:00"), parse("thu 12:00 .. mon 00:00"))
    assert find_freeze(windows, at("2026-11-21")) == (windows[1], math.inf)


def test_a_clock_that_ran_away_is_no_error() -> None:
    for now in (-1e12, 1e15, math.inf, math.nan, at("9989-12-31 12:00")):
        find_freeze((parse("fri 16:00 .. mon 08:00 Asia/Tokyo"), parse("0001-01-01 .. 9999-12-31 Asia/Tokyo")), now)


REACH = 12 * DAY_MIN  # of a window of the week, and of what a test looks at


@cache
def clock(zone: str, middle: int) -> Any:
    """What the zone's clock shows in each minute for ``REACH`` around one: minutes since 1970-01-01."""
    zero, place = datetime(1970, 1, 1), ZoneInfo(zone)
    moments = (datetime.fromtimestamp(minute * 60, place) for minute in range(middle - REACH, middle + REACH))
    return np.array([(moment.replace(tzinfo=None) - zero) // timedelta(minutes=1) for moment in moments])


def reading(windows: tuple[Freeze, ...], middle: int) -> Any:
    """Whether each minute for ``REACH`` around one is frozen, from what the clocks show."""
    result = np.zeros(2 * REACH, dtype=bool)
    for window in windows:
        shown = clock(window.zone, middle)
        spans = [(window.start, window.end)]
        if window.weekly:
            monday = int(shown[0]) - (int(shown[0]) + 3 * DAY_MIN) % WEEK_MIN  # 1970-01-01 was a Thursday
            length = (window.end - window.start) % WEEK_MIN
            begins = [monday + week * WEEK_MIN + window.start for week in range(-1, 2 + 2 * REACH // WEEK_MIN)]
            spans = [(begin, begin + length) for begin in begins]
        for start, end in spans:
            after, before = np.flatnonzero(shown >= start), np.flatnonzero(shown < end)
            if len(after) and len(before):
                result[after[0] : before[-1] + 1] = True
    return result


CHANGES = st.sampled_from(
    [
        at("2026-03-29 01:00"), at("2026-10-25 01:00"), at("2026-03-08 07:00"), at("2026-11-01 06:00"), at("2026-04-04 15:00"),
        at("2026-10-03 15:30"), at("2026-07-01 00:00"), at("2027-01-01 00:00"),
    ]
)  # fmt: skip


@st.composite
def freezes(draw: st.DrawFn, near: int) -> Freeze:
    zone = draw(st.sampled_from(ZONES))
    if draw(st.booleans()):
        start, end = draw(st.lists(st.integers(0, WEEK_MIN - 1), min_size=2, max_size=2, unique=True))
        return Freeze("weekly", start, end, True, zone)
    start = near + draw(st.integers(-2 * DAY_MIN, 2 * DAY_MIN))
    return Freeze("dated", start, start + draw(st.integers(1, 2 * DAY_MIN)), False, zone)


@given(st.data())
def test_it_is_what_the_clock_shows_minute_by_minute(data: st.DataObject) -> None:
    near = int(data.draw(CHANGES)) // 60
    windows = tuple(data.draw(st.lists(freezes(near), min_size=1, max_size=2)))
    now = near + data.draw(st.integers(-DAY_MIN, DAY_MIN))
    expected = reading(windows, near)[now - near + REACH :]
    found = find_freeze(windows, now * 60.0 + data.draw(st.sampled_from([0.0, 59.9])))
    assert (found is not None) is bool(expected[0])
    if found is not None and not expected.all():
        assert found[1] == (now + int(np.argmin(expected))) * 60


NAMES = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@given(st.integers(0, WEEK_MIN - 1), st.integers(0, WEEK_MIN - 1), st.sampled_from(["", *ZONES]))
def test_a_window_of_the_week_is_read_as_it_is_written(start: int, end: int, zone: str) -> None:
    def written(minute: int) -> str:
        return f"{NAMES[minute // DAY_MIN]} {minute // 60 % 24:02d}:{minute % 60:02d}"

    text = f"{written(start)} .. {written(end)} {zone}".strip()
    if start == end:
        with pytest.raises(ValueError, match="ends when it begins"):
            parse(text)
    else:
        assert parse(text) == Freeze(text, start, end, True, zone or "UTC")


@given(st.datetimes(), st.datetimes(), st.booleans(), st.sampled_from(["", *ZONES]))
@example(datetime(9999, 12, 30), datetime(9999, 12, 31), True, "")
def test_a_window_of_the_calendar_is_read_as_it_is_written(start: datetime, end: datetime, days: bool, zone: str) -> None:
    first, last = (moment.replace(second=0, microsecond=0) for moment in (start, end))
    if days:
        first, last = (moment.replace(hour=0, minute=0) for moment in (first, last))
    written = [moment.isoformat(" ", "minutes")[: 10 if days else 16] for moment in (first, last)]
    zero = datetime(1970, 1, 1)
    due = [(first - zero) // timedelta(minutes=1), (last - zero) // timedelta(minutes=1) + (DAY_MIN if days else 0)]
    text = f"{written[0]} .. {written[1]} {zone}".strip()
    if due[1] <= due[0]:
        with pytest.raises(ValueError, match="ends before it begins"):
            parse(text)
    else:
        assert parse(text) == Freeze(text, due[0], due[1], False, zone or "UTC")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("fri 16:00 .. mon 08:00 Europe/Nowhere", "there is no time zone 'Europe/Nowhere'"),
        ("fry 16:00 .. mon 08:00", "it must look like"),
        ("fri .. mon", "it must look like"),
        ("fri 24:00 .. mon 08:00", "it must look like"),
        ("2026-02-30 .. 2026-03-04", "2026-02-30 is not a date"),
        ("2027-01-04 .. 2026-12-18", "ends before it begins"),
        ("2026-12-18 12:00 .. 2026-12-18 12:00", "ends before it begins"),
        ("fri 16:00 .. 2026-12-18", "one end is a day of the week and the other a date"),
        ("", "it must look like"),
        ("fri 16:00 .. mon 08:00 ../../etc/passwd", "it must look like"),
    ],
)
def test_what_is_wrong_is_said(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse(text)
