"""Bounds of shares, of differences of two models' shares on the same rows, and of what is reckoned from a table of counts.

Each bound is one-sided and holds at ``confidence`` on its own. Where few rows differ the normal bound has no width at all, and
lets everything pass: so none of these is one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from statistics import NormalDist

import numpy as np
from scipy.optimize import brentq
from scipy.special import betaincinv

from noria.stats.metrics import Floats

FEW = 10  # rows that only one of two models has right: with fewer, exact bounds are asked too
DRAWS = 2000
SEED = 1934
EDGE = 1e-12

Cell = tuple[float, ...]  # the label, and what each model called it
Formula = Callable[[Floats, Floats, Floats], Floats]  # labels [cells], calls [cells], weights [draws, cells]: values [draws]


def exact(hits: float, n: float, confidence: float) -> tuple[float, float]:
    """Bounds of a share, of which ``hits`` of ``n`` were seen.

    Source: Clopper and Pearson, The Use of Confidence or Fiducial Limits (Biometrika 1934).
    """
    low = float(betaincinv(hits, n - hits + 1, 1 - confidence)) if hits > 0 else 0.0
    high = float(betaincinv(hits + 1, n - hits, confidence)) if hits < n else 1.0
    return low, high


def paired_bounds(gained: int, lost: int, n: int, confidence: float) -> tuple[float, float]:
    """Bounds of the difference of two shares on the same n rows: ``gained`` rows the first alone has, ``lost`` the second.

    Tango's score bounds; where fewer than FEW rows differ, the wider of them and of exact ones, so that a handful of rows never
    shows which is better.
    """
    low, high = -tango(lost, gained, n, confidence), tango(gained, lost, n, confidence)
    if gained + lost >= FEW:
        return low, high
    return min(low, -_exact_above(lost, gained, n, confidence)), max(high, _exact_above(gained, lost, n, confidence))


def tango(gained: int, lost: int, n: int, confidence: float) -> float:
    """The upper score bound of (gained - lost) / n.

    Source: Tango, Equivalence Test and Confidence Interval for the Difference in Proportions for the Paired-Sample Design
    (Statistics in Medicine 1998, 17: 891-908): the difference at which the score statistic, with the share of lost rows that is
    likeliest given that difference, is the normal quantile.
    """
    z, middle = NormalDist().inv_cdf(confidence), (gained - lost) / n

    def beyond(difference: float) -> float:
        likeliest = _likeliest_lost_share(difference, gained, lost, n)
        spread = n * (2 * likeliest + difference * (1 - difference))
        return gained - lost - n * difference + z * math.sqrt(max(spread, 0.0))

    if middle >= 1 - EDGE or beyond(1 - EDGE) > 0:
        return 1.0
    return float(brentq(beyond, middle, 1 - EDGE))


def _likeliest_lost_share(difference: float, gained: int, lost: int, n: int) -> float:
    """The likeliest share of lost rows where the difference is given: the root of Tango's quadratic equation."""
    b = (2 * n - gained + lost) * difference - gained - lost
    c = -lost * difference * (1 - difference)
    return (math.sqrt(max(b * b - 8 * n * c, 0.0)) - b) / (4 * n)


def _exact_above(gained: int, lost: int, n: int, confidence: float) -> float:
    """An upper bound of the difference: the share of gained among rows that differ, times theirs; half the doubt for each."""
    each = (1 + confidence) / 2
    differing = gained + lost
    gain = 2 * exact(gained, differing, each)[1] - 1 if differing else 1.0
    few, many = exact(differing, n, each)
    return gain * (many if gain > 0 else few)


def from_cells(
    cells: Mapping[Cell, int], formula: Formula, confidence: float, classes: Floats, others: Mapping[float, float]
) -> tuple[float, float]:
    """Bounds of ``formula`` of one model, or of its difference between two, from the counts of (label, call[, the other's call]).

    The rate of each cell is drawn from the distribution whose quantiles are its exact Poisson bounds (Garwood, Biometrika 1936):
    gamma with the count as its shape, and with one more for each class's rows that speak against the bound. So the lower bound
    allows for rows that only the second has right, seen or not, and the upper for such of the first. ``classes``: all labels;
    ``others``: for each the class that it would be taken for.

    Source: Fay, Proschan and Brittain, Combining One-Sample Confidence Procedures for Inference in the Two-Sample Case
    (Biometrics 2015, section 2): melded confidence intervals.
    """
    low = np.nanquantile(_draw_values(cells, formula, classes, others, better=False), 1 - confidence)
    high = np.nanquantile(_draw_values(cells, formula, classes, others, better=True), confidence)
    return float(low), float(high)


def _draw_values(
    cells: Mapping[Cell, int], formula: Formula, classes: Floats, others: Mapping[float, float], *, better: bool
) -> Floats:
    """Values of the formula [DRAWS] with one row more of each class that the first alone has right, or the second."""
    models = len(next(iter(cells))) - 1
    shapes: dict[Cell, float] = {cell: float(count) for cell, count in cells.items()}
    for label in classes.tolist():
        mine, theirs = (label, others[label]) if better else (others[label], label)
        unseen = (label, mine) if models == 1 else (label, mine, theirs)
        shapes[unseen] = shapes.get(unseen, 0.0) + 1
    table = np.array(list(shapes))
    weights = np.random.default_rng(SEED).gamma(np.array(list(shapes.values())), size=(DRAWS, len(shapes)))
    values = [formula(table[:, 0], table[:, i + 1], weights) for i in range(models)]
    return values[0] if models == 1 else values[0] - values[1]
