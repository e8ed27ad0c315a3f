"""``gap(metric, by=column) <= x``: differences between slices, judged with stated error rates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from scipy.stats import binomtest

from noria.config import parse_gate
from noria.evaluation import judge_gap, judge_gate
from noria.evaluation.judge_shortfall import shortfall_words
from noria.kernel.errors import ConfigError
from noria.kernel.task import Task
from noria.kernel.verdict import Outcome, Reason
from noria.releases.evidence import Evaluation
from noria.stats import intervals
from noria.stats.measures import Measure

RUNS, MOST = 400, 39  # of RUNS at 5 % more than MOST happens once in 10,000
GATE = "gap(accuracy, by=sex) <= 0.05"


def evaluated(**slices: Measure) -> Evaluation:
    return Evaluation(2000, 1000, {}, slices={"sex": {name: {"accuracy": found} for name, found in slices.items()}})


def drawn(rng: np.random.Generator, shares: Sequence[float], rows: int) -> Evaluation:
    """Slices of which a model calls such shares of rows rightly."""
    found = {}
    for at, share in enumerate(shares):
        y = np.tile([0.0, 1.0], rows // 2)
        calls = np.where(rng.random(rows) < share, y, 1 - y)
        found[f"s{at}"] = intervals.measure("accuracy", Task.BINARY, y, calls)
    return evaluated(**found)


def outcomes(shares: Sequence[float], gate: str, seed: int, rows: int = 600) -> list[Outcome]:
    gates = [parse_gate(gate)]
    return [judge_gate.judge(gates, drawn(np.random.default_rng([seed, run]), shares, rows)).outcome for run in range(RUNS)]


def only(evaluation: Evaluation, gate: str = GATE) -> Reason:
    (reason,) = judge_gate.judge([parse_gate(gate)], evaluation).reasons
    return reason


@pytest.mark.parametrize(
    ("first", "second", "low", "high"),
    [  # Newcombe, Statistics in Medicine 1998, 17: 873-890, table II, method 10
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((6, 7), (2, 7), 0.0582, 0.8062),
        ((10, 10), (0, 20), 0.6791, 1.0),
    ],
)
def test_bounds_of_a_difference_are_those_of_the_published_table(
    first: tuple[int, int], second: tuple[int, int], low: float, high: float
) -> None:
    """The table is of Wilson's bounds, with 2.5 % on either side."""
    measures = []
    for right, rows in (first, second):
        bounds = binomtest(right, rows).proportion_ci(0.95, method="wilson")
        measures.append(Measure(right / rows, bounds.low, bounds.high, rows))
    apart = judge_gap._apart(*measures)
    assert (apart.low, apart.high) == (pytest.approx(low, abs=6e-5), pytest.approx(high, abs=6e-5))


def test_slices_that_differ_by_just_so_much_seldom_fail() -> None:
    assert outcomes([0.80, 0.85], GATE, 1).count(Outcome.FAIL) <= MOST
    assert outcomes([0.80, 0.85, 0.82, 0.84, 0.80, 0.85], GATE, 2).count(Outcome.FAIL) <= MOST
    assert outcomes([0.80] * 5, "gap(accuracy, by=sex) <= 0", 3).count(Outcome.FAIL) <= MOST


def test_slices_that_differ_far_more_fail() -> None:
    assert outcomes([0.80, 0.95, 0.80], GATE, 4).count(Outcome.FAIL) > 0.95 * RUNS


def test_what_must_be_shown_to_be_within_lets_little_pass_that_is_not() -> None:
    proof = f"{GATE} at 95%"
    assert outcomes([0.90, 0.95], proof, 5).count(Outcome.PASS) <= MOST
    equal = outcomes([0.95, 0.95], proof, 6, rows=2000)
    assert equal.count(Outcome.PASS) > 0.95 * RUNS
    assert outcomes([0.80, 0.80], proof, 7, rows=100).count(Outcome.NOT_ENOUGH_DATA) > 0.8 * RUNS


