"""A file's columns as the types that were decided for its dataset, and what does not fit them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from noria.data import promised_types
from noria.data.formats import texts
from noria.data.formats.format import ValueSyntax
from noria.data.table import Column, ColumnKind, ColumnLooks, FileLooks, TableType
from noria.kernel.contract import parse_decimal
from noria.kernel.dialect import Dialect
from noria.kernel.words import plural

if TYPE_CHECKING:  # reading loads Polars; asking for a format does not
    import polars as pl

WORDS = {
    ColumnKind.INT: "no whole number",
    ColumnKind.FLOAT: "no number",
    ColumnKind.BOOL: "neither true nor false",
    ColumnKind.DATE: "no date",
    ColumnKind.DATETIME: "no time",
    ColumnKind.STRING: "no text",
}


class BadValues(msgspec.Struct, frozen=True):
    """How many values of a column are not of its type, and the first of them with its row, counted from 0."""

    count: int
    first: int
    value: str


class Misfit(msgspec.Struct, frozen=True):
    """A column of which some values are not of its type. ``text`` names no value; ``example`` is the first one, with its row."""

    column: str
    rows: pl.Series | None  # which ones; None: all
    text: str
    example: str = ""
    values: BadValues | None = None  # None: all


def looks(
    table: pl.DataFrame,
    cells: ValueSyntax,
    name: str,
    dialect: Dialect,
    told: Mapping[str, Column],
    asked: Collection[str] | None = None,
) -> FileLooks:
    """What the columns of a file look like; of text only those that are ``asked`` for.

    A text in JSON is a date only where the contract (``told``) says so.
    """
    import polars as pl

    found = {}
    for column in table.get_columns():
        if cells is ValueSyntax.TYPED or (
            cells is ValueSyntax.JSON and not _is_date_text(column, told.get(column.name, Column()))
        ):
            found[column.name] = ColumnLooks(_of_type(column.dtype), column.dtype != pl.Null)
        elif asked is None or column.name in asked:
            found[column.name] = texts.looks(column, dialect)
        else:
            found[column.name] = ColumnLooks()
    return FileLooks(name, found)


def _of_type(dtype: Any) -> frozenset[Column]:
    """The types that take every value of a typed column."""
    import polars as pl

    if dtype.is_integer():
        return frozenset([Column(ColumnKind.INT), Column(ColumnKind.FLOAT)])
    if dtype.is_numeric():
        return frozenset([Column(ColumnKind.FLOAT)])
    if dtype in (pl.String, pl.Categorical, pl.Enum):
        return frozenset([Column(ColumnKind.STRING)])
    if dtype == pl.Boolean:
        return frozenset([Column(ColumnKind.BOOL)])
    if dtype == pl.Date:
        return frozenset([Column(ColumnKind.DATE), Column(ColumnKind.DATETIME)])
    if isinstance(dtype, pl.Datetime):
        return frozenset([Column(ColumnKind.DATETIME, zone=dtype.time_zone or "")])
    return frozenset() if dtype == pl.Null else frozenset([Column(str(dtype))])


def fit(table: pl.DataFrame, cells: ValueSyntax, kind: TableType, dialect: Dialect) -> tuple[pl.DataFrame, list[Misfit]]:
    """The table with its columns as ``kind`` says, those of other types null or as they were; and what does not fit.

    NaN is a missing value, as it is in JSON.
    """
    made: list[pl.Series] = []
    misfits: list[Misfit] = []
    for series in table.get_columns():
        column = kind.columns.get(series.name, Column())
        if cells is ValueSyntax.TEXT or (cells is ValueSyntax.JSON and _is_date_text(series, column)):
            found: tuple[pl.Series, pl.Series | None] = texts.convert(series, column, dialect)
        else:
            found = _cast(series, column)
        values, bad = found
        made.append(values)
        if bad is None:
            misfits.append(_of_another_type(series, column))
        elif bool(bad.any()):
            misfits.append(_misfit(series, bad, column))
    import polars as pl

    return pl.DataFrame(made) if made else table, misfits


def _is_date_text(series: pl.Series, column: Column) -> bool:
    import polars as pl

    return series.dtype == pl.String and column.kind in (ColumnKind.DATE, ColumnKind.DATETIME)


def _cast(series: pl.Series, column: Column) -> tuple[pl.Series, pl.Series | None]:
    """The values as the column's type, and which of them are none of it; None when the whole type is another."""
    import polars as pl

    fine = pl.repeat(False, len(series), dtype=pl.Boolean, eager=True)
    series = series.cast(pl.String) if series.dtype in (pl.Categorical, pl.Enum) else series
    series = series.fill_nan(None) if series.dtype.is_float() else series
    dtype, kind = series.dtype, column.kind
    if dtype == pl.Null:
        return series.cast(dtype_of(column)), fine
    if kind == ColumnKind.INT and dtype in (pl.UInt64, pl.Int128, pl.UInt128):
        made = series.cast(pl.Int64, strict=False)
        return made, series.is_not_null() & made.is_null()
    if promised_types.is_promised(kind):
        return _as_promised(series, column)
    if not kind or any(one.kind == kind and one.zone == column.zone for one in _of_type(dtype)):
        wider = (dtype == pl.Date and kind == ColumnKind.DATETIME) or (dtype.is_integer() and kind == ColumnKind.FLOAT)
        return (series.cast(dtype_of(column)) if wider else series), fine
    if kind == ColumnKind.INT and dtype.is_numeric():
        whole = series.cast(pl.Float64)
        made = whole.set((whole != whole.floor()).fill_null(False), None).cast(pl.Int64, strict=False)
        return made, series.is_not_null() & made.is_null()
    if isinstance(dtype, pl.Datetime) and kind == ColumnKind.DATETIME and dtype.time_zone and column.zone:
        return series.dt.convert_time_zone(column.zone), fine
    return series, None


