"""Bare boosters and ONNX graphs, as graphs that take what the server gives."""

from __future__ import annotations

from typing import Any

import onnx
import polars as pl
from onnx import TensorProto, helper

from noria.kernel.errors import NoriaError
from noria.models import graph_outputs
from noria.models.frameworks import lightgbm, xgboost
from noria.models.frameworks.bare import Bare
from noria.models.signature import MATRIX, Signature, is_matrix

BOOSTERS = {"lightgbm": lightgbm, "xgboost": xgboost}  # package -> its way to ONNX
BOOSTER_OPSET = 15
TEXT_CATEGORIES = "its categories are texts, and a graph of its trees takes numbers alone"


class BareFramework:
    """What came from training, or from elsewhere, without an estimator around it."""

    name = "bare"

    def matches(self, model: object) -> bool:
        return isinstance(model, Bare)

    def compile(self, model: Any, signature: Signature, sample: pl.DataFrame) -> bytes:
        """Raises whatever a converter raises for what it cannot convert."""
        if model.kind == "onnx":
            made = onnx.load_from_string(model.content)
        else:
            if not is_matrix(signature):
                raise NoriaError(TEXT_CATEGORIES)
            graph = BOOSTERS[model.kind].convert(model.content, len(signature.inputs), BOOSTER_OPSET)
            made = onnx.load_from_string(graph.SerializeToString(deterministic=True))
            _say_opset(made)
            made.graph.name = "noria"  # the converters give it a name at random
        return finish_graph(made, signature)


def finish_graph(made: Any, signature: Signature) -> bytes:
    """The graph as the server takes it: its inputs, both classes' probabilities, checked."""
    _matrix_input(made, signature)
    both_classes(made, signature)
    onnx.checker.check_model(made)
    content: bytes = made.SerializeToString(deterministic=True)
    return content


def outputs_of(made: Any) -> list[graph_outputs.GraphOutput]:
    """The outputs of a graph."""
    return [graph_outputs.GraphOutput(o.name, _kind(o), _dims(o)) for o in made.graph.output]


def _kind(entry: Any) -> str:
    if not entry.type.HasField("tensor_type"):
        return ""
    return str(TensorProto.DataType.Name(entry.type.tensor_type.elem_type)).lower()


def _dims(entry: Any) -> tuple[int | None, ...] | None:
    tensor = entry.type.tensor_type
    return tuple(int(d.dim_value) or None for d in tensor.shape.dim) if tensor.HasField("shape") else None


def _say_opset(made: Any) -> None:
    """The converters of boosters name the opset of the trees alone, or an old one."""
    known = {entry.domain: entry for entry in made.opset_import}
    if "" not in known:
        made.opset_import.append(helper.make_opsetid("", BOOSTER_OPSET))
    else:
        known[""].version = max(known[""].version, BOOSTER_OPSET)


def _matrix_input(made: Any, signature: Signature) -> None:
    """A graph that takes all columns as one matrix takes it under the name that the server knows, as float32."""
    given = [entry for entry in made.graph.input if entry.name not in {i.name for i in made.graph.initializer}]
    wanted = [entry.name for entry in signature.inputs]
    if sorted(entry.name for entry in given) == sorted(wanted):
        return
    if len(given) != 1 or not is_matrix(signature):
        named = ", ".join(entry.name for entry in given)
        raise NoriaError(f"the graph takes {named}, and the signature has {', '.join(wanted)}")
    (matrix,) = given
    kind = matrix.type.tensor_type.elem_type
    made.graph.input.remove(matrix)
    made.graph.input.append(helper.make_tensor_value_info(MATRIX, TensorProto.FLOAT, [None, len(wanted)]))
    rest = list(made.graph.node)
    del made.graph.node[:]
    made.graph.node.extend([helper.make_node("Cast", [MATRIX], [matrix.name], to=kind), *rest])


def both_classes(made: Any, signature: Signature) -> None:
    """A binary model that answers one probability a row gets the other one beside it."""
    chosen = graph_outputs.likeliest(outputs_of(made), signature.task, len(signature.classes))
    if not signature.task.definition.two_classes or chosen is None:
        return
    output = next(o for o in made.graph.output if o.name == chosen)
    shape = output.type.tensor_type.shape.dim
    if len(shape) == 2 and shape[1].dim_value != 1:
        return
    kind = output.type.tensor_type.elem_type
    one = helper.make_tensor("noria.one", kind, [1], [1.0])
    sides = helper.make_tensor("noria.sides", TensorProto.INT64, [2], [-1, 1])
    made.graph.initializer.extend([one, sides])
    made.graph.node.extend(
        [
            helper.make_node("Reshape", [output.name, "noria.sides"], ["noria.yes"]),
            helper.make_node("Sub", ["noria.one", "noria.yes"], ["noria.no"]),
            helper.make_node("Concat", ["noria.no", "noria.yes"], ["noria.probabilities"], axis=1),
        ]
    )
    del made.graph.output[:]
    made.graph.output.append(helper.make_tensor_value_info("noria.probabilities", kind, [None, 2]))
