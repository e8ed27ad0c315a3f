"""How much wider bounds become because rows come in groups: the rows of a day, of a patient, of a shop.

To first order a metric is its value plus the mean of its rows' influences. Rows that are independent give one spread of that
mean, the sums of whole groups another; the second is the jackknife that leaves out a group at a time, to first order (CV3: Bell
and McCaffrey, Survey Methodology 2002; MacKinnon, Nielsen and Webb, Journal of Applied Econometrics 2023, 38: 671-694). Of the
area under the ROC curve the sums of DeLong's components give Obuchowski's covariance (Biometrics 1997, 53: 567-578).

Few groups know their own spread badly: Student's t takes the place of the normal quantile, with the degrees of freedom that the
groups' sizes leave when rows of a group are as alike as they were seen to be (Satterthwaite; Imbens and Kolesar, Review of
Economics and Statistics 2016, 98: 701-712).

The bounds for independent rows become as much wider as the second spread and its quantile are, and never narrower: so what they
allow for, such as rows that were not seen, is allowed for in groups, too (as Rao and Scott, Biometrics 1992, 48: 577-585, divide
counts by the design effect).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from noria.stats import student
from noria.stats.measures import LEAST_GROUPS
from noria.stats.metrics import Floats


class Grouping(msgspec.Struct, frozen=True):
    """The group of each row [n], as whole numbers from 0 on, and what a group is called: ``day``."""

    unit: str
    ids: NDArray[np.intp]


class Widening(msgspec.Struct, frozen=True):
    """Bounds are ``factor`` times as wide as of independent rows."""

    unit: str
    groups: int  # that hold a row which counts
    factor: float
    freedom: float  # degrees, of Student's t


def widen(influences: Floats, weights: Floats, groupings: Iterable[Grouping], confidence: float) -> Widening | None:
    """By the grouping that widens most; None without any.

    ``influences`` [n] have a mean of 0; ``weights`` [n] say how much a row counts in the metric, such as 1 for a row of the class
    that a recall is of. A grouping of fewer than LEAST_GROUPS tells nothing: it is returned if there is no other, with a factor
    of 1.
    """
    found = [_widen(influences, weights, grouping, confidence) for grouping in groupings]
    told = [each for each in found if each.groups >= LEAST_GROUPS]
    return max(told or found, key=lambda each: each.factor, default=None)


def _widen(influences: Floats, weights: Floats, grouping: Grouping, confidence: float) -> Widening:
    size = np.bincount(grouping.ids, weights=weights)
    sums = np.bincount(grouping.ids, weights=influences)[size > 0]
    size = size[size > 0]
    groups, spread = len(size), float((influences**2).sum())
    if groups < LEAST_GROUPS or not spread > 0:
        return Widening(grouping.unit, groups, 1.0, max(groups - 1.0, 1.0))
    share = size / size.sum()
    effect = float(((sums / (1 - share)) ** 2).sum()) * (groups - 1) / groups / spread
    rows = np.bincount(grouping.ids, weights=weights > 0).astype(np.float64)
    freedom = _freedom(rows[rows > 0], share, effect)
    quantile = student.quantile(confidence, freedom) / student.quantile(confidence)
    return Widening(grouping.unit, groups, max(1.0, math.sqrt(effect) * quantile), freedom)


def _freedom(rows: Floats, share: Floats, effect: float) -> float:
    """Degrees of freedom of a sum of squares of groups whose rows are as alike as ``effect`` says."""
    typical = float((rows**2).sum() / rows.sum())
    alike = min(max((effect - 1) / (typical - 1), 0.0), 1.0) if typical > 1 else 0.0
    variance = share**2 / rows * (1 + (rows - 1) * alike)
    return max(float(variance.sum() ** 2 / (variance**2).sum()) - 1, 1.0)


def count_groups(grouping: Grouping) -> int:
    return len(np.unique(grouping.ids))


def coarsest(groupings: Sequence[Grouping]) -> Grouping | None:
    """Of several ways in which rows depend on each other, the one of the fewest groups that tell how groups differ."""
    return min(groupings, key=lambda each: (count_groups(each) < LEAST_GROUPS, count_groups(each)), default=None)


def facts_of(grouping: Grouping) -> dict[str, Any]:
    """What a measure with bootstrapped bounds says of its groups."""
    count = count_groups(grouping)
    return {"groups": count, "unit": grouping.unit, "freedom": max(count - 1.0, 1.0)}


def number_groups(values: Iterable[Any]) -> NDArray[np.intp]:
    """Whole numbers from 0 on, the same for equal values."""
    places: dict[Any, int] = {}
    return np.array([places.setdefault(value, len(places)) for value in values], dtype=np.intp)
