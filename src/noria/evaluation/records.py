"""Measurements of a candidate, beside the champion where there is one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

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


class Evaluation(msgspec.Struct, frozen=True):
    rows: int
    positives: int  # rows of the positive class (binary) or 0
    metrics: dict[str, Measure]
    versus: dict[str, Comparison] = {}  # by metric; empty without a champion
    champion: str | None = None  # v11
    slices: dict[str, dict[str, dict[str, Measure]]] = {}  # column -> value -> metric
    latency_p50_ms: float = 0.0
    latency_p99_ms: float = 0.0
    latency_rounds_ms: tuple[float, ...] = ()  # the 99th percentile of each round, where a gate asks for it
    model_size_mb: float = 0.0
    holdout: str = ""  # "last 7 days: 2013-03-25 to 2013-03-31, 6,012 rows"
    champion_note: str = ""  # why there is no comparison, when a champion exists
    best: str | None = None  # v7: the best release so far, where a gate names it; it may be the champion
    versus_best: dict[str, Comparison] = {}  # by metric
    remarks: tuple[str, ...] = ()  # of the rows that it was trained on: what predicts the label alone


def gated_first(metrics: Iterable[str], gated: Sequence[str]) -> list[str]:
    """The names in the order in which people read them: those that gates ask for, in the gates' order, then the others as they
    come. ``validation.roc_auc`` stands where ``roc_auc`` does."""
    places = {name: place for place, name in enumerate(dict.fromkeys(gated))}

    def place(name: str) -> tuple[int, bool]:
        bare = name.removeprefix("validation.")
        return places.get(bare, len(places)), bare != name

    return sorted(metrics, key=place)
