"""``gap(metric, by=column) <= x``: how much a metric differs between slices of the held-out rows, such as groups of people.

The gap is the greatest difference of two slices. It is large by chance where there are many slices or few rows, so each pair is
tested: the gate fails when the difference of at least one pair is shown to be more than x, after Holm's correction for the number
of pairs. A model whose slices differ by at most x fails with a probability of at most 5 %. It passes when no pair is shown to.

With ``at 95%`` every pair must be shown to be within x: a model with one pair beyond passes with a probability of at most 5 %, as
that pair must pass. What is not shown to be beyond, nor all shown to be within, is not enough data.

Bounds of a difference are put together of both slices' own bounds (Zou and Donner, Statistics in Medicine 2008, 27: 1693-1702,
eq. 4), which takes slices as independent. Slices with too few rows are taken together as one, POOLED, and named.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import combinations

import msgspec

from noria.evaluation.gate_words import (
    EACH_CLASS,
    ROWS,
    move_bounds,
    number_words,
    rows_words,
    undecided_reason,
    units,
    worse_p_value,
)
from noria.evaluation.judge_sample_size import bounds_remedy
from noria.evaluation.judge_slices import large_slices, left_out_words, shown_words
from noria.kernel.policy import Gate
from noria.kernel.verdict import Outcome, Reason
from noria.kernel.words import percent
from noria.releases.evidence import Evaluation
from noria.stats import holm
from noria.stats.measures import Measure


class _Pair(msgspec.Struct, frozen=True):
    """Two slices, and by how much the value of the one exceeds that of the other: at least 0."""

    more: str
    less: str
    values: tuple[float, float]
    apart: Measure

    @property
    def names(self) -> str:
        return f"{self.more} and {self.less}"


def gate_p_value(gate: Gate, evaluation: Evaluation) -> float | None:
    """The p-value of "no two slices differ by more than the gate allows"; None where there are no two to judge."""
    pairs = _pairs(large_slices(gate, evaluation))
    return min(1.0, len(pairs) * min(_p_value(pair, gate.value) for pair in pairs)) if pairs else None


def judge_gap(gate: Gate, by: str, evaluation: Evaluation, alpha: float) -> Reason:
    """``alpha``: how likely a model whose slices differ by no more than the gate allows may fail."""
    judged = large_slices(gate, evaluation)
    out = left_out_words(by, judged, evaluation)
    pairs = _pairs(judged)
    if not pairs:
        classes = "" if evaluation.positives == 0 else f" and {EACH_CLASS} of each class"
        text = f"gap of {gate.metric} by {by}: fewer than two slices have {ROWS} rows{classes}{out}"
        return undecided_reason("too_few", text, f"labelled rows: {ROWS} of each of two slices{classes}")
    beyond = _shown_beyond(gate, pairs, alpha)
    if gate.bound and not beyond:
        return _judge_within(gate, by, pairs, out)
    widest = max(beyond or pairs, key=lambda pair: pair.apart.value)
    sign = "<=" if widest.apart.value <= gate.value else ">"
    shown = shown_words(len(pairs), [pair.names for pair in beyond], widest.names, "pair", "above") if sign == ">" else ""
    text = f"{_gap_words(gate, by, widest)} {sign} {gate.value:,g} ({_bounds_words(widest, 0.95)}){shown}{out}"
    numbers = {"value": widest.apart.value, "threshold": gate.value, "pairs": float(len(pairs)), "shown": float(len(beyond))}
    return Reason("gate.gap", text, Outcome.FAIL if beyond else Outcome.PASS, numbers)


def _judge_within(gate: Gate, by: str, pairs: list[_Pair], out: str) -> Reason:
    """Every pair's bounds must lie within; the pair that is farthest from it is told."""
    ends = [_moved(pair, gate.confidence) for pair in pairs]
    reach = [max(high, -low) for low, high in ends]
    widest = max(range(len(pairs)), key=reach.__getitem__)
    pair, (low, high) = pairs[widest], ends[widest]
    holds = reach[widest] <= gate.value
    doubt = "" if holds else "too uncertain to say: "
    text = f"{_gap_words(gate, by, pair)} ({_bounds_words(pair, gate.confidence)}), {doubt}"
    text += f"bounds of each pair within {gate.value:,g} are asked{out}"
    numbers = {"value": pair.apart.value, "threshold": gate.value, "low": low, "high": high, "n": float(pair.apart.n)}
    remedy = "" if holds else f"{bounds_remedy(pair.apart.value, gate.value, low, high, *units(pair.apart))} (of {pair.names})"
    return Reason("gate.gap", text, Outcome.PASS if holds else Outcome.NOT_ENOUGH_DATA, numbers, remedy)


def _pairs(judged: Mapping[str, Measure]) -> list[_Pair]:
    found = []
    for one, other in combinations(judged, 2):
        more, less = (one, other) if judged[one].value >= judged[other].value else (other, one)
        found.append(_Pair(more, less, (judged[more].value, judged[less].value), _apart(judged[more], judged[less])))
    return found


def _apart(more: Measure, less: Measure) -> Measure:
    """The difference with its bounds, on the rows of the smaller slice."""
    difference = more.value - less.value
    down = math.hypot(more.value - more.low, less.high - less.value)
    up = math.hypot(more.high - more.value, less.value - less.low)
    smaller = min(more, less, key=lambda each: each.n)
    freedoms = [each.freedom for each in (more, less) if each.freedom is not None]
    return Measure(
        difference,
        difference - down,
        difference + up,
        smaller.n,
        groups=smaller.groups,
        unit=smaller.unit,
        widened=smaller.widened,
        freedom=min(freedoms, default=None),
    )


def _p_value(pair: _Pair, most: float) -> float:
    """Of "the two differ by at most ``most``, whichever is greater"."""
    return min(1.0, worse_p_value(pair.apart, most, False) + worse_p_value(pair.apart, -most, False))


def _shown_beyond(gate: Gate, pairs: list[_Pair], alpha: float) -> list[_Pair]:
    p_values = [_p_value(pair, gate.value) for pair in pairs]
    levels = holm.levels(p_values, [alpha] * len(pairs))
    return [pair for pair, p_value, level in zip(pairs, p_values, levels, strict=True) if p_value < level]


def _moved(pair: _Pair, confidence: float) -> tuple[float, float]:
    return move_bounds(pair.apart.value, pair.apart.low, pair.apart.high, confidence, pair.apart.freedom)


def _gap_words(gate: Gate, by: str, pair: _Pair) -> str:
    """``gap of recall by sex: 0.080 between F (0.690) and M (0.610)``."""
    gap = number_words(pair.apart.value, gate.value)
    return (
        f"gap of {gate.metric} by {by}: {gap} between {pair.more} ({pair.values[0]:,.3f}) and {pair.less} ({pair.values[1]:,.3f})"
    )


def _bounds_words(pair: _Pair, confidence: float) -> str:
    low, high = _moved(pair, confidence)
    return f"{percent(confidence)} bounds {low:,.3f} to {high:,.3f}, {rows_words(pair.apart)} of the smaller"
