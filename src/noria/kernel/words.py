"""Times, shares, sizes and counts in words: whatever people read says them the same way.

A time that was measured is a ``duration``, one that somebody set is ``lasting``. What was measured in bytes is a ``size``, by
powers of 1000, as disks and transfers are told; a limit that noria.yaml sets is a ``limit_size``, by powers of 1024 as there.
"""

from __future__ import annotations

import math
import time

UNITS = (("min", "s", 60, 1, 3600), ("h", "min", 3600, 60, 86400), ("d", "h", 86400, 3600, float("inf")))


def duration(seconds: float | None) -> str:
    """``0.4 ms``, ``12 ms``, ``3.4 s``, ``5 min 10 s``, ``2 h 5 min``, ``3 d 4 h``; a dash for what is not known."""
    if seconds is None or not math.isfinite(seconds):
        return "–"
    if seconds < 0:
        return f"-{duration(-seconds)}"
    if seconds < 0.9995:
        ms = seconds * 1000
        return f"{ms:.0f} ms" if ms >= 1 else f"{round(ms, 2):g} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    unit, lesser, size, part, _ = next(u for u in UNITS if round(seconds) < u[4])
    whole, rest = divmod(round(seconds), size)
    return f"{whole} {unit} {rest // part} {lesser}" if rest // part else f"{whole} {unit}"


def lasting(seconds: float | None) -> str:
    """What a project or a person set: ``30 s``, ``10 min``, ``1.5 h``, ``7 d``; ``for ever`` where there is no end."""
    if seconds is None or not math.isfinite(seconds):
        return "for ever"
    for unit, size, full in (("s", 1.0, 60), ("min", 60.0, 60), ("h", 3600.0, 24)):
        rounded = float(f"{max(0.0 if size == 1 else 1.0, seconds / size):.3g}")
        if rounded < full:
            return f"{rounded:g} {unit}"
    return f"{_three(max(1.0, seconds / 86400))} d"


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
    """``5 %``, ``0.3 %``: three digits, and more where less than all would read ``100 %``; a dash for what is not known."""
    if not math.isfinite(share):
        return "–"
    hundredths = share * 100
    if hundredths < 100 and share < 1:
        for digits in range(3, 16):
            text = f"{hundredths:.{digits}g}"
            if float(text) < 100:
                return f"{text} %"
    return f"{_three(hundredths)} %"


def size(size_bytes: float) -> str:
    """What was measured, by powers of 1000: ``12 B``, ``3.4 kB``, ``5.6 MB``, ``1.2 GB``."""
    amount, unit = float(size_bytes), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if amount < 999.5 or unit == "TB":
            break
        amount /= 1000
    return f"{amount:,.0f} {unit}" if unit == "B" or amount >= 99.95 else f"{amount:,.1f} {unit}"


def limit_size(size_bytes: int) -> str:
    """A limit as noria.yaml writes it, by powers of 1024: ``300 MB``, ``1.5 GB``."""
    for unit, length in (("TB", 1 << 40), ("GB", 1 << 30)):
        if size_bytes >= length:
            return f"{size_bytes / length:.4g} {unit}"
    return f"{size_bytes / (1 << 20):.0f} MB"


def number(value: float) -> str:
    """Whole numbers with commas, others with four significant digits."""
    return f"{value + 0:,.0f}" if abs(value) >= 999.95 or float(value).is_integer() else f"{value:.4g}"  # + 0: no `-0`


def plural(count: int, noun: str) -> str:
    """``1 row``, ``2,000 rows``."""
    return f"{count:,} {noun if count == 1 else plurals(noun)}"


def plurals(noun: str) -> str:
    """``rows``, ``queries``."""
    return f"{noun[:-1]}ies" if noun.endswith("query") else f"{noun}s"


def _three(value: float) -> str:
    """Three digits, and all of a whole part that is longer: never ``1.2e+03``."""
    return f"{value:,.0f}" if abs(value) >= 999.5 else f"{value:.3g}"
