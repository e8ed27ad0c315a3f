"""Curves of a model's answers: arrays in, at most some hundred points out. Definitions are those of scikit-learn, against which
they are tested."""

from __future__ import annotations

import heapq
import math

import numpy as np
from numpy.typing import NDArray

from noria.stats import proportions
from noria.stats.curve_records import CalibrationBin, Points, ResidualBin
from noria.stats.metrics import Floats

MOST = 200  # points of a curve
TOLERANCE = 0.0005  # of an axis that reaches from 0 to 1: half a pixel of a thousand
COLUMNS = 2000  # of the grid on which a long curve is looked at first
DIGITS = 5
BINS = 10
BIN_ROWS = 20  # rows that a bin has at least, where there are as many
QUANTILES = (5, 25, 50, 75, 95)
CONFIDENCE = 0.95


def ranked_counts(y: Floats, score: Floats) -> tuple[Floats, Floats]:
    """How many positives [k] and negatives [k] score at least each distinct score, from the highest down; 0 of both first."""
    order = np.argsort(-score, kind="stable")
    truth, ranked = y[order], score[order]
    ends = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
    hits = np.cumsum(truth, dtype=np.float64)[ends]
    return np.append(0.0, hits), np.append(0.0, ends + 1 - hits)


def roc(y: Floats, score: Floats) -> tuple[Floats, Floats]:
    """False and true positive rates. ``y`` [n] holds 0 and 1, and both of them."""
    hits, false = ranked_counts(y, score)
    return false / false[-1], hits / hits[-1]


def precision_recall(y: Floats, score: Floats) -> tuple[Floats, Floats]:
    """Recall and precision, from the highest score down. Where nothing is called yet, precision is that of the first calls."""
    hits, false = ranked_counts(y, score)
    precision = hits[1:] / (hits[1:] + false[1:])
    return hits / hits[-1], np.append(precision[0], precision)


def gain(y: Floats, score: Floats) -> tuple[Floats, Floats]:
    """Share of rows, the highest scores first, and the share of the sum of ``y`` (none negative) that they hold; rows of one
    score share alike."""
    order = np.argsort(-score, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)
    held = np.cumsum(y[order], dtype=np.float64)[ends]
    return np.append(0.0, (ends + 1) / len(score)), np.append(0.0, held / held[-1])


def calibration(observed: Floats, predicted: Floats, *, shares: bool) -> tuple[CalibrationBin, ...]:
    """Bins of equally many rows by what was predicted. Bounds: exact ones of a share (Clopper and Pearson 1934), else normal
    ones of a mean."""
    found = []
    for rows in _equal_bins(predicted):
        seen = observed[rows]
        n, mean = len(seen), float(seen.mean())
        low, high = proportions.exact(float(seen.sum()), n, CONFIDENCE) if shares else _mean_bounds(seen)
        found.append(CalibrationBin(n, _rounded(predicted[rows].mean()), _rounded(mean), _rounded(low), _rounded(high)))
    return tuple(found)


def _mean_bounds(values: Floats) -> tuple[float, float]:
    mean = float(values.mean())
    if len(values) < 2:
        return mean, mean
    reach = 1.6448536269514722 * float(values.std(ddof=1)) / math.sqrt(len(values))
    return mean - reach, mean + reach


def _equal_bins(values: Floats) -> list[NDArray[np.intp]]:
    """Rows by the quantiles of their values, as scikit-learn's ``quantile`` strategy takes them; the empty ones are left out."""
    count = max(1, min(BINS, len(values) // BIN_ROWS))
    edges = np.percentile(values, np.linspace(0, 100, count + 1))
    places = np.searchsorted(edges[1:-1], values)
    return [rows for place in range(count) if len(rows := np.flatnonzero(places == place))]


def confusion(y: NDArray[np.intp], called: NDArray[np.intp], classes: int) -> NDArray[np.intp]:
    """Counts [classes, classes]: row by label, column by call."""
    return np.bincount(y * classes + called, minlength=classes * classes).reshape(classes, classes)


def residual_bins(y: Floats, predicted: Floats) -> tuple[ResidualBin, ...]:
    """Quantiles of label - answer, in bins of equally many rows by the answer."""
    found = []
    for rows in _equal_bins(predicted):
        cut = np.percentile(y[rows] - predicted[rows], QUANTILES)
        found.append(ResidualBin(len(rows), _rounded(predicted[rows].mean()), *(_rounded(value) for value in cut)))
    return tuple(found)


def residual_edges(residuals: Floats, bins: int = 30) -> Floats:
    """Edges that hold all but one in a hundred of these residuals, alike on both sides of 0."""
    reach = float(np.percentile(np.abs(residuals), 99)) or float(np.abs(residuals).max()) or 1.0
    return np.linspace(-reach, reach, bins + 1)


def residual_counts(residuals: Floats, edges: Floats) -> tuple[int, ...]:
    """Below the first edge, between each two, and from the last one on."""
    places = np.searchsorted(edges, residuals, side="right")
    return tuple(int(count) for count in np.bincount(places, minlength=len(edges) + 1))


def thinned(x: Floats, y: Floats, most: int = MOST, tolerance: float = TOLERANCE) -> Points:
    """The curve with so few points that it is off by at most ``tolerance``, or by little more where that takes over ``most``.

    The point farthest from the curve so far is added until none is far (Douglas and Peucker 1973), on axes from 0 to 1.
    """
    x, y = _on_grid(x, y)
    kept, waiting = {0, len(x) - 1}, [(*_farthest(x, y, 0, len(x) - 1), 0, len(x) - 1)]
    while waiting and len(kept) < most:
        far, place, first, last = heapq.heappop(waiting)
        if -far <= tolerance:
            break
        kept.add(place)
        for start, end in ((first, place), (place, last)):
            heapq.heappush(waiting, (*_farthest(x, y, start, end), start, end))
    chosen = sorted(kept)
    return Points(tuple(_rounded(v) for v in x[chosen]), tuple(_rounded(v) for v in y[chosen]))


def _on_grid(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Of a long curve the first, the last, the lowest and the highest point in each column of a fine grid."""
    if len(x) <= 4 * COLUMNS:
        return x, y
    column = np.clip((x * COLUMNS).astype(np.intp), 0, COLUMNS - 1)
    starts = np.append(0, np.flatnonzero(np.diff(column)) + 1)
    ends = np.append(starts[1:], len(x))
    order = np.lexsort((y, column))
    wanted = np.unique(np.concatenate([starts, ends - 1, order[starts], order[ends - 1]]))
    return x[wanted], y[wanted]


def _farthest(x: Floats, y: Floats, first: int, last: int) -> tuple[float, int]:
    """Minus the distance, and the place, of the point between two that lies farthest from the line through them."""
    if last - first < 2:
        return 0.0, first
    along = np.array([x[last] - x[first], y[last] - y[first]])
    dx, dy = x[first + 1 : last] - x[first], y[first + 1 : last] - y[first]
    length = float(np.hypot(*along))
    off = np.hypot(dx, dy) if length == 0 else np.abs(along[0] * dy - along[1] * dx) / length
    place = int(off.argmax())
    return -float(off[place]), first + 1 + place


def _rounded(value: float) -> float:
    """To DIGITS significant digits, or as many decimals."""
    return float(f"{value:.{DIGITS}g}")
