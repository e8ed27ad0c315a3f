"""One verdict from all measurements of a candidate.

What a gate means:

- ``metric >= x``: the measured value meets x. With fewer than 50 rows, or (binary) fewer than 10 of either class, there is
  not enough data.
- ``metric >= champion - m``: on the same rows, passes when the candidate is shown to be no more than m behind: the lower
  one-sided bound of candidate - champion is at least -m. Fails when it is shown to be further behind: the upper bound is
  below -m. Between the two there is not enough data. Without a champion it passes; a champion that could not be scored
  gives not enough data.
- ``worst(metric, by=column) >= x``: the worst of the slices that have 50 rows and 10 of each class; smaller ones are named.

``<=`` mirrors each. Bounds are one-sided, at the gate's confidence (95 % unless told otherwise).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import NormalDist

from noria.domain.evaluation import Comparison, Evaluation, Measure
from noria.domain.policy import Gate
from noria.domain.verdict import Outcome, Reason, Verdict, combine

ROWS = 50
EACH_CLASS = 10
NAMED = 5  # slices spelled out in a sentence; the rest are counted
FIELDS = ("latency_p50_ms", "latency_p99_ms", "model_size_mb", "rows")  # read from the evaluation itself: no bounds
RANKING = frozenset({"roc_auc", "average_precision"})  # need both classes to be defined at all


def judge(gates: Sequence[Gate], evaluation: Evaluation) -> Verdict:
    """Every gate gives one reason, in the project's order."""
    if not gates:
        return combine((Reason("gate.none", "no gates are set"),))
    return combine(tuple(_gate(gate, evaluation) for gate in gates))


def _gate(gate: Gate, evaluation: Evaluation) -> Reason:
    if gate.champion:
        return _against_champion(gate, evaluation)
    if gate.by is not None:
        return _worst(gate, gate.by, evaluation)
    return _field(gate, evaluation) if gate.metric in FIELDS else _threshold(gate, evaluation)


def _field(gate: Gate, evaluation: Evaluation) -> Reason:
    value = float(getattr(evaluation, gate.metric))
    if not math.isfinite(value):
        return _undecided("not_measured", f"{gate.metric} could not be measured")
    shown = f"{value:,.0f}" if gate.metric == "rows" else _number(value, gate.value)
    return _compared("field", gate, value, f"{gate.metric} {shown}", "")


def _threshold(gate: Gate, evaluation: Evaluation) -> Reason:
    measure = evaluation.metrics.get(gate.metric)
    if measure is None or not math.isfinite(measure.value):
        return _unmeasured(gate.metric, evaluation)
    lack = _lack(measure.n) or _lack(*_classes(measure, evaluation))
    if lack:
        return _undecided("too_few", f"{gate.metric} is measured on {lack}", value=measure.value, n=measure.n)
    return _compared("threshold", gate, measure.value, f"{gate.metric} {_number(measure.value, gate.value)}", _on(measure))


def _unmeasured(metric: str, evaluation: Evaluation) -> Reason:
    lack = _lack(evaluation.rows, evaluation.positives or None)
    if lack and 0 <= evaluation.positives < evaluation.rows:
        return _undecided("too_few", f"{metric} could not be computed: {lack}", n=evaluation.rows)
    if metric in RANKING:
        return _undecided("not_measured", f"{metric} could not be computed: only one class", n=evaluation.rows)
    measured = f" (measured: {', '.join(sorted(evaluation.metrics))})" if evaluation.metrics else ""
    text = f"{metric} could not be computed on the holdout's {evaluation.rows:,} rows{measured}"
    return _undecided("not_measured", text, n=evaluation.rows)


def _classes(measure: Measure | None, evaluation: Evaluation) -> tuple[int, int | None]:
    """Rows and positives behind a metric; those of the whole holdout where the metric does not say."""
    if measure is not None and measure.positives is not None:
        return measure.n, measure.positives
    return evaluation.rows, evaluation.positives or None


def _lack(n: int, positives: int | None = None) -> str:
    """What there is too little of, or an empty text. ``positives`` is None where the task has no positive class."""
    if n < ROWS:
        return f"{n:,} rows; a gate needs {ROWS}"
    if positives is not None and min(positives, n - positives) < EACH_CLASS:
        return f"{positives:,} positive and {n - positives:,} negative rows; a gate needs {EACH_CLASS} of each"
    return ""


def _worst(gate: Gate, by: str, evaluation: Evaluation) -> Reason:
    found = {value: metrics.get(gate.metric) for value, metrics in evaluation.slices.get(by, {}).items()}
    judged = {value: m for value, m in found.items() if m is not None and math.isfinite(m.value) and not _lack(m.n, m.positives)}
    left_out = _left_out([value for value in found if value not in judged])
    if not judged:
        classes = "" if evaluation.positives == 0 else f" and {EACH_CLASS} of each class"
        return _undecided("too_few", f"worst {gate.metric} by {by}: no slice has {ROWS} rows{classes}{left_out}")
    where = (min if gate.at_least else max)(judged, key=lambda value: judged[value].value)
    worst = judged[where]
    shown = f"worst {gate.metric} by {by}: {_number(worst.value, gate.value)} at {where}"
    return _compared("worst", gate, worst.value, shown, f"{_on(worst)}{left_out}")


