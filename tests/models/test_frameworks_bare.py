"""Boosters and graphs that are no estimators: what is compiled answers as the library itself does."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import polars as pl
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import make_classification

from noria.kernel.errors import NoriaError
from noria.kernel.task import Task
from noria.models.forms import Compiled, of_task
from noria.models.frameworks import registry
from noria.models.frameworks.bare import Bare, wrap_bare
from noria.models.python_model import shape_answers
from noria.models.signature import Input, Kind, Signature

NAMES = [f"c{i}" for i in range(6)]
INPUTS = tuple(Input(name, Kind.NUMBER) for name in NAMES)
CLASSES = {Task.REGRESSION: (), Task.BINARY: ("0", "1"), Task.MULTICLASS: ("0", "1", "2")}
Reference = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def rows() -> tuple[NDArray[np.float64], dict[Task, NDArray[Any]]]:
    table, label = make_classification(1500, 6, random_state=7)
    table[::9, 2] = np.nan
    return table, {Task.BINARY: label, Task.MULTICLASS: label + (table[:, 0] > 0.4), Task.REGRESSION: table[:, 0] * 3}


def signature(task: Task) -> Signature:
    return Signature(INPUTS, task, CLASSES[task], None, None)


def check(model: Any, task: Task, reference: NDArray[np.float64], table: NDArray[np.float64], worst: float = 1e-5) -> None:
    """The compiled form, and what a host would load, both answer as the reference."""
    frame = pl.DataFrame(table, schema=NAMES)
    content = registry.to_onnx(model, signature(task), frame.head(5))
    assert content == registry.to_onnx(model, signature(task), frame.head(5)), "equal models give equal bytes"
    assert np.abs(Compiled(content, signature(task)).predict(frame) - reference).max() < worst
    hosted = pickle.loads(pickle.dumps(model))
    answers = hosted.predict(frame) if task is Task.REGRESSION else hosted.predict_proba(frame)
    assert np.abs(of_task(shape_answers(answers, signature(task), len(table)), task) - reference).max() < worst


@pytest.mark.parametrize("task", list(Task))
def test_a_bare_lightgbm_booster(task: Task) -> None:
    lightgbm = pytest.importorskip("lightgbm", reason="the extra boosters is not installed")
    pytest.importorskip("onnxmltools", reason="the extra boosters is not installed")
    table, labels = rows()
    objective = {Task.BINARY: "binary", Task.MULTICLASS: "multiclass", Task.REGRESSION: "regression"}[task]
    params = {"objective": objective, "verbose": -1, "num_threads": 1} | ({"num_class": 3} if task is Task.MULTICLASS else {})
    booster = lightgbm.train(params, lightgbm.Dataset(table, labels[task]), 20)
    check(wrap_bare(booster, task), task, booster.predict(table), table)


@pytest.mark.parametrize("task", list(Task))
def test_a_bare_xgboost_booster(task: Task) -> None:
    xgboost = pytest.importorskip("xgboost", reason="the extra boosters is not installed")
    pytest.importorskip("onnxmltools", reason="the extra boosters is not installed")
    table, labels = rows()
    objective = {Task.BINARY: "binary:logistic", Task.MULTICLASS: "multi:softprob", Task.REGRESSION: "reg:squarederror"}[task]
    params = {"objective": objective, "nthread": 1} | ({"num_class": 3} if task is Task.MULTICLASS else {})
    booster = xgboost.train(params, xgboost.DMatrix(table, labels[task]), 20)
    check(wrap_bare(booster, task), task, booster.predict(xgboost.DMatrix(table)), table)


@pytest.mark.parametrize("library", ["lightgbm", "xgboost"])
def test_an_estimator_of_another_package_stands_in_a_pipeline(library: str) -> None:
    module = pytest.importorskip(library, reason="the extra boosters is not installed")
    pytest.importorskip("onnxmltools", reason="the extra boosters is not installed")
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MinMaxScaler

    table, labels = rows()
    made = module.LGBMClassifier(n_estimators=15, verbose=-1) if library == "lightgbm" else module.XGBClassifier(n_estimators=15)
    model = make_pipeline(MinMaxScaler(), made).fit(table, labels[Task.BINARY])
    content = registry.to_onnx(model, signature(Task.BINARY), pl.DataFrame(table, schema=NAMES).head(5))
    answers = Compiled(content, signature(Task.BINARY)).predict(pl.DataFrame(table, schema=NAMES))
    apart = np.abs(answers - model.predict_proba(table)[:, 1])
    assert (apart > 1e-4).mean() < 0.01  # a value on a split may fall to the other side in float32


def graph(weights: NDArray[np.float32], final: str, dtype: int = TensorProto.FLOAT) -> onnx.ModelProto:
    """One matrix in, as exported networks take it: ``final`` of a product."""
    kept = weights.astype(np.float64) if dtype == TensorProto.DOUBLE else weights
    nodes = [helper.make_node("MatMul", ["input", "w"], ["logits"]), helper.make_node(final, ["logits"], ["output"])]
    return helper.make_model(
        helper.make_graph(
            nodes,
            "network",
            [helper.make_tensor_value_info("input", dtype, ["batch", 6])],
            [helper.make_tensor_value_info("output", dtype, ["batch", weights.shape[1]])],
            [numpy_helper.from_array(kept, "w")],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )


@pytest.mark.parametrize("dtype", [TensorProto.FLOAT, TensorProto.DOUBLE])
def test_a_network_that_answers_one_probability(dtype: int) -> None:
    table = np.random.default_rng(1).normal(size=(200, 6))
    weights = np.random.default_rng(2).normal(size=(6, 1)).astype(np.float32)
    expected = 1 / (1 + np.exp(-(table @ weights)[:, 0]))
    check(wrap_bare(graph(weights, "Sigmoid", dtype), Task.BINARY), Task.BINARY, expected, table)


def test_a_network_with_several_classes_and_one_that_is_a_regression() -> None:
    table = np.random.default_rng(1).normal(size=(200, 6))
    weights = np.random.default_rng(2).normal(size=(6, 3)).astype(np.float32)
    raised = np.exp(table @ weights)
    check(wrap_bare(graph(weights, "Softmax"), Task.MULTICLASS), Task.MULTICLASS, raised / raised.sum(1, keepdims=True), table)
    check(wrap_bare(graph(weights[:, :1], "Identity"), Task.REGRESSION), Task.REGRESSION, (table @ weights)[:, 0], table)


def test_a_graph_that_does_not_fit_is_told() -> None:
    weights = np.ones((6, 1), np.float32)
    text = Signature((*INPUTS[:5], Input("c5", Kind.STRING)), Task.BINARY, ("0", "1"), None, None)
    with pytest.raises(NoriaError, match="the graph takes input, and the signature has c0, c1"):
        registry.to_onnx(wrap_bare(graph(weights, "Sigmoid"), Task.BINARY), text, pl.DataFrame())
    assert isinstance(wrap_bare(graph(weights, "Sigmoid"), Task.BINARY), Bare)
    plain = object()
    assert wrap_bare(plain, Task.BINARY) is plain


@pytest.mark.parametrize("library", ["lightgbm", "xgboost"])
def test_what_was_fitted_on_named_columns_compiles(library: str) -> None:
    """Number 35: estimators and boosters that know their columns by names are compiled, and keep the names."""
    module = pytest.importorskip(library, reason="the extra boosters is not installed")
    pytest.importorskip("onnxmltools", reason="the extra boosters is not installed")
    table, labels = rows()
    frame = pl.DataFrame(table, schema=["age of", "fee", *NAMES[2:]])
    named = Signature(tuple(Input(name, Kind.NUMBER) for name in frame.columns), Task.BINARY, ("0", "1"))
    quiet = {"verbose": -1} if library == "lightgbm" else {}
    estimator = module.LGBMClassifier if library == "lightgbm" else module.XGBClassifier
    fitted = estimator(n_estimators=10, n_jobs=1, **quiet).fit(frame.to_pandas(), labels[Task.BINARY])
    data = module.Dataset if library == "lightgbm" else module.DMatrix
    objective = {"objective": "binary" if library == "lightgbm" else "binary:logistic", **quiet}
    bare = wrap_bare(module.train(objective, data(frame.to_pandas(), label=labels[Task.BINARY]), 10), Task.BINARY)
    for model, table_of in ((fitted, frame.to_pandas()), (bare, frame)):
        answers = Compiled(registry.to_onnx(model, named, frame.head(5)), named).predict(frame)
        assert (np.abs(answers - model.predict_proba(table_of)[:, 1]) > 1e-4).mean() < 0.01
    if library == "xgboost":
        assert fitted.get_booster().feature_names == frame.columns
        assert bare.content.feature_names == frame.columns
