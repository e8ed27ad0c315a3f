"""What kind of answer a model gives: its name. What follows from it stands in its definition (`kernel/tasks/`)."""

from __future__ import annotations

from enum import StrEnum

from noria.kernel.task_definition import TaskDefinition
from noria.kernel.tasks import DEFINITIONS


class Task(StrEnum):
    """Ask ``task.definition``, not which member it is. The members that are named here are for adapters that translate what
    another library says of its models; a task whose definition is registered is one without being named."""

    BINARY = "binary"
    MULTICLASS = "multiclass"
    REGRESSION = "regression"

    @classmethod
    def _missing_(cls, value: object) -> Task | None:
        if not isinstance(value, str) or value not in DEFINITIONS:
            return None
        member = str.__new__(cls, value)
        member._name_, member._value_ = value.upper(), value
        known: Task = cls._value2member_map_.setdefault(value, member)  # type: ignore[assignment]  # of this class
        return known

    @property
    def definition(self) -> TaskDefinition:
        return DEFINITIONS[self]


def task_of_classes(count: int) -> Task:
    """Of a model that tells how many classes it knows, and no more."""
    return Task.BINARY if count == 2 else Task.MULTICLASS


DEFAULT_TASK = Task.BINARY  # of a project that does not say it
