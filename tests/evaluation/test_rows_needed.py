"""How many rows a gate needs is told before a run, and is true: a candidate as good passes in four of five cases."""

from __future__ import annotations

import numpy as np
import pytest
from msgspec.structs import replace

from noria.config import parse_gate
from noria.evaluation import judge_gate as judge
from noria.evaluation.judge_sample_size import outlook, short_holdout, units_needed
from noria.kernel.verdict import Outcome
from noria.releases.evidence import Evaluation
from noria.stats.measures import Comparison

GATE = parse_gate("roc_auc >= champion - 0.01")
FOUND = Comparison(0.7, 0.002, -0.0144, 0.0184, 2000)  # a standard error of 0.01 with 2,000 rows
NEWEST = Evaluation(2000, 900, {}, {"roc_auc": FOUND}, champion="v4")


def test_the_rows_that_are_told_give_the_stated_power() -> None:
    needed = units_needed(FOUND, -0.01, at_least=True)
    assert needed == pytest.approx(2000 * ((1.645 + 0.842) * 0.01 / 0.01) ** 2, rel=0.01)
    assert needed is not None
    error, rng, passed = 0.01 * np.sqrt(2000 / needed), np.random.default_rng(9), 0
    for difference in error * rng.normal(size=1000):
        versus = Comparison(0.7, difference, difference - 1.645 * error, difference + 1.645 * error, needed)
        passed += judge.judge([GATE], replace(NEWEST, versus={"roc_auc": versus})).outcome is Outcome.PASS
    assert 0.76 < passed / 1000 < 0.84


def test_what_is_needed_stands_beside_what_there_is() -> None:
    said = "needs about 13,000 labelled rows to pass a candidate as good as v4 in 4 of 5 cases; the last holdout had 2,000"
    assert outlook(GATE, NEWEST) == (said, False)
    told = outlook(parse_gate("roc_auc >= champion - 0.1"), NEWEST)
    assert told is not None
    assert told[1]
    days = replace(FOUND, groups=14, unit="day", widened=2.0, freedom=13.0)
    in_days = outlook(GATE, replace(NEWEST, versus={"roc_auc": days}))
    assert in_days is not None
    assert in_days[0].startswith("needs about 87 days to pass")
    assert in_days[0].endswith("the last holdout had 14")


@pytest.mark.parametrize(
    "text", ["roc_auc >= 0.6", "roc_auc no worse than champion", "roc_auc >= champion", "brier <= champion + 0.1"]
)
def test_gates_that_need_no_number_of_rows_say_nothing(text: str) -> None:
    assert outlook(parse_gate(text), NEWEST) is None


def test_a_holdout_of_few_days_is_told() -> None:
    assert "the last 2 d" in short_holdout(2 * 86400.0)
    assert short_holdout(14 * 86400.0) == ""
    assert short_holdout(None) == ""
