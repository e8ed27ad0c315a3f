"""Users who try candidate after candidate against one holdout: without a budget a false release is sure, with one it is rare."""

from __future__ import annotations

from benchmarks import holdouts
from benchmarks.holdouts import Rule

HISTORIES = 10
RULES = [Rule(None, 60), Rule(20, 60), Rule(30, 60)]


def test_a_budget_keeps_an_adaptive_user_from_false_releases() -> None:
    for choose in (holdouts.keeps_better, holdouts.weighs_all):
        without, *budgets = holdouts.play(choose, 400, RULES, HISTORIES, seed=1701)
        assert len(without) >= 0.7 * HISTORIES, choose.__name__
        assert min(one.overstated for one in without) > -0.02
        assert [len(found) for found in budgets] == [0, 0], choose.__name__


def test_a_look_at_half_fresh_rows_counts_as_half() -> None:
    (found,) = holdouts.play(holdouts.weighs_all, 300, [Rule(30, 12)], HISTORIES, seed=1702, moves=4)
    assert len(found) <= 1


def test_the_table_says_what_a_look_costs() -> None:
    assert "| 1 | 1 in 40 | 1.96 | 1.4 times |" in holdouts.cost()
