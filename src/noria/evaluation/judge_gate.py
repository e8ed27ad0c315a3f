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
- A gate on the champion that lets something be lost (``champion - m``, ``no worse than champion``) is held against the best
  release so far, too, where that is another and no gate on ``best`` names the metric: ANCHORED times the margin may be lost to it
  in all, however many releases came between.
- ``worst(metric, by=column) >= x``: fails when a slice is shown to be below x; see ``judge_slices``.
- ``gap(metric, by=column) <= x``: fails when two slices are shown to differ by more than x; see ``judge_gap``.
- ``step.metric >= x``: the number that a step of the project wrote in this run. Where it wrote none, there is not enough data.

``<=`` mirrors each. Bounds are one-sided, at the gate's confidence (95 % unless told otherwise).

Of several gates that fail only what is shown (``no worse than``, ``worst`` and ``gap``), each is one more chance to refuse a good
model by mistake: they share the 5 % by Holm's correction. The others share nothing: a release must pass each of them, so that a
bad one passes all no more often than it passes the one that it should fail.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from msgspec.structs import replace

from noria.evaluation import judge_gap, judge_slices
from noria.evaluation.gate_words import (
    EACH_CLASS,
    ROWS,
    bounds_words,
    few_groups_reason,
    few_units_reason,
    has_few_groups,
    lack_words,
    move_bounds,
    number_words,
    rows_words,
    undecided_reason,
    units,
    worse_p_value,
)
from noria.evaluation.judge_sample_size import bounds_remedy, counts_remedy
from noria.kernel.policy import Gate
from noria.kernel.task_definition import BoundsKind
from noria.kernel.tasks import find_metric
from noria.kernel.verdict import GateVerdict, Outcome, Reason, Verdict, combine
from noria.kernel.words import percent, plural
from noria.releases.evidence import Evaluation
from noria.stats import holm
from noria.stats.measures import Comparison, Measure

ANCHORED = 2.0  # times the margin to the champion is allowed to the best release so far
FIELDS = ("latency_p50_ms", "latency_p99_ms", "model_size_mb", "rows")  # read from the evaluation itself: no bounds
LATENCIES = frozenset({"latency_p50_ms", "latency_p99_ms"})


def judge(gates: Sequence[Gate], evaluation: Evaluation) -> Verdict:
    """Every gate gives one reason, in the project's order."""
    if not gates:
        return combine((Reason("gate.none", "no gates are set"),))
    anchors = [_anchor(gate, gates, evaluation) for gate in gates]
    alphas = _alphas(gates, evaluation, anchors)
    each_gate = zip(gates, alphas, anchors, strict=True)
    return combine(tuple(_gate(gate, evaluation, alpha, anchor) for gate, alpha, anchor in each_gate))


def _alphas(gates: Sequence[Gate], evaluation: Evaluation, anchors: Sequence[Comparison | None]) -> list[float]:
    """How likely each gate may fail by mistake: its own level, or its part of it among gates that fail only what is shown."""
    found = [1 - gate.confidence for gate in gates]
    each_p = [_refusal_p_value(gate, evaluation, anchor) for gate, anchor in zip(gates, anchors, strict=True)]
    p_values = {at: p for at, p in enumerate(each_p) if p is not None}
    for at, level in zip(p_values, holm.levels(list(p_values.values()), [found[at] for at in p_values]), strict=True):
        found[at] = level
    return found


def _refusal_p_value(gate: Gate, evaluation: Evaluation, anchor: Comparison | None) -> float | None:
    """Of a gate that fails only what is shown: small says that it is. None for another, or one that cannot be judged."""
    if gate.by is not None and not gate.champion:
        if gate.bound:
            return None
        return judge_gap.gate_p_value(gate, evaluation) if gate.gap else judge_slices.gate_p_value(gate, evaluation)
    versus = _versus(gate, evaluation)[1] if gate.no_worse else None
    if versus is None or _reason_not_to_compare(gate, evaluation) is not None:
        return None
    p_value = worse_p_value(versus, _margin(gate, versus), gate.at_least)
    if anchor is None:
        return p_value
    wide = replace(gate, value=gate.value * ANCHORED)
    return min(1.0, 2 * min(p_value, worse_p_value(anchor, _margin(wide, anchor), gate.at_least)))


