"""PyTorch modules, with the face of an estimator, and their way to ONNX. Light: hosts load this file to unpickle them."""

from __future__ import annotations

import io
import pickle
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from noria.kernel.errors import NoriaError, RefusedError, StepError
from noria.kernel.task import Task
from noria.kernel.words import plural
from noria.models.frameworks.bare import Answering, matrix
from noria.models.frameworks.model_file import ModelFile, UnusableError, missing, version
from noria.models.signature import MATRIX, Signature, is_matrix

if TYPE_CHECKING:
    from pathlib import Path

    import polars as pl

    from noria.models.frameworks.model_file import ModelFile

OPSET = 18
SUM_OFF = 1e-3  # how far the probabilities of a row may be from 1 together
SHOWN_ROWS = 2000  # training rows on which a module shows what it answers


class TorchModel(Answering):
    """A module that takes float32 [n, k] and answers probabilities [n, classes], of two classes also [n] or [n, 1] of the
    second; of a regression values [n] or [n, 1]. It is asked on the processor, in evaluation mode."""

    def __init__(self, module: Any, task: Task) -> None:
        self.module, self.task = module.cpu().eval(), task
        if getattr(module, "classes_", None) is not None:
            self.classes_ = list(module.classes_)

    def predict_proba(self, table: Any) -> NDArray[np.float64]:
        """[n, classes]."""
        found = self._answers(table)
        if self.task.definition.two_classes and found.shape in ((len(found),), (len(found), 1)):
            found = found.reshape(-1)
            return np.column_stack([1.0 - found, found])
        return found

    def prove(self, table: Any, classes: int) -> None:
        """Raise StepError unless it answers what the task asks for on training rows. Probabilities are told from logits by
        their values: nothing in a module says which they are."""
        try:
            rows = matrix(table)
        except (TypeError, ValueError) as error:
            raise StepError(
                f"a PyTorch module takes one matrix of numbers, and its inputs are not all numbers: {error}",
                hint="Encode text as numbers in the step that makes the table, or in `features`.",
            ) from error
        found = self._answers(rows)
        finite = found[np.isfinite(found.reshape(len(found), -1)).all(axis=1)]
        if not len(finite):
            hint = "Null is NaN in the matrix: fill it inside the module, or in the step that makes the table."
            raise StepError(f"the module answers no finite number to any of {plural(len(found), 'training row')}", hint=hint)
        self._demand_meaning(finite, classes)

    def _demand_meaning(self, found: NDArray[np.float64], classes: int) -> None:
        single = found.shape in ((len(found),), (len(found), 1))
        if not self.task.definition.has_classes:
            if not single:
                raise StepError(f"the module answers {_shape(found)}, and a regression needs [n] or [n, 1]")
            return
        if not (single and self.task.definition.two_classes) and found.shape != (len(found), classes):
            raise StepError(f"the module answers {_shape(found)}, and the label has {classes} classes: [n, {classes}] is due")
        low, high = float(found.min()), float(found.max())
        off = 0.0 if single else float(np.abs(found.sum(axis=1) - 1.0).max())
        if low < 0.0 or high > 1.0 + SUM_OFF or off > SUM_OFF:
            end = "torch.nn.Sigmoid()" if single else "torch.nn.Softmax(dim=1)"
            raise StepError(
                f"the module answers logits, not probabilities: numbers from {low:.4g} to {high:.4g}"
                + ("" if single else f", rows that sum up to 1 only within {off:.2g}"),
                hint=f"End the module with {end}; train on the part before it where the loss takes logits.",
            )

    def _answers(self, table: Any) -> NDArray[np.float64]:
        import torch  # it is loaded already: the module's class is one of its own

        rows = torch.from_numpy(np.ascontiguousarray(matrix(table), dtype=np.float32))
        with torch.inference_mode():
            said = self.module(rows.to(self._asked_type()))
        if not isinstance(said, torch.Tensor) or len(said) != len(rows):
            what = f"the shape {list(said.shape)}" if isinstance(said, torch.Tensor) else type(said).__name__
            raise StepError(f"the module answers {what} for {len(rows)} rows; one tensor with a row for each is due")
        return np.asarray(said.double().numpy(), dtype=np.float64)

    def _asked_type(self) -> Any:
        return _dtype(self.module)

    def __getstate__(self) -> dict[str, Any]:
        """Equal modules have equal bytes: PyTorch's own pickles name addresses in memory."""
        return {**self.__dict__, "module": _pickle_module(self.module)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.module = pickle.loads(state["module"])  # noqa: S301 - part of a pickle that whoever loads it verified


class Exported(TorchModel):
    """A program that `torch.export` wrote (.pt2), kept as the bytes of its file: as an object it cannot be pickled."""

    library = "torch"

    def __init__(self, content: bytes, task: Task) -> None:
        import torch

        self.content, self.task = content, task
        self.module = torch.export.load(io.BytesIO(content)).module()

    def _asked_type(self) -> Any:
        return _inputs(self.module)[0].dtype

    def __getstate__(self) -> dict[str, Any]:
        return {"content": self.content, "task": self.task}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]  # the program is read again


