"""Bounds of any statistic of rows, by resampling: BCa (Efron, Better Bootstrap Confidence Intervals, JASA 1987, 82: 171-185).

Rows that depend on each other are drawn together, unit by unit, as Davison and Hinkley do (Bootstrap Methods and Their
Application, 1997, section 3.8). The draws are seeded: the same rows give the same bounds.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from noria.stats.metrics import Floats, Undefined

Rows = NDArray[np.intp]
Statistic = Callable[[Rows], float]
RESAMPLES = 999
LEFT_OUT = 200  # jackknife values; of more units several are left out together
FAILED_SHARE = 0.01  # of the resamples that may have no value


def bca_bounds(
    statistic: Statistic, n: int, units: NDArray[np.intp] | None = None, confidence: float = 0.95, resamples: int = RESAMPLES
) -> tuple[float, float]:
    """One-sided bounds of ``statistic``, a function of row numbers [m], over ``n`` rows.

    ``units`` [n]: the unit of each row, None where rows are independent. Raises Undefined when there are fewer than two units,
    or more than 1 % of the resamples have no finite value.
    """
    rows_of = _rows_by_unit(np.arange(n) if units is None else units)
    if len(rows_of) < 2:
        raise Undefined("one independent row is too few for bounds")
    draw = np.random.default_rng(20131)
    value = statistic(np.arange(n))
    drawn = np.array([statistic(_rows(rows_of, draw.integers(len(rows_of), size=len(rows_of)))) for _ in range(resamples)])
    finite = drawn[np.isfinite(drawn)]
    if len(finite) < (1 - FAILED_SHARE) * resamples:
        raise Undefined(f"it has no value on {resamples - len(finite):,} of {resamples:,} resamples of the rows")
    below = float((finite < value).mean() + (finite == value).mean() / 2)
    if below in (0.0, 1.0):  # no resample on one side: nothing to correct by
        low, high = np.quantile(finite, [1 - confidence, confidence])
        return float(low), float(high)
    bias, acceleration = float(ndtri(below)), _acceleration(statistic, rows_of, draw)
    low, high = (np.quantile(finite, _corrected(level, bias, acceleration)) for level in (1 - confidence, confidence))
    return float(low), float(high)


def outer_bounds(
    statistic: Callable[[Floats], float], n: int, units: NDArray[np.intp] | None = None, confidence: float = 0.95
) -> tuple[float, float]:
    """One-sided bounds of ``statistic``, a function of how often each row is drawn [n], which chance moves to one side.

    A calibration error is such: each resample has the chance of the rows and its own, and BCa takes the second for a bias of the
    first. Of percentile and basic bounds (Davison and Hinkley, sections 5.2 and 5.3) the outer one is taken on either side.
    """
    codes = np.arange(n) if units is None else np.unique(units, return_inverse=True)[1]
    count = int(codes.max(initial=-1)) + 1
    if count < 2:
        raise Undefined("one independent row is too few for bounds")
    draw = np.random.default_rng(20131)
    drawn = [
        statistic(np.bincount(draw.integers(count, size=count), minlength=count).astype(np.float64)[codes])
        for _ in range(RESAMPLES)
    ]
    low, high = np.quantile(drawn, [1 - confidence, confidence])
    twice = 2 * statistic(np.ones(n))
    return float(min(low, twice - high)), float(max(high, twice - low))


def _rows_by_unit(units: NDArray[np.intp]) -> list[Rows]:
    _, codes = np.unique(units, return_inverse=True)
    order = np.argsort(codes, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(codes[order])) + 1)


def _rows(rows_of: list[Rows], chosen: NDArray[np.int64]) -> Rows:
    return np.concatenate([rows_of[unit] for unit in chosen])


def _acceleration(statistic: Statistic, rows_of: list[Rows], draw: np.random.Generator) -> float:
    """From jackknife values: 0 where they are all alike, or have no finite value."""
    parts = np.array_split(draw.permutation(len(rows_of)), min(LEFT_OUT, len(rows_of)))
    every = np.arange(len(rows_of))
    left = np.array([statistic(_rows(rows_of, np.delete(every, part))) for part in parts])
    away = left.mean() - left
    spread = float((away**2).sum())
    if not np.isfinite(spread) or spread == 0:
        return 0.0
    return float((away**3).sum() / (6 * spread**1.5))


def _corrected(level: float, bias: float, acceleration: float) -> float:
    point = bias + float(ndtri(level))
    bent = 1 - acceleration * point
    return float(ndtr(bias + point / bent)) if bent > 0 else float(level > 0.5)