def each(gates: Sequence[Gate], verdict: Verdict, evaluation: Evaluation) -> tuple[GateVerdict, ...]:
    """The verdict, gate by gate."""
    if not gates:
        return ()
    return tuple(
        GateVerdict(gate.text, gate.metric, str(reason.outcome), _gate_value(gate, reason, evaluation), reason.text)
        for gate, reason in zip(gates, verdict.reasons, strict=False)  # a reason of the whole holdout may follow
    )


def _gate_value(gate: Gate, reason: Reason, evaluation: Evaluation) -> float | None:
    """The value that a gate looked at."""
    measure = evaluation.metrics.get(gate.metric) if gate.by is None else None
    value = reason.numbers.get("value", measure.value if measure is not None else math.nan)
    return value if math.isfinite(value) else None


def _gate(gate: Gate, evaluation: Evaluation, alpha: float = 0.05, anchor: Comparison | None = None) -> Reason:
    if gate.champion:
        return _against_champion(gate, evaluation, alpha, anchor)
    if gate.by is not None:
        judge_by = judge_gap.judge_gap if gate.gap else judge_slices.judge_worst
        return judge_by(gate, gate.by, evaluation, alpha)
    if "." in gate.metric:
        return _step_metric(gate, evaluation)
    return _field(gate, evaluation) if gate.metric in FIELDS else _threshold(gate, evaluation)


def _step_metric(gate: Gate, evaluation: Evaluation) -> Reason:
    """Of a number that a step of the project wrote."""
    value = evaluation.step_metrics.get(gate.metric)
    step, _, name = gate.metric.partition(".")
    if value is None:
        there = sorted(other.partition(".")[2] for other in evaluation.step_metrics if other.startswith(f"{step}."))
        wrote = f"it wrote {', '.join(there[:5])}" if there else "it wrote none"
        return undecided_reason("not_measured", f"the step {step} wrote no metric {name}: {wrote}")
    if not math.isfinite(value):
        return undecided_reason("not_measured", f"the step {step} wrote {value} as {name}, which is no number to compare")
    return _judge_value("step", gate, value, f"{gate.metric} {number_words(value, gate.value)}", "(a step's metric)")


def _field(gate: Gate, evaluation: Evaluation) -> Reason:
    value = float(getattr(evaluation, gate.metric))
    if not math.isfinite(value):
        return undecided_reason("not_measured", f"{gate.metric} could not be measured")
    shown = f"{value:,.0f}" if gate.metric == "rows" else number_words(value, gate.value)
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
    if (few := few_units_reason(gate, measure)) is not None:
        return few
    lack = lack_words(measure.n) or lack_words(*_classes(measure, evaluation))
    if lack:
        remedy = counts_remedy(*_classes(measure, evaluation), ROWS, EACH_CLASS)
        return undecided_reason("too_few", f"{gate.metric} is measured on {lack}", remedy, value=measure.value, n=measure.n)
    if has_few_groups(measure):
        return few_groups_reason(gate, measure)
    return _judge_measure("threshold", gate, measure, f"{gate.metric} {number_words(measure.value, gate.value)}", "")


def _judge_measure(code: str, gate: Gate, measure: Measure, shown: str, more: str) -> Reason:
    """By the value, or by its bound where a confidence is asked for."""
    if not gate.bound:
        return _judge_value(code, gate, measure.value, shown, f"{bounds_words(measure)}{more}")
    low, high = move_bounds(measure.value, measure.low, measure.high, gate.confidence, measure.freedom)
    holds, fails = (low >= gate.value, high < gate.value) if gate.at_least else (high <= gate.value, low > gate.value)
    outcome = Outcome.PASS if holds else Outcome.FAIL if fails else Outcome.NOT_ENOUGH_DATA
    doubt = "too uncertain to say: " if outcome is Outcome.NOT_ENOUGH_DATA else ""
    bounds = f"{percent(gate.confidence)} bounds {low:,.3f} to {high:,.3f}, {rows_words(measure)}"
    text = f"{shown} ({bounds}), {doubt}a bound {'>=' if gate.at_least else '<='} {gate.value:,g} is asked{more}"
    numbers = {"value": measure.value, "threshold": gate.value, "low": low, "high": high, "n": float(measure.n)}
    undecided = outcome is Outcome.NOT_ENOUGH_DATA
    remedy = bounds_remedy(measure.value, gate.value, low, high, *units(measure)) if undecided else ""
    return Reason(f"gate.{code}", text, outcome, numbers, remedy)


