"""The two forms of a model, with one face: a frame of inputs in, predictions out.

Predictions are float64: the probability of the positive class [n] (binary), of each class [n, k] (multiclass), or values [n].
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import joblib
import numpy as np
import onnxruntime as ort
import polars as pl
from numpy.typing import NDArray

from noria.kernel.errors import StepError
from noria.kernel.task import Task
from noria.kernel.task_definition import Output
from noria.models import columns, graph_outputs, judge_decision, project_functions, weights
from noria.models.python_model import PythonModel, TableKinds, bind_features, shape_answers
from noria.models.signature import MATRIX, Signature
from noria.models.user_time import user_code

NOTHING: Mapping[str, Any] = MappingProxyType({})
CALLS = 300
CALLS_MIN = 30
DISTINCT = 20  # rows that take turns
PATIENCE_S = 1.0  # slow models get fewer than CALLS calls


class Form(Protocol):
    """A model that can predict."""

    def predict(self, rows: pl.DataFrame) -> NDArray[np.float64]:
        """``rows`` are inputs as ``columns.frame`` makes them."""

    def called_classes(self, rows: pl.DataFrame) -> NDArray[np.intp]:
        """The places [n] of the classes that a server would call them, of a classification."""

    def prepare_call(self, rows: pl.DataFrame) -> Callable[[], object]:
        """A call that predicts ``rows``, which are already in the shape that a server hands to the model: for timing."""


class Compiled:
    """ONNX, on one thread, as in the model server's workers."""

    def __init__(self, model: Path | bytes, signature: Signature) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 4  # errors reach us as exceptions
        if isinstance(model, Path) and weights.beside(model).exists():
            weights.share(options)  # as in the model server's workers
        content = model if isinstance(model, bytes) else str(model)
        self._session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        self._taken = [node.name for node in self._session.get_inputs()]
        output = graph_outputs.likeliest(graph_outputs.of_session(self._session), signature.task, len(signature.classes))
        if output is None:
            raise StepError("the compiled model has no output of numbers")
        self._output = output
        self._signature = signature
        self._names = [i.name for i in signature.inputs]

    def predict(self, rows: pl.DataFrame) -> NDArray[np.float64]:
        return of_task(self.answers(rows), self._signature.task)

    def answers(self, rows: pl.DataFrame) -> NDArray[np.float64]:
        """As ``PythonModel.answers``."""
        return shape_answers(self.prepare_call(rows)()[0], self._signature, rows.height)

    def called_classes(self, rows: pl.DataFrame) -> NDArray[np.intp]:
        return judge_decision.decided_classes(self._signature.decision, self.answers(rows))

    def prepare_call(self, rows: pl.DataFrame) -> Callable[[], Any]:
        feeds = columns.matrix(rows.select(self._names)) if self._taken == [MATRIX] else columns.feeds(rows.select(self._taken))
        return lambda: self._session.run([self._output], feeds)


class Original(PythonModel):
    """The model as the project trained it, behind its features."""

    @classmethod
    def load(
        cls,
        path: Path,
        features: str | None,
        signature: Signature,
        frames: TableKinds | None = None,
        parameters: Mapping[str, Any] = NOTHING,
        tables: Mapping[str, pl.DataFrame] = NOTHING,
    ) -> Original:
        """``path`` was written by this installation and verified by its digest: unpickling it runs the project's own code.

        ``parameters`` and ``tables``: see ``bind_features``.
        """
        with user_code():
            function = project_functions.load(features) if features else None
        return cls(joblib.load(path), bind_features(function, parameters, tables), signature, frames)

    def with_signature(self, signature: Signature) -> Original:
        """The same under another signature."""
        return Original(self.model, self._features, signature, self._frames)

    def predict(self, rows: pl.DataFrame) -> NDArray[np.float64]:
        return of_task(self.answers(rows), self._signature.task)

    def called_classes(self, rows: pl.DataFrame) -> NDArray[np.intp]:
        return (
            self.predicted_classes(rows)
            if self._signature.says_class
            else judge_decision.decided_classes(self._signature.decision, self.answers(rows))
        )

    def prepare_call(self, rows: pl.DataFrame) -> Callable[[], object]:
        return lambda: self.served_answers(rows)


def latency(form: Form, rows: pl.DataFrame) -> tuple[float, float]:
    """Median and 99th percentile of one-row calls, in ms: up to 300 calls within a second, at least 30."""
    calls = [form.prepare_call(rows.slice(i, 1)) for i in range(min(DISTINCT, rows.height))]
    calls[0]()  # the first call allocates
    taken: list[float] = []
    until = time.perf_counter() + PATIENCE_S
    for i in range(CALLS):
        begun = time.perf_counter()
        calls[i % len(calls)]()
        taken.append((time.perf_counter() - begun) * 1e3)
        if time.perf_counter() > until and len(taken) >= CALLS_MIN:
            break
    return float(np.percentile(taken, 50)), float(np.percentile(taken, 99))


def of_task(answers: NDArray[np.float64], task: Task) -> NDArray[np.float64]:
    """As metrics take them: where it is asked for the second of two classes, that one's probability alone."""
    return answers[:, 1] if Output.SECOND in task.definition.outputs.values() else answers
