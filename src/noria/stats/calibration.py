"""Do probabilities mean what they say?"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from noria.kernel.task import Task
from noria.stats import metrics

BINS = 15


def expected_calibration_error(y: ArrayLike, probability: ArrayLike) -> float:
    """Mean distance between the predicted and the observed rate over 15 bins of equal width, weighted by rows.

    Binary ``y`` [n] and probabilities [n]. Source: Naeini, Cooper and Hauskrecht (AAAI 2015). Raises as ``metrics.compute``.
    """
    truth, answer = metrics.check_arrays(Task.BINARY, y, probability)
    bins = np.clip((answer * BINS).astype(np.intp), 0, BINS - 1)
    gap = np.bincount(bins, weights=answer - truth, minlength=BINS)
    return float(np.abs(gap).sum() / len(truth))
