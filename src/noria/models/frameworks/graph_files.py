"""ONNX files that were written elsewhere: checked, and brought to the one shape that is served."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper

from noria.kernel.errors import DataError, RefusedError
from noria.kernel.task import Task, task_of_classes
from noria.kernel.words import plural
from noria.models import graph_outputs
from noria.models.frameworks.bare import Bare
from noria.models.frameworks.file_kinds import AGAIN
from noria.models.frameworks.graphs import outputs_of
from noria.models.frameworks.model_file import ModelFile
from noria.models.signature import Kind, class_text

WHOLE = {getattr(TensorProto, f"{sign}INT{bits}") for sign in ("", "U") for bits in (8, 16, 32, 64)}
KINDS = {TensorProto.STRING: Kind.STRING, TensorProto.BOOL: Kind.BOOLEAN, **dict.fromkeys(WHOLE, Kind.INTEGER)}
OWN = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft", "ai.onnx.preview.training", "com.microsoft.nchwc")  # onnxruntime knows these
IR_LEAST = 8  # what OPSET needs
OPSET = 18  # where a graph names none: CatBoost's names that of the trees alone
LABELS = ("classlabels_int64s", "classlabels_strings", "classlabels_ints")
REGRESSORS = {"TreeEnsembleRegressor", "LinearRegressor", "SVMRegressor"}


def read(path: Path, task: Task | None, classes: Sequence[str]) -> ModelFile:
    """The graph with one output of numbers, weights inside. Raises DataError, RefusedError."""
    made = _load_graph(path)
    labels = _labels(made)
    before = [output.name for output in made.graph.output]
    dictionaries = any(node.op_type == "ZipMap" for node in made.graph.node)
    normalise(made)
    found = task or _task(made, labels)
    known = tuple(classes) or (labels if found is None or found.definition.has_classes else ())
    notes: tuple[str, ...] = (f"its outputs were {', '.join(before)}",) if len(before) > 1 else ()
    if dictionaries:
        notes += ("its dictionaries of probabilities are left out",)
    if found is not None:
        output = choose_output(made, found, len(known))
        del made.graph.output[:]
        made.graph.output.append(output)
        notes += (f"answers come from {output.name}",) if len(before) > 1 else ()
    names, width, kinds, kind = _inputs(made)
    content = made.SerializeToString(deterministic=True)
    demand_runnable(content)
    model = Bare("onnx", content, found) if found is not None else content
    opset = next((entry.version for entry in made.opset_import if entry.domain == ""), 0)
    framework = f"onnx opset {opset}" + (f", by {made.producer_name}" if made.producer_name else "")
    return ModelFile(model, framework, names, width, found, known, kinds, notes, kind, "a graph does not say it")


def normalise(made: Any) -> None:
    """Dictionaries become matrices, and a graph that names no opset of its own gets one."""
    _drop_zipmap(made)
    if not any(entry.domain in ("", "ai.onnx") for entry in made.opset_import):
        made.opset_import.append(helper.make_opsetid("", OPSET))
        made.ir_version = max(made.ir_version, IR_LEAST)


def demand_runnable(content: bytes) -> None:
    """Raise RefusedError with the cause where onnxruntime does not take the graph."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    try:
        ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no base
        text = (str(error).strip().splitlines() or [type(error).__name__])[0]
        text = re.sub(r"^(\[ONNXRuntimeError\] : \d+ : \w+ : )?(/\S+ )?", "", text)
        knows = re.search(r"domain (\S+) is till opset (\d+)", str(error))
        if knows:
            domain = "" if knows[1] == "ai.onnx" else f" of {knows[1]}"
            given = next((e.version for e in onnx.load_from_string(content).opset_import if e.domain in ("", knows[1])), "?")
            what = f"it is written in opset {given}{domain}, and the installed onnxruntime {ort.__version__} knows {knows[2]}"
            hint = f"Export it again with opset {knows[2]} (target_opset=, opset_version=), or: pip install --upgrade onnxruntime"
            raise RefusedError(what, hint=hint) from error
        strange = sorted({f"{n.domain}:{n.op_type}" for n in onnx.load_from_string(content).graph.node if n.domain not in OWN})
        if strange:
            hint = "Export it without them: a server has no operators but those of ONNX."
            what = f"it uses {', '.join(strange[:5])}, which onnxruntime does not have"
            raise RefusedError(what, hint=hint) from error
        raise RefusedError(f"onnxruntime does not take the graph: {text[:300]}") from error


