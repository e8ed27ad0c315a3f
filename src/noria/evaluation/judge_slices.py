"""``worst(metric, by=column) >= x``: a metric on each slice of the held-out rows.

Of many slices the worst lies low by chance: of ten slices of 200 rows one of a good model is below its bound more often than not.
So each slice is tested, and the gate fails when at least one is shown to be below x, after Holm's correction for their number: a
model whose slices all reach x fails with a probability of at most 5 %. It passes when none is shown to be below.

With ``at 95%`` each slice must be shown to reach x: passes when the lower bound of each does (no correction: a model with a slice
below passes with a probability of at most 5 %, as that slice must pass), fails as without, else there is not enough data.

Slices with too few rows are taken together as one, POOLED, and named.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from noria.evaluation.gate_words import (
    EACH_CLASS,
    ROWS,
    bounds_words,
    has_few_groups,
    lack_words,
    move_bounds,
    number_words,
    rows_words,
    undecided_reason,
    units,
    worse_p_value,
)
from noria.evaluation.judge_sample_size import bounds_remedy
from noria.kernel.policy import Gate
from noria.kernel.verdict import Outcome, Reason
from noria.kernel.words import percent, plural
from noria.releases.evidence import Evaluation
from noria.stats import holm
from noria.stats.measures import Measure

POOLED = "(other)"  # the slices that are too small, together
NAMED = 5  # slices spelled out in a sentence; the rest are counted


def is_small(measure: Measure | None) -> bool:
    """Whether a slice cannot be judged by itself."""
    if measure is None or not math.isfinite(measure.value):
        return True
    return bool(lack_words(measure.n, measure.positives)) or has_few_groups(measure)


def large_slices(gate: Gate, evaluation: Evaluation) -> dict[str, Measure]:
    """The slices that a gate judges; POOLED is one of them."""
    found = evaluation.slices.get(gate.by or "", {})
    measures = {value: metrics.get(gate.metric) for value, metrics in found.items()}
    return {value: measure for value, measure in measures.items() if measure is not None and not is_small(measure)}


def gate_p_value(gate: Gate, evaluation: Evaluation) -> float | None:
    """The p-value of "every slice reaches the threshold"; None where no slice can be judged."""
    judged = large_slices(gate, evaluation)
    if not judged:
        return None
    return min(1.0, len(judged) * min(worse_p_value(each, gate.value, gate.at_least) for each in judged.values()))


def judge_worst(gate: Gate, by: str, evaluation: Evaluation, alpha: float) -> Reason:
    """``alpha``: how likely a model whose slices all reach the threshold may fail."""
    judged = large_slices(gate, evaluation)
    small = left_out_words(by, judged, evaluation)
    if not judged:
        classes = "" if evaluation.positives == 0 else f" and {EACH_CLASS} of each class"
        text = f"worst {gate.metric} by {by}: no slice has {ROWS} rows{classes}{small}"
        return undecided_reason(
            "too_few", text, f"labelled rows: {ROWS} of a slice{classes}" if evaluation.slices.get(by) else ""
        )
    below = _shown_below(gate, judged, alpha)
    if gate.bound and not below:
        return _judge_bounds(gate, by, judged, small)
    where = (min if gate.at_least else max)(below or judged, key=lambda value: judged[value].value)
    worst = judged[where]
    holds = worst.value >= gate.value if gate.at_least else worst.value <= gate.value
    sign = (">=" if holds else "<") if gate.at_least else ("<=" if holds else ">")  # the comparison that is true
    text = f"worst {gate.metric} by {by}: {number_words(worst.value, gate.value)} at {where} {sign} {gate.value:,g} "
    shown = "" if holds else shown_words(len(judged), below, where, "slice", "below" if gate.at_least else "above")
    text += f"{bounds_words(worst)}{shown}{small}"
    numbers = {"value": worst.value, "threshold": gate.value, "slices": float(len(judged)), "shown": float(len(below))}
    return Reason("gate.worst", text, Outcome.FAIL if below else Outcome.PASS, numbers)


def _shown_below(gate: Gate, judged: Mapping[str, Measure], alpha: float) -> list[str]:
    """The slices that are shown not to reach the threshold."""
    p_values = [worse_p_value(measure, gate.value, gate.at_least) for measure in judged.values()]
    found = zip(judged, p_values, holm.levels(p_values, [alpha] * len(p_values)), strict=True)
    return [value for value, p_value, level in found if p_value < level]


def shown_words(count: int, beyond: list[str], where: str, noun: str, side: str) -> str:
    """``, shown to be below with Holm's correction for 10 slices, and so is LGA``; of ``count`` slices or pairs."""
    others = [value for value in beyond if value != where]
    verb = "is" if len(others) == 1 and noun == "slice" else "are"
    also = f", and so {verb} {_list_words(others)}" if others else ""
    correction = f" with Holm's correction for {plural(count, noun)}" if count > 1 else ""
    return f", {'' if beyond else 'not '}shown to be {side}{correction}{also}"


def left_out_words(by: str, judged: Mapping[str, Measure], evaluation: Evaluation) -> str:
    """The slices of a column that are not judged by themselves."""
    return _small_words([value for value in evaluation.slices.get(by, {}) if value not in judged], pooled=POOLED in judged)


def _judge_bounds(gate: Gate, by: str, judged: Mapping[str, Measure], small: str) -> Reason:
    """Each slice's bound must reach the threshold; the one that is farthest from it is told."""
    bounds = {
        value: move_bounds(each.value, each.low, each.high, gate.confidence, each.freedom) for value, each in judged.items()
    }
    where = min(bounds, key=lambda value: bounds[value][0]) if gate.at_least else max(bounds, key=lambda value: bounds[value][1])
    worst, (low, high) = judged[where], bounds[where]
    holds = low >= gate.value if gate.at_least else high <= gate.value
    doubt = "" if holds else "too uncertain to say: "
    shown = f"worst {gate.metric} by {by}: {number_words(worst.value, gate.value)} at {where}"
    text = f"{shown} ({percent(gate.confidence)} bounds {low:,.3f} to {high:,.3f}, {rows_words(worst)}), "
    text += f"{doubt}of each slice a bound {'>=' if gate.at_least else '<='} {gate.value:,g} is asked{small}"
    numbers = {"value": worst.value, "threshold": gate.value, "low": low, "high": high, "n": float(worst.n)}
    remedy = "" if holds else f"{bounds_remedy(worst.value, gate.value, low, high, *units(worst))} (of {where})"
    return Reason("gate.worst", text, Outcome.PASS if holds else Outcome.NOT_ENOUGH_DATA, numbers, remedy)


def _small_words(values: list[str], *, pooled: bool) -> str:
    values = [value for value in values if value != POOLED]
    if not values:
        return ""
    return f"; {f'{POOLED} are those that are too small' if pooled else 'left out as too small'}: {_list_words(values)}"


def _list_words(values: list[str]) -> str:
    more = f" and {len(values) - NAMED} more" if len(values) > NAMED else ""
    return f"{', '.join(values[:NAMED])}{more}"
