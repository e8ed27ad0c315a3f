"""Means of bounded values by betting: evidence and bounds that may be looked at after every value.

A capital starts at 1 and bets a fixed share of the largest safe stake on every value. Under the hypothesis it bets against it
is expected not to grow, so it ever reaches 1/alpha with probability at most alpha, however often one looks (Ville 1939). The
shares STAKES are all held at once, each with an equal part of the capital: which of them is best depends on the spread, which
is not known beforehand. With fixed stakes the log capital is a sum over the values: their order does not matter, and nothing
but the values has to be kept.

Source: Waudby-Smith and Ramdas, Estimating Means of Bounded Random Variables by Betting (JRSS-B 2023): the capital process of
section 4.1, with the grid of constant bets of their section 4.4 (diversified Kelly betting) and not their hedged adaptive bets.

The values need not be independent of each other: what is asked is that each, given those before, is expected to have the mean
spoken of. Evidence is a logarithm throughout. Raises ValueError for values outside their bounds, and for NaN.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq, minimize_scalar

from noria.kernel.task import Task
from noria.stats import metrics
from noria.stats.metrics import Floats

# Shares of the largest stake, each half of the one before. The smallest is near the best one for some million values.
STAKES = 0.95 * 0.5 ** np.arange(11)
TOLERANCE = 1e-10  # of the range: how far outside its exact place an end may lie


class Bounds(NamedTuple):
    """Where every value lies, both ends included."""

    low: float
    high: float


DIFFERENCE = Bounds(-1.0, 1.0)  # of two losses
LOSS = Bounds(0.0, 1.0)


def harm_log_evidence(differences: ArrayLike) -> float:
    """Log e-value against "the new release's loss is no larger than the old one's"; 0 without values.

    ``differences`` [n]: loss of the new release less that of the old on the same request, in [-1, 1].
    """
    return log_above(differences, 0.0, DIFFERENCE)


def safe_log_evidence(differences: ArrayLike, margin: float) -> float:
    """Log e-value against "the new release's loss is larger by at least ``margin``", in (0, 1); 0 without values."""
    _check_margin(margin)
    return log_below(differences, margin, DIFFERENCE)


def log_above(values: ArrayLike, mean: float, bounds: Bounds = LOSS) -> float:
    """Log e-value that ``values`` [n] have a larger mean: against "at most ``mean``". It falls as ``mean`` grows.

    Infinite where the values cannot have such a mean, as with ``mean`` below the lower bound.
    """
    return float(_log_capital(_distinct(values, bounds), mean, bounds))


def log_below(values: ArrayLike, mean: float, bounds: Bounds = LOSS) -> float:
    """Log e-value that ``values`` [n] have a smaller mean: against "at least ``mean``". It grows with ``mean``."""
    return float(_log_capital(_mirror(_distinct(values, bounds)), -mean, Bounds(-bounds.high, -bounds.low)))


def harm_path(differences: ArrayLike) -> Floats:
    """``harm_log_evidence`` after each value: [..., n] from that shape; leading axes are separate rollouts."""
    return _path(_check_bounds(differences, DIFFERENCE) + 1, 1.0)


def safe_path(differences: ArrayLike, margin: float) -> Floats:
    """``safe_log_evidence`` after each value: [..., n] from that shape."""
    _check_margin(margin)
    return _path(1 - _check_bounds(differences, DIFFERENCE), 1 - margin)


def unpaired_harm_log_evidence(new: ArrayLike, old: ArrayLike) -> float:
    """Log e-value against "the mean of ``new`` [n] is no larger than that of ``old`` [m]", both losses in [0, 1].

    For every m between the means' bounds, "new is at most m and old at least m" is bet against by the product of two capitals,
    one on each arm. The smallest of these products is an e-process for there being such an m at all. Half of each capital is
    kept back: an arm that tells nothing halves the evidence, and no more.
    """
    return _unpaired_log_evidence(_distinct(old, LOSS), _distinct(new, LOSS), 0.0)


def unpaired_safe_log_evidence(new: ArrayLike, old: ArrayLike, margin: float) -> float:
    """Log e-value against "the mean of ``new`` [n] is larger than that of ``old`` [m] by at least ``margin``", in (0, 1)."""
    _check_margin(margin)
    return _unpaired_log_evidence(_distinct(new, LOSS), _distinct(old, LOSS), margin)


def confidence_sequence(values: ArrayLike, alpha: float, bounds: Bounds = DIFFERENCE) -> tuple[float, float]:
    """The means that neither one-sided capital, each at alpha / 2, has reached its limit against at this look.

    Over all looks together, the true mean is ever left out with probability at most ``alpha``, in (0, 1). Each end lies within
    TOLERANCE of the range of where the capital crosses, on its outer side; an end that nothing is known about is the bound
    itself, as both are without values. The log capital is monotone and convex in the mean, so there is one crossing.
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha lies between 0 and 1: {alpha}")
    counted = _distinct(values, bounds)
    low = _end(counted, alpha / 2, bounds)
    return low, -_end(_mirror(counted), alpha / 2, Bounds(-bounds.high, -bounds.low))