def _load_graph(path: Path) -> Any:
    made = _parse_graph(path)
    apart = {entry.value for t in made.graph.initializer for entry in t.external_data if entry.key == "location"}
    missing = sorted(name for name in apart if not (path.parent / name).is_file())
    if missing:
        hint = "Put them beside the model, under these names; or save the model with its weights inside."
        raise BesideError(f"its weights lie in {', '.join(missing)}, which is not there", missing, hint)
    try:
        onnx.load_external_data_for_model(made, str(path.parent))
        _demand_known(made)
        _check(made)
    except (RefusedError, DataError):
        raise
    except Exception as error:  # onnx's and the checker's errors share no base
        text = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
        raise DataError(f"is not a whole ONNX model: {text}") from error
    if not made.graph.output or not made.graph.input:
        raise DataError("is not a whole ONNX model: it has no inputs or no outputs")
    return made


class BesideError(DataError):
    """Weights in other files, which are not beside the graph: ``names``."""

    def __init__(self, message: str, names: Sequence[str], hint: str) -> None:
        super().__init__(message, hint=hint)
        self.names = tuple(names)


def _parse_graph(path: Path) -> Any:
    try:
        return onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf's errors share no base with onnx's
        text = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
        size = path.stat().st_size
        raise DataError(f"is not a whole ONNX model, it may be cut off ({size:,} bytes): {text}", hint=AGAIN) from error


def _demand_known(made: Any) -> None:
    """Raise RefusedError for a file of a newer ONNX than the one that is installed."""
    if made.ir_version > onnx.IR_VERSION:
        hint = "Export it with an older onnx, or: pip install --upgrade onnx onnxruntime"
        text = f"it is written in version {made.ir_version} of the format, and the installed onnx {onnx.__version__} knows"
        raise RefusedError(f"{text} {onnx.IR_VERSION}", hint=hint)


def _check(made: Any) -> None:
    """A graph of CatBoost names no opset of its own, which is mended, and not its fault. Operators of others are told apart."""
    checked = onnx.ModelProto()
    checked.CopyFrom(made)
    newest = onnx.defs.onnx_opset_version()
    for entry in checked.opset_import:
        if entry.domain in ("", "ai.onnx") and entry.version > newest:
            return  # the runtime says what it knows
    normalise(checked)
    with contextlib.suppress(ValueError):  # larger than a message may be
        onnx.checker.check_model(checked)


def _labels(made: Any) -> tuple[str, ...]:
    """The classes in the order of the probabilities: as the dictionaries name them, else as the last classifier does. An encoder
    of inputs has categories as well, and a classifier inside another one has labels of its own: a number of labels that is not
    the outputs' is none."""
    widths = {output.width for output in outputs_of(made) if output.kind in graph_outputs.NUMBERS and output.width}
    makers = [node for node in made.graph.node if node.op_type == "ZipMap"]
    makers += [node for node in reversed(made.graph.node) if node.op_type.endswith("Classifier")]
    for node in makers:
        for attribute in node.attribute:
            values = list(attribute.ints) or [text.decode() for text in attribute.strings]
            if attribute.name in LABELS and values and (node.op_type == "ZipMap" or not widths or len(values) in widths):
                return tuple(class_text(value) for value in values)
    return ()


def _drop_zipmap(made: Any) -> None:
    """Dictionaries of probabilities become the matrix that they were made of."""
    for node in [n for n in made.graph.node if n.op_type == "ZipMap"]:
        made.graph.node.remove(node)
        for output in [o for o in made.graph.output if o.name == node.output[0]]:
            made.graph.output.remove(output)
            made.graph.output.append(helper.make_tensor_value_info(node.input[0], TensorProto.FLOAT, [None, None]))


