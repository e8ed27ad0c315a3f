"""What would change a verdict that lacks data: counted from the bounds, and true when the rows come."""

from __future__ import annotations

import numpy as np
import pytest

from noria.evaluation import judge_gate as judge
from noria.evaluation.judge_sample_size import NEVER, bounds_remedy, counts_remedy, rows_to_decide
from noria.kernel.policy import Gate
from noria.kernel.task import Task
from noria.kernel.verdict import Outcome
from noria.releases.evidence import Evaluation
from noria.stats import intervals
from noria.stats.measures import Comparison, Measure

ROC_AUC = Gate("roc_auc >= champion - 0.01", "roc_auc", True, -0.01, champion=True)


def reason(difference: float, low: float, high: float, n: int = 1000) -> tuple[Outcome, str]:
    versus = {"roc_auc": Comparison(0.75, difference, low, high, n)}
    found = Evaluation(n, n // 2, {"roc_auc": Measure(0.7, 0.6, 0.8, n)}, versus, champion="v1")
    (only,) = judge.judge([ROC_AUC], found).reasons
    return only.outcome, only.remedy


def test_a_decided_gate_needs_no_remedy() -> None:
    assert reason(0.0, -0.005, 0.005) == (Outcome.PASS, "")
    assert reason(-0.05, -0.06, -0.04) == (Outcome.FAIL, "")


def test_an_undecided_gate_says_how_many_more_rows_would_decide() -> None:
    # the lower bound lies 0.02 below, 0.01 is allowed: a bound half as far takes four times the rows
    assert reason(0.0, -0.02, 0.02) == (
        Outcome.NOT_ENOUGH_DATA,
        "about 3,000 more labelled rows, if value and spread stay as they are",
    )
    # on the other side of the margin the upper bound counts
    assert reason(-0.02, -0.03, 0.01)[1] == "about 8,000 more labelled rows, if value and spread stay as they are"


def test_a_value_on_the_threshold_is_decided_by_no_number_of_rows() -> None:
    assert reason(-0.01, -0.02, 0.02) == (Outcome.NOT_ENOUGH_DATA, NEVER)
    assert "more than 1,000 times as many labelled rows" in reason(-0.0099999, -0.02, 0.02)[1]


@pytest.mark.parametrize(
    ("n", "positives", "said"),
    [
        (20, None, "about 30 more labelled rows"),
        (49, None, "about 1 more labelled row"),
        (200, 4, "about 300 more labelled rows"),
        (200, 196, "about 300 more labelled rows"),
        (200, 0, "labelled rows of both classes, 10 of each"),
        (200, 100, ""),
    ],
)
def test_rows_that_are_missing_are_counted(n: int, positives: int | None, said: str) -> None:
    assert counts_remedy(n, positives, 50, 10) == said


def test_groups_are_counted_where_rows_come_in_groups() -> None:
    assert bounds_remedy(0.0, -0.01, -0.02, 0.02, 7, "day") == "about 21 more days, if value and spread stay as they are"


def test_the_rows_that_were_named_decide() -> None:
    """Of so many rows the bound lies as near to the value as the threshold did."""
    rng = np.random.default_rng(4)

    def compared(n: int) -> Comparison:
        y = rng.integers(0, 2, n)
        base = np.clip(0.5 + 0.2 * (2 * y - 1) + 0.2 * rng.normal(size=n), 0.01, 0.99)
        return intervals.compare("brier", Task.BINARY, y, np.clip(base + 0.3 * rng.normal(size=n), 0, 1), base)

    found = compared(3000)
    margin = found.difference + 0.3 * (found.high - found.difference)
    needed = rows_to_decide(found.difference, margin, found.low, found.high, found.n)
    assert needed is not None
    assert needed == pytest.approx(3000 / 0.3**2, rel=0.01)
    again = compared(needed)
    assert again.high - again.difference == pytest.approx(0.3 * (found.high - found.difference), rel=0.25)
