"""Behaviours of models of each task: what a prediction is differs, and how far it moved is said of each."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from small_line import CONFIG, small_line

from noria.evaluation.behaviours_step import AskedModel, ask
from noria.kernel.behaviour import Behaviour, BehaviourKind, BehaviourResult
from noria.kernel.errors import ConfigError
from noria.kernel.task import Task
from noria.models.signature import Input, Kind, Signature

INPUTS = (Input("size", Kind.INTEGER, True), Input("town", Kind.STRING, True), Input("new", Kind.BOOLEAN, True))
ROWS = pl.DataFrame(
    {
        "size": list(range(60)),
        "town": [f"t{number % 12}" for number in range(60)],
        "new": [number % 2 == 0 for number in range(60)],
    }
)


class Prices:
    """100 for each unit of size, and 50 more where it is new."""

    def predict(self, rows: pl.DataFrame) -> NDArray[np.float64]:
        size = rows["size"].fill_null(0).to_numpy().astype(float)
        return 100 * size + 50 * rows["new"].fill_null(False).to_numpy()

    def called_classes(self, rows: pl.DataFrame) -> NDArray[np.intp]:
        raise AssertionError("a regression has no classes")

    def prepare_call(self, rows: pl.DataFrame) -> Any:
        return lambda: self.predict(rows)


class Kinds:
    """Three classes; what is new is a little more likely the first."""

    def predict(self, rows: pl.DataFrame) -> NDArray[np.float64]:
        more = 0.05 * rows["new"].fill_null(False).to_numpy()
        return np.column_stack([0.5 + more, 0.3 - more, np.full(rows.height, 0.2)])

    def called_classes(self, rows: pl.DataFrame) -> NDArray[np.intp]:
        return self.predict(rows).argmax(axis=1)

    def prepare_call(self, rows: pl.DataFrame) -> Any:
        return lambda: self.predict(rows)


PRICES = AskedModel(Prices(), Signature(INPUTS, Task("regression"), ()), ROWS)
KINDS = AskedModel(Kinds(), Signature(INPUTS, Task("multiclass"), ("big", "mid", "small")), ROWS)


def asked(model: AskedModel, kind: BehaviourKind, subject: str = "", **more: Any) -> BehaviourResult:
    return ask(model, Behaviour("b", kind, subject, **more))


def test_a_regression_is_asked_in_its_own_unit() -> None:
    found = asked(PRICES, BehaviourKind.IGNORES, "new")
    assert (found.rows, found.failing) == (60, 60)
    assert found.examples[0] == "row 1 (50 becomes 0)"
    assert asked(PRICES, BehaviourKind.IGNORES, "new", by=50).failing == 0
    assert asked(PRICES, BehaviourKind.RISES_WITH, "size").failing == 0
    assert asked(PRICES, BehaviourKind.RISES_WITH, "new").failing == 0
    assert asked(PRICES, BehaviourKind.FALLS_WITH, "size", by=5_000).failing == 60


def test_a_category_of_many_values_is_asked_by_its_commonest() -> None:
    """Twelve towns, of which the price knows nothing."""
    assert asked(PRICES, BehaviourKind.IGNORES, "town").failing == 0


def test_given_rows_of_a_regression_lie_in_a_range() -> None:
    rows = ({"size": 2, "new": True}, {"size": 3}, {})
    found = asked(PRICES, BehaviourKind.GIVEN, rows=rows, between=(200, 260))
    assert (found.rows, found.failing) == (3, 2)
    assert found.examples == ("row 2 (size=3: 300)", "row 3 (all empty: 0)")


def test_several_classes_move_by_the_one_that_moves_most() -> None:
    found = asked(KINDS, BehaviourKind.IGNORES, "new", by=0.01)
    assert found.failing == 60
    assert found.examples[0] == "row 1 (moves by 0.05)"
    assert asked(KINDS, BehaviourKind.IGNORES, "new", by=0.05).failing == 0
    assert asked(KINDS, BehaviourKind.GIVEN, rows=({"new": True},), expect="big").failing == 0
    assert asked(KINDS, BehaviourKind.GIVEN, rows=({"new": True},), expect="mid").failing == 1


def test_three_rows_and_a_column_without_values() -> None:
    three = AskedModel(Prices(), PRICES.signature, ROWS.head(3).with_columns(town=pl.lit(None, pl.String)))
    assert asked(three, BehaviourKind.IGNORES, "town").few == "town has no value in 3 held-out rows"
    assert asked(three, BehaviourKind.IGNORES, "new").rows == 3
    none = AskedModel(Prices(), PRICES.signature, ROWS.clear())
    assert asked(none, BehaviourKind.RISES_WITH, "size").few == "size has no value in 0 held-out rows"


@pytest.mark.parametrize(
    ("task", "behaviour", "why"),
    [
        ("multiclass", "{rises_with: a}", "a prediction of a multiclass model has no direction"),
        ("multiclass", "{given: [{a: 1}], between: [0, 1]}", "is no single number"),
        ("regression", "{given: [{a: 1}], expect: 1}", "a regression model has no classes"),
    ],
)
def test_what_a_task_does_not_have_is_an_error(tmp_path: Any, task: str, behaviour: str, why: str) -> None:
    text = CONFIG.replace("task: binary", f"task: {task}").replace('gates: ["roc_auc >= 0.6"]\n', "")
    text += f"checks: {{behaviours: {{b: {behaviour}}}}}\n"
    with pytest.raises(ConfigError, match=why), small_line(tmp_path, text=text) as line:
        line.project()


def test_behaviours_need_a_model(tmp_path: Any) -> None:
    text = "project: p\nchecks: {behaviours: {b: {ignores: a}}}\n"
    with pytest.raises(ConfigError, match="this project has no model"), small_line(tmp_path, text=text) as line:
        line.project()
