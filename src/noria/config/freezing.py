"""Parses freezes: times in which no release goes out."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from noria.kernel.policy import Freeze

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY_MIN = 24 * 60
_CLOCK = r"([01]?[0-9]|2[0-3]):([0-5][0-9])"
_MOMENT = rf"(?:(?:{'|'.join(DAYS)}) {_CLOCK}|[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}(?: {_CLOCK})?)"
PATTERN = rf"^{_MOMENT}\s*\.\.\s*{_MOMENT}(\s+[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*)?$"


def parse(text: str) -> Freeze:
    """``fri 16:00 .. mon 08:00``, ``2026-12-18 .. 2027-01-04``, each with a zone's name behind it where it is not UTC.

    A day without a time begins at 00:00 and ends at 24:00. Raises ValueError with a sentence.
    """
    words = " ".join(text.split())
    if re.fullmatch(PATTERN, words) is None:
        raise ValueError(
            "it must look like `fri 16:00 .. mon 08:00` or `2026-12-18 .. 2027-01-04`, optionally followed by a time zone"
        )
    begins, _, rest = (part.strip() for part in words.partition(".."))
    zone = ""
    if (last := rest.rpartition(" "))[0] and ":" not in last[2]:
        rest, _, zone = last
    weekly = begins[:3] in DAYS
    if weekly is not (rest[:3] in DAYS):
        raise ValueError("one end is a day of the week and the other a date")
    _demand_zone(zone or "UTC")
    start, end = (_weekly(begins), _weekly(rest)) if weekly else (_date_minutes(begins, 0), _date_minutes(rest, 1))
    if not weekly and end <= start:
        raise ValueError("it ends before it begins")
    if weekly and end == start:
        raise ValueError("it ends when it begins")
    return Freeze(words, start, end, weekly, zone or "UTC")


def _demand_zone(name: str) -> None:
    from zoneinfo import ZoneInfo  # every command reads the project, and few projects have a freeze

    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError(f"there is no time zone {name!r}") from None


def _weekly(text: str) -> int:
    day, _, clock = text.partition(" ")
    return DAYS.index(day) * DAY_MIN + _minutes(clock)


def _date_minutes(text: str, days_more: int) -> int:
    """Minutes since 1970-01-01 of a date with its time; of a date alone ``days_more`` days later."""
    date, _, clock = text.partition(" ")
    try:
        day = datetime.fromisoformat(date).replace(tzinfo=UTC)
    except ValueError:
        raise ValueError(f"{date} is not a date") from None
    return int(day.timestamp()) // 60 + (_minutes(clock) if clock else days_more * DAY_MIN)


def _minutes(clock: str) -> int:
    hours, _, minutes = clock.partition(":")
    return int(hours) * 60 + int(minutes)
