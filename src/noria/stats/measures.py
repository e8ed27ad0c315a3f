"""What was measured, and how sure one may be of it."""

from __future__ import annotations

import msgspec

LEAST_GROUPS = 5  # fewer do not tell how groups differ
DAY, STRETCH = "day", "stretch"  # units of groups that come from the event time; others are columns


class Measure(msgspec.Struct, frozen=True):
    """One metric with its one-sided 95 % bounds, on ``n`` rows."""

    value: float
    low: float
    high: float
    n: int
    positives: int | None = None  # rows of the positive class (binary); None for other tasks
    groups: int | None = None  # rows come in so many groups that hold a row which counts; None: rows are taken as independent
    unit: str | None = None  # what a group is: DAY, STRETCH, or the column of groups
    widened: float | None = None  # the bounds are so many times as wide as of independent rows
    freedom: float | None = None  # degrees of freedom of Student's t, which widens bounds of few groups
    counts: str = "row"  # what ``n`` counts: of the metrics of a ranking, queries


class Comparison(msgspec.Struct, frozen=True):
    """Candidate minus champion on the same rows, with one-sided 95 % bounds of the difference."""

    champion: float
    difference: float
    low: float
    high: float
    n: int
    differing: int | None = None  # rows that only one of both called rightly; None for metrics that do not count calls
    alike: float | None = None  # few rows make the difference: as many that were alike would spread as much. None: not few
    groups: int | None = None  # as of a measure, and so the next three
    unit: str | None = None
    widened: float | None = None
    freedom: float | None = None
    counts: str = "row"
