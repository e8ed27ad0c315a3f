"""Columns as a model takes them: the one rule for training, parity, evaluation and serving.

A request's JSON, a training row and a held-out row all become the same frame: text is String, a number is Float64, an
integer Int64, a boolean Boolean; NaN is null. In ONNX a missing text is "" and a missing number is NaN (float32). The model
server has its own copy of the rule for ONNX (``noria/serving/runtime.py``), as it imports no stage.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from noria.kernel.errors import DataError
from noria.models.python_model import DTYPES
from noria.models.signature import MATRIX, Input, Kind, Signature


def kind_of(name: str, dtype: pl.DataType) -> Kind:
    """The kind of an input column. Raises DataError for a type that a request cannot carry."""
    if dtype == pl.Boolean:
        return Kind.BOOLEAN
    if dtype.is_integer():
        return Kind.INTEGER
    if dtype.is_numeric():
        return Kind.NUMBER
    if dtype in (pl.String, pl.Categorical, pl.Enum):
        return Kind.STRING
    raise DataError(
        f"input {name} is {dtype}: a request carries text, numbers and booleans",
        hint="Derive what the model needs (an hour, a weekday) in the step that makes the table.",
    )


def frame(table: pl.DataFrame, inputs: tuple[Input, ...]) -> pl.DataFrame:
    """The input columns, in order and of their types. Raises DataError when some are missing or do not convert."""
    missing = [i.name for i in inputs if i.name not in table.columns]
    if missing:
        raise DataError(f"these rows have no column {', '.join(missing)}, which the model takes")
    try:
        made = table.select(pl.col(i.name).cast(DTYPES[i.kind]) for i in inputs)
    except pl.exceptions.PolarsError as error:
        raise DataError(f"an input column is not of its type: {str(error).splitlines()[0]}") from error
    return made.with_columns(pl.selectors.float().fill_nan(None))


def feeds(rows: pl.DataFrame) -> dict[str, NDArray[Any]]:
    """ONNX inputs, [n, 1] each: text as objects with "" for null; all else float32 with NaN for null."""
    return {name: _feed(rows[name]) for name in rows.columns}


def matrix(rows: pl.DataFrame) -> dict[str, NDArray[Any]]:
    """The one ONNX input of a model that takes a matrix: float32 [n, k], NaN for null."""
    return {MATRIX: np.column_stack([_feed(series) for series in rows])}


def _feed(series: pl.Series) -> NDArray[Any]:
    if series.dtype == pl.String:
        return np.array(series.fill_null("").to_list(), dtype=object).reshape(-1, 1)
    return series.cast(pl.Float64).fill_null(float("nan")).to_numpy().astype(np.float32).reshape(-1, 1)


def names(signature: Signature) -> list[str]:
    return [i.name for i in signature.inputs]