def _as_promised(series: pl.Series, column: Column) -> tuple[pl.Series, pl.Series | None]:
    """Decimals, lists and structs, which only a contract asks for."""
    import polars as pl

    if not promised_types.fits(column.kind, series.dtype):
        return series, None
    if promised_types.is_nested(column.kind) or (column.kind == "decimal" and series.dtype.is_decimal()):
        return series, pl.repeat(False, len(series), dtype=pl.Boolean, eager=True)
    made = series.cast(dtype_of(column), strict=False)
    return made, series.is_not_null() & made.is_null()


def dtype_of(column: Column) -> Any:
    """How the values of a column are held."""
    import polars as pl

    held: dict[str, Any] = {
        ColumnKind.INT: pl.Int64(),
        ColumnKind.FLOAT: pl.Float64(),
        ColumnKind.BOOL: pl.Boolean(),
        ColumnKind.DATE: pl.Date(),
        ColumnKind.DATETIME: pl.Datetime("us", column.zone or None),
        "Binary": pl.Binary(),
        "Time": pl.Time(),
    }
    if column.kind.startswith("decimal"):
        return pl.Decimal(*parse_decimal(column.kind))
    if column.kind.startswith("list"):
        inner = column.kind[5:-1]
        return pl.List(dtype_of(Column(inner)) if inner else pl.Null())
    return pl.Null() if column.kind == "struct" else held.get(column.kind, pl.String())


def _because(column: Column) -> str:
    if column.said:
        return f"the contract says {type_words(column)}"
    return f"in this dataset it is {type_words(column)}, as long as no contract says otherwise"


def type_words(column: Column) -> str:
    """A column's type in words: ``date as %d/%m/%Y``."""
    words = column.kind or "undecided"
    words += f" as {column.format}" if column.format else ""
    if column.kind == ColumnKind.DATETIME and not column.format:
        words += f" in {column.zone}" if column.zone else " without a zone"
    return words


def _misfit(series: pl.Series, bad: pl.Series, column: Column) -> Misfit:
    first = int(bad.arg_true()[0])
    return misfit_of(series.name, column, BadValues(int(bad.sum()), first, str(series[first])), len(series), bad)


def misfit_of(name: str, column: Column, bad: BadValues, height: int, rows: pl.Series | None = None) -> Misfit:
    """What is said of a column of which some values are not of its type."""
    words = WORDS.get(ColumnKind(column.kind), "of another type") if column.kind in set(ColumnKind) else "of another type"
    if column.kind.startswith("decimal"):
        words = f"no {column.kind}"
    if column.kind == ColumnKind.DATETIME:
        words = "no time with a zone" if column.zone else "no time without a zone"
    shown = bad.value if len(bad.value) <= texts.EXAMPLE else f"{bad.value[: texts.EXAMPLE - 3]}..."
    told = f"row {bad.first + 1:,} is" if bad.count == 1 else f"{bad.count:,} of {plural(height, 'row')} are"
    return Misfit(
        name,
        rows,
        f"{name}: {told} {words}; {_because(column)}",
        f"{name} in row {bad.first + 1:,} is {shown!r}",
        bad,
    )


def _of_another_type(series: pl.Series, column: Column) -> Misfit:
    given = next(iter(sorted(one.kind for one in _of_type(series.dtype))), str(series.dtype))
    import polars as pl

    if isinstance(series.dtype, pl.Datetime):
        given = type_words(Column(ColumnKind.DATETIME, zone=series.dtype.time_zone or ""))
    given = "int" if series.dtype.is_integer() else given
    if column.said:
        given = promised_types.words(series.dtype) if series.dtype.is_nested() or series.dtype.is_decimal() else given
        return Misfit(series.name, None, f"{series.name}: the contract promises {type_words(column)}, the file has {given}")
    return Misfit(series.name, None, f"{series.name}: the file has {given}, and {_because(column)}")
