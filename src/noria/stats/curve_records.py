"""The curves of an evaluation: what a person looks at beside the numbers. Aggregates only, no row of the holdout."""

from __future__ import annotations

import msgspec


class Points(msgspec.Struct, frozen=True):
    """A curve: its points in order, thinned so that no eye sees it."""

    x: tuple[float, ...]
    y: tuple[float, ...]


class RankCurves(msgspec.Struct, frozen=True):
    """How well one class is ranked before the others."""

    name: str  # of the class
    positives: int
    roc: Points  # share of the others called so -> share of the class found
    precision_recall: Points  # recall -> precision
    gain: Points  # share of rows, the highest scores first -> share of the class found
    calls: tuple[float, float] | None = None  # false and true positive rate of the calls as they are served


class CalibrationBin(msgspec.Struct, frozen=True):
    """Rows of like answers: what was said, and what came. ``low`` and ``high`` are one-sided 95 % bounds of what came."""

    rows: int
    predicted: float
    observed: float
    low: float
    high: float


class ResidualBin(msgspec.Struct, frozen=True):
    """Rows of like answers, and the quantiles of label - answer among them."""

    rows: int
    predicted: float
    p5: float
    p25: float
    p50: float
    p75: float
    p95: float


class ReleaseCurves(msgspec.Struct, frozen=True, omit_defaults=True):
    """Of one release, on the holdout. What a task does not have is empty."""

    ranks: tuple[RankCurves, ...] = ()  # binary: of the positive class; multiclass: of the commonest classes
    calibration: tuple[CalibrationBin, ...] = ()  # multiclass: of the class that is called
    confusion: tuple[tuple[int, ...], ...] = ()  # rows: the labels' classes, columns: the calls', as ``classes`` has them
    residuals: tuple[ResidualBin, ...] = ()
    residual_counts: tuple[int, ...] = ()  # rows between the neighbours of ``residual_edges``, and beyond them at both ends
    gain: Points | None = None  # regression: share of rows, the highest answers first -> share of the labels' sum


class EvaluationCurves(msgspec.Struct, frozen=True, omit_defaults=True):
    """``champion`` is None where there was none, or where it could not be scored on these rows."""

    task: str
    label: str  # the column
    rows: int
    candidate: ReleaseCurves
    champion: ReleaseCurves | None = None
    champion_name: str | None = None  # v7
    classes: tuple[str, ...] = ()  # of the confusion matrix; the last may be OTHERS
    positives: float = 0.0  # binary: their share of the rows
    residual_edges: tuple[float, ...] = ()

    @property
    def of_numbers(self) -> bool:
        """Whether answers are numbers, not classes."""
        return not self.classes
