"""Which output of an ONNX graph carries the answers, and not the label or what else it computes: one rule for who reads a file,
who compiles, who measures and who serves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from noria.kernel.task import Task

NUMBERS = ("float", "double")


class GraphOutput(msgspec.Struct, frozen=True):
    """``kind`` as in ``tensor(float)``, empty of what is no tensor; ``shape``: None where a dimension or the rank is not told."""

    name: str
    kind: str
    shape: tuple[int | None, ...] | None = None

    @property
    def width(self) -> int | None:
        """Numbers a row: 1 of [n], k of [n, k]; None where it is not told."""
        if self.shape is not None and len(self.shape) == 1:
            return 1
        return self.shape[-1] if self.shape else None


def of_session(session: Any) -> list[GraphOutput]:
    """Those of a session of onnxruntime."""
    return [
        GraphOutput(
            node.name,
            node.type[len("tensor(") : -1] if node.type.startswith("tensor(") else "",
            tuple(d if isinstance(d, int) else None for d in node.shape or ()) or None,
        )
        for node in session.get_outputs()
    ]


def fitting(outputs: Sequence[GraphOutput], task: Task, classes: int = 0) -> list[GraphOutput]:
    """Those of the type and width of answers, in their order; where several are and some are called probabilities, these.

    ``classes``: how many there are, 0 where it is not known.
    """
    wanted = {None, *(task.definition.graph_widths or (classes,))}
    any_width = not task.definition.graph_widths and not classes
    found = [output for output in outputs if output.kind in NUMBERS and (any_width or output.width in wanted)]
    named = [output for output in found if "prob" in output.name.lower()]
    return named if len(found) > 1 and named else found


def likeliest(outputs: Sequence[GraphOutput], task: Task, classes: int = 0) -> str | None:
    """The name of the one to ask; None where none has numbers of the shape that the task needs."""
    found = fitting(outputs, task, classes)
    single = not task.definition.has_classes
    rows = [o for o in outputs if o.kind in NUMBERS and (single or (o.shape is not None and len(o.shape) == 2))]
    return next((output.name for output in (*found, *rows)), None)
