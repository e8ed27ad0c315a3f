"""Durations, sizes, shares and rates as people write them."""

from __future__ import annotations

import re

SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
BYTES = {"B": 1, "KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40}
PERIODS = {"minute": 60.0, "hour": 3600.0, "day": 86400.0, "week": 604800.0}
AMOUNT, SPAN, SPACE = r"[0-9]+(\.[0-9]+)?", "ms|s|m|h|d|w", "B|KB|MB|GB|TB"  # of what patterns are made
DURATION, SIZE, PERCENT = rf"^{AMOUNT}\s*({SPAN})$", rf"^{AMOUNT}\s*({SPACE})$", rf"^{AMOUNT}\s*%$"
RATE = rf"^([0-9]+)\s+per\s+(minute|hour|day|week|[0-9]+(?:\.[0-9]+)?(?:{SPAN}))$"
FREQUENCY = r"^([0-9]{1,9})\s*/\s*(s|min|h)$"
HOST = r"^([A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?|\[[0-9A-Fa-f:.]+\])$"
_LONGEST_S = 100 * 366 * 86400.0


class OutOfRange(ValueError):
    """It is written as it should be, and is too little or too much; the message says what is allowed."""


def duration_s(text: str) -> float:
    """``50ms``, ``2s``, ``10m``, ``3h``, ``7d``, ``2w`` in seconds. Raises ValueError; OutOfRange for zero, beyond 100 years."""
    match = re.fullmatch(DURATION, text)
    if match is None:
        raise ValueError
    unit = match.group(2)
    seconds = float(text.removesuffix(unit)) * SECONDS[unit]
    if not 0 < seconds <= _LONGEST_S:
        raise OutOfRange("A duration is more than zero (1ms is the shortest that is of use) and at most 100 years.")
    return seconds


def size_bytes(text: str) -> int:
    """``4GB``, ``512MB`` in bytes, by powers of 1024. Raises ValueError; OutOfRange below one byte and from 1,048,576 TB."""
    match = re.fullmatch(SIZE, text, re.IGNORECASE)
    if match is None:
        raise ValueError
    unit = match.group(2)
    size = float(text[: -len(unit)]) * BYTES[unit.upper()]
    if not 1 <= size < 1 << 60:
        raise OutOfRange("A size is at least 1B and less than 1048576TB.")
    return int(size)


def share(text: str) -> float:
    """``5%`` is 0.05. Raises ValueError; OutOfRange beyond 100 %."""
    if re.fullmatch(PERCENT, text) is None:
        raise ValueError
    value = float(text.removesuffix("%")) / 100
    if value > 1:
        raise OutOfRange("A share is at most 100%.")
    return value


def frequency(text: str) -> tuple[int, float]:
    """``100/s``, ``6000/min``, ``50000/h``: how many, in how many seconds. Raises ValueError."""
    match = re.fullmatch(FREQUENCY, text)
    if match is None:
        raise ValueError
    if int(match.group(1)) < 1:
        raise OutOfRange("At least 1 is to be allowed: 1/h is the lowest rate.")
    return int(match.group(1)), {"s": 1.0, "min": 60.0, "h": 3600.0}[match.group(2)]


def host(text: str) -> str:
    """A name or an address as the Host header says it, without a port. Raises ValueError."""
    if re.fullmatch(HOST, text) is None:
        raise ValueError
    return text.lower()


def rate(text: str) -> tuple[int, float]:
    """``1 per day``, ``3 per 12h``: how many, in how many seconds. Raises ValueError."""
    match = re.fullmatch(RATE, text)
    if match is None:
        raise ValueError
    if int(match.group(1)) < 1:
        raise OutOfRange("At least 1 is to be allowed, in a period as long as you like: 1 per 52w.")
    period = match.group(2)
    return int(match.group(1)), PERIODS[period] if period in PERIODS else duration_s(period)
