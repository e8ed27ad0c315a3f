"""What was measured, and how sure one may be of it."""

from __future__ import annotations

import msgspec


class Measure(msgspec.Struct, frozen=True):
    """One metric with its one-sided 95 % bounds, on ``n`` rows."""

    value: float
    low: float
    high: float
    n: int
    positives: int | None = None  # rows of the positive class (binary); None for other tasks


class Comparison(msgspec.Struct, frozen=True):
    """Candidate minus champion on the same rows, with one-sided 95 % bounds of the difference."""

    champion: float
    difference: float
    low: float
    high: float
    n: int
    differing: int | None = None  # rows that only one of both called rightly; None for metrics that do not count calls
    alike: float | None = None  # few rows make the difference: as many that were alike would spread as much. None: not few
