"""How often a good model is refused by gates that fail only what is shown: many slices, many metrics."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
import pytest

from noria.config import parse_gate
from noria.evaluation import judge_gate as judge
from noria.evaluation import measure
from noria.evaluation.scores import Scores
from noria.kernel.task import Task
from noria.kernel.verdict import Outcome
from noria.releases.evidence import Evaluation
from noria.stats import intervals
from noria.stats.measures import Comparison
from noria.stats.requested import MetricFacts

RUNS, MOST = 400, 39  # of RUNS at 5 % more than MOST happens once in 10,000


def sliced(rng: np.random.Generator, shares: Sequence[float], rows: int = 200) -> Evaluation:
    """Slices of which a model calls such shares of rows rightly."""
    found = {}
    for at, share in enumerate(shares):
        y = np.tile([0.0, 1.0], rows // 2)
        calls = np.where(rng.random(rows) < share, y, 1 - y)
        found[f"s{at}"] = {"accuracy": intervals.measure("accuracy", Task.BINARY, y, calls)}
    return Evaluation(2000, 1000, {}, slices={"shop": found})


def failed(shares: Sequence[float], gate: str, seed: int) -> int:
    gates = [parse_gate(gate)]
    return sum(
        judge.judge(gates, sliced(np.random.default_rng([seed, run]), shares)).outcome is Outcome.FAIL for run in range(RUNS)
    )


def test_slices_that_just_reach_the_threshold_seldom_fail() -> None:
    """By its values alone such a model failed nearly always: one of ten slices lies below by chance."""
    assert failed([0.8] * 10, "worst(accuracy, by=shop) >= 0.8", 1) <= MOST
    assert failed([0.83] * 10, "worst(accuracy, by=shop) >= 0.8", 2) <= 4


def test_a_slice_far_below_fails() -> None:
    assert failed([0.83] * 9 + [0.65], "worst(accuracy, by=shop) >= 0.8", 3) > 0.95 * RUNS


def test_each_slice_shown_to_reach_it_lets_no_bad_slice_pass() -> None:
    gates = [parse_gate("worst(accuracy, by=shop) >= 0.8 at 95%")]
    passed = sum(
        judge.judge(gates, sliced(np.random.default_rng([4, run]), [0.97] * 9 + [0.8])).outcome is Outcome.PASS
        for run in range(RUNS)
    )
    assert passed <= MOST


METRICS = ("roc_auc", "brier", "log_loss", "accuracy", "average_precision")


def beside(differences: Sequence[float]) -> Evaluation:
    """Each metric by so many standard errors better (negative: worse) than the champion's."""
    signs = [1 if name in ("roc_auc", "accuracy", "average_precision") else -1 for name in METRICS]
    reach = 1.6449 * 0.01
    versus = {
        name: Comparison(0.7, sign * each * 0.01, sign * each * 0.01 - reach, sign * each * 0.01 + reach, 5000)
        for name, sign, each in zip(METRICS, signs, differences, strict=True)
    }
    return Evaluation(5000, 2000, {}, versus, champion="v1")


NO_WORSE = [parse_gate(f"{name} no worse than champion") for name in METRICS]


def test_gates_on_several_metrics_seldom_refuse_what_is_as_good() -> None:
    rng = np.random.default_rng(5)
    refused = sum(judge.judge(NO_WORSE, beside(rng.normal(size=5))).outcome is Outcome.FAIL for _ in range(RUNS))
    assert refused <= MOST


def test_one_gate_is_not_corrected_and_the_sentence_says_where_one_is() -> None:
    worse = beside([-1.8, 0.0, 0.0, 0.0, 0.0])
    (alone,) = judge.judge(NO_WORSE[:1], worse).reasons
    assert alone.outcome is Outcome.FAIL
    assert "95 % bounds" in alone.text
    together = judge.judge(NO_WORSE, worse)
    assert together.outcome is Outcome.PASS
    assert "99 % bounds" in together.reasons[0].text
    assert together.reasons[0].text.endswith("not shown to be worse (Holm's correction for several such tests)")
    assert judge.judge(NO_WORSE, beside([-2.6, 0.0, 0.0, 0.0, 0.0])).outcome is Outcome.FAIL


def test_gates_that_ask_for_a_proof_are_not_corrected() -> None:
    """A release must pass each of them: a second gate makes nothing pass that one alone would stop."""
    gates = [
        parse_gate(text) for text in ("roc_auc >= champion - 0.02", "brier <= champion + 0.02", "accuracy >= champion - 0.02")
    ]
    evaluation = beside([0.0, 0.0, 0.0, 0.0, 0.0])
    assert [reason.outcome for reason in judge.judge(gates, evaluation).reasons] == [Outcome.PASS] * 3
    for gate in gates:
        (alone,) = judge.judge([gate], evaluation).reasons
        assert alone in judge.judge(gates, evaluation).reasons


@pytest.mark.parametrize("share", [0.8, 0.95])
def test_slices_and_metrics_share_one_level(share: float) -> None:
    """A gate on slices and one on the champion: the chance of either to refuse what just holds stays at 5 %."""
    gates = [parse_gate(f"worst(accuracy, by=shop) >= {share}"), parse_gate("roc_auc no worse than champion")]
    refused = 0
    for run in range(RUNS):
        rng = np.random.default_rng([6, run])
        found = Evaluation(
            5000, 2000, {}, beside(rng.normal(size=5)).versus, champion="v1", slices=sliced(rng, [share] * 5).slices
        )
        refused += judge.judge(gates, found).outcome is Outcome.FAIL
    assert refused <= MOST


def test_slices_that_are_too_small_are_measured_together() -> None:
    rows = pl.DataFrame({"shop": ["a"] * 100 + ["b"] * 30 + ["c"] * 40 + [None] * 20})
    labels = np.tile([0, 1], 95)
    scores = Scores(np.tile([0.2, 0.7], 95), "")
    gates = (parse_gate("worst(roc_auc, by=shop) >= 0.8"),)
    labelled = measure.LabelledRows(Task.BINARY, labels, MetricFacts(), ())
    found = measure.measure_slices(labelled, gates, rows, scores)["shop"]
    assert {value: each["roc_auc"].n for value, each in found.items()} == {
        "(empty)": 20,
        "a": 100,
        "b": 30,
        "c": 40,
        "(other)": 90,
    }
    (reason,) = judge.judge(gates, Evaluation(190, 95, {}, slices={"shop": found})).reasons
    assert reason.outcome is Outcome.PASS
    assert reason.numbers["slices"] == 2
    assert reason.text.endswith("; (other) are those that are too small: (empty), b, c")