class TorchFramework:
    """Modules by the exporter that PyTorch brings with it: it traces one call, and the parity check tells whether that is all."""

    name = "torch"

    def matches(self, model: object) -> bool:
        return isinstance(model, TorchModel)

    def compile(self, model: Any, signature: Signature, sample: pl.DataFrame) -> bytes:
        """Raises whatever PyTorch raises for what it cannot export."""
        import onnx  # heavy, and not needed to serve
        import torch

        from noria.models.frameworks.graphs import both_classes  # as onnx

        if not is_matrix(signature):
            raise NoriaError("a PyTorch module takes one matrix of numbers, and an input is text")
        rows = np.nan_to_num(matrix(sample.select(i.name for i in signature.inputs))).astype(np.float32)
        rows = np.tile(rows, (2, 1))  # never a single row: that would be traced as a constant
        made, target = "probabilities" if signature.task.definition.has_classes else "values", io.BytesIO()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of tracing, and that there is a newer exporter, which needs packages of its own
            torch.onnx.export(
                _cast_inputs(model.module, model._asked_type()),
                (torch.from_numpy(rows),),
                target,
                input_names=[MATRIX],
                output_names=[made],
                dynamic_axes={MATRIX: {0: "n"}, made: {0: "n"}},
                opset_version=OPSET,
                dynamo=False,
            )
        graph = onnx.load_from_string(target.getvalue())
        graph.graph.name = "noria"
        both_classes(graph, signature)
        onnx.checker.check_model(graph)
        content: bytes = graph.SerializeToString(deterministic=True)
        return content


def read(path: Path, task: Task | None) -> ModelFile:
    """A program that `torch.export.save` wrote. Loading it may run code in it. Raises DataError, RefusedError."""
    try:
        import torch
    except ImportError as error:
        raise missing("torch", "torch") from error
    content = path.read_bytes()
    try:
        module = torch.export.load(io.BytesIO(content)).module()
    except Exception as error:  # PyTorch's reader raises what its parts raise
        text = (str(error).strip().splitlines() or [""])[0][:300]
        raise UnusableError(f"is not a whole program of PyTorch: {type(error).__name__}: {text}") from error
    given = _inputs(module)
    width = given[0].shape[1] if len(given) == 1 and len(given[0].shape) == 2 else None
    if not isinstance(width, int):
        shown = ", ".join(str(list(one.shape)) for one in given)
        raise RefusedError(f"it takes {shown}, and rows are given as one matrix [n, k] of numbers", hint=EXPORTED)
    if isinstance(given[0].shape[0], int):
        raise RefusedError(f"it was exported for exactly {given[0].shape[0]} rows at a time", hint=EXPORTED)
    model = Exported(content, task) if task is not None else module
    return ModelFile(model, version("torch"), (), width, task, unsure="a program does not say it")


EXPORTED = (
    "Export it with a free number of rows: torch.export.save(torch.export.export(model.eval(), (torch.zeros(2, K),), "
    'dynamic_shapes=({0: torch.export.Dim("n")},)), "model.pt2")'
)


def _inputs(module: Any) -> list[Any]:
    """What an exported program takes: tensors without values, whose free dimensions are no whole numbers."""
    return [node.meta["val"] for node in module.graph.nodes if node.op == "placeholder"]


def is_module(model: object) -> bool:
    """Whether ``model`` is a PyTorch module that says by itself nothing of how it predicts. PyTorch is not imported for that."""
    bases = {f"{c.__module__}.{c.__qualname__}" for c in type(model).__mro__}
    own = hasattr(type(model), "predict") or hasattr(type(model), "predict_proba")
    return "torch.nn.modules.module.Module" in bases and not own


def _cast_inputs(module: Any, kind: Any) -> Any:
    """The module behind a change of type, where it does not take float32. An exported program has one mode: it is told none."""
    import torch

    exported = hasattr(module, "graph")
    if kind == torch.float32 and not exported:
        return module

    class Asked(torch.nn.Module):  # type: ignore[misc]  # torch has no types where it is not installed
        def __init__(self) -> None:
            super().__init__()
            self.inner = module

        def forward(self, rows: Any) -> Any:
            return self.inner(rows.to(kind))

        def train(self, mode: bool = True) -> Any:
            return self if exported else super().train(mode)

    return Asked().eval()


def _dtype(module: Any) -> Any:
    import torch

    return next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)


class _Pickler(pickle.Pickler):
    """Tensors as NumPy's arrays."""

    def reducer_override(self, given: Any) -> Any:
        import torch

        if type(given) is not torch.Tensor or given.layout is not torch.strided or given.dtype is torch.bfloat16:
            return NotImplemented
        return _tensor, (np.ascontiguousarray(given.detach().numpy()).copy(), given.requires_grad)


def _pickle_module(module: Any) -> bytes:
    target = io.BytesIO()
    _Pickler(target, protocol=5).dump(module)
    return target.getvalue()


def _tensor(values: NDArray[Any], requires_grad: bool) -> Any:
    import torch

    return torch.from_numpy(values).requires_grad_(requires_grad)


def _shape(found: NDArray[np.float64]) -> str:
    return f"[{', '.join(map(str, ('n', *found.shape[1:])))}]"
