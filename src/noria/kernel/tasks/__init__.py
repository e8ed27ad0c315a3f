"""The tasks that Noria knows, one file each. A new one is its file and its line here; `kernel/task_definition.py` is the form."""

from __future__ import annotations

from noria.kernel.task_definition import Metric, TaskDefinition
from noria.kernel.tasks.binary import BINARY
from noria.kernel.tasks.multiclass import MULTICLASS
from noria.kernel.tasks.regression import REGRESSION

DEFINITIONS: dict[str, TaskDefinition] = {definition.name: definition for definition in (BINARY, MULTICLASS, REGRESSION)}


def find_metric(name: str) -> Metric | None:
    """The metric of that name, whatever the task: its direction and its meaning are the same in all that have it."""
    return next((d.gate_metrics[name] for d in DEFINITIONS.values() if name in d.gate_metrics), None)


def guarded_metrics() -> dict[str, Metric]:
    """Those that a rollout may guard, of all tasks."""
    found: dict[str, Metric] = {}
    for definition in DEFINITIONS.values():
        for name in definition.guarded:
            found.setdefault(name, definition.metrics[name])
    return found
