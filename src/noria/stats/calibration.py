"""Do probabilities mean what they say?

The expected calibration error (Naeini, Cooper and Hauskrecht, AAAI 2015) is the mean distance between predicted and seen rates of
bins. Chance alone makes it greater than 0, the more so the fewer rows a bin has: that is taken off (Kumar, Liang and Ma, Verified
Uncertainty Calibration, NeurIPS 2019, whose `normal_debiased_ce` draws normal rates of each bin; here the mean of these draws is
computed, as that of a folded normal distribution). Bins hold as many rows each (Roelofs, Cain, Shlens and Mozer,
Mitigating Bias in Calibration Error Estimation, AISTATS 2022). Of several classes it is of the likeliest one, as Kumar's is.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from noria.stats import metrics
from noria.stats.metrics import Floats

BINS = 15


class Binned:
    """Rows in bins by their predicted rate, which stay as they are while rows are drawn again."""

    def __init__(self, y: Floats, answer: Floats) -> None:
        said = answer.max(axis=1) if answer.ndim == 2 else answer
        self._hit = metrics.right_calls(y, answer) if answer.ndim == 2 else y
        self._gap = said - self._hit
        self._bins = _equal_bins(said)

    def error(self, weights: Floats | None = None) -> float:
        """The error, less what chance adds, where each row counts ``weights`` [n] times; at least 0."""
        w = np.ones(len(self._hit)) if weights is None else weights
        rows, gaps, hits = (np.bincount(self._bins, weights=w * each, minlength=BINS) for each in (1.0, self._gap, self._hit))
        filled = rows > 0
        rows, gaps, hits = rows[filled], gaps[filled], hits[filled]
        gap, rate = np.abs(gaps / rows), hits / rows
        spread = np.sqrt(np.clip(rate * (1 - rate), 0, None) / rows)
        return max(0.0, float((rows * (2 * gap - _folded_mean(gap, spread))).sum() / rows.sum()))


def debiased_ece(y: Floats, answer: Floats) -> float:
    return Binned(y, answer).error()


def _equal_bins(said: Floats) -> NDArray[np.intp]:
    """Bins of as many rows each; equal predictions stay together."""
    edges = np.quantile(said, np.arange(1, BINS) / BINS)
    bins: NDArray[np.intp] = np.searchsorted(edges, said, side="left")
    return bins


def _folded_mean(mean: Floats, sd: Floats) -> Floats:
    """Of the distance from 0 of a normal variable."""
    z = np.divide(mean, sd, out=np.full_like(mean, 40.0), where=sd > 0)
    found: Floats = sd * np.sqrt(2 / np.pi) * np.exp(-z * z / 2) + mean * (1 - 2 * ndtr(-z))
    return found
