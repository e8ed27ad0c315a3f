"""One verdict from all measurements of a candidate.

What a gate means:

- ``metric >= x``: the measured value meets x. With fewer than 50 rows, or (binary) fewer than 10 of either class, there is
  not enough data. With ``at 95%`` its bound is asked: passes when the lower one meets x, fails when the upper one does not,
  and between the two there is not enough data.
- ``metric >= champion - m``: on the same rows, passes when the candidate is shown to be no more than m behind: the lower
  one-sided bound of candidate - champion is at least -m. Fails when it is shown to be further behind: the upper bound is
  below -m. Between the two there is not enough data. Without a champion it passes; a champion that could not be scored
  gives not enough data. A margin in percent is a share of the champion's value.
- ``metric no worse than champion``: fails when the candidate is shown to be worse, by however little, and passes otherwise; ``by
  2%`` lets it be worse by that much.
- ``best`` in the place of ``champion``: the best release so far. Many small steps down, each within a margin of the champion
  before, end there. Where no release of before can be scored on these rows, it is the champion.
- ``worst(metric, by=column) >= x``: the worst of the slices that have 50 rows and 10 of each class; smaller ones are named.

``<=`` mirrors each. Bounds are one-sided, at the gate's confidence (95 % unless told otherwise).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

from msgspec.structs import replace

from noria.kernel.policy import Gate
from noria.kernel.tasks import find_metric
from noria.kernel.verdict import GateVerdict, Outcome, Reason, Verdict, combine
from noria.kernel.words import percent
from noria.releases.evidence import Evaluation
from noria.stats.measures import Comparison, Measure

ROWS = 50
EACH_CLASS = 10
NAMED = 5  # slices spelled out in a sentence; the rest are counted
FIELDS = ("latency_p50_ms", "latency_p99_ms", "model_size_mb", "rows")  # read from the evaluation itself: no bounds
LATENCIES = frozenset({"latency_p50_ms", "latency_p99_ms"})


def judge(gates: Sequence[Gate], evaluation: Evaluation) -> Verdict:
    """Every gate gives one reason, in the project's order."""
    if not gates:
        return combine((Reason("gate.none", "no gates are set"),))
    return combine(tuple(_gate(gate, evaluation) for gate in gates))


def each(gates: Sequence[Gate], verdict: Verdict, evaluation: Evaluation) -> tuple[GateVerdict, ...]:
    """The verdict, gate by gate."""
    if not gates:
        return ()
    return tuple(
        GateVerdict(gate.text, gate.metric, str(reason.outcome), _gate_value(gate, reason, evaluation), reason.text)
        for gate, reason in zip(gates, verdict.reasons, strict=True)
    )


def _gate_value(gate: Gate, reason: Reason, evaluation: Evaluation) -> float | None:
    """The value that a gate looked at."""
    measure = evaluation.metrics.get(gate.metric) if gate.by is None else None
    value = reason.numbers.get("value", measure.value if measure is not None else math.nan)
    return value if math.isfinite(value) else None


def _gate(gate: Gate, evaluation: Evaluation) -> Reason:
    if gate.champion:
        return _against_champion(gate, evaluation)
    if gate.by is not None:
        return _worst(gate, gate.by, evaluation)
    return _field(gate, evaluation) if gate.metric in FIELDS else _threshold(gate, evaluation)


def _field(gate: Gate, evaluation: Evaluation) -> Reason:
    value = float(getattr(evaluation, gate.metric))
    if not math.isfinite(value):
        return _undecided_reason("not_measured", f"{gate.metric} could not be measured")
    shown = f"{value:,.0f}" if gate.metric == "rows" else _number(value, gate.value)
    return _judge_value("field", gate, value, f"{gate.metric} {shown}", _rounds(gate, evaluation))


def asks_for_latency(gates: Sequence[Gate]) -> bool:
    return any(gate.metric in LATENCIES for gate in gates)


def hangs_on_latency(gates: Sequence[Gate], evaluation: Evaluation) -> bool:
    """Whether another measurement of latency may change the verdict: a gate on it fails, or its rounds lie on either side of it,
    and nothing else fails."""
    if any(r.outcome is Outcome.FAIL for r in judge([g for g in gates if g.metric not in LATENCIES], evaluation).reasons):
        return False
    asked = [gate for gate in gates if gate.metric in LATENCIES]
    failing = any(_gate(gate, evaluation).outcome is not Outcome.PASS for gate in asked)
    p99 = [gate.value for gate in asked if gate.metric == "latency_p99_ms"]
    return failing or any(min(evaluation.latency_rounds_ms) <= limit < max(evaluation.latency_rounds_ms) for limit in p99)


