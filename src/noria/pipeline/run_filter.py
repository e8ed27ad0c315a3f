"""Which runs meet a condition (`kernel.where`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from noria.kernel import row_sql, where
from noria.kernel.where import AMONG, Condition


def matching(condition: Condition, runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of runs, each with ``metrics`` and ``params`` as dicts, ``tag`` as a list, and the other fields. Raises UsageError for a
    condition that cannot be computed."""
    columns: dict[str, pl.Series] = {}
    for field in condition.fields:
        values = [where.value_of(field, run) for run in runs]
        columns[field.column] = _column(values, text=not field.group and field.name not in where.RUNS.numbers)
        if field.name in where.RUNS.several and not field.group:
            texts = [f"{AMONG}{AMONG.join(several or ())}{AMONG}" for several in values]
            columns[field.column + AMONG] = pl.Series(texts, dtype=pl.String)
    table = pl.DataFrame(columns) if columns else pl.DataFrame({"run": range(len(runs))})
    return [run for run, meets in zip(runs, row_sql.holds(condition, table), strict=True) if meets]


def _column(values: Sequence[Any], *, text: bool) -> pl.Series:
    """Numbers, or true and false, where all values are; else text. A number that is not defined is none."""
    kinds = {str} if text else {type(value) for value in values if value is not None}
    if not kinds:
        return pl.Series(values, dtype=pl.Null)
    if kinds == {bool}:
        return pl.Series(values, dtype=pl.Boolean)
    if kinds <= {int, float}:
        return pl.Series([None if v is None or v != v else float(v) for v in values], dtype=pl.Float64)
    return pl.Series([None if v is None or v == [] else where.as_text(v) for v in values], dtype=pl.String)