def unpaired_difference(new: ArrayLike, old: ArrayLike, alpha: float, bounds: Bounds = LOSS) -> tuple[float, float]:
    """Bounds of mean(new) - mean(old) from two samples [n] and [m], at ``alpha`` over all looks: half of it for each arm."""
    new_low, new_high = confidence_sequence(new, alpha / 2, bounds)
    old_low, old_high = confidence_sequence(old, alpha / 2, bounds)
    return new_low - old_high, new_high - old_low


def clipped_losses(metric: str, task: Task, y: ArrayLike, prediction: ArrayLike, bound: float = 1.0) -> Floats:
    """Losses [n] in [0, 1], smaller is better, of a metric that is a mean over rows.

    - brier: the squared error of the probability.
    - accuracy: 1 where wrong, 0 where right.
    - mae, and what else has no worst: the error, at most ``bound`` (positive, in the unit of the labels), divided by it: larger
      errors count alike.

    Raises ValueError for other metrics: log_loss has no bound, so no number of requests tells where its mean lies; and as
    ``metrics.row_losses`` does.
    """
    found, guarded = metrics.find(metric, task), task.definition.guarded
    if metric not in guarded:
        raise ValueError(f"{metric} has no bounded loss for each row; a {task} model has: {', '.join(guarded)}")
    losses = metrics.row_losses(metric, task, y, prediction)
    if found.greater_is_better:
        return 1 - losses
    if found.high is not None:
        return np.clip(losses / found.high, 0.0, 1.0)  # probabilities may pass 1 by a rounding error
    if not (math.isfinite(bound) and bound > 0):
        raise ValueError(f"the bound of the absolute error is a positive number: {bound}")
    return np.minimum(losses, bound) / bound


class _Counted(NamedTuple):
    """Distinct values [k] and how often each came [k]: losses of answers that are right or wrong are few."""

    values: Floats
    counts: Floats


def _check_bounds(values: ArrayLike, bounds: Bounds) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if not ((array >= bounds.low) & (array <= bounds.high)).all():  # NaN too
        raise ValueError(f"the values lie in [{bounds.low:g}, {bounds.high:g}], and some do not")
    return array


def _check_margin(margin: float) -> None:
    if not 0 < margin < 1:
        raise ValueError(f"the margin is a difference of losses between 0 and 1: {margin}")


def _distinct(values: ArrayLike, bounds: Bounds) -> _Counted:
    array = _check_bounds(values, bounds)
    if array.ndim != 1:
        raise ValueError(f"the values are one row of numbers, not {array.shape}")
    found, counts = np.unique(array, return_counts=True)
    return _Counted(found, counts.astype(np.float64))


def _mirror(counted: _Counted) -> _Counted:
    return _Counted(-counted.values, counted.counts)


def _log_capital(counted: _Counted, mean: float, bounds: Bounds) -> float:
    """Against "at most ``mean``": each value multiplies by 1 + stake (value - mean), stake = share / (mean - low)."""
    room = mean - bounds.low
    if room < 0:
        return math.inf
    if room == 0:  # then every value is the lower bound, or the hypothesis is false
        return math.inf if (counted.values > bounds.low).any() else 0.0
    sums = np.log1p(STAKES[:, None] * ((counted.values - bounds.low) / room - 1)) @ counted.counts
    return float(_log_mean_exp(sums))


def _half_kept(log_capital: float) -> float:
    return float(np.logaddexp(log_capital, 0.0)) - math.log(2)


def _log_mean_exp(sums: Floats) -> Floats:
    """log(mean(exp(sums))) over the last axis."""
    top = sums.max(axis=-1, keepdims=True)
    result: Floats = np.log(np.exp(sums - top).mean(axis=-1)) + top[..., 0]
    return result


def _path(above_low: Floats, room: float) -> Floats:
    """The log capital after each of [..., n] values, given as their distance from the bound that the bets stake against."""
    growth = np.log1p(STAKES * (above_low[..., None] / room - 1))
    return _log_mean_exp(np.cumsum(growth, axis=-2))


def _end(counted: _Counted, alpha: float, bounds: Bounds) -> float:
    """The lower end: the largest mean known to be rejected, or the bound."""
    enough, reach = math.log(1 / alpha), (bounds.high - bounds.low) * TOLERANCE
    if not len(counted.values) or _log_capital(counted, bounds.low + reach, bounds) < enough:
        return bounds.low
    # At the values' own mean no capital is above 1, by Jensen's inequality.
    middle = float(counted.values @ counted.counts / counted.counts.sum())
    found = brentq(lambda m: _log_capital(counted, m, bounds) - enough, bounds.low + reach, middle, xtol=reach / 4)
    return max(bounds.low, float(found) - reach / 2)


def _unpaired_log_evidence(below: _Counted, above: _Counted, margin: float) -> float:
    """The least, over m, evidence against "``below`` is at least m + margin and ``above`` at most m".

    The sum of two log capitals is convex in m: the search finds its one minimum, to a part in 10^9 of evidence.
    """
    flipped, bounds = _mirror(below), Bounds(-1.0, 0.0)

    def evidence(m: float) -> float:
        return _half_kept(_log_capital(flipped, -(m + margin), bounds)) + _half_kept(_log_capital(above, m, LOSS))

    return float(minimize_scalar(evidence, bounds=(0.0, 1.0 - margin), method="bounded", options={"xatol": 1e-9}).fun)
