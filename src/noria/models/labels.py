"""How a label is read: whether it suits the task, how training gets it, and what number it is for metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from noria.kernel.errors import DataError
from noria.kernel.task import Task
from noria.models.signature import class_text

CLASSES_MAX = 1000


def check_label(train: pl.DataFrame, label: str, task: Task) -> None:
    """The label suits the task. Raises DataError."""
    series, definition = train[label], task.definition
    if not definition.has_classes:
        if not series.dtype.is_numeric():
            raise DataError(f"the label {label} is {series.dtype}: a {task} needs numbers", hint="Set `task: multiclass`?")
        return
    classes = sorted({class_text(value) for value in series.unique().to_list()})
    if len(classes) < 2:
        raise DataError(
            f"the label {label} has one class in all {train.height:,} training rows: {classes[0]}; nothing can be learned"
        )
    if definition.two_classes and len(classes) > 2:
        raise DataError(
            f"the label {label} has {len(classes):,} classes: `task: {task}` needs two", hint="Set `task: multiclass`."
        )
    if len(classes) > CLASSES_MAX:
        raise DataError(f"the label {label} has {len(classes):,} classes", hint="Set `task: regression`?")


def plain_label(label: pl.Series, task: Task) -> pl.Series:
    """A boolean is 0 or 1, so that its classes are written alike everywhere; a label of numbers is Float64."""
    if not task.definition.has_classes:
        return label.cast(pl.Float64)
    return label.cast(pl.Int8) if label.dtype == pl.Boolean else label


def label_numbers(label: pl.Series, task: Task, classes: Sequence[str]) -> NDArray[Any]:
    """Labels as metrics take them: numbers, or the places [n] of their classes; -1 for a class that training did not see."""
    if not task.definition.has_classes:
        return label.cast(pl.Float64).to_numpy()
    codes = {name: code for code, name in enumerate(classes)}
    known = {value: codes.get(class_text(value), -1) for value in label.unique().to_list()}
    return np.array([known[value] for value in label.to_list()], dtype=np.int64)