def _rounds(gate: Gate, evaluation: Evaluation) -> str:
    """``(the median of 5: 0.31 to 4.2)``."""
    rounds = evaluation.latency_rounds_ms
    if gate.metric != "latency_p99_ms" or not rounds:
        return ""
    return f"(the median of {len(rounds)}: {min(rounds):.3g} to {max(rounds):.3g})"


def _threshold(gate: Gate, evaluation: Evaluation) -> Reason:
    measure = evaluation.metrics.get(gate.metric)
    if measure is None or not math.isfinite(measure.value):
        return _unmeasured_reason(gate.metric, evaluation)
    lack = _lack(measure.n) or _lack(*_classes(measure, evaluation))
    if lack:
        return _undecided_reason("too_few", f"{gate.metric} is measured on {lack}", value=measure.value, n=measure.n)
    return _judge_measure("threshold", gate, measure, f"{gate.metric} {_number(measure.value, gate.value)}", "")


def _judge_measure(code: str, gate: Gate, measure: Measure, shown: str, more: str) -> Reason:
    """By the value, or by its bound where a confidence is asked for."""
    if not gate.bound:
        return _judge_value(code, gate, measure.value, shown, f"{_on(measure)}{more}")
    low, high = _bounds(measure.value, measure.low, measure.high, gate.confidence)
    holds, fails = (low >= gate.value, high < gate.value) if gate.at_least else (high <= gate.value, low > gate.value)
    outcome = Outcome.PASS if holds else Outcome.FAIL if fails else Outcome.NOT_ENOUGH_DATA
    doubt = "too uncertain to say: " if outcome is Outcome.NOT_ENOUGH_DATA else ""
    bounds = f"{percent(gate.confidence)} bounds {low:,.3f} to {high:,.3f}, {measure.n:,} rows"
    text = f"{shown} ({bounds}), {doubt}a bound {'>=' if gate.at_least else '<='} {gate.value:,g} is asked{more}"
    numbers = {"value": measure.value, "threshold": gate.value, "low": low, "high": high, "n": float(measure.n)}
    return Reason(f"gate.{code}", text, outcome, numbers)


def _unmeasured_reason(metric: str, evaluation: Evaluation) -> Reason:
    lack = _lack(evaluation.rows, evaluation.positives or None)
    if lack and 0 <= evaluation.positives < evaluation.rows:
        return _undecided_reason("too_few", f"{metric} could not be computed: {lack}", n=evaluation.rows)
    known = find_metric(metric)
    if known is not None and known.of_ranks:
        return _undecided_reason("not_measured", f"{metric} could not be computed: only one class", n=evaluation.rows)
    measured = f" (measured: {', '.join(sorted(evaluation.metrics))})" if evaluation.metrics else ""
    text = f"{metric} could not be computed on the holdout's {evaluation.rows:,} rows{measured}"
    return _undecided_reason("not_measured", text, n=evaluation.rows)


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
    left_out = _left_out_words([value for value in found if value not in judged])
    if not judged:
        classes = "" if evaluation.positives == 0 else f" and {EACH_CLASS} of each class"
        return _undecided_reason("too_few", f"worst {gate.metric} by {by}: no slice has {ROWS} rows{classes}{left_out}")
    where = (min if gate.at_least else max)(judged, key=lambda value: judged[value].value)
    worst = judged[where]
    shown = f"worst {gate.metric} by {by}: {_number(worst.value, gate.value)} at {where}"
    return _judge_measure("worst", gate, worst, shown, left_out)


def _left_out_words(values: list[str]) -> str:
    if not values:
        return ""
    more = f" and {len(values) - NAMED} more" if len(values) > NAMED else ""
    return f"; left out as too small: {', '.join(values[:NAMED])}{more}"


def _against_champion(gate: Gate, evaluation: Evaluation) -> Reason:
    name, found = (evaluation.champion, evaluation.versus)
    if gate.best and evaluation.best is not None:
        name, found = evaluation.best, evaluation.versus_best
    if name is None:
        return Reason("gate.no_champion", f"{gate.text}: no champion yet")
    if gate.by is not None:
        return _undecided_reason("no_comparison", f"{gate.text}: slices are not compared with the champion")
    versus = found.get(gate.metric)
    if versus is None or not math.isfinite(versus.difference):
        why = evaluation.champion_note or f"{gate.metric} was not measured on both"
        return _undecided_reason("no_comparison", f"{gate.text}: no comparison with {name}: {why}")
    lack = _lack(versus.n) or _lack(*_classes(evaluation.metrics.get(gate.metric), evaluation))
    if lack:
        return _undecided_reason("too_few", f"{gate.metric} is measured on {lack}", n=versus.n)
    whose = f"{name}'s, the best release so far," if gate.best and name != evaluation.champion else "the champion's"
    return _judge_paired(gate, versus, whose)


