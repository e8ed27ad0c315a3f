"""Is the release still as good as on its holdout, as far as labels tell?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from noria.domain.policy import MonitorPolicy
from noria.domain.verdict import Outcome, Reason, Verdict, combine


@dataclass(frozen=True, slots=True)
class QualityRuling:
    """``value``: the window's mean loss, 0 without labels. ``p_value``: one-sided, of "no worse than the reference and margin"."""

    verdict: Verdict
    value: float
    p_value: float


def judge(
    losses: NDArray[np.float64], reference_mean: float, reference_n: int, reference_sd: float, policy: MonitorPolicy
) -> QualityRuling:
    """Fails when the mean of ``losses`` [labelled rows of one window] exceeds the holdout's by more than the margin, at
    ``policy.false_alarm``: a one-sided z test of two means. Losses are taken as independent of each other."""
    n = len(losses)
    value = float(losses.mean()) if n else 0.0
    excess = value - reference_mean - policy.margin
    p_value = _p_value(excess, losses, reference_n, reference_sd) if n > 1 else 1.0
    numbers = {"value": value, "reference": reference_mean, "margin": policy.margin, "p_value": p_value, "labelled": n}
    if n < policy.min_labelled:
        text = f"quality: {n:,} labels are too few; {policy.min_labelled:,} are needed"
        return QualityRuling(combine((Reason("quality.too_few", text, Outcome.NOT_ENOUGH_DATA, numbers),)), value, p_value)
    sank = p_value < policy.false_alarm
    return QualityRuling(combine((_reason(sank, numbers, policy),)), value, p_value)


def _p_value(excess: float, losses: NDArray[np.float64], reference_n: int, reference_sd: float) -> float:
    variance = float(losses.var(ddof=1)) / len(losses) + reference_sd**2 / max(reference_n, 1)
    if variance == 0:
        return 0.0 if excess > 0 else 1.0
    return NormalDist().cdf(-excess / math.sqrt(variance))


def _reason(sank: bool, numbers: dict[str, float], policy: MonitorPolicy) -> Reason:
    margin = f" (margin {policy.margin:g})" if policy.margin else ""
    text = (
        f"quality {'sank' if sank else 'holds'}: mean loss {numbers['value']:.4f} over {numbers['labelled']:,} labels, "
        f"{numbers['reference']:.4f} on the holdout{margin}; p = {numbers['p_value']:.2g}, alarm below {policy.false_alarm:g}"
    )
    return Reason("quality.sank" if sank else "quality.holds", text, Outcome.FAIL if sank else Outcome.PASS, numbers)