def _left_out(values: list[str]) -> str:
    if not values:
        return ""
    more = f" and {len(values) - NAMED} more" if len(values) > NAMED else ""
    return f"; left out as too small: {', '.join(values[:NAMED])}{more}"


def _against_champion(gate: Gate, evaluation: Evaluation) -> Reason:
    if evaluation.champion is None:
        return Reason("gate.no_champion", f"{gate.text}: no champion yet")
    if gate.by is not None:
        return _undecided("no_comparison", f"{gate.text}: slices are not compared with the champion")
    versus = evaluation.versus.get(gate.metric)
    if versus is None or not math.isfinite(versus.difference):
        why = evaluation.champion_note or f"{gate.metric} was not measured on both"
        return _undecided("no_comparison", f"{gate.text}: no comparison with {evaluation.champion}: {why}")
    lack = _lack(versus.n) or _lack(*_classes(evaluation.metrics.get(gate.metric), evaluation))
    if lack:
        return _undecided("too_few", f"{gate.metric} is measured on {lack}", n=versus.n)
    return _paired(gate, versus)


def _paired(gate: Gate, versus: Comparison) -> Reason:
    """Shown to be within the margin, shown to be outside, or neither."""
    versus = at_confidence(versus, gate.confidence)
    within = versus.low >= gate.value if gate.at_least else versus.high <= gate.value
    outside = versus.high < gate.value if gate.at_least else versus.low > gate.value
    outcome = Outcome.PASS if within else Outcome.FAIL if outside else Outcome.NOT_ENOUGH_DATA
    bounds = f"{gate.confidence * 100:g} % bounds of the difference {versus.low:+,.3f} to {versus.high:+,.3f}, {_rows(versus)}"
    numbers = {"champion": versus.champion, "difference": versus.difference, "margin": gate.value}
    numbers |= {"low": versus.low, "high": versus.high, "n": float(versus.n)}
    return Reason("gate.champion", f"{gate.metric} {_moved(versus)} ({bounds}), {_demand(gate, outcome)}", outcome, numbers)


def _rows(versus: Comparison) -> str:
    """``400 rows, of which 3 differ``: rows that only one of both called rightly."""
    if versus.differing is None:
        return f"{versus.n:,} rows"
    return f"{versus.n:,} rows, of which {versus.differing:,} differ{'s' if versus.differing == 1 else ''}"


def _moved(versus: Comparison) -> str:
    if versus.difference == 0:
        return f"equals the champion's {versus.champion:,.3f}"
    side = "above" if versus.difference > 0 else "below"
    return f"is {abs(versus.difference):,.3f} {side} the champion's {versus.champion:,.3f}"


def _demand(gate: Gate, outcome: Outcome) -> str:
    """What the gate lets happen, or asks for, said so that it fits the outcome."""
    worse, better = ("below", "above") if gate.at_least else ("above", "below")
    allowance = -gate.value if gate.at_least else gate.value
    doubt = "too uncertain to say: " if outcome is Outcome.NOT_ENOUGH_DATA else ""
    if allowance < 0:
        return f"{doubt}at least {-allowance:g} {better} is asked"
    if outcome is Outcome.FAIL:
        return f"more than {allowance:g} allowed" if allowance else f"nothing {worse} is allowed"
    return f"{doubt}{f'{allowance:g}' if allowance else 'nothing'} {worse} is allowed"


def _compared(code: str, gate: Gate, value: float, shown: str, on: str) -> Reason:
    holds = value >= gate.value if gate.at_least else value <= gate.value
    sign = (">=" if holds else "<") if gate.at_least else ("<=" if holds else ">")  # the comparison that is true
    text = f"{shown} {sign} {gate.value:,g} {on}".rstrip()
    return Reason(f"gate.{code}", text, Outcome.PASS if holds else Outcome.FAIL, {"value": value, "threshold": gate.value})


def _number(value: float, threshold: float) -> str:
    """Three decimals, or as many more as it takes to show on which side of the threshold the value lies."""
    for digits in range(3, 10):
        text = f"{value:,.{digits}f}"
        shown = float(text.replace(",", ""))
        if (shown > threshold) == (value > threshold) and (shown < threshold) == (value < threshold):
            return text
    return repr(value)


def _on(measure: Measure) -> str:
    return f"(95 % bounds {measure.low:,.3f} to {measure.high:,.3f}, {measure.n:,} rows)"


def _undecided(code: str, text: str, **numbers: float) -> Reason:
    return Reason(f"gate.{code}", text, Outcome.NOT_ENOUGH_DATA, {name: float(value) for name, value in numbers.items()})


def at_confidence(versus: Comparison, confidence: float) -> Comparison:
    """The comparison with its bounds, which were computed at 95 %, moved to another confidence.

    Exact for the normal bounds (DeLong, paired means); for bootstrap bounds it takes their two sides as normal.
    """
    factor = NormalDist().inv_cdf(confidence) / NormalDist().inv_cdf(0.95)
    low = versus.difference + (versus.low - versus.difference) * factor
    high = versus.difference + (versus.high - versus.difference) * factor
    return replace(versus, low=low, high=high)
