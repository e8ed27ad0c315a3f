"""However a model gives its answers, they come out in one shape, or it is said why they do not."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import scipy.sparse

from noria.kernel.errors import StepError
from noria.kernel.task import Task
from noria.models.python_model import PythonModel, TableKinds, as_kind, kind_of_table, rows_of, shape_answers
from noria.models.signature import Input, Kind, Signature

INPUTS = (Input("a", Kind.NUMBER), Input("b", Kind.STRING))
VALUE = Signature(INPUTS, Task.REGRESSION)
TWO = Signature(INPUTS, Task.BINARY, ("no", "yes"))
THREE = Signature(INPUTS, Task.MULTICLASS, ("1", "2", "3"))
NUMBERS = np.array([1.5, 2.5, -3.0])


@pytest.mark.parametrize(
    "said",
    [
        NUMBERS,
        NUMBERS.reshape(3, 1),
        NUMBERS.astype(np.float32).tolist(),
        NUMBERS.astype(object),
        [Decimal("1.5"), Decimal("2.5"), -3],
        np.ma.masked_array(NUMBERS.reshape(3, 1), mask=False),
        pd.DataFrame({"pred": NUMBERS}, index=["x", "y", "z"]),
        pd.DataFrame({0: NUMBERS}),
        pd.Series(NUMBERS, dtype="Float64"),
        pl.DataFrame({"pred": NUMBERS}),
        pl.Series(NUMBERS),
        pa.chunked_array([NUMBERS]),
        pa.table({"pred": NUMBERS}),
        scipy.sparse.csr_matrix(NUMBERS.reshape(3, 1)),
    ],
    ids=lambda said: f"{type(said).__module__}.{type(said).__name__}",
)
def test_values_come_in_many_shapes(said: Any) -> None:
    """Number 11: [n, 1], frames, masked and object arrays are answers everywhere, and the same ones."""
    assert shape_answers(said, VALUE, 3).tolist() == NUMBERS.tolist()
    with pytest.raises(StepError, match="for 2 rows of a regression task"):
        shape_answers(said, VALUE, 2)


def test_what_is_masked_or_missing_is_no_number() -> None:
    """Number 11: a masked answer, a null of pandas or Polars is NaN, which no server passes on."""
    for said in (
        np.ma.masked_array([1.0, 2.0], mask=[False, True]),
        pd.Series([1.0, None], dtype="Float64"),
        pd.DataFrame({"p": pd.array([1, None], dtype="Int64")}),
        pl.Series([1.0, None]),
        [1.0, None],
    ):
        found = shape_answers(said, VALUE, 2)
        assert found[0] == 1.0
        assert np.isnan(found[1])


@pytest.mark.parametrize(
    ("said", "signature", "n", "reason"),
    [
        (["a", "b"], VALUE, 2, "answered no numbers: 'a'"),
        (np.array(["1.5", "2"]), VALUE, 2, "answered no numbers: '1.5'"),
        (np.array([1 + 2j, 3]), VALUE, 2, "answered no numbers"),
        ([{"no": 0.1}, {"no": 0.2}], TWO, 2, "answered no numbers"),
        (np.ones((2, 3)), VALUE, 2, r"shape \(2, 3\) for 2 rows of a regression task"),
        (np.ones((1, 2)), VALUE, 2, r"shape \(1, 2\)"),
        (5.0, VALUE, 2, r"shape \(\) for 2 rows"),
        (np.ones((2, 3)), TWO, 2, r"shape \(2, 3\) for 2 rows of a binary task"),
        (np.ones(2), THREE, 2, r"shape \(2,\) for 2 rows of a multiclass task"),
        ([np.ones((2, 2))] * 2, TWO, 2, r"shape \(2, 2, 2\)"),
    ],
)
def test_what_is_no_answer_is_told_with_the_cure(said: Any, signature: Signature, n: int, reason: str) -> None:
    with pytest.raises(StepError, match=reason) as refused:
        shape_answers(said, signature, n)
    assert refused.value.hint.startswith("Let it answer")


def test_probabilities_come_in_many_shapes() -> None:
    """Number 11: one probability a row, one row without its axis, columns that are named like the classes."""
    assert shape_answers([0.25, 1.0], TWO, 2).tolist() == [[0.75, 0.25], [0.0, 1.0]]
    assert shape_answers(np.array([[0.25]]), TWO, 1).tolist() == [[0.75, 0.25]]
    assert shape_answers(np.array([0.75, 0.25]), TWO, 1).tolist() == [[0.75, 0.25]]
    frame = pd.DataFrame({"yes": [0.25, 1.0], "no": [0.75, 0.0]})
    assert shape_answers(frame, TWO, 2).tolist() == [[0.75, 0.25], [0.0, 1.0]]
    assert shape_answers(pl.DataFrame({"p0": [0.75], "p1": [0.25]}), TWO, 1).tolist() == [[0.75, 0.25]]
    assert shape_answers(pd.DataFrame({3: [0.5], 1: [0.2], 2: [0.3]}), THREE, 1).tolist() == [[0.2, 0.3, 0.5]]


class Says:
    """A model that answers what a function says."""

    def __init__(self, **said: Any) -> None:
        self.__dict__.update(said)


@pytest.mark.parametrize(
    "model",
    [Says(predict=lambda t: np.array([["yes"], ["no"]])), Says(predict=lambda t: pd.Series(["yes", "no"], dtype="category"))],
)
def test_predicted_classes_come_in_many_shapes(model: Any) -> None:
    rows = rows_of({"a": [1.0, 2.0], "b": ["x", None]}, TWO)
    assert PythonModel(model, None, TWO).answers(rows).tolist() == [[0.0, 1.0], [1.0, 0.0]]


@pytest.mark.parametrize(
    ("model", "signature", "reason", "cure"),
    [
        (Says(predict=lambda t: np.ones((len(t), 2))), VALUE, "shape", "one number a row"),
        (Says(predict=lambda t: np.full(len(t), np.nan)), VALUE, "no finite number to any of 4 training rows", "missing"),
        (
            Says(predict_proba=lambda t: np.tile([-1.0, 3.0], (len(t), 1))),
            TWO,
            "no probabilities: numbers from -1 to 3",
            "softmax",
        ),
        (
            Says(predict=lambda t: np.full(len(t), 0.3)),
            TWO,
            "predicted 0.3, which is none of its classes: no, yes",
            "predict_proba",
        ),
        (Says(predict=lambda t: t.nothing), VALUE, "does not answer the rows it was trained on: AttributeError", "`features`"),
        (Says(predict=lambda t: [0.0] * 4), VALUE, r"shape \(4,\) for 1 rows", "one number a row"),
    ],
)
def test_a_model_whose_answers_no_server_takes_is_refused_when_it_was_trained(
    model: Any, signature: Signature, reason: str, cure: str
) -> None:
    """Number 11: what would be refused at each request is refused at train, with what to change."""
    rows = rows_of({"a": [1.0, 2.0, 3.0, None], "b": ["x", None, "y", "z"]}, signature)
    with pytest.raises(StepError, match=reason) as refused:
        PythonModel(model, None, signature).prove(rows, "model:train")
    assert refused.value.where == "model:train"
    assert cure in refused.value.hint


class Seen:
    """Remembers the kinds of table that it is asked with."""

    def __init__(self) -> None:
        self.kinds: list[str] = []

    def predict(self, table: Any) -> Any:
        self.kinds.append(type(table).__module__.partition(".")[0])
        return np.zeros(len(table))


def test_a_model_is_asked_with_the_kind_of_table_it_was_trained_with() -> None:
    """Number 13: features and model each get what they are annotated with."""
    rows, asked = rows_of({"a": [1.0], "b": ["x"]}, VALUE), []

    def features(table: Any) -> Any:
        asked.append(type(table).__module__.partition(".")[0])
        return pl.DataFrame({"a": [1.0]})

    model = Seen()
    for kind in ("polars", "pandas", "numpy", "arrow"):
        PythonModel(model, None, VALUE, TableKinds(model=kind)).answers(rows)
        PythonModel(model, features, VALUE, TableKinds(features=kind, model="pandas")).answers(rows)
    assert model.kinds == ["polars", "pandas", "pandas", "pandas", "numpy", "pandas", "pyarrow", "pandas"]
    assert asked == ["polars", "pandas", "numpy", "pyarrow"]


def test_annotations_tell_kinds_of_table() -> None:
    kinds = {
        pd.DataFrame: "pandas", np.ndarray: "numpy", pl.DataFrame: "polars", pl.LazyFrame: "lazy", pa.Table: "arrow",
        dict: "lists",
        dict[str, list[float]]: "lists", Any: "polars", "pd.DataFrame": "pandas", "NDArray[np.float64]": "numpy",
        "'pandas.DataFrame'": "pandas", "pl.DataFrame": "polars", "pl.LazyFrame": "lazy", "Table": "polars",
    }  # fmt: skip
    assert {annotation: kind_of_table(annotation) for annotation in kinds} == kinds
    table = pl.DataFrame({"a": [1, 2]})
    assert as_kind(table, "lists") == {"a": [1, 2]}
    assert as_kind(table, "lazy").collect().equals(table)