def _judge_paired(gate: Gate, versus: Comparison, whose: str) -> Reason:
    """Shown to be within the margin, shown to be outside, or neither."""
    versus = at_confidence(versus, gate.confidence)
    margin = gate.value * abs(versus.champion) if gate.relative else gate.value
    within = versus.low >= margin if gate.at_least else versus.high <= margin
    outside = versus.high < margin if gate.at_least else versus.low > margin
    outcome = Outcome.PASS if within else Outcome.FAIL if outside else Outcome.NOT_ENOUGH_DATA
    if gate.no_worse and outcome is Outcome.NOT_ENOUGH_DATA:
        outcome = Outcome.PASS
    bounds = f"{percent(gate.confidence)} bounds of the difference {versus.low:+,.3f} to {versus.high:+,.3f}, {_rows(versus)}"
    numbers = {"champion": versus.champion, "difference": versus.difference, "margin": margin}
    numbers |= {"low": versus.low, "high": versus.high, "n": float(versus.n)}
    demand = _no_worse_words(gate, margin, outcome) if gate.no_worse else _demand(gate, margin, versus, outcome)
    return Reason("gate.champion", f"{gate.metric} {_difference_words(versus, whose)} ({bounds}), {demand}", outcome, numbers)


def _no_worse_words(gate: Gate, margin: float, outcome: Outcome) -> str:
    by = f" by more than {abs(margin):.4g}{_percent(gate)}" if margin else ""
    return f"{'' if outcome is Outcome.FAIL else 'not '}shown to be worse{by}"


def _percent(gate: Gate) -> str:
    return f" ({percent(abs(gate.value))})" if gate.relative else ""


def _rows(versus: Comparison) -> str:
    """``400 rows, of which 3 differ``: rows that only one of both called rightly; or that few rows make the difference."""
    if versus.alike is not None:
        return f"{versus.n:,} rows, of which a few outweigh the rest (as {versus.alike:.1f} would that are alike)"
    if versus.differing is None:
        return f"{versus.n:,} rows"
    return f"{versus.n:,} rows, of which {versus.differing:,} differ{'s' if versus.differing == 1 else ''}"


def _difference_words(versus: Comparison, whose: str) -> str:
    if versus.difference == 0:
        return f"equals {whose} {versus.champion:,.3f}"
    side = "above" if versus.difference > 0 else "below"
    return f"is {abs(versus.difference):,.3f} {side} {whose} {versus.champion:,.3f}"


def _demand(gate: Gate, margin: float, versus: Comparison, outcome: Outcome) -> str:
    """What the gate lets happen, or asks for, said so that it fits the outcome."""
    worse, better = ("below", "above") if gate.at_least else ("above", "below")
    allowance = -margin if gate.at_least else margin
    share = _percent(gate)
    doubt = "too uncertain to say: " if outcome is Outcome.NOT_ENOUGH_DATA else ""
    if allowance < 0:
        return f"{doubt}at least {-allowance:.4g}{share} {better} is asked"
    if outcome is Outcome.FAIL:
        return f"more than {allowance:.4g}{share} allowed" if allowance else f"nothing {worse} is allowed"
    wide = ", which holds nothing back: it is as large as the value itself" if allowance >= abs(versus.champion) > 0 else ""
    return f"{doubt}{f'{allowance:.4g}{share}' if allowance else 'nothing'} {worse} is allowed{wide}"


def _judge_value(code: str, gate: Gate, value: float, shown: str, on: str) -> Reason:
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


def _undecided_reason(code: str, text: str, **numbers: float) -> Reason:
    return Reason(f"gate.{code}", text, Outcome.NOT_ENOUGH_DATA, {name: float(value) for name, value in numbers.items()})


def at_confidence(versus: Comparison, confidence: float) -> Comparison:
    """The comparison with its bounds, which were computed at 95 %, moved to another confidence."""
    low, high = _bounds(versus.difference, versus.low, versus.high, confidence)
    return replace(versus, low=low, high=high)


def _bounds(value: float, low: float, high: float, confidence: float) -> tuple[float, float]:
    """Bounds at another confidence than 95 %: exact for normal ones; of others each side is taken as normal."""
    factor = NormalDist().inv_cdf(confidence) / NormalDist().inv_cdf(0.95)
    return value + (low - value) * factor, value + (high - value) * factor
