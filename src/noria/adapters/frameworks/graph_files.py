"""ONNX files that were written elsewhere: checked, and brought to the one shape that is served."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper

from noria.adapters.frameworks.bare import Bare
from noria.adapters.frameworks.files import Known
from noria.domain.signature import Kind, Task, class_text
from noria.errors import DataError, RefusedError

FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE)
KINDS = {TensorProto.STRING: Kind.STRING, TensorProto.BOOL: Kind.BOOLEAN}
LABELS = ("classlabels_int64s", "classlabels_strings", "classlabels_ints", "cats_int64s")
REGRESSORS = {"TreeEnsembleRegressor", "LinearRegressor", "SVMRegressor"}


def read(path: Path, task: Task | None, classes: Sequence[str]) -> Known:
    """The graph with one output of numbers, weights inside. Raises DataError, RefusedError."""
    made = _loaded(path)
    labels = _labels(made)
    outputs = {output.name: output for output in made.graph.output}
    _drop_zipmap(made)
    found = task or _task(made, labels, list(outputs.values()))
    known = tuple(classes) or (labels if found is not Task.REGRESSION else ())
    notes: tuple[str, ...] = (f"its outputs were {', '.join(outputs)}",)
    if found is not None:
        output = _chosen(made, found, len(known))
        del made.graph.output[:]
        made.graph.output.append(output)
        notes += (f"answers come from {output.name}",)
    names, width, kinds = _inputs(made)
    content = made.SerializeToString(deterministic=True)
    model = Bare("onnx", content, found) if found is not None else content
    opset = next((entry.version for entry in made.opset_import if entry.domain == ""), 0)
    framework = f"onnx opset {opset}" + (f", by {made.producer_name}" if made.producer_name else "")
    return Known(model, framework, names, width, found, known, kinds, notes)


def _loaded(path: Path) -> Any:
    try:
        made = onnx.load(str(path), load_external_data=False)
        apart = {entry.value for t in made.graph.initializer for entry in t.external_data if entry.key == "location"}
        missing = sorted(name for name in apart if not (path.parent / name).is_file())
        if not missing:
            onnx.load_external_data_for_model(made, str(path.parent))
            onnx.checker.check_model(made)
    except Exception as error:  # protobuf's, onnx's and the checker's errors share no base
        text = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
        raise DataError(f"is not a whole ONNX model: {text}") from error
    if missing:
        hint = "Save the model with its weights inside, or put them beside it as MODEL.onnx.data."
        raise DataError(f"its weights lie in {', '.join(missing)}, which is not there", hint=hint)
    if not made.graph.output or not made.graph.input:
        raise DataError("is not a whole ONNX model: it has no inputs or no outputs")
    return made


def _labels(made: Any) -> tuple[str, ...]:
    for node in made.graph.node:
        for attribute in node.attribute:
            values = list(attribute.ints) or [text.decode() for text in attribute.strings]
            if attribute.name in LABELS and values:
                return tuple(class_text(value) for value in values)
    return ()


def _drop_zipmap(made: Any) -> None:
    """Dictionaries of probabilities become the matrix that they were made of."""
    for node in [n for n in made.graph.node if n.op_type == "ZipMap"]:
        made.graph.node.remove(node)
        for output in [o for o in made.graph.output if o.name == node.output[0]]:
            made.graph.output.remove(output)
            made.graph.output.append(helper.make_tensor_value_info(node.input[0], TensorProto.FLOAT, [None, None]))


def _task(made: Any, labels: tuple[str, ...], outputs: Sequence[Any]) -> Task | None:
    if labels:
        return Task.BINARY if len(labels) == 2 else Task.MULTICLASS
    floats = [o for o in outputs if _type(o) in FLOATS]
    regression = any(node.op_type in REGRESSORS for node in made.graph.node) and len(outputs) == 1 == len(floats)
    return Task.REGRESSION if regression and _last(floats[0]) in (1, None) else None


def _chosen(made: Any, task: Task, classes: int) -> Any:
    """The one output that fits the task. Raises RefusedError naming all when none does, or several do."""
    widths: dict[Task, tuple[int | None, ...]] = {Task.REGRESSION: (1, None), Task.BINARY: (1, 2, None)}
    wanted = widths.get(task, (classes or None, None))
    fitting = [o for o in made.graph.output if _type(o) in FLOATS and _last(o) in wanted]
    if task is Task.MULTICLASS and classes == 0:
        fitting = [o for o in made.graph.output if _type(o) in FLOATS]
    if len(fitting) > 1:
        fitting = [o for o in fitting if "prob" in o.name.lower()] or fitting
    if len(fitting) == 1:
        return fitting[0]
    shown = ", ".join(f"{o.name} {_shape(o)}" for o in made.graph.output)
    due = "one number a row" if task is Task.REGRESSION else "a probability of each class a row, as float"
    what = "none" if not fitting else "more than one"
    raise RefusedError(
        f"of its outputs ({shown}) {what} fits a {task} task, which needs {due}", hint="Keep the right output alone in the graph."
    )


def _inputs(made: Any) -> tuple[tuple[str, ...], int | None, dict[str, Kind]]:
    """The names of one input a column, or the width of the one matrix; types of columns."""
    inner = {entry.name for entry in made.graph.initializer}
    given = [entry for entry in made.graph.input if entry.name not in inner]
    if len(given) == 1 and _type(given[0]) != TensorProto.STRING:
        return (), _last(given[0]), {}
    wide = next((entry for entry in given if _last(entry) != 1), None)
    if wide is not None:
        hint = "Give it one matrix [n, k] of numbers, or one input [n, 1] a column."
        raise RefusedError(f"its input {wide.name} {_shape(wide)} is no column, and there are {len(given)} inputs", hint=hint)
    kinds = {entry.name: KINDS.get(_type(entry), Kind.NUMBER) for entry in given}
    for entry in given:
        _as_float(made, entry)
    return tuple(entry.name for entry in given), len(given), kinds


def _as_float(made: Any, entry: Any) -> None:
    """A column of numbers arrives as float32: what the graph takes otherwise is cast in it."""
    kind = _type(entry)
    if kind in (TensorProto.FLOAT, TensorProto.STRING):
        return
    inner = f"{entry.name}.cast"
    for node in made.graph.node:
        node.input[:] = [inner if name == entry.name else name for name in node.input]
    entry.CopyFrom(helper.make_tensor_value_info(entry.name, TensorProto.FLOAT, [None, 1]))
    nodes = list(made.graph.node)
    del made.graph.node[:]
    made.graph.node.extend([helper.make_node("Cast", [entry.name], [inner], to=kind), *nodes])


def _type(entry: Any) -> Any:
    return entry.type.tensor_type.elem_type


def _last(entry: Any) -> int | None:
    """The width of [n, k]; 1 of [n]; None where it is not told."""
    dims = entry.type.tensor_type.shape.dim
    if len(dims) == 1:
        return 1
    return int(dims[-1].dim_value) or None if dims else None


def _shape(entry: Any) -> str:
    if not entry.type.HasField("tensor_type"):
        return "(no tensor)"
    dims = [str(d.dim_value or d.dim_param or "n") for d in entry.type.tensor_type.shape.dim]
    return f"{TensorProto.DataType.Name(_type(entry)).lower()}[{', '.join(dims)}]"