def _unmeasured_reason(metric: str, evaluation: Evaluation) -> Reason:
    known, why = find_metric(metric), evaluation.unmeasured.get(metric)
    if why is not None and (known is None or known.needs or not known.of_ranks):
        return undecided_reason("not_measured", f"{metric} could not be computed: {why}", n=evaluation.rows)
    lack = lack_words(evaluation.rows, evaluation.positives or None)
    if lack and 0 <= evaluation.positives < evaluation.rows:
        remedy = counts_remedy(evaluation.rows, evaluation.positives or None, ROWS, EACH_CLASS)
        return undecided_reason("too_few", f"{metric} could not be computed: {lack}", remedy, n=evaluation.rows)
    if known is not None and known.of_ranks:
        remedy = f"labelled rows of both classes, {EACH_CLASS} of each"
        return undecided_reason("not_measured", f"{metric} could not be computed: only one class", remedy, n=evaluation.rows)
    measured = f" (measured: {', '.join(sorted(evaluation.metrics))})" if evaluation.metrics else ""
    text = f"{metric} could not be computed on the holdout's {plural(evaluation.rows, 'row')}{measured}"
    return undecided_reason("not_measured", text, n=evaluation.rows)


def _classes(measure: Measure | None, evaluation: Evaluation) -> tuple[int, int | None]:
    """Rows and positives behind a metric; those of the whole holdout where the metric does not say."""
    if measure is not None and measure.positives is not None:
        return measure.n, measure.positives
    return evaluation.rows, evaluation.positives or None


def _versus(gate: Gate, evaluation: Evaluation) -> tuple[str | None, Comparison | None]:
    """The release that a gate compares with, and the comparison; None where there is none."""
    if gate.best and evaluation.best is not None:
        return evaluation.best, evaluation.versus_best.get(gate.metric)
    return evaluation.champion, evaluation.versus.get(gate.metric)


def _against_champion(gate: Gate, evaluation: Evaluation, alpha: float, anchor: Comparison | None) -> Reason:
    name, versus = _versus(gate, evaluation)
    if (reason := _reason_not_to_compare(gate, evaluation)) is not None:
        return reason
    assert versus is not None
    whose = _best_words(name) if gate.best and name != evaluation.champion else "the champion's"
    if anchor is None:
        return _judge_paired(gate, versus, whose, alpha)
    wide = replace(gate, value=gate.value * ANCHORED)
    return _join_anchor(
        _judge_paired(gate, versus, whose, alpha / 2), _judge_paired(wide, anchor, _best_words(evaluation.best), alpha / 2)
    )


def _best_words(name: str | None) -> str:
    return f"{name}'s, the best release so far,"


def _is_anchored(gate: Gate, gates: Sequence[Gate]) -> bool:
    """Whether steps that the gate allows, one after another, could add up, and no other gate says how far."""
    loses = gate.no_worse or (gate.value < 0 if gate.at_least else gate.value > 0)
    told = any(other.best and other.metric == gate.metric for other in gates)
    return gate.champion and not gate.best and gate.by is None and loses and not told


def best_metrics(gates: Sequence[Gate]) -> list[str]:
    """The metrics for which the best release so far is wanted; the first of them decides which that is."""
    return [gate.metric for gate in gates if gate.best] + [gate.metric for gate in gates if _is_anchored(gate, gates)]


def _anchor(gate: Gate, gates: Sequence[Gate], evaluation: Evaluation) -> Comparison | None:
    """The comparison with the best release so far, where it is another than the champion and can be judged."""
    if not _is_anchored(gate, gates) or evaluation.best is None or evaluation.best == evaluation.champion:
        return None
    found = evaluation.versus_best.get(gate.metric)
    if found is None or not math.isfinite(found.difference) or has_few_groups(found):
        return None
    return found


def _join_anchor(first: Reason, anchor: Reason) -> Reason:
    """One reason of both: the worse outcome decides, and stands first."""
    places = {Outcome.FAIL: 0, Outcome.NOT_ENOUGH_DATA: 1, Outcome.PASS: 2}
    worse, other = (anchor, first) if places[anchor.outcome] < places[first.outcome] else (first, anchor)
    numbers = first.numbers | {f"best_{name}": value for name, value in anchor.numbers.items()}
    return Reason(first.code, f"{worse.text}; {other.text}", worse.outcome, numbers, worse.remedy)


