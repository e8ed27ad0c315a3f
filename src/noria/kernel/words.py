"""Times, shares and numbers in words: the page and the command line say them the same way."""

from __future__ import annotations

import time

UNITS = (("min", "s", 60, 1, 3600), ("h", "min", 3600, 60, 86400), ("d", "h", 86400, 3600, float("inf")))


def duration(seconds: float | None) -> str:
    """``12 ms``, ``3.4 s``, ``5 min 10 s``, ``2 h 5 min``, ``3 d 4 h``; a dash for None."""
    if seconds is None:
        return "–"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    unit, lesser, size, part, _ = next(u for u in UNITS if round(seconds) < u[4])
    whole, rest = divmod(round(seconds), size)
    return f"{whole} {unit} {rest // part} {lesser}" if rest // part else f"{whole} {unit}"


def ago(at: float, now: float | None = None) -> str:
    """``just now``, ``40 s ago``, ``3 min ago``, ``2 h ago``, ``5 d ago``: one unit, so that it seldom changes."""
    passed = (time.time() if now is None else now) - at
    if passed < 2:
        return "just now"
    if passed < 60:
        return f"{int(passed)} s ago"
    unit, _, size, _, _ = next(u for u in UNITS if passed < u[4])
    return f"{passed // size:.0f} {unit} ago"


def moment(at: float | None) -> str:
    """A time in UTC, to the second; a dash for None."""
    return "–" if at is None else _in_utc(at, "%m-%d %H:%M:%S UTC")


def day(at: float) -> str:
    """``2013-07-01``; with the time where it is not midnight: ``2013-07-01 06:00``."""
    return _in_utc(at, "%m-%d %H:%M").removesuffix(" 00:00")


def _in_utc(at: float, form: str) -> str:
    """The year with four digits, which strftime gives to some years only, and the rest as ``form`` says."""
    when = time.gmtime(at)
    return f"{when.tm_year:04}-{time.strftime(form, when)}"


def percent(share: float) -> str:
    """``5 %``, ``0.3 %``."""
    return f"{share * 100:.3g} %"


def number(value: float) -> str:
    """Whole numbers with commas, others with four significant digits."""
    return f"{value + 0:,.0f}" if abs(value) >= 999.95 or float(value).is_integer() else f"{value:.4g}"  # + 0: no `-0`


def plural(count: int, noun: str) -> str:
    """``1 row``, ``2,000 rows``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
