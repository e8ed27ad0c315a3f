"""How much each row moves a metric, and bounds of the metric by that: for those whose rows may weigh as unlike as they please.

To first order a metric is its value on all rows plus the mean of the rows' influences (Hampel, The Influence Curve and Its Role
in Robust Estimation, JASA 1974). Influences that raise it and those that lower it are two sums of weighted counts. Each sum has
the gamma bounds of Fay and Feuer (Confidence Intervals for Directly Standardized Rates, Statistics in Medicine 1997, 16:
791-801), with one row more that was not seen and weighs as much as any; both are put together as MOVER does (Zou and Donner,
Statistics in Medicine 2008, 27: 1693-1702, eq. 4). Many rows alike give the normal bounds; none that differ give 3/n of the worst
that a row may be; rows of which a few outweigh the rest give what the skewness of that asks for.

The worst that a row may be: the worst that was seen, or an answer that was meant for another row; in a ranking, a positive row
below all others or a negative one above them.

Errors have no worst. Where few rows would make their spread if they were alike (8, and of many rows one in a hundred, up to 30),
its size is hardly known: a difference then has bounds as much wider as Cantelli's inequality (1928), which asks nothing of the
distribution, is wider than the normal bound, with half of the doubt left for the spread.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import msgspec
import numpy as np
from scipy.special import gammaincinv

from noria.stats import metrics
from noria.stats.metrics import Floats

FEW_ALIKE, MANY_ALIKE = 8.0, 30.0  # rows
ONE_IN = 100
KNOWN = frozenset({"mae", "rmse", "r2", "average_precision"})


class Influence(msgspec.Struct, frozen=True):
    """``rows`` [n] have a mean of 0: the value moves by rows / n when a row is counted once more. ``least`` and ``most``: so much
    one that was not seen may move it down or up, if not more."""

    value: float
    rows: Floats
    least: float
    most: float

    @property
    def alike(self) -> float:
        """How many rows would spread as much, if all that count were alike: those that differ where they are."""
        squares = self.rows**2
        return float(squares.sum() ** 2 / (squares**2).sum()) if squares.any() else float(len(squares))


def is_outweighed(found: Influence) -> bool:
    """Whether few rows outweigh the rest."""
    return found.alike < max(FEW_ALIKE, min(MANY_ALIKE, len(found.rows) / ONE_IN))


def bounds(found: Influence, confidence: float) -> tuple[float, float]:
    """One-sided bounds of the value."""
    n = len(found.rows)
    up, down = found.rows[found.rows > 0], -found.rows[found.rows < 0]
    above = math.hypot(_more(up, found.most, confidence), _less(down, confidence)) / n
    below = math.hypot(_more(down, found.least, confidence), _less(up, confidence)) / n
    return found.value - below, found.value + above


def bounds_of_errors(found: Influence, confidence: float) -> tuple[float, float]:
    """The same of a difference of errors, of which few may decide."""
    low, high = bounds(found, confidence)
    if not is_outweighed(found):
        return low, high
    each = (1 + confidence) / 2
    wider = math.sqrt(each / (1 - each)) / NormalDist().inv_cdf(max(confidence, 0.75))
    return found.value - wider * (found.value - low), found.value + wider * (high - found.value)


def _more(weights: Floats, unseen: float, confidence: float) -> float:
    """How much larger a sum of weighted counts may be than the one that was seen."""
    worst = max(unseen, float(weights.max(initial=0.0)))
    total = float(weights.sum())
    return _quantile(total + worst, float((weights**2).sum()) + worst**2, confidence) - total


def _less(weights: Floats, confidence: float) -> float:
    """How much smaller."""
    total = float(weights.sum())
    return total - _quantile(total, float((weights**2).sum()), 1 - confidence)


def _quantile(mean: float, variance: float, probability: float) -> float:
    """Of the gamma distribution."""
    if not variance > 0 or not mean > 0:
        return mean
    return float(gammaincinv(mean * mean / variance, probability)) * variance / mean


def of_metric(name: str, y: Floats, answer: Floats) -> Influence:
    """Of ``mae``, ``rmse``, ``r2`` or ``average_precision``; raises ValueError for another."""
    _demand_known(name)
    if name == "average_precision":
        ranked = _Ranked(y, answer)
        return Influence(ranked.value, ranked.influences(), len(y) * ranked.worst, len(y) * ranked.best)
    losses, lost = _losses(name, y, answer)
    mean = float(losses.mean())
    if name == "mae":
        return Influence(mean, losses - mean, mean, lost)
    if name == "rmse":
        root = math.sqrt(mean)
        return Influence(root, _of_root(losses, root), root / 2, _step(mean, lost, len(y)))
    spread, c = _spread(y)
    return Influence(1 - mean / spread, (mean / spread * c - losses) / spread, lost / spread, mean / spread)


def of_difference(name: str, y: Floats, mine: Floats, other: Floats) -> Influence:
    """Of the first model's metric minus the second's; raises ValueError as ``of_metric``."""
    _demand_known(name)
    if name == "average_precision":
        a, b = _Ranked(y, mine), _Ranked(y, other)
        return Influence(a.value - b.value, a.influences() - b.influences(), len(y) * a.worst, len(y) * b.worst)
    (ours, our_lost), (theirs, their_lost) = _losses(name, y, mine), _losses(name, y, other)
    first, second = float(ours.mean()), float(theirs.mean())
    if name == "mae":
        return Influence(first - second, ours - theirs - (first - second), their_lost, our_lost)
    if name == "rmse":
        roots = math.sqrt(first), math.sqrt(second)
        rows = _of_root(ours, roots[0]) - _of_root(theirs, roots[1])
        return Influence(roots[0] - roots[1], rows, _step(second, their_lost, len(y)), _step(first, our_lost, len(y)))
    spread, c = _spread(y)
    value = (second - first) / spread
    return Influence(value, (theirs - ours - value * c) / spread, our_lost / spread, their_lost / spread)


def _demand_known(name: str) -> None:
    if name not in KNOWN:
        raise ValueError(f"how much a row moves {name} is not known; it is of {', '.join(sorted(KNOWN))}")


def _losses(name: str, y: Floats, answer: Floats) -> tuple[Floats, float]:
    """The loss of each row, and by how much that of an answer meant for another row exceeds their mean."""
    losses = np.abs(y - answer) if name == "mae" else np.square(y - answer)
    mixed = mean_of_pairs(y, answer) if name == "mae" else float(y.var() + answer.var() + (y.mean() - answer.mean()) ** 2)
    return losses, max(0.0, mixed - float(losses.mean()))


def mean_of_pairs(y: Floats, answer: Floats, under: Floats | float = 1.0, over: Floats | float = 1.0) -> float:
    """The mean of ``|y_i - answer_j|`` over all pairs, by sorting. ``under``: the weight of row i where the answer is too low;
    ``over`` where it is too high."""
    answers = np.sort(answer)
    below = np.searchsorted(answers, y)
    sums = np.concatenate([[0.0], np.cumsum(answers)])
    each = under * (y * below - sums[below]) + over * (sums[-1] - sums[below] - y * (len(answers) - below))
    return float(np.mean(each) / len(answers))


def _of_root(losses: Floats, root: float) -> Floats:
    """Of the root of a mean of squares."""
    return (losses - root * root) / (2 * root) if root > 0 else np.zeros_like(losses)


def _step(mean: float, more: float, n: int) -> float:
    """n times what one row that exceeds the mean by ``more`` adds to its root: of a mean near 0 the slope says nothing."""
    return n * (math.sqrt(mean + more / n) - math.sqrt(mean))


def _spread(y: Floats) -> tuple[float, Floats]:
    c = (y - y.mean()) ** 2
    return float(c.mean()), c


class _Ranked:
    """Rows in the order of their scores, equal ones together: what average precision is made of."""

    def __init__(self, y: Floats, score: Floats) -> None:
        self._y = y
        self._order, ends = metrics.rank_rows(score)
        self._places = np.searchsorted(ends, np.arange(len(y)))  # of each row in that order: its group
        self._hits = np.cumsum(y[self._order])[ends]
        self._rows = (ends + 1).astype(np.float64)
        self._steps = np.diff(self._hits, prepend=0.0)
        self._positives = float(self._hits[-1])
        self._precision = self._hits / self._rows
        self.value = float((self._steps * self._precision).sum() / self._positives)

    def influences(self) -> Floats:
        """The derivative by each row's weight, times n: a row counts in the precision at every positive that ranks no higher."""
        share = self._steps / self._rows
        reached, lost = (np.cumsum(each[::-1])[::-1] for each in (share, share * self._precision))
        as_positive = self._precision - self.value + reached - lost
        found = np.empty(len(self._y))
        ordered = np.where(self._y[self._order] == 1, as_positive[self._places], -lost[self._places])
        found[self._order] = ordered * len(self._y) / self._positives
        return found

    @property
    def worst(self) -> float:
        """How much one row more may take: a positive below all others, or a negative above them."""
        n, p = len(self._y), self._positives
        below = (self.value * p + (p + 1) / (n + 1)) / (p + 1)
        above = float((self._steps * self._hits / (self._rows + 1)).sum()) / p
        return max(0.0, self.value - min(below, above))

    @property
    def best(self) -> float:
        """How much one may add: a positive above all others."""
        found = (1 + float((self._steps * (self._hits + 1) / (self._rows + 1)).sum())) / (self._positives + 1)
        return max(0.0, found - self.value)
