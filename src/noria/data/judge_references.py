"""Do the values of a column stand in a column of another dataset's accepted rows? Pure.

Values are compared as the table types of both datasets read them. Numbers of different types are equal where one is exactly the
other; other types are equal to their own kind alone, and a file of another kind is told so, whatever its values.
"""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from noria.data import promised_types
from noria.data.promise import BrokenPromise, Counts, Merge, Promise, breach, broken, is_text
from noria.data.referenced_values import ReferencedValues
from noria.kernel.contract import ColumnReference, Contract
from noria.kernel.words import plural

NAME = "references"


def promises(contract: Contract, schema: pl.Schema, referenced: ReferencedValues | None) -> Iterator[Promise]:
    """Each value stands in the column that it refers to; a missing value refers to nothing."""
    for one in contract.references if referenced is not None else ():
        if referenced is None or schema.get(one.column, pl.Null()) == pl.Null:
            continue
        found = referenced.columns[one]
        own = schema.get(one.key) if one.dataset == referenced.dataset else None
        if own is None and found.values is None:
            yield _nothing_to_name(one, found.problem, contract)
            continue
        yield _among(one, schema[one.column], found.values, own, contract)


def _nothing_to_name(one: ColumnReference, problem: str, contract: Contract) -> Promise:
    def conclude(counts: Counts, _: int) -> BrokenPromise | None:
        text = f"{one.column} refers to {one.target}: {problem}"
        return breach(NAME, text, failing=counts["filled"]) if counts["filled"] else None

    return Promise(conclude, {"filled": pl.col(one.column).count()}, contract.severity, merge=Merge.SUM)


def _among(
    one: ColumnReference, dtype: pl.DataType, values: pl.Series | None, own: pl.DataType | None, contract: Contract
) -> Promise:
    for there in (None if values is None else values.dtype, own):
        if there is not None and not _alike(dtype, there):
            kinds = f"the file has {promised_types.words(dtype)}, and {one.target} has {promised_types.words(there)}"
            return broken(breach(NAME, f"{one.column} cannot refer to {one.target}: {kinds}"), contract.severity)
    column = pl.col(one.column)
    known = pl.lit(False) if values is None else column.is_in(_as_type(values, dtype).implode())
    if own is not None:
        known = known | column.is_in(_exactly(pl.col(one.key), own, dtype).implode())
    unknown = column.is_not_null() & ~known.fill_null(False)

    def conclude(counts: Counts, rows: int) -> BrokenPromise | None:
        if not counts["unknown"]:
            return None
        text = f"{one.column}: {counts['unknown']:,} of {plural(rows, 'row')} have a value that {one.target} does not have"
        words = f"{one.column} has a value that {one.target} does not have"
        return breach(NAME, text, unknown, words, failing=counts["unknown"], total=rows)

    return Promise(conclude, {"unknown": unknown.sum()}, contract.severity)


def _alike(first: pl.DataType, second: pl.DataType) -> bool:
    """Whether values of two types can be equal. A column without values has every type."""
    if pl.Null in (first, second):
        return True
    if first.is_nested() or second.is_nested():
        return False
    if first.is_numeric() or is_text(first):
        return second.is_numeric() if first.is_numeric() else is_text(second)
    if isinstance(first, pl.Datetime) and isinstance(second, pl.Datetime):
        return (first.time_zone is None) == (second.time_zone is None)
    return first.base_type() == second.base_type()


def _as_type(values: pl.Series, dtype: pl.DataType) -> pl.Series:
    """The values as a type, each once; those that it does not hold exactly are left out."""
    return values.to_frame("value").select(_exactly(pl.col("value"), values.dtype, dtype).unique().drop_nulls()).to_series()


def _exactly(column: pl.Expr, before: pl.DataType, dtype: pl.DataType) -> pl.Expr:
    """A column as another type, null where a value is not exactly the same."""
    if before == dtype or pl.Null in (before, dtype):
        return column.cast(dtype)
    cast = column.cast(dtype, strict=False)
    return pl.when(cast.cast(before, strict=False) == column).then(cast)
