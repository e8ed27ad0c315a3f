"""Gates: fixed thresholds, the champion, the worst slice, and evidence that is too thin."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from noria.evaluation import judge_gate as judge
from noria.kernel.policy import Gate
from noria.kernel.verdict import Outcome
from noria.releases.evidence import Evaluation
from noria.stats.measures import Comparison, Measure

PASS, FAIL, THIN = Outcome.PASS, Outcome.FAIL, Outcome.NOT_ENOUGH_DATA


def slice_of(value: float, n: int, positives: int | None = None) -> dict[str, Measure]:
    return {"roc_auc": Measure(value, value - 0.02, value + 0.02, n, positives)}


EVALUATION = Evaluation(
    rows=12_008,
    positives=2_900,
    metrics={"roc_auc": Measure(0.704, 0.695, 0.713, 12_008), "brier": Measure(0.1796, 0.17, 0.19, 12_008)},
    slices={"origin": {"JFK": slice_of(0.71, 5_000), "LGA": slice_of(0.66, 3_900), "EWR": slice_of(0.30, 49), "SWF": {}}},
    latency_p50_ms=0.4,
    latency_p99_ms=12.25,
    model_size_mb=3.5,
)


def versus(difference: float, low: float, high: float, metric: str = "roc_auc", champion: float = 0.756) -> Evaluation:
    return replace(EVALUATION, champion="v11", versus={metric: Comparison(champion, difference, low, high, 12_008)})


def at_least(metric: str, value: float, **more: object) -> Gate:
    return Gate(f"{metric} >= {value}", metric, True, value, **more)


def at_most(metric: str, value: float, **more: object) -> Gate:
    return Gate(f"{metric} <= {value}", metric, False, value, **more)


BEAT = at_least("roc_auc", -0.01, champion=True)
NO_WORSE = at_least("roc_auc", 0.0, champion=True, no_worse=True)
BOUNDS = "95 % bounds 0.695 to 0.713, 12,008 rows"
CASES = [
    (at_least("roc_auc", 0.58), EVALUATION, PASS, f"roc_auc 0.704 >= 0.58 ({BOUNDS})"),
    (at_least("roc_auc", 0.704), EVALUATION, PASS, f"roc_auc 0.704 >= 0.704 ({BOUNDS})"),
    (at_least("roc_auc", 0.75), EVALUATION, FAIL, f"roc_auc 0.704 < 0.75 ({BOUNDS})"),
    # rounding must not make 0.1796 look like the 0.18 that it fails
    (at_least("brier", 0.18), EVALUATION, FAIL, "brier 0.1796 < 0.18 (95 % bounds 0.170 to 0.190, 12,008 rows)"),
    (at_most("brier", 0.18), EVALUATION, PASS, "brier 0.1796 <= 0.18 (95 % bounds 0.170 to 0.190, 12,008 rows)"),
    (at_most("latency_p99_ms", 10), EVALUATION, FAIL, "latency_p99_ms 12.250 > 10"),
    (at_most("latency_p50_ms", 10), EVALUATION, PASS, "latency_p50_ms 0.400 <= 10"),
    (at_most("model_size_mb", 3), EVALUATION, FAIL, "model_size_mb 3.500 > 3"),
    (at_least("rows", 12_008), EVALUATION, PASS, "rows 12,008 >= 12,008"),
    (at_least("rows", 1_000), replace(EVALUATION, rows=20), FAIL, "rows 20 < 1,000"),
    (at_least("f1", 0.5), EVALUATION, THIN, "f1 could not be computed on the holdout's 12,008 rows (measured: brier, roc_auc)"),
    (at_least("roc_auc", 0.5), replace(EVALUATION, metrics={}, positives=0), THIN,
     "roc_auc could not be computed: only one class"),
    (at_least("roc_auc", 0.5), replace(EVALUATION, metrics={}, positives=12_008), THIN,
     "roc_auc could not be computed: only one class"),
    (at_least("roc_auc", 0.5), replace(EVALUATION, metrics=slice_of(0.9, 49)), THIN,
     "roc_auc is measured on 49 rows; a gate needs 50"),
    (at_least("roc_auc", 0.5), replace(EVALUATION, metrics=slice_of(0.9, 50)), PASS,
     "roc_auc 0.900 >= 0.5 (95 % bounds 0.880 to 0.920, 50 rows)"),
    (at_least("roc_auc", 0.5), replace(EVALUATION, positives=9), THIN,
     "roc_auc is measured on 9 positive and 11,999 negative rows; a gate needs 10 of each"),
    (at_least("roc_auc", 0.5), replace(EVALUATION, metrics=slice_of(0.9, 500, 9)), THIN,
     "roc_auc is measured on 9 positive and 491 negative rows; a gate needs 10 of each"),
    (at_least("roc_auc", 0.5), replace(EVALUATION, positives=0, metrics=slice_of(0.9, 500, 0)), THIN,
     "roc_auc is measured on 0 positive and 500 negative rows; a gate needs 10 of each"),
    (at_least("roc_auc", 0.5, by="origin"),
     replace(EVALUATION, slices={"origin": {"A": slice_of(0.2, 90, 9), "B": slice_of(0.9, 90, 10)}}), PASS,
     "worst roc_auc by origin: 0.900 at B >= 0.5 (95 % bounds 0.880 to 0.920, 90 rows); left out as too small: A"),
    (at_least("roc_auc", 0.5), replace(EVALUATION, positives=12_000), THIN,
     "roc_auc is measured on 12,000 positive and 8 negative rows; a gate needs 10 of each"),
    (at_least("roc_auc", 0.5), replace(EVALUATION, metrics=slice_of(float("nan"), 500)), THIN,
     "roc_auc could not be computed: only one class"),
    # the champion
    (BEAT, EVALUATION, PASS, "roc_auc >= -0.01: no champion yet"),
    (BEAT, versus(-0.041, -0.052, -0.030), FAIL,
     "roc_auc is 0.041 below the champion's 0.756 (95 % bounds of the difference -0.052 to -0.030, 12,008 rows), "
     "more than 0.01 allowed"),
    (BEAT, versus(0.012, -0.002, 0.026), PASS,
     "roc_auc is 0.012 above the champion's 0.756 (95 % bounds of the difference -0.002 to +0.026, 12,008 rows), "
     "0.01 below is allowed"),
    (BEAT, versus(-0.005, -0.01, 0.0), PASS,
     "roc_auc is 0.005 below the champion's 0.756 (95 % bounds of the difference -0.010 to +0.000, 12,008 rows), "
     "0.01 below is allowed"),
    (BEAT, versus(-0.012, -0.03, -0.01), THIN,
     "roc_auc is 0.012 below the champion's 0.756 (95 % bounds of the difference -0.030 to -0.010, 12,008 rows), "
     "too uncertain to say: 0.01 below is allowed"),
    (BEAT, versus(0.0, -0.02, 0.02), THIN,
     "roc_auc equals the champion's 0.756 (95 % bounds of the difference -0.020 to +0.020, 12,008 rows), "
     "too uncertain to say: 0.01 below is allowed"),
    (at_least("roc_auc", 0.01, champion=True), versus(0.005, -0.002, 0.008), FAIL,
     "roc_auc is 0.005 above the champion's 0.756 (95 % bounds of the difference -0.002 to +0.008, 12,008 rows), "
     "at least 0.01 above is asked"),
    (at_most("brier", 0.002, champion=True), versus(0.01, 0.005, 0.015, "brier", 0.17), FAIL,
     "brier is 0.010 above the champion's 0.170 (95 % bounds of the difference +0.005 to +0.015, 12,008 rows), "
     "more than 0.002 allowed"),
    (at_most("brier", 0.002, champion=True), versus(-0.01, -0.015, -0.005, "brier", 0.17), PASS,
     "brier is 0.010 below the champion's 0.170 (95 % bounds of the difference -0.015 to -0.005, 12,008 rows), "
     "0.002 above is allowed"),
    (BEAT, replace(EVALUATION, champion="v11", champion_note="v11 knows no column wind"), THIN,
     "roc_auc >= -0.01: no comparison with v11: v11 knows no column wind"),
    (BEAT, versus(0.0, 0.0, 0.0, "brier"), THIN, "roc_auc >= -0.01: no comparison with v11: roc_auc was not measured on both"),
    (BEAT, replace(versus(0.2, 0.1, 0.3), positives=3), THIN,
     "roc_auc is measured on 3 positive and 12,005 negative rows; a gate needs 10 of each"),
    # a bound, where a confidence is asked for (number 30)
    (at_least("roc_auc", 0.69, bound=True), EVALUATION, PASS,
     "roc_auc 0.704 (95 % bounds 0.695 to 0.713, 12,008 rows), a bound >= 0.69 is asked"),
    (at_least("roc_auc", 0.70, bound=True), EVALUATION, THIN,
     "roc_auc 0.704 (95 % bounds 0.695 to 0.713, 12,008 rows), too uncertain to say: a bound >= 0.7 is asked"),
    (at_least("roc_auc", 0.72, bound=True), EVALUATION, FAIL,
     "roc_auc 0.704 (95 % bounds 0.695 to 0.713, 12,008 rows), a bound >= 0.72 is asked"),
    (at_most("brier", 0.2, bound=True), EVALUATION, PASS,
     "brier 0.180 (95 % bounds 0.170 to 0.190, 12,008 rows), a bound <= 0.2 is asked"),
    # shown to be worse, and nothing else (number 30)
    (NO_WORSE, versus(-0.007, -0.012, -0.002), FAIL,
     "roc_auc is 0.007 below the champion's 0.756 (95 % bounds of the difference -0.012 to -0.002, 12,008 rows), "
     "shown to be worse"),
    (NO_WORSE, versus(-0.007, -0.02, 0.006), PASS,
     "roc_auc is 0.007 below the champion's 0.756 (95 % bounds of the difference -0.020 to +0.006, 12,008 rows), "
     "not shown to be worse"),
    (replace(NO_WORSE, value=-0.01), versus(-0.007, -0.012, -0.002), PASS,
     "roc_auc is 0.007 below the champion's 0.756 (95 % bounds of the difference -0.012 to -0.002, 12,008 rows), "
     "not shown to be worse by more than 0.01"),
    (at_most("brier", 0.02, champion=True, relative=True, no_worse=True), versus(0.01, 0.005, 0.015, "brier", 0.17), FAIL,
     "brier is 0.010 above the champion's 0.170 (95 % bounds of the difference +0.005 to +0.015, 12,008 rows), "
     "shown to be worse by more than 0.0034 (2 %)"),
    (NO_WORSE, EVALUATION, PASS, "roc_auc >= 0.0: no champion yet"),
    # the best release so far (number 30)
    (replace(BEAT, best=True), replace(versus(-0.005, -0.008, -0.002), best="v7", versus_best=versus(-0.03, -0.04, -0.02).versus),
     FAIL, "roc_auc is 0.030 below v7's, the best release so far, 0.756 (95 % bounds of the difference -0.040 to -0.020, "
     "12,008 rows), more than 0.01 allowed"),
    (replace(BEAT, best=True), versus(-0.005, -0.008, -0.002), PASS,
     "roc_auc is 0.005 below the champion's 0.756 (95 % bounds of the difference -0.008 to -0.002, 12,008 rows), "
     "0.01 below is allowed"),
    # a margin that is a share of the champion's value, and one that is none (number 30)
    (at_most("brier", 0.05, champion=True, relative=True), versus(0.002, -0.001, 0.005, "brier", 0.17), PASS,
     "brier is 0.002 above the champion's 0.170 (95 % bounds of the difference -0.001 to +0.005, 12,008 rows), "
     "0.0085 (5 %) above is allowed"),
    (at_most("brier", 0.05, champion=True, relative=True), versus(0.01, 0.009, 0.012, "brier", 0.17), FAIL,
     "brier is 0.010 above the champion's 0.170 (95 % bounds of the difference +0.009 to +0.012, 12,008 rows), "
     "more than 0.0085 (5 %) allowed"),
    (at_most("brier", 0.2, champion=True), versus(0.1, 0.09, 0.11, "brier", 0.17), PASS,
     "brier is 0.100 above the champion's 0.170 (95 % bounds of the difference +0.090 to +0.110, 12,008 rows), "
     "0.2 above is allowed, which holds nothing back: it is as large as the value itself"),
    # slices
    (at_least("roc_auc", 0.65, by="origin"), EVALUATION, PASS,
     "worst roc_auc by origin: 0.660 at LGA >= 0.65 (95 % bounds 0.640 to 0.680, 3,900 rows); left out as too small: EWR, SWF"),
    (at_least("roc_auc", 0.7, by="origin"), EVALUATION, FAIL,
     "worst roc_auc by origin: 0.660 at LGA < 0.7 (95 % bounds 0.640 to 0.680, 3,900 rows), shown to be below with Holm's "
     "correction for 2 slices; left out as too small: EWR, SWF"),
    (at_most("roc_auc", 0.7, by="origin"), EVALUATION, PASS,
     "worst roc_auc by origin: 0.710 at JFK > 0.7 (95 % bounds 0.690 to 0.730, 5,000 rows), not shown to be above with Holm's "
     "correction for 2 slices; left out as too small: EWR, SWF"),
    (at_most("roc_auc", 0.64, by="origin"), EVALUATION, FAIL,
     "worst roc_auc by origin: 0.710 at JFK > 0.64 (95 % bounds 0.690 to 0.730, 5,000 rows), shown to be above with Holm's "
     "correction for 2 slices; left out as too small: EWR, SWF"),
    (at_most("roc_auc", 0.6, by="origin"), EVALUATION, FAIL,
     "worst roc_auc by origin: 0.710 at JFK > 0.6 (95 % bounds 0.690 to 0.730, 5,000 rows), shown to be above with Holm's "
     "correction for 2 slices, and so is LGA; left out as too small: EWR, SWF"),
    (at_least("roc_auc", 0.65, by="origin"),
     replace(EVALUATION, slices={"origin": {"JFK": slice_of(0.7, 900), "EWR": slice_of(0.3, 30), "(other)": slice_of(0.6, 80)}}),
     FAIL,
     "worst roc_auc by origin: 0.600 at (other) < 0.65 (95 % bounds 0.580 to 0.620, 80 rows), shown to be below with Holm's "
     "correction for 2 slices; (other) are those that are too small: EWR"),
    # each slice shown to reach it
    (at_least("roc_auc", 0.63, by="origin", bound=True), EVALUATION, PASS,
     "worst roc_auc by origin: 0.660 at LGA (95 % bounds 0.640 to 0.680, 3,900 rows), of each slice a bound >= 0.63 is asked; "
     "left out as too small: EWR, SWF"),
    (at_least("roc_auc", 0.65, by="origin", bound=True), EVALUATION, THIN,
     "worst roc_auc by origin: 0.660 at LGA (95 % bounds 0.640 to 0.680, 3,900 rows), too uncertain to say: of each slice "
     "a bound >= 0.65 is asked; left out as too small: EWR, SWF"),
    (at_least("roc_auc", 0.5, by="carrier"), EVALUATION, THIN,
     "worst roc_auc by carrier: no slice has 50 rows and 10 of each class"),
    (at_least("roc_auc", 0.5, by="origin"), replace(EVALUATION, slices={"origin": {f"O{i}": slice_of(0.9, 3) for i in range(7)}}),
     THIN,
     "worst roc_auc by origin: no slice has 50 rows and 10 of each class; left out as too small: O0, O1, O2, O3, O4 and 2 more"),
]  # fmt: skip


@pytest.mark.parametrize(("gate", "evaluation", "outcome", "text"), CASES, ids=[f"{i}: {c[3][:60]}" for i, c in enumerate(CASES)])
def test_gate(gate: Gate, evaluation: Evaluation, outcome: Outcome, text: str) -> None:
    verdict = judge.judge((gate,), evaluation)
    assert [(r.outcome, r.text) for r in verdict.reasons] == [(outcome, text)]
    assert verdict.outcome is outcome


def test_every_gate_is_heard_and_a_failure_outweighs_doubt() -> None:
    gates = (at_least("roc_auc", 0.58), at_least("f1", 0.5), at_most("brier", 0.1))
    verdict = judge.judge(gates, EVALUATION)
    assert [r.outcome for r in verdict.reasons] == [PASS, THIN, FAIL]
    assert verdict.sentence() == "brier 0.180 > 0.1 (95 % bounds 0.170 to 0.190, 12,008 rows)"


def test_no_gates_pass() -> None:
    assert judge.judge((), EVALUATION).sentence() == "no gates are set"


@given(st.floats(-5, 5), st.floats(-5, 5), st.booleans())
def test_the_printed_comparison_is_true_of_the_printed_numbers(value: float, threshold: float, least: bool) -> None:
    evaluation = replace(EVALUATION, metrics={"m": Measure(value, value, value, 100)})
    threshold = round(threshold, 3)
    reason = judge.judge((Gate("", "m", least, threshold),), evaluation).reasons[0]
    _, shown, sign, limit = reason.text.split()[:4]
    holds = {
        ">=": float(shown) >= float(limit),
        "<=": float(shown) <= float(limit),
        "<": float(shown) < float(limit),
        ">": float(shown) > float(limit),
    }
    assert holds[sign]
    assert (reason.outcome is PASS) == (value >= threshold if least else value <= threshold)


@given(st.floats(-0.1, 0.1), st.floats(0, 0.1), st.floats(-0.05, 0.05))
def test_at_most_mirrors_at_least(difference: float, half: float, margin: float) -> None:
    higher = judge.judge((at_least("roc_auc", margin, champion=True),), versus(difference, difference - half, difference + half))
    lower = judge.judge(
        (at_most("roc_auc", -margin, champion=True),), versus(-difference, -difference - half, -difference + half)
    )
    assert higher.outcome is lower.outcome
