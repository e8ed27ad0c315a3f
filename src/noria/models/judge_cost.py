"""From which probability on is the positive class worth calling? Where each wrong call has a price, at the cheapest threshold.

Of a calibrated model that is c_fp / (c_fp + c_fn) (Elkan, The Foundations of Cost-Sensitive Learning, IJCAI 2001, eq. 2). A model
need not be calibrated: so the threshold that costs least on validation rows is taken, where there are enough of both classes to
tell (Sheng and Ling, Thresholding for Making Classifiers Cost-Sensitive, AAAI 2006).
"""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from noria.kernel.words import plural

EACH_CLASS = 10  # validation rows that it takes to choose by them


class WrongCallCosts(msgspec.Struct, frozen=True):
    """The price of one wrong call of each kind, in a unit of the project's choice."""

    false_positive: float
    false_negative: float

    @property
    def calibrated_threshold(self) -> float:
        """The threshold of a model whose probabilities are true."""
        return self.false_positive / (self.false_positive + self.false_negative)


class ChosenThreshold(msgspec.Struct, frozen=True):
    """``cost`` and ``cost_at_half``: of a validation row on average, at the threshold and at 0.5; None where it was not chosen by
    rows."""

    threshold: float
    calibrated: float
    rows: int
    positives: int
    cost: float | None
    cost_at_half: float | None
    sentence: str


def choose_threshold(probability: NDArray[np.float64], positive: NDArray[np.bool_], costs: WrongCallCosts) -> ChosenThreshold:
    """The cheapest threshold on rows with these probabilities [n] of the positive class, of which ``positive`` [n] are of it.

    Thresholds that cost the same on these rows are equally good: the one nearest to the calibrated threshold is taken.
    """
    rows, positives = len(positive), int(positive.sum())
    calibrated = costs.calibrated_threshold
    if min(positives, rows - positives) < EACH_CLASS:
        lack = f"{plural(rows, 'validation row')} with {positives:,} positive ones are too few to choose by"
        sentence = f"threshold {calibrated:.4g}, right for calibrated probabilities: {lack}"
        return ChosenThreshold(calibrated, calibrated, rows, positives, None, None, sentence)
    begins, ends, cost = _costs_between_scores(probability, positive, costs)
    cheapest = np.flatnonzero(cost <= cost.min() * (1 + 1e-12))
    away = np.abs(np.clip(calibrated, begins[cheapest], ends[cheapest]) - calibrated)
    nearest = int(cheapest[away.argmin()])
    threshold = _inside(float(begins[nearest]), float(ends[nearest]), calibrated)
    half = float((_wrong_cost(probability >= 0.5, positive, costs)).mean())
    chosen = float(cost[nearest]) / rows
    sentence = f"threshold {threshold:.4g}: it costs {chosen:.4g} a row on {plural(rows, 'validation row')}, 0.5 costs {half:.4g}"
    return ChosenThreshold(threshold, calibrated, rows, positives, chosen, half, sentence)


def _wrong_cost(called: NDArray[np.bool_], positive: NDArray[np.bool_], costs: WrongCallCosts) -> NDArray[np.float64]:
    return np.where(called & ~positive, costs.false_positive, 0.0) + np.where(~called & positive, costs.false_negative, 0.0)


def _costs_between_scores(
    probability: NDArray[np.float64], positive: NDArray[np.bool_], costs: WrongCallCosts
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Where thresholds lie between neighbouring scores, (begin, end], and what all rows cost there.

    The last of them, above all scores, calls nothing positive; there is none when a score is 1.
    """
    scores, place = np.unique(probability, return_inverse=True)
    positives = np.bincount(place, weights=positive, minlength=len(scores))
    negatives = np.bincount(place, minlength=len(scores)) - positives
    missed = np.concatenate([[0.0], np.cumsum(positives)])  # positives below each threshold
    called = np.concatenate([np.cumsum(negatives[::-1])[::-1], [0.0]])  # negatives from it on
    begins, ends = np.concatenate([[0.0], scores]), np.concatenate([scores, [1.0]])
    usable = ends > begins
    cost = missed * costs.false_negative + called * costs.false_positive
    return begins[usable], ends[usable], cost[usable]


def _inside(begin: float, end: float, wanted: float) -> float:
    """``wanted`` where it lies in (begin, end], else the middle."""
    if begin < wanted <= end:
        return wanted
    middle = (begin + end) / 2
    return middle if middle > begin else end  # neighbouring numbers have no middle
