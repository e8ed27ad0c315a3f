"""Is the release still as good as on its holdout, as far as labels tell?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noria.domain.policy import MonitorPolicy
from noria.domain.verdict import Outcome, Reason, Verdict, combine
from noria.stats import welch

MIN_UNITS = 5  # fewer means than this on either side say nothing about their own spread


@dataclass(frozen=True, slots=True)
class QualityRuling:
    """``value`` is the mean of the losses, 0 without labels. ``p_value`` is one-sided, of "no worse than the holdout and
    margin"; 1 where there is not enough data."""

    verdict: Verdict
    value: float
    p_value: float


def judge(
    losses: NDArray[Any],
    labelled: int,
    reference_mean: float,
    reference_sd: float,
    reference_n: int,
    policy: MonitorPolicy,
    metric: str = "loss",
    unit: str = "days",
) -> QualityRuling:
    """Compare a window with the holdout by Welch's one-sided test.

    ``losses`` are the mean losses of independent units (days, or rows), shape [units]; lower is better. ``labelled``
    counts the labelled rows behind them. ``reference_*`` describe the holdout's units: mean, standard deviation, count.
    """
    value = float(np.mean(losses)) if len(losses) else 0.0
    lack = _lack(losses, labelled, reference_n, policy, unit)
    if lack is not None:
        return QualityRuling(combine((lack,)), value, 1.0)
    sd = float(np.std(losses, ddof=1))
    p_value = welch.welch_p_value(value, sd, len(losses), reference_mean, reference_sd, reference_n, margin=policy.margin)
    numbers = {"value": value, "reference": reference_mean, "p_value": p_value, "margin": policy.margin}
    numbers |= {"labelled": float(labelled), "units": float(len(losses)), "reference_units": float(reference_n)}
    return QualityRuling(combine((_reason(numbers, policy, metric, unit),)), value, p_value)


def _lack(losses: NDArray[Any], labelled: int, reference_n: int, policy: MonitorPolicy, unit: str) -> Reason | None:
    if labelled < policy.min_labelled:
        return _undecided("too_few", f"{labelled:,} labelled rows are too few; {policy.min_labelled:,} are needed", labelled)
    for where, units in (("the window", len(losses)), ("the holdout", reference_n)):
        if units < MIN_UNITS:
            text = f"{where} has {units:,} {unit}; {MIN_UNITS} are needed to know how much {unit} differ"
            return _undecided("units", text, labelled)
    if not np.isfinite(losses).all():
        return _undecided("not_finite", "some losses are not finite numbers", labelled)
    return None


def _undecided(code: str, text: str, labelled: int) -> Reason:
    return Reason(f"quality.{code}", text, Outcome.NOT_ENOUGH_DATA, {"labelled": float(labelled)})


def _reason(numbers: dict[str, float], policy: MonitorPolicy, metric: str, unit: str) -> Reason:
    p, sank = numbers["p_value"], numbers["p_value"] <= policy.false_alarm
    shown = f"{p:.3f}" if p >= 0.0005 else f"{p:.1g}"
    beyond = f"the margin of {policy.margin:g} and chance" if policy.margin else "chance"
    text = (
        f"{metric} {numbers['value']:.3f} on {numbers['labelled']:,.0f} labelled of {numbers['units']:,.0f} {unit}, against "
        f"{numbers['reference']:.3f} on its holdout ({numbers['reference_units']:,.0f} {unit}): "
        f"{'' if sank else 'not '}worse beyond {beyond} (p = {shown}, limit {policy.false_alarm:g})"
    )
    return Reason("quality.sank" if sank else "quality.holds", text, Outcome.FAIL if sank else Outcome.PASS, numbers)
