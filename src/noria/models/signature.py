"""What a request carries and what an answer means."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import SupportsFloat

import msgspec

from noria.kernel.task import Task


class Kind(StrEnum):
    """The types of an input column."""

    STRING = "string"
    NUMBER = "number"  # float64; integers and booleans are accepted
    INTEGER = "integer"
    BOOLEAN = "boolean"


class Input(msgspec.Struct, frozen=True):
    name: str
    kind: Kind
    nullable: bool = True
    low: float | None = None  # smallest and largest value seen in training
    high: float | None = None


class Decision(msgspec.Struct, frozen=True):
    """Which class an answer is called where it is not the likeliest one. With a threshold: of two classes the second, from this
    probability on. Without: what the model's own ``predict`` says, which answers carry as the place of the class, after the
    probabilities."""

    threshold: float | None = None
    told: bool = False  # by noria.yaml: what the model's ``predict`` says does not matter


class Signature(msgspec.Struct, frozen=True):
    """``classes`` are the labels in the order of the model's probability columns; empty for regression."""

    inputs: tuple[Input, ...]
    task: Task
    classes: tuple[str, ...] = ()
    key: str | None = None  # optional request column that identifies the entity
    event_time: str | None = None  # optional request column: when it happens, ISO 8601
    decision: Decision | None = None  # None: the likeliest class, at a tie of two the second; and of a regression

    @property
    def width(self) -> int:
        """How many numbers a row's answer has; 0: it is one value."""
        return len(self.classes) + self.says_class if self.classes else 0

    @property
    def says_class(self) -> bool:
        """Whether answers carry the place of the class that the model chose."""
        return self.decision is not None and self.decision.threshold is None


MATRIX = "noria_rows"  # the one input [n, k] of a compiled model whose inputs are all numbers, in the signature's order


def is_matrix(signature: Signature) -> bool:
    """Whether the inputs can be one matrix: none is text, and none has the name that the matrix has."""
    return all(i.kind is not Kind.STRING and i.name != MATRIX for i in signature.inputs)


def class_code(label: object, classes: Sequence[str]) -> int | None:
    """The place of the class that a label names; true and 1 mean the same, false and 0 too. None where it names none."""
    if label is None:
        return None
    text = class_text(label)
    for place, name in enumerate(classes):
        if text == name or _PLAIN.get(text.lower(), text) == _PLAIN.get(name.lower(), name):
            return place
    return None


_PLAIN = {"true": "1", "false": "0"}


def class_text(value: object) -> str:
    """How a class is written in a signature: 1, 1.0 and true are all '1' (NumPy's scalars behave like Python's here)."""
    if isinstance(value, SupportsFloat) and not isinstance(value, str):
        number = float(value)
        return str(int(number)) if number.is_integer() else str(value)
    return str(value)