def _task(made: Any, labels: tuple[str, ...]) -> Task | None:
    if labels:
        return task_of_classes(len(labels))
    outputs = outputs_of(made)
    one = len(outputs) == 1 and graph_outputs.fitting(outputs, Task.REGRESSION)
    return Task.REGRESSION if one and any(node.op_type in REGRESSORS for node in made.graph.node) else None


def choose_output(made: Any, task: Task, classes: int) -> Any:
    """The one output that fits the task. Raises RefusedError naming all when none does, or several do."""
    fitting = graph_outputs.fitting(outputs_of(made), task, classes)
    if len(fitting) == 1:
        return next(o for o in made.graph.output if o.name == fitting[0].name)
    shown = ", ".join(f"{o.name} {_shape(o)}" for o in made.graph.output)
    due = "a probability of each class a row" if task.definition.has_classes else "one number a row"
    what = "none" if not fitting else "more than one"
    hint = "Keep the right output alone in the graph."
    if not fitting and not any(o.type.HasField("tensor_type") for o in made.graph.output):
        hint = "Lists and dictionaries are no tensors: export it without them (skl2onnx: options={'zipmap': False})."
    elif not fitting and any(o.type.HasField("tensor_type") for o in made.graph.output):
        hint = "Let the graph answer it as one tensor of floats, [n, 1] or [n, classes], and export it again."
    raise RefusedError(f"of its outputs ({shown}) {what} fits a {task} task, which needs {due}, as float", hint=hint)


Inputs = tuple[tuple[str, ...], int | None, dict[str, Kind], Kind | None]


def _inputs(made: Any) -> Inputs:
    """The names of one input a column, or the width of the one matrix; types of columns, or of all columns of the matrix."""
    inner = {entry.name for entry in made.graph.initializer}
    given = [entry for entry in made.graph.input if entry.name not in inner]
    for entry in given:
        _demand_rows(entry)
    if len(given) == 1 and _type(given[0]) != TensorProto.STRING:
        return (), _last(given[0]), {}, KINDS.get(_type(given[0]))
    wide = next((entry for entry in given if _last(entry) != 1), None)
    if wide is not None:
        many = f"and there are {plural(len(given), 'input')}" if len(given) > 1 else "and a matrix of text cannot be given"
        hint = "Give it one matrix [n, k] of numbers, or one input [n, 1] a column."
        raise RefusedError(f"its input {wide.name} {_shape(wide)} is no column, {many}", hint=hint)
    kinds = {entry.name: KINDS.get(_type(entry), Kind.NUMBER) for entry in given}
    for entry in given:
        _as_float(made, entry)
    return tuple(entry.name for entry in given), len(given), kinds, None


def _demand_rows(entry: Any) -> None:
    """Raise RefusedError for an input that is no table of rows."""
    if not entry.type.HasField("tensor_type"):
        raise RefusedError(f"its input {entry.name} is no tensor", hint="Noria gives a matrix of numbers, or a column an input.")
    dims = entry.type.tensor_type.shape.dim
    if len(dims) > 2:
        hint = "Rows with columns are served: flatten it inside the graph, or serve it elsewhere (images, sequences)."
        raise RefusedError(f"its input {entry.name} {_shape(entry)} has {len(dims)} dimensions, and a table has two", hint=hint)
    if len(dims) > 0 and dims[0].dim_value:
        hint = (
            f"Export it again with a free first dimension: torch.onnx.export(..., dynamic_axes={{{entry.name!r}: {{0: 'n'}}}}); "
            "of skl2onnx: FloatTensorType([None, k])."
        )
        made_for = plural(dims[0].dim_value, "row")
        raise RefusedError(f"its input {entry.name} {_shape(entry)} is made for exactly {made_for} at a time", hint=hint)


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
