"""Which held-out rows depend on each other, and what a gate says of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from noria.evaluation import judge_gate as judge
from noria.evaluation.row_groups import find_groupings, of_rows
from noria.kernel.policy import Gate
from noria.kernel.verdict import Outcome, Reason
from noria.releases.evidence import Evaluation
from noria.stats.measures import Comparison, Measure

BEGIN = datetime(2026, 3, 1, tzinfo=UTC)


def rows(hours: float, count: int, patients: int = 7) -> pl.DataFrame:
    at = [BEGIN + timedelta(hours=hours * place / count) for place in range(count)]
    return pl.DataFrame({"at": at, "patient": [f"p{place % patients}" for place in range(count)]})


def test_rows_of_a_day_and_of_a_named_group_depend_on_each_other() -> None:
    days, patients = find_groupings(rows(5 * 24, 500), None, "at")[0], find_groupings(rows(48, 70), "patient", None)[0]
    assert (days.unit, len(np.unique(days.ids))) == ("day", 5)
    assert (patients.unit, len(np.unique(patients.ids))) == ("patient", 7)
    assert [each.unit for each in find_groupings(rows(5 * 24, 500), "patient", "at")] == ["patient", "day"]
    assert find_groupings(rows(24, 100), None, None) == ()


def test_fewer_than_five_days_are_cut_into_ten_stretches() -> None:
    (found,) = find_groupings(rows(4 * 24, 1000), None, "at")
    assert found.unit == "stretch"
    assert np.bincount(found.ids).tolist() == [100] * 10
    assert (np.diff(found.ids) >= 0).all()  # one after another


def test_rows_of_few_moments_cannot_be_cut() -> None:
    dates = pl.DataFrame({"at": ["2026-03-01"] * 50 + ["2026-03-02"] * 50})
    assert find_groupings(dates, None, "at") == ()


def test_rows_of_one_moment_stay_together() -> None:
    hours = pl.DataFrame({"at": [BEGIN + timedelta(hours=h) for h in range(24) for _ in range(7 + h % 3)]})
    (found,) = find_groupings(hours, None, "at")
    each = hours.with_columns(g=found.ids).group_by("at").agg(pl.col("g").n_unique())
    assert each["g"].to_list() == [1] * 24


def test_a_slice_keeps_its_own_groups() -> None:
    mask = np.arange(500) >= 400
    (found,) = of_rows(find_groupings(rows(5 * 24, 500), None, "at"), mask)
    assert (found.unit, len(found.ids), found.ids.max()) == ("day", 100, 0)


BEHIND = Gate("roc_auc >= champion - 0.01", "roc_auc", True, -0.01, champion=True)
FLOOR = Gate("roc_auc >= 0.6", "roc_auc", True, 0.6)


def said(gate: Gate, groups: int, unit: str, widened: float = 2.11, **more: float) -> Reason:
    about = {"groups": groups, "unit": unit, "widened": widened, "freedom": groups - 1.0}
    measure, versus = Measure(0.7, 0.66, 0.74, 6012, 1400, **about), Comparison(0.7, -0.001, -0.02, 0.018, 6012, **about)
    (only,) = judge.judge([gate], Evaluation(6012, 1400, {"roc_auc": measure}, {"roc_auc": versus}, champion="v1")).reasons
    return only


def test_the_sentence_says_how_much_wider_the_bounds_became() -> None:
    wider = "6,012 rows in 7 days, which make bounds 2.1 times as wide as of independent rows"
    assert wider in said(FLOOR, 7, "day").text
    assert wider in said(BEHIND, 7, "day").text
    assert "6,012 rows in 41 groups by patient)" in said(FLOOR, 41, "patient", widened=1.0).text
    assert "in 10 stretches of time (fewer than 5 days), which make" in said(FLOOR, 10, "stretch").text


def test_a_gate_needs_five_groups() -> None:
    for gate in (FLOOR, BEHIND):
        reason = said(gate, 4, "patient", widened=1.0)
        assert reason.outcome is Outcome.NOT_ENOUGH_DATA
        assert reason.text == "roc_auc is measured on rows of 4 groups by patient; a gate needs 5"
        assert reason.remedy == "labelled rows of 1 more group"


def test_what_would_decide_is_counted_in_groups() -> None:
    # 0.019 below reaches beyond the 0.009 that are left: (0.019 / 0.009)^2 times 7 days
    assert said(BEHIND, 7, "day").remedy == "about 25 more days, if value and spread stay as they are"
    assert "more labelled rows" in said(BEHIND, 10, "stretch").remedy


def test_another_confidence_takes_students_quantile() -> None:
    strict = Gate("roc_auc >= 0.6 at 99%", "roc_auc", True, 0.6, confidence=0.99, bound=True)
    low = said(strict, 7, "day").numbers["low"]
    assert 0.7 - low == pytest.approx(0.04 * 3.1427 / 1.9432, rel=1e-3)  # Student's t with 6 degrees at 99 and 95 %, from tables