def _reason_not_to_compare(gate: Gate, evaluation: Evaluation) -> Reason | None:
    name, versus = _versus(gate, evaluation)
    if name is None:
        return Reason("gate.no_champion", f"{gate.text}: no champion yet")
    if gate.by is not None:
        return undecided_reason("no_comparison", f"{gate.text}: slices are not compared with the champion")
    if versus is None or not math.isfinite(versus.difference):
        why = evaluation.champion_note or evaluation.unmeasured.get(gate.metric) or f"{gate.metric} was not measured on both"
        return undecided_reason("no_comparison", f"{gate.text}: no comparison with {name}: {why}")
    if _is_nothing(gate, versus):
        return undecided_reason(
            "no_comparison", f"{gate.text}: {gate.metric} is 0 of the candidate and of {name}: none was right"
        )
    if (few := few_units_reason(gate, versus)) is not None:
        return few
    lack = lack_words(versus.n) or lack_words(*_classes(evaluation.metrics.get(gate.metric), evaluation))
    if lack:
        remedy = counts_remedy(*_classes(evaluation.metrics.get(gate.metric), evaluation), ROWS, EACH_CLASS)
        return undecided_reason("too_few", f"{gate.metric} is measured on {lack}", remedy, n=versus.n)
    return few_groups_reason(gate, versus) if has_few_groups(versus) else None


def _is_nothing(gate: Gate, versus: Comparison) -> bool:
    """Whether both have the least that the metric can be, such as a recall of 0: then nothing was compared. An r2 may be less."""
    known = find_metric(gate.metric)
    least = known is not None and known.greater_is_better and known.bounds is not BoundsKind.ERRORS
    return least and versus.champion == 0 and versus.difference == 0


def _margin(gate: Gate, versus: Comparison) -> float:
    return gate.value * abs(versus.champion) if gate.relative else gate.value


def _judge_paired(gate: Gate, versus: Comparison, whose: str, alpha: float) -> Reason:
    """Shown to be within the margin, shown to be outside, or neither."""
    shared = gate.no_worse and alpha < 1 - gate.confidence
    confidence = 1 - alpha if shared else gate.confidence
    versus, margin = at_confidence(versus, confidence), _margin(gate, versus)
    within = versus.low >= margin if gate.at_least else versus.high <= margin
    outside = versus.high < margin if gate.at_least else versus.low > margin
    outcome = Outcome.PASS if within else Outcome.FAIL if outside else Outcome.NOT_ENOUGH_DATA
    if gate.no_worse and outcome is Outcome.NOT_ENOUGH_DATA:
        outcome = Outcome.PASS
    bounds = f"{percent(confidence)} bounds of the difference {versus.low:+,.3f} to {versus.high:+,.3f}, {_rows(versus)}"
    numbers = {"champion": versus.champion, "difference": versus.difference, "margin": margin}
    numbers |= {"low": versus.low, "high": versus.high, "n": float(versus.n)}
    demand = _no_worse_words(gate, margin, outcome) if gate.no_worse else _demand(gate, margin, versus, outcome)
    demand += " (Holm's correction for several such tests)" if shared else ""
    text = f"{gate.metric} {_difference_words(versus, whose)} ({bounds}), {demand}"
    undecided = outcome is Outcome.NOT_ENOUGH_DATA
    remedy = bounds_remedy(versus.difference, margin, versus.low, versus.high, *units(versus)) if undecided else ""
    return Reason("gate.champion", text, outcome, numbers, remedy)


def _no_worse_words(gate: Gate, margin: float, outcome: Outcome) -> str:
    by = f" by more than {abs(margin):.4g}{_percent(gate)}" if margin else ""
    return f"{'' if outcome is Outcome.FAIL else 'not '}shown to be worse{by}"


def _percent(gate: Gate) -> str:
    return f" ({percent(abs(gate.value))})" if gate.relative else ""


def _rows(versus: Comparison) -> str:
    """``400 rows, of which 3 differ``: rows that only one of both called rightly; or that few rows make the difference."""
    rows = rows_words(versus)
    if versus.alike is not None:
        return f"{rows}, of which a few outweigh the rest (as {versus.alike:.1f} would that are alike)"
    if versus.differing is None:
        return rows
    return f"{rows}, of which {versus.differing:,} differ{'s' if versus.differing == 1 else ''}"


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


def at_confidence(versus: Comparison, confidence: float) -> Comparison:
    """The comparison with its bounds, which were computed at 95 %, moved to another confidence."""
    low, high = move_bounds(versus.difference, versus.low, versus.high, confidence, versus.freedom)
    return replace(versus, low=low, high=high)
