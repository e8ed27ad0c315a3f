"""What is odd about a table, without a contract: empty, constant and equal columns, mixed text, infinities, rows that repeat."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import polars as pl

from noria.data.promise import is_text, some
from noria.kernel.words import percent, plural

MIXED = 0.5  # the share of numbers or dates in a column of text from which on the rest of it is odd
KINDS = (  # what text may be besides text
    ("numbers", r"^[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][+-]?[0-9]+)?$"),
    ("dates", r"^[0-9]{4}[-/][0-9]{2}[-/][0-9]{2}([T ][0-9]{1,2}:[0-9]{2}.*)?$"),
)
CONSTANT_ROWS = 2  # fewer rows cannot differ


class Defect(msgspec.Struct, frozen=True):
    code: str
    text: str
    columns: tuple[str, ...] = ()


class ColumnFacts(msgspec.Struct, frozen=True):
    name: str
    nulls: int  # NaN, too
    distinct: int | None  # None of lists and structs


def judge_defects(table: pl.DataFrame) -> tuple[list[Defect], list[ColumnFacts]]:
    """The defects, the worst first, and what each column holds. NaN counts as missing."""
    facts = [_facts(column) for column in table.get_columns()]
    if table.is_empty():
        return [Defect("empty", "the file has no rows")], facts
    found = [*_of_columns(table, facts), *_mixed(table), *_infinite(table), *_equal_columns(table), *_equal_rows(table)]
    return found, facts


def _facts(column: pl.Series) -> ColumnFacts:
    values = (column.fill_nan(None) if column.dtype.is_float() else column).drop_nulls()
    return ColumnFacts(column.name, len(column) - len(values), None if column.dtype.is_nested() else values.n_unique())


def _of_columns(table: pl.DataFrame, facts: list[ColumnFacts]) -> Iterator[Defect]:
    empty = [each.name for each in facts if each.nulls == table.height]
    if empty:
        yield Defect("all_null", f"no row has a value in {some(empty)}", tuple(empty))
    constant = [each.name for each in facts if each.distinct == 1 and table.height - each.nulls >= CONSTANT_ROWS]
    if constant:
        yield Defect("constant", f"every value is the same in {some(constant)}", tuple(constant))


def _mixed(table: pl.DataFrame) -> Iterator[Defect]:
    """Text in which most values are numbers, or dates, and some are not."""
    for column in table.get_columns():
        if is_text(column.dtype):
            values = column.cast(pl.String).drop_nulls()
            values = values.filter(values.str.strip_chars() != "")
            for words, pattern in KINDS:
                count = int(values.str.strip_chars().str.contains(pattern).sum())
                if MIXED * len(values) <= count < len(values):
                    share = percent(count / len(values))
                    text = (
                        f"{column.name} mixes types: {share} of {plural(len(values), 'value')} are {words}, the others are text"
                    )
                    yield Defect("mixed", text, (column.name,))
                    break


def _infinite(table: pl.DataFrame) -> Iterator[Defect]:
    for column in table.get_columns():
        if column.dtype.is_float() and (count := int(column.is_infinite().sum())):
            yield Defect("infinite", f"{column.name}: {plural(count, 'value')} of {table.height:,} infinite", (column.name,))


def _equal_columns(table: pl.DataFrame) -> Iterator[Defect]:
    seen: dict[tuple[object, ...], list[pl.Series]] = {}
    for column in table.get_columns():
        if column.null_count() < len(column) and not column.dtype.is_nested():
            alike = seen.setdefault((str(column.dtype), column.null_count(), column.n_unique()), [])
            twin = next((other for other in alike if other.equals(column, null_equal=True)), None)
            if twin is not None:
                yield Defect("equal_columns", f"{column.name} holds the same as {twin.name}", (twin.name, column.name))
            alike.append(column)


def _equal_rows(table: pl.DataFrame) -> Iterator[Defect]:
    if any(kind.is_nested() for kind in table.schema.values()):
        return
    repeated = table.height - table.n_unique()
    if repeated:
        yield Defect("equal_rows", f"{repeated:,} of {plural(table.height, 'row')} repeat a row before them in full")