def test_the_sentence_names_both_slices_and_what_is_missing() -> None:
    wide = evaluated(f=Measure(0.69, 0.66, 0.72, 600, 300), m=Measure(0.61, 0.58, 0.64, 500, 250))
    reason = only(wide)
    assert reason.text == (
        "gap of accuracy by sex: 0.080 between f (0.690) and m (0.610) > 0.05 "
        "(95 % bounds 0.038 to 0.122, 500 rows of the smaller), not shown to be above"
    )
    assert (reason.code, reason.outcome) == ("gate.gap", Outcome.PASS)
    doubted = only(wide, f"{GATE} at 95%")
    assert doubted.outcome is Outcome.NOT_ENOUGH_DATA
    assert "too uncertain to say" in doubted.text
    failed = only(evaluated(f=Measure(0.9, 0.88, 0.92, 600, 300), m=Measure(0.6, 0.58, 0.62, 500, 250)))
    assert failed.outcome is Outcome.FAIL
    assert failed.text.endswith("shown to be above")
    assert shortfall_words(parse_gate(GATE), failed.numbers) == "slices of sex whose accuracy differs by 0.25 less"


def test_three_slices_are_three_pairs_and_the_widest_is_told() -> None:
    found = {name: Measure(value, value - 0.02, value + 0.02, 600, 300) for name, value in {"a": 0.9, "b": 0.7, "c": 0.6}.items()}
    reason = only(evaluated(**found))
    assert "0.300 between a (0.900) and c (0.600)" in reason.text
    assert reason.text.endswith("shown to be above with Holm's correction for 3 pairs, and so are a and b, b and c")
    assert reason.numbers["pairs"] == 3


def test_slices_of_three_rows_are_left_out_and_one_slice_is_not_enough() -> None:
    small = evaluated(f=Measure(0.9, 0.88, 0.92, 600, 300), m=Measure(0.33, 0.0, 0.9, 3, 1))
    reason = only(small)
    assert reason.outcome is Outcome.NOT_ENOUGH_DATA
    assert (
        reason.text == "gap of accuracy by sex: fewer than two slices have 50 rows and 10 of each class; left out as too small: m"
    )
    assert reason.remedy == "labelled rows: 50 of each of two slices and 10 of each class"
    assert only(Evaluation(2000, 1000, {})).outcome is Outcome.NOT_ENOUGH_DATA


def test_rows_in_groups_keep_their_wider_quantile() -> None:
    few = {"groups": 6, "unit": "day", "widened": 2.0, "freedom": 5.0}
    rows = evaluated(f=Measure(0.90, 0.88, 0.92, 600, 300), m=Measure(0.81, 0.79, 0.83, 600, 300))
    days = evaluated(f=Measure(0.90, 0.88, 0.92, 600, 300, **few), m=Measure(0.81, 0.79, 0.83, 600, 300, **few))
    gate = parse_gate("gap(accuracy, by=sex) <= 0.05")
    by_rows, by_days = judge_gap.gate_p_value(gate, rows), judge_gap.gate_p_value(gate, days)
    assert by_rows is not None
    assert by_days is not None
    assert by_days > by_rows
    assert "6 days" in only(days).text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("gap(accuracy, by=sex) >= 0.05", "at most a number"),
        ("gap(accuracy, by=sex) <= -0.05", "never below 0"),
        ("gap(accuracy, by=sex) <= champion", "compared with a number"),
        ("gap(accuracy, by=) <= 0.1", "takes a metric of quality and a column"),
        ("gap(latency_p99_ms, by=sex) <= 1", "takes a metric of quality and a column"),
        ("gap(acuracy, by=sex) <= 0.1", "no metric 'acuracy'"),
        ("gap(accuracy) <= 0.1", "is not a gate"),
    ],
)
def test_what_is_no_gate_is_said(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_gate(text)


def test_a_gate_on_a_gap_shares_its_level_with_others_that_fail_only_what_is_shown() -> None:
    gates = [parse_gate(GATE), parse_gate("worst(accuracy, by=sex) >= 0.8")]
    failed = sum(
        judge_gate.judge(gates, drawn(np.random.default_rng([8, run]), [0.80, 0.85], 600)).outcome is Outcome.FAIL
        for run in range(RUNS)
    )
    assert failed <= MOST
