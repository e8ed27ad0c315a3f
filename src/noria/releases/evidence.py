"""What a bundle's evidence says of its release."""

from __future__ import annotations

import msgspec

from noria.kernel.behaviour import BehaviourResult
from noria.stats.curve_records import EvaluationCurves
from noria.stats.measures import Comparison, Measure


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
    remarks: tuple[str, ...] = ()  # of the rows that it was trained on: what predicts the label alone, held-out rows among them
    step_metrics: dict[str, float] = {}  # STEP.METRIC, of the project's steps, where a gate asks for one
    unmeasured: dict[str, str] = {}  # metrics of the project's own that have no value here, and why
    behaviours: tuple[BehaviourResult, ...] = ()  # in the project's order


class Reference(msgspec.Struct, frozen=True):
    """The release's own quality on its holdout: what the monitor compares with."""

    metric: str
    mean: float  # of the units' means
    sd: float  # between units
    n: int  # units: days, or rows where there is no event time
    rows: int


class Measured(msgspec.Struct, frozen=True):
    """All that measuring a candidate gives."""

    evaluation: Evaluation
    reference: Reference
    curves: EvaluationCurves | None
