"""Turns that spend a holdout: a changed model on the same rows is a look, an interrupted turn is one look, fresh rows help."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace
from small_line import CONFIG, MODEL, SmallLine, points, small_line

from noria.engine import turn_runner
from noria.evaluation.look_store import LookStore
from noria.evaluation.records import HoldoutBudget
from noria.evaluation.store import EvaluationStore
from noria.pipeline.turn_record import Turn, TurnOutcome

BUDGET = CONFIG.replace("{fraction: 0.3}", "{fraction: 0.3, budget: 2}")


def with_model(line: SmallLine, regularisation: float) -> Turn:
    line.write("model.py", MODEL.replace("LogisticRegression()", f"LogisticRegression(C={regularisation})"))
    line.commit(f"C={regularisation}")
    return line.turned()


def budget(line: SmallLine, turn: Turn) -> HoldoutBudget:
    found = EvaluationStore.of(line).of_turn(turn.id)
    assert found is not None
    assert found.holdout is not None
    return found.holdout


def test_the_third_candidate_finds_the_holdout_spent_until_there_are_fresh_rows(tmp_path: Path) -> None:
    with small_line(tmp_path, text=BUDGET) as line:
        line.deliver("points-01.csv", points(1))
        first = line.turned()
        assert first.outcome is TurnOutcome.PROMOTED
        assert budget(line, first).looks == 1.0
        assert budget(line, first).fresh_rows == budget(line, first).rows
        second = with_model(line, 0.01)
        assert second.outcome is TurnOutcome.PROMOTED
        third = with_model(line, 0.02)
        assert third.outcome is TurnOutcome.NOT_ENOUGH_DATA
        assert third.reason.startswith("the holdout is spent: look 3 of 2 at these ")
        assert budget(line, third).spent
        line.deliver("points-02.csv", points(2, 500))
        fresh = line.turned()
        assert fresh.outcome is TurnOutcome.PROMOTED, fresh.reason
        assert 1 < budget(line, fresh).looks < 2
        assert 0 < budget(line, fresh).fresh_rows < budget(line, fresh).rows


def test_without_a_budget_looks_are_counted_and_nothing_is_asked(tmp_path: Path) -> None:
    with small_line(tmp_path) as line:
        line.deliver("points-01.csv", points(1))
        for number, regularisation in enumerate((1.0, 0.01, 0.02)):
            turn = with_model(line, regularisation)
            assert turn.outcome is TurnOutcome.PROMOTED
            assert (budget(line, turn).looks, budget(line, turn).budget) == (number + 1.0, None)
            assert "look" not in turn.reason


def test_an_interrupted_turn_and_the_same_model_again_are_one_look(tmp_path: Path) -> None:
    with small_line(tmp_path, text=BUDGET) as line:
        line.deliver("points-01.csv", points(1))
        assert line.turned().outcome is TurnOutcome.PROMOTED

        def die(text: str) -> None:
            if text.startswith("gate: "):
                raise KeyboardInterrupt

        line.write("model.py", MODEL.replace("LogisticRegression()", "LogisticRegression(C=0.01)"))
        line.commit("C=0.01")
        line.look()
        with pytest.raises(KeyboardInterrupt):
            turn_runner.turn_once(replace(line.context, progress=die))
        assert len(LookStore.of(line).list()) == 1, "its verdict was not told"
        again = line.turn()
        assert again is not None
        assert again.outcome is TurnOutcome.PROMOTED
        assert len(LookStore.of(line).list()) == 2
        line.edit("noria.yaml", "roc_auc >= 0.6", "roc_auc >= 0.61")
        line.write("model.py", MODEL)
        line.commit("the first model again, beside another gate")
        same = line.turned()
        assert same.outcome is TurnOutcome.PROMOTED, same.reason
        assert (budget(line, same).looks, budget(line, same).repeated) == (1.0, True)
