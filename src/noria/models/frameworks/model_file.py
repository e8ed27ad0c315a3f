"""What the readers of model files share: the record of what a file tells, and the words for a library that is missing."""

from __future__ import annotations

import importlib.metadata
from typing import Any

import msgspec

from noria.kernel.errors import DataError, RefusedError
from noria.kernel.task import Task
from noria.models.signature import Kind


class ModelFile(msgspec.Struct, frozen=True):
    """A model, and what its file tells; what it does not tell is empty or None."""

    model: Any
    framework: str  # "lightgbm 4.7.0"
    names: tuple[str, ...] = ()
    width: int | None = None  # how many inputs it takes
    task: Task | None = None
    classes: tuple[str, ...] = ()
    kinds: dict[str, Kind] = {}
    notes: tuple[str, ...] = ()
    kind: Kind | None = None  # of all columns of the one matrix it takes, where they are not any numbers
    unsure: str = ""  # why the task cannot be told, where it cannot


class UnusableError(DataError):
    """What the file holds does not load, or does not answer. Another version of its library may be why."""


def version(package: str) -> str:
    """``lightgbm 4.7.0``; XGBoost is also known as xgboost-cpu."""
    for name in (package, f"{package}-cpu"):
        try:
            return f"{package} {importlib.metadata.version(name)}"
        except importlib.metadata.PackageNotFoundError:
            continue
    return package


EXTRAS = {
    "boosters": "lightgbm xgboost-cpu onnxmltools",
    "skops": "skops",
    "catboost": "catboost",
    "torch": "torch",
}  # what the extras of these names bring


def missing(package: str, extra: str) -> RefusedError:
    hint = f"Install it, here and where the release is served: pip install {EXTRAS[extra]}"
    return RefusedError(f"{package}, which reads such files, is not installed", hint=hint)
