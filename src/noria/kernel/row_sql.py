"""A condition (`where`), computed over rows."""

from __future__ import annotations

import polars as pl

from noria.kernel.errors import UsageError
from noria.kernel.where import Condition

_ENGINE = (pl.exceptions.PolarsError, pl.exceptions.PanicException)


def holds(condition: Condition, asked: pl.DataFrame) -> pl.Series:
    """For each row whether it meets the condition. ``asked`` has a column for each of its fields. Raises UsageError."""
    check(condition, asked.schema)
    try:
        found = asked.select(holds=pl.sql_expr(condition.sql))["holds"].cast(pl.Boolean).fill_null(False)
    except _ENGINE as error:
        raise computation_error(condition, error) from error
    return found if len(found) == asked.height else found.new_from_index(0, asked.height)


def check(condition: Condition, asked: pl.Schema) -> None:
    """Raises UsageError for a condition that cannot be computed of columns of these types, or is no condition."""
    rows = pl.DataFrame(schema=asked)
    try:
        dtype = rows.select(holds=pl.sql_expr(condition.sql)).schema["holds"]
    except _ENGINE as error:
        for comparison in condition.comparisons:
            kinds = [_kind(side, rows) for side in (comparison.left, comparison.right)]
            if None not in kinds and not _works(comparison.sql, rows):
                if kinds[0] == kinds[1]:  # a pattern that is none, for example
                    raise computation_error(condition, error, comparison.position) from error
                raise condition.wrong(
                    f"{kinds[0]} is compared with {kinds[1]} here", comparison.position,
                    "Text stands in single quotes; try_cast(FIELD as double) makes a number of text, where it is one.",
                ) from error  # fmt: skip
        raise computation_error(condition, error) from error
    if dtype not in (pl.Boolean, pl.Null):
        raise condition.wrong("it is neither true nor false, but a value", hint="Compare it: FIELD > 0, or FIELD is not null.")


def computation_error(condition: Condition, error: BaseException, position: int = 1) -> UsageError:
    """What the engine says, in one line."""
    said = str(error).strip().partition("\n")[0][:200]
    for field in condition.fields:
        said = said.replace(field.column, str(field))
    return condition.wrong(f"it cannot be computed: {said}", position)


def _works(sql: str, rows: pl.DataFrame) -> bool:
    try:
        rows.select(pl.sql_expr(sql))
    except _ENGINE:
        return False
    return True


def _kind(sql: str, rows: pl.DataFrame) -> str | None:
    """What one side of a comparison is; None where it cannot be computed itself."""
    try:
        dtype = rows.select(side=pl.sql_expr(sql)).schema["side"]
    except _ENGINE:
        return None
    return {pl.String: "text", pl.Boolean: "true or false"}.get(type(dtype), "a number" if dtype.is_numeric() else "a time")
