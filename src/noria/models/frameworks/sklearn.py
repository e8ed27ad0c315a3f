"""scikit-learn models to ONNX, by skl2onnx."""

from __future__ import annotations

import contextlib
import sys
import warnings
from typing import Any

import polars as pl
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.base import BaseEstimator, is_classifier
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline

from noria.kernel.errors import NoriaError
from noria.models.frameworks.graphs import BOOSTERS, TEXT_CATEGORIES
from noria.models.signature import MATRIX, Kind, Signature, is_matrix

THRESHOLDS = ("FixedThresholdClassifier", "TunedThresholdClassifierCV")
OPSET = {"": 18, "ai.onnx.ml": 3}  # stated, so that a newer converter does not change what an older server can load


class SklearnFramework:
    """Estimators and pipelines of scikit-learn."""

    name = "sklearn"

    def matches(self, model: object) -> bool:
        return isinstance(model, BaseEstimator)

    def compile(self, model: Any, signature: Signature, sample: pl.DataFrame) -> bytes:
        """Raises whatever skl2onnx raises for what it cannot convert."""
        _teach_boosters()
        model = _of_probabilities(model)
        if not is_matrix(signature) and type(model).__module__.partition(".")[0] in BOOSTERS:
            raise NoriaError(TEXT_CATEGORIES)
        matrix = is_matrix(signature) and not _takes_columns(model)
        wanted = model if matrix or _takes_columns(model) else _join_columns(model, sample)
        columns = [(i.name, _type(i.kind)) for i in signature.inputs]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the converter's own deprecations: nothing that a user could act upon
            made = convert_sklearn(
                wanted,
                name="noria",
                doc_string="",
                initial_types=[(MATRIX, FloatTensorType([None, len(columns)]))] if matrix else columns,
                target_opset=OPSET,
                options={id(wanted): {"zipmap": False}} if is_classifier(model) else None,
            )
        if not matrix:
            restore_names(made.graph, [name for name, _ in columns])
            free_names(made.graph)
        content: bytes = made.SerializeToString(deterministic=True)
        return content


def _of_probabilities(model: Any) -> Any:
    """The model inside those that only choose a threshold: its probabilities are theirs, and the threshold stands elsewhere."""
    if type(model).__name__ in THRESHOLDS and hasattr(model, "estimator_"):
        return _of_probabilities(model.estimator_)
    if isinstance(model, Pipeline):
        last = _of_probabilities(model.steps[-1][1])
        return model if last is model.steps[-1][1] else Pipeline([*model.steps[:-1], (model.steps[-1][0], last)])
    return model


def restore_names(graph: Any, wanted: list[str]) -> None:
    """Give the graph's inputs their columns' names again: the converter makes identifiers of names such as "calls per day"."""
    given = [entry.name for entry in graph.input]
    changed = [name for name in given if name not in wanted]
    lost = [name for name in wanted if name not in given]
    if len(changed) != len(lost):
        return  # an input was left out: the one that asks for it says so
    names = dict(zip(changed, lost, strict=True))
    for entry in graph.input:
        entry.name = names.get(entry.name, entry.name)
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]


def free_names(graph: Any) -> None:
    """Rename what the graph computes under the name of an input: a column may be called "label" or "probabilities"."""
    taken = {entry.name for entry in graph.input}
    made = {name for node in graph.node for name in node.output} | {entry.name for entry in graph.output}
    for name in sorted(taken & made):
        fresh = next(f"noria.{name}.{i}" for i in range(len(made) + 1) if f"noria.{name}.{i}" not in taken | made)
        begun = False  # whether the nodes from here on mean what was computed, and not the input
        for node in graph.node:
            if begun:
                node.input[:] = [fresh if one == name else one for one in node.input]
            begun = begun or name in node.output
            node.output[:] = [fresh if one == name else one for one in node.output]
        for entry in graph.output:
            entry.name = fresh if entry.name == name else entry.name


def _teach_boosters() -> None:
    """Estimators of other packages stand in pipelines too; without onnxmltools the converter says which it does not know."""
    for name in BOOSTERS.keys() & sys.modules.keys():
        with contextlib.suppress(ImportError):
            BOOSTERS[name].teach()


def _type(kind: Kind) -> Any:
    return StringTensorType([None, 1]) if kind is Kind.STRING else FloatTensorType([None, 1])


def _takes_columns(model: Any) -> bool:
    """Whether the model picks its columns by name."""
    first = model.steps[0][1] if isinstance(model, Pipeline) else model
    return isinstance(first, ColumnTransformer)


def _join_columns(model: Any, sample: pl.DataFrame) -> Pipeline:
    """The model behind a step that joins the columns to the one matrix it was fitted on."""
    join = ColumnTransformer([("columns", "passthrough", sample.columns)]).fit(sample)
    return Pipeline([("join", join), ("model", model)])
