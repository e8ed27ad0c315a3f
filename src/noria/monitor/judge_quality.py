"""Judges by the labels whether a release is still as good as on its holdout."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from noria.kernel.policy import MonitorPolicy
from noria.kernel.verdict import Outcome, Reason, Verdict, combine
from noria.kernel.words import lasting
from noria.stats import welch

DAY_S = 86_400.0
LOOK_BACK_S = 7 * DAY_S  # days are judged by the week, whose days differ, also where windows are shorter ...
FARTHEST_S = 28 * DAY_S  # ... and by as many windows as hold enough labels, up to this far back
MIN_UNITS = 5  # fewer means than this on either side say nothing about their own spread


class QualityRuling(msgspec.Struct, frozen=True):
    """``value`` is the mean of the losses, 0 without labels. ``p_value`` is one-sided, of "no worse than the holdout and
    margin"; 1 where there is not enough data."""

    verdict: Verdict
    value: float
    p_value: float


class Units(msgspec.Struct, frozen=True):
    """Mean losses of independent units (days, or rows): how many, their mean and their standard deviation."""

    n: int
    mean: float
    sd: float

    @classmethod
    def of(cls, losses: NDArray[Any]) -> Units:
        """Of losses [units]; lower is better."""
        finite = bool(np.isfinite(losses).all())
        mean = float(np.mean(losses)) if len(losses) else 0.0
        return cls(len(losses), mean, float(np.std(losses, ddof=1)) if len(losses) > 1 and finite else 0.0)


def judge(
    units: Units, labelled: int, reference: Units, policy: MonitorPolicy, metric: str = "loss", unit: str = "days"
) -> QualityRuling:
    """Compare a window with the holdout, the ``reference``, by Welch's one-sided test.

    ``labelled`` counts the labelled rows behind the window's units.
    """
    lack = _lack(units, labelled, reference.n, policy, unit)
    if lack is not None:
        return QualityRuling(combine((lack,)), units.mean, 1.0)
    p_value = welch.welch_p_value(units.mean, units.sd, units.n, reference.mean, reference.sd, reference.n, margin=policy.margin)
    numbers = {"value": units.mean, "reference": reference.mean, "p_value": p_value, "margin": policy.margin}
    numbers |= {"labelled": float(labelled), "units": float(units.n), "reference_units": float(reference.n)}
    return QualityRuling(combine((_reason(numbers, policy, metric, unit),)), units.mean, p_value)


def enough(days: int, labelled: int, policy: MonitorPolicy, *, by_day: bool) -> bool:
    """Whether there is enough to judge; otherwise earlier windows are judged together with this one."""
    return labelled >= policy.min_labelled and (not by_day or days >= MIN_UNITS)


def outlook(
    policy: MonitorPolicy, *, by_day: bool, holdout_s: float | None, labels_per_s: float | None = None
) -> tuple[str, bool]:
    """Says in a sentence whether quality can be judged at all with these settings; False: it cannot.

    ``holdout_s``: the length of a holdout by time. ``labels_per_s``: what comes in at present, where that is known.
    """
    if by_day and holdout_s is not None and (most := int(holdout_s // DAY_S) + 1) < MIN_UNITS:
        text = f"quality is never judged: a holdout of the last {lasting(holdout_s)} holds {most} days at most"
        return f"{text}, {MIN_UNITS} are needed to know how much days differ. A longer model.holdout is needed", False
    reach_s = max(policy.every_s, LOOK_BACK_S if by_day else 0.0, FARTHEST_S)
    if labels_per_s is not None and 0 < labels_per_s * reach_s < policy.min_labelled:
        text = f"quality is never judged: at present {labels_per_s * reach_s:,.0f} labels come in {lasting(reach_s)}"
        return f"{text}, and monitor.min_labelled is {policy.min_labelled:,}. A smaller value is needed", False
    units = f"by days, at least {MIN_UNITS} of them" if by_day else "by rows"
    text = f"quality is judged {lasting(policy.label_delay_s)} after each window of {lasting(policy.every_s)}, {units}"
    back_s = max(LOOK_BACK_S if by_day else 0.0, policy.every_s)
    if back_s > policy.every_s:
        text += f": over the newest {lasting(back_s)}"
    return (
        f"{text}; where fewer than {policy.min_labelled:,} labels came, windows of up to {lasting(reach_s)} are judged together",
        True,
    )


def _lack(units: Units, labelled: int, reference_n: int, policy: MonitorPolicy, unit: str) -> Reason | None:
    if labelled < policy.min_labelled:
        return _undecided_reason(
            "too_few", f"{labelled:,} labelled rows are too few; {policy.min_labelled:,} are needed", labelled
        )
    for where, count in (("the window", units.n), ("the holdout", reference_n)):
        if count < MIN_UNITS:
            text = f"{where} has {count:,} {unit}; {MIN_UNITS} are needed to know how much {unit} differ"
            return _undecided_reason("units", text, labelled)
    if not math.isfinite(units.mean):
        return _undecided_reason("not_finite", "some losses are not finite numbers", labelled)
    return None


def _undecided_reason(code: str, text: str, labelled: int) -> Reason:
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
