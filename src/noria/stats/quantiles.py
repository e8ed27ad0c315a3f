"""Bounds of a quantile that may be looked at after every value: of latencies, as a rule.

A value lies at or below the p-quantile with probability at least p, and below it with probability at most p. Each of the two is
bet against with a capital that is a mixture of likelihood ratios over the chance's possible values beyond p, under a beta
distribution: it is expected not to grow while the hypothesis holds, so it ever reaches 1/alpha with probability at most alpha
(Ville 1939). The counts that reach it name the values between which the quantile lies.

Source: Howard and Ramdas, Sequential Estimation of Quantiles with Applications to A/B Testing and Best-Arm Identification
(Bernoulli 2022), Theorem 1, with the one-sided beta-binomial mixture (Howard, Ramdas, McAuliffe and Sekhon, Time-Uniform,
Nonparametric, Nonasymptotic Confidence Sequences, Annals of Statistics 2021, section 3.2). Compared with their own confseq.

It is asked that each value, given those before, has the same chance to lie below the quantile; nothing of the distribution's
form, and no bound of the values.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betainc, betaln

from noria.stats.metrics import Floats

BEST_AT = 1000  # values at which the mixture is near the narrowest it can be


def quantile_bounds(values: ArrayLike, p: float, alpha: float) -> tuple[float, float]:
    """Bounds of the p-quantile of ``values`` [n], in their unit and in any order.

    Over all looks together they leave it out with probability at most ``alpha``. Minus or plus infinity where too few values
    lie on that side to tell. Raises ValueError for NaN, and unless p and alpha lie between 0 and 1.
    """
    found = _one_row(values)
    below, above = ranks(len(found), p, alpha)
    ordered = np.sort(found)
    low = float(ordered[below - 1]) if below else -math.inf
    return low, float(ordered[above - 1]) if above <= len(found) else math.inf


def binned_bounds(edges: ArrayLike, counts: ArrayLike, p: float, alpha: float) -> tuple[float, float]:
    """The same from counts [k] of values in bins (edges[i], edges[i + 1]], with ``edges`` [k + 1] growing; the last may be
    infinite. The ends are edges of bins, on the outer side. Raises ValueError where edges and counts do not fit."""
    limits, found = np.asarray(edges, dtype=np.float64), np.asarray(counts)
    if limits.ndim != 1 or found.shape != (len(limits) - 1,) or (found < 0).any() or not (np.diff(limits) > 0).all():
        raise ValueError(f"edges {limits.shape} grow and have one more than counts {found.shape}, which are not negative")
    reached = np.cumsum(found)
    total = int(reached[-1]) if len(reached) else 0
    below, above = ranks(total, p, alpha)
    low = float(limits[np.searchsorted(reached, below)]) if below else -math.inf
    return low, float(limits[np.searchsorted(reached, above) + 1]) if above <= total else math.inf


def quantile_difference(new: ArrayLike, old: ArrayLike, p: float, alpha: float) -> tuple[float, float]:
    """Bounds of the p-quantile of ``new`` [n] less that of ``old`` [m], at ``alpha`` over all looks: half of it for each."""
    new_low, new_high = quantile_bounds(new, p, alpha / 2)
    old_low, old_high = quantile_bounds(old, p, alpha / 2)
    return new_low - old_high, new_high - old_low


def ranks(n: int, p: float, alpha: float) -> tuple[int, int]:
    """Which of n ordered values (the first is 1) bound the quantile: 0 for none below, n + 1 for none above."""
    if not (0 < p < 1 and 0 < alpha < 1):
        raise ValueError(f"p and alpha lie between 0 and 1: {p}, {alpha}")
    # Too many values below: the quantile cannot be so high. Too few at or below: seen from the other side, too many above.
    return n - _too_many(n, 1 - p, alpha / 2) + 1, _too_many(n, p, alpha / 2)


def values_needed(p: float, alpha: float) -> int:
    """The least number of values of which the p-quantile has an upper bound, whatever they are. Raises ValueError as `ranks`."""
    low, high = 0, 1
    while ranks(high, p, alpha)[1] > high:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if ranks(middle, p, alpha)[1] > middle else (low, middle)
    return high


def log_capital(successes: int, n: int, p: float, alpha: float) -> float:
    """Log e-value against "each of n trials succeeds with probability at most p", from how many did. Best for ``alpha``."""
    left, right = _prior(p, alpha)
    failures = n - successes
    ratio = _log_beta_above(p, left + successes, right + failures) - _log_beta_above(p, left, right)
    return float(ratio - successes * math.log(p) - failures * math.log1p(-p))


def _too_many(n: int, p: float, alpha: float) -> int:
    """The least number of successes that reaches 1/alpha; n + 1 when none does. The capital grows with the successes."""
    low, high = 0, n + 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if log_capital(middle, n, p, alpha) >= math.log(1 / alpha) else (middle + 1, high)
        if low > n:
            return n + 1
    return low


def _prior(p: float, alpha: float) -> tuple[float, float]:
    """The beta distribution's parameters, with mean p: as concentrated as is best after BEST_AT values (Howard et al. 2021,
    proposition 3, for the normal mixture that this one comes near to)."""
    variance, logs = p * (1 - p), 2 * math.log(1 / min(2 * alpha, 0.5))
    strength = max(BEST_AT * variance / (logs + math.log1p(logs)) - variance, 1e-3 * variance)
    return strength / (1 - p), strength / p


def _log_beta_above(p: float, a: float, b: float) -> float:
    """The logarithm of the incomplete beta integral from p to 1."""
    share = float(betainc(b, a, 1 - p))
    return float(betaln(a, b)) + math.log(share) if share > 0 else -math.inf


def _one_row(values: ArrayLike) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or np.isnan(array).any():
        raise ValueError("the values are one row of numbers without NaN")
    return array
