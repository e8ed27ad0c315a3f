"""Models that are no estimators (boosters, ONNX graphs), with the face of one. Light: hosts load it to unpickle them."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noria.kernel.task import Task
from noria.models import graph_outputs

KINDS = {"lightgbm": "Booster", "xgboost": "Booster", "onnx": "ModelProto"}  # package -> the class that is bare


class Face:
    """What Noria wraps around a model: it takes the table of the signature's inputs as it comes."""

    library = ""  # whose the model is


class Answering(Face, ABC):
    """``predict`` of what answers as its ``task`` is."""

    task: Task

    def predict(self, table: Any) -> NDArray[np.float64]:
        """Values [n] of a regression; of a classification the positions of the classes."""
        if not self.task.definition.has_classes:
            return self._answers(table).reshape(-1)
        chosen: NDArray[np.float64] = self.predict_proba(table).argmax(axis=1).astype(np.float64)
        return chosen

    @abstractmethod
    def predict_proba(self, table: Any) -> NDArray[np.float64]:
        """[n, classes]."""

    @abstractmethod
    def _answers(self, table: Any) -> NDArray[np.float64]:
        """What the model says, in its own shape."""


class Bare(Answering):
    """``content``: the booster, or the bytes of an ONNX graph."""

    def __init__(self, kind: str, content: Any, task: Task) -> None:
        self.kind, self.content, self.task = kind, content, task
        self._session: Any = None

    def predict_proba(self, table: Any) -> NDArray[np.float64]:
        """[n, k]."""
        found = self._answers(table)
        if self.task.definition.two_classes and found.ndim == 2 and found.shape[1] == 1:
            found = found[:, 0]
        return np.column_stack([1.0 - found, found]) if found.ndim == 1 else found

    def _answers(self, table: Any) -> NDArray[np.float64]:
        if self.kind == "onnx":
            return self._run(table)
        rows = categorical(table) if has_text(table) and knows_categories(self.content) else matrix(table)
        if self.kind == "lightgbm":
            return np.asarray(self.content.predict(rows, num_threads=1), dtype=np.float64)
        return np.asarray(self.content.inplace_predict(rows, validate_features=False), dtype=np.float64)

    def _run(self, table: Any) -> NDArray[np.float64]:
        import onnxruntime as ort  # only graphs need it

        if self._session is None:
            options = ort.SessionOptions()
            options.intra_op_num_threads = 1
            options.log_severity_level = 3
            self._session = ort.InferenceSession(self.content, options, providers=["CPUExecutionProvider"])
        taken = self._session.get_inputs()
        if len(taken) == 1 and taken[0].name not in getattr(table, "columns", ()):
            feeds = {taken[0].name: _as(matrix(table), taken[0])}
        else:
            feeds = {node.name: _as(np.asarray(table[node.name]).reshape(-1, 1), node) for node in taken}
        output = graph_outputs.likeliest(graph_outputs.of_session(self._session), self.task)
        return np.asarray(self._session.run([output] if output else None, feeds)[0], dtype=np.float64)

    def __getstate__(self) -> dict[str, Any]:
        return {"kind": self.kind, "content": self.content, "task": self.task, "_session": None}


class OnMatrix:
    """An estimator that was fitted on rows without names: it is asked with a matrix, of floats where nothing is text."""

    def __init__(self, model: Any) -> None:
        self.model = model
        if hasattr(model, "predict_proba"):
            self.predict_proba = self._predict_proba

    def predict(self, table: Any) -> Any:
        return self.model.predict(_plain(table))

    def _predict_proba(self, table: Any) -> Any:
        return self.model.predict_proba(_plain(table))

    def __getstate__(self) -> dict[str, Any]:
        return {"model": self.model}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["model"])  # type: ignore[misc]  # what it can do depends on the model


class OnCategories(OnMatrix):
    """A booster's estimator that was fitted on categories of pandas: texts are given as such."""

    def predict(self, table: Any) -> Any:
        return self.model.predict(categorical(table))

    def _predict_proba(self, table: Any) -> Any:
        return self.model.predict_proba(categorical(table))


def has_text(table: Any) -> bool:
    """Whether a table of Polars has a column of text."""
    return any(str(dtype) == "String" for dtype in getattr(table, "dtypes", ()))


def knows_categories(model: Any) -> bool:
    """Whether a booster of LightGBM or XGBoost, or an estimator around one, holds the texts of its categories: then it tells by
    itself which code each has, whatever else is in a request. XGBoost does from 3.1 on."""
    booster = model.get_booster() if hasattr(model, "get_booster") else getattr(model, "booster_", model)
    if hasattr(booster, "get_categories"):
        return not booster.get_categories().empty()
    return bool(getattr(booster, "pandas_categorical", None))


def categorical(table: Any) -> Any:
    """As pandas has it, texts as categories."""
    made = table.to_pandas()
    return made.astype({name: "category" for name, kind in table.schema.items() if str(kind) == "String"})


def _plain(table: Any) -> Any:
    found = table.to_numpy() if hasattr(table, "to_numpy") else np.asarray(table)
    return found if found.dtype.kind == "O" else found.astype(np.float64)


def wrap_bare(model: Any, task: Task) -> Any:
    """The model as it is, or behind the face of an estimator when it is a bare booster or graph."""
    kind = re.split(r"[._]", type(model).__module__)[0]
    if KINDS.get(kind) != type(model).__name__:
        return model
    return Bare(kind, model.SerializeToString(deterministic=True) if kind == "onnx" else model, task)


def matrix(table: Any) -> NDArray[np.float64]:
    """Rows as one matrix [n, k]; nulls are NaN."""
    found = table.to_numpy() if hasattr(table, "to_numpy") else table
    return np.asarray(found, dtype=np.float64)


def _as(values: NDArray[Any], node: Any) -> NDArray[Any]:
    """Values as the type that an input of a graph has. Raises ValueError for null where it takes whole numbers only."""
    wanted = DTYPES.get(node.type.removeprefix("tensor(").removesuffix(")"), object)
    if wanted is object:
        return values.astype(object)
    if np.dtype(wanted).kind in "iub" and not np.isfinite(values.astype(np.float64)).all():
        raise ValueError(f"null, where {node.name} takes whole numbers only")
    return values.astype(wanted)


DTYPES = {
    "float": np.float32, "double": np.float64, "float16": np.float16, "bool": np.bool_, "int8": np.int8, "int16": np.int16,
    "int32": np.int32, "int64": np.int64, "uint8": np.uint8, "uint16": np.uint16, "uint32": np.uint32, "uint64": np.uint64,
}  # fmt: skip
