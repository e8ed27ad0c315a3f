"""The two forms of a model, with one face: a frame of inputs in, predictions out.

Predictions are float64: the probability of the positive class [n] (binary), of each class [n, k] (multiclass), or values [n].
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import joblib
import numpy as np
import onnxruntime as ort
import polars as pl
from numpy.typing import NDArray

from noria.adapters import weights
from noria.adapters.executors.timing import user_code
from noria.domain.signature import MATRIX, Signature, Task, class_text
from noria.errors import StepError
from noria.stages.work import columns, functions


class Form(Protocol):
    """A model that can predict."""

    def predict(self, rows: pl.DataFrame) -> NDArray[np.float64]:
        """``rows`` are inputs as ``columns.frame`` makes them."""

    def prepared(self, rows: pl.DataFrame) -> Callable[[], object]:
        """A call that predicts ``rows``, which are already in the shape that a server hands to the model: for timing."""


class Compiled:
    """ONNX, on one thread, as in the model server's workers."""

    def __init__(self, model: Path | bytes, signature: Signature) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        if isinstance(model, Path) and weights.beside(model).exists():
            weights.share(options)  # as in the model server's workers
        content = model if isinstance(model, bytes) else str(model)
        self._session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        self._taken = [node.name for node in self._session.get_inputs()]
        self._output = _output(self._session, signature.task)
        self._task = signature.task
        self._names = [i.name for i in signature.inputs]

    def predict(self, rows: pl.DataFrame) -> NDArray[np.float64]:
        return shaped(self.prepared(rows)()[0], self._task, rows.height)

    def prepared(self, rows: pl.DataFrame) -> Callable[[], Any]:
        feeds = columns.matrix(rows.select(self._names)) if self._taken == [MATRIX] else columns.feeds(rows.select(self._taken))
        return lambda: self._session.run([self._output], feeds)


class Original:
    """The model as the project trained it, behind its features."""

    def __init__(self, model: Any, features: Callable[[pl.DataFrame], Any] | None, signature: Signature) -> None:
        self.model = model
        self._features = features
        self._signature = signature

    @classmethod
    def load(cls, path: Path, features: str | None, signature: Signature) -> Original:
        """``path`` was written by this installation and verified by its digest: unpickling it runs the project's own code."""
        with user_code():
            function = functions.load(features) if features else None
        return cls(joblib.load(path), function, signature)

    def predict(self, rows: pl.DataFrame) -> NDArray[np.float64]:
        table = apply_features(self._features, rows)
        task = self._signature.task
        if task is not Task.REGRESSION and hasattr(self.model, "predict_proba"):
            return shaped(self.model.predict_proba(table), task, rows.height)
        predicted = self.model.predict(table)
        if task is Task.REGRESSION:
            return shaped(predicted, task, rows.height)
        strange = next((value for value in predicted if class_text(value) not in self._signature.classes), self)
        if strange is not self:
            raise StepError(
                f"the model predicted {strange!r}, which is none of its classes: {', '.join(self._signature.classes)}"
            )
        chosen = [[class_text(value) == name for name in self._signature.classes] for value in predicted]
        return shaped(np.array(chosen, dtype=np.float64), task, rows.height)

    def prepared(self, rows: pl.DataFrame) -> Callable[[], object]:
        return lambda: self.predict(rows)


def apply_features(features: Callable[[pl.DataFrame], Any] | None, rows: pl.DataFrame) -> Any:
    """What the model is trained on and asked with. Raises StepError when ``features`` adds or drops rows."""
    if features is None:
        return rows
    with user_code():
        table = features(rows)
    height = len(table) if hasattr(table, "__len__") else rows.height
    if height != rows.height:
        raise StepError(f"features returned {height:,} rows for {rows.height:,}: it works row by row")
    return table


def shaped(raw: Any, task: Task, n: int) -> NDArray[np.float64]:
    """Raises StepError when the model's answer has another shape than its task asks for."""
    values = np.asarray(raw, dtype=np.float64)
    if task is Task.BINARY and values.shape == (n, 2):
        return values[:, 1]
    if task is Task.REGRESSION and values.shape in ((n,), (n, 1)):
        return values.reshape(n)
    if task is Task.MULTICLASS and values.ndim == 2 and len(values) == n:
        return values
    raise StepError(f"the model answered shape {values.shape} for {n:,} rows of a {task} task")


def _output(session: Any, task: Task) -> str:
    floats = [node for node in session.get_outputs() if node.type in ("tensor(float)", "tensor(double)")]
    if task is not Task.REGRESSION:
        floats = [node for node in floats if len(node.shape) == 2]
    if not floats:
        raise StepError("the compiled model has no output of numbers")
    return str(floats[0].name)
