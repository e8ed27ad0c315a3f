"""Cells of text files as values: the rule of docs/data.md, for training, `noria check` and `noria predict --input` alike.

Which types a text has is judged on the distinct values of a column; ``data.judge_column_types`` chooses among them.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING

from noria.data import promised_types
from noria.data.table import EXACT, NULL_WORDS, Column, ColumnKind, ColumnLooks
from noria.kernel.contract import parse_decimal
from noria.kernel.dialect import PLAIN, Dialect

if TYPE_CHECKING:  # reading loads Polars; asking for a format does not
    import polars as pl

EXAMPLE = 40  # characters of a value that is shown
STRING = Column(ColumnKind.STRING)
TRUTH: dict[bool, tuple[str, ...]] = {True: ("true",), False: ("false",)}  # the words for it, in small letters
SAID_TRUTH: dict[bool, tuple[str, ...]] = {  # where the contract says bool
    True: ("true", "yes", "y", "t", "1"),
    False: ("false", "no", "n", "f", "0"),
}
INT = r"^-?(0|[1-9][0-9]*)$"
ANY_INT = r"^[+-]?[0-9]+([.]0*)?$"
INFINITE = r"^[+-]?(?i:inf|infinity)$"
DIGITS = r"^[+-]?[0-9]+$"
DAY = r"(0[1-9]|[12][0-9]|3[01])"
MONTH = r"(0[1-9]|1[0-2])"
ISO_DATE = rf"^[0-9]{{4}}(-{MONTH}-{DAY}|/{MONTH}/{DAY})$"
CLOCK = r"[T ]([01]?[0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9]([.,][0-9]{1,9})?)?"
ZONE = r" ?(Z|[+-][0-9]{2}:?[0-9]{2}|[+-][0-9]{2})"
ISO_TIME = rf"^[0-9]{{4}}(-{MONTH}-{DAY}|/{MONTH}/{DAY})({CLOCK})?$"
ISO_ZONED = rf"^[0-9]{{4}}(-{MONTH}-{DAY}|/{MONTH}/{DAY}){CLOCK}{ZONE}$"
FIRST_OF_TWO = r"^(0?[1-9]|[12][0-9]|3[01])[/-](0?[1-9]|[12][0-9]|3[01])[/-][0-9]{4}"
CLOCKS = {"": "", " %H:%M": r" ([01]?[0-9]|2[0-3]):[0-5][0-9]", " %H:%M:%S": r" ([01]?[0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]"}


def looks(series: pl.Series, dialect: Dialect = PLAIN) -> ColumnLooks:
    """What the texts of a column look like; empty cells and words for nothing tell nothing."""
    given = series.drop_nulls().unique()
    values = given.str.strip_chars()
    values = values.filter(values != "")
    if dialect.nulls is not None:
        values = values.filter(~values.is_in(list(dialect.nulls)))
    if values.is_empty():
        return ColumnLooks()
    told = values if dialect.nulls is not None else values.filter(~values.is_in(list(NULL_WORDS)))
    if told.is_empty():  # nothing but words for nothing: another file may tell what they stand for
        return ColumnLooks()
    example = str(values.sort()[0])[:EXAMPLE]
    fits, why = {STRING}, ""
    if not bool(told.str.contains(r"[0-9]").any()):
        if bool(told.str.to_lowercase().is_in(TRUTH[True] + TRUTH[False]).all()):
            fits.add(Column(ColumnKind.BOOL))
        return ColumnLooks(frozenset(fits), True, example, why)
    fits |= set(_numbers(told, dialect)) | set(_dates(told))
    if len(fits) == 1 and bool(told.str.contains(DIGITS).all()):
        why = _why(told)
    if any(one.kind == ColumnKind.DATE for one in fits):
        ambiguous = told.filter(told.str.contains(FIRST_OF_TWO))
        example = str((ambiguous if len(ambiguous) else told).sort()[0])[:EXAMPLE]
    return ColumnLooks(frozenset(fits), True, example, why)


def _why(values: pl.Series) -> str:
    """Why digits are no numbers."""
    if bool(values.str.contains(r"^[+-]?0[0-9]").any()):
        return "leading zeros"
    return "plus signs" if bool(values.str.starts_with("+").any()) else "more digits than an exact number has"


def _numbers(values: pl.Series, dialect: Dialect) -> Iterator[Column]:
    import polars as pl

    whole = values.str.contains(INT)
    exact = values.filter(whole).cast(pl.Int64, strict=False).is_between(-EXACT, EXACT)
    if not bool(exact.fill_null(False).all()):
        return
    if bool(whole.all()):
        yield Column(ColumnKind.INT)
    numbers = values.str.contains(number(dialect.decimal)) | values.str.contains(INFINITE)
    if bool(numbers.all()):
        yield Column(ColumnKind.FLOAT)


@cache
def number(decimal: str) -> str:
    """The pattern of a number as JSON writes it, but that zeros at the end of it, or before its point, may be left out."""
    point = "[,]" if decimal == "," else "[.]"
    return rf"^-?((0|[1-9][0-9]*)({point}[0-9]*)?|{point}[0-9]+)([eE][+-]?[0-9]{{1,3}})?$"


def _dates(values: pl.Series) -> Iterator[Column]:
    """The readings in which each text is a day that there is."""
    yield from (column for column in _date_types(values) if _moment(values, column).null_count() == 0)


def _date_types(values: pl.Series) -> Iterator[Column]:
    if bool(values.str.contains(ISO_TIME).all()):
        if bool(values.str.contains(ISO_DATE).all()):
            yield Column(ColumnKind.DATE)
        yield Column(ColumnKind.DATETIME)
    elif bool(values.str.contains(ISO_ZONED).all()):
        yield Column(ColumnKind.DATETIME, zone="UTC")
    elif bool(values.str.contains(r"^[0-9]{1,2}[/.-][0-9]{1,2}[/.-][0-9]{4}").all()):
        yield from (column for column, pattern in _day_and_month() if bool(values.str.contains(pattern).all()))


@cache
def _day_and_month() -> tuple[tuple[Column, str], ...]:
    """Dates that end with the year: with dots the day stands first, else either may."""
    day, month = r"(0?[1-9]|[12][0-9]|3[01])", r"(0?[1-9]|1[0-2])"
    found = []
    for mark, orders in (("/", 2), ("-", 2), (".", 1)):
        for first, second, names in ((day, month, ("d", "m")), (month, day, ("m", "d")))[:orders]:
            for clock, pattern in CLOCKS.items():
                form = f"%{names[0]}{mark}%{names[1]}{mark}%Y{clock}"
                column = Column(ColumnKind.DATETIME if clock else ColumnKind.DATE, form)
                found.append((column, rf"^{first}[{mark}]{second}[{mark}][0-9]{{4}}{pattern}$"))
    return tuple(found)


def convert(series: pl.Series, column: Column, dialect: Dialect = PLAIN) -> tuple[pl.Series, pl.Series]:
    """The column's values as its type, and which cells are none of it (their value is null)."""
    import polars as pl

    texts = series if dialect.nulls is None else series.set(series.is_in(list(dialect.nulls)).fill_null(False), None)
    if column.kind in ("", ColumnKind.STRING):
        return texts, pl.repeat(False, len(series), dtype=pl.Boolean, eager=True)
    bare = texts.str.strip_chars()
    nothing = bare == "" if dialect.nulls is not None else (bare == "") | bare.is_in(list(NULL_WORDS))
    bare = bare.set(nothing.fill_null(False), None)
    made = _parse_cells(bare, column, dialect).alias(series.name)
    return made, bare.is_not_null() & made.is_null()


def _parse_cells(texts: pl.Series, column: Column, dialect: Dialect) -> pl.Series:
    import polars as pl

    if column.kind == ColumnKind.INT:
        return _whole(texts, column, dialect)
    if column.kind == ColumnKind.FLOAT:
        return _decimal(texts, column, dialect)
    if column.kind == ColumnKind.BOOL:
        return _truth(texts, SAID_TRUTH if column.said else TRUTH)
    if column.kind.startswith("decimal"):
        return _exact_decimal(texts, column, dialect)
    if promised_types.is_nested(column.kind):  # no text is a list
        return pl.Series(texts.name, [None] * len(texts), dtype=pl.Null)
    return _moment(texts, column)


def _exact_decimal(texts: pl.Series, column: Column, dialect: Dialect) -> pl.Series:
    """Numbers without an exponent, digit by digit: none that has more digits than the type is one."""
    import polars as pl

    digits, places = parse_decimal(column.kind)
    plain = texts.str.strip_prefix("+")
    plain = plain.str.replace(",", ".", literal=True) if dialect.decimal == "," else plain
    good = plain.str.contains(rf"^-?[0-9]+(\.[0-9]{{0,{places}}}0*)?$|^-?\.[0-9]{{1,{places}}}0*$")
    return plain.set(~good.fill_null(True), None).cast(pl.Decimal(digits, places), strict=False)


def _whole(texts: pl.Series, column: Column, dialect: Dialect) -> pl.Series:
    """Whole numbers, also as ``5.0``; zeros or a plus before them only where the contract says that they are numbers."""
    import polars as pl

    point = "[,]" if dialect.decimal == "," else "[.]"
    plain = texts.str.replace(rf"{point}0*$", "")
    pattern = DIGITS if column.said else INT
    kept = plain.set(~plain.str.contains(pattern).fill_null(True), None)
    return kept.str.strip_prefix("+").cast(pl.Int64, strict=False)


def _decimal(texts: pl.Series, column: Column, dialect: Dialect) -> pl.Series:
    import polars as pl

    plain = texts
    if column.said:
        plain = plain.str.strip_prefix("+").str.replace(r"^(-?)0+([0-9])", "${1}${2}")
    good = plain.str.contains(number(dialect.decimal)) | plain.str.contains(INFINITE)
    kept = plain.set(~good.fill_null(True), None)
    return (kept.str.replace(",", ".", literal=True) if dialect.decimal == "," else kept).cast(pl.Float64, strict=False)


def _truth(texts: pl.Series, words: dict[bool, tuple[str, ...]]) -> pl.Series:
    low = texts.str.to_lowercase()
    yes = low.is_in(list(words[True]))
    return yes.set((~(yes | low.is_in(list(words[False])))).fill_null(True), None)


def _moment(texts: pl.Series, column: Column) -> pl.Series:
    """The days and times of the texts; null where there is none that Python knows too: it has no year 0."""
    made = _parse_times(texts, column)
    outside = (~made.dt.year().is_between(1, 9999)).fill_null(False)
    return made.set(outside, None) if bool(outside.any()) else made


def _parse_times(texts: pl.Series, column: Column) -> pl.Series:
    import polars as pl

    zoned = pl.Datetime("us", "UTC")
    wanted = pl.Date() if column.kind == ColumnKind.DATE else zoned if column.zone else pl.Datetime("us")
    if column.format:
        made = texts.str.strptime(wanted, column.format, strict=False, exact=True)
        return _convert_zone(made, column) if column.zone else made
    if column.kind == ColumnKind.DATE:
        kept = texts.set(~texts.str.contains(ISO_DATE).fill_null(True), None)
        return kept.str.replace_all("/", "-", literal=True).str.strptime(wanted, "%Y-%m-%d", strict=False)
    kept = texts.set(~texts.str.contains(ISO_ZONED if column.zone else ISO_TIME).fill_null(True), None)
    kept = kept.str.replace_all("/", "-", literal=True).str.replace("T", " ", literal=True)
    kept = kept.str.replace(r" ([0-9]):", " 0${1}:").str.replace(r"^([0-9-]{10})$", "${1} 00:00")
    kept = kept.str.replace(r"^([0-9-]{10} [0-9]{2}:[0-9]{2})($| ?Z|[ +-])", "${1}:00${2}")
    kept = kept.str.replace(",", ".", literal=True)
    if not column.zone:
        return kept.str.strptime(wanted, "%Y-%m-%d %H:%M:%S%.f", strict=False)
    kept = kept.str.replace(r" ?Z$", "+0000").str.replace(r" ?([+-][0-9]{2}):?([0-9]{2})?$", "${1}${2}")
    kept = kept.str.replace(r"([+-][0-9]{2})$", "${1}00")
    return _convert_zone(kept.str.strptime(zoned, "%Y-%m-%d %H:%M:%S%.f%z", strict=False), column)


def _convert_zone(made: pl.Series, column: Column) -> pl.Series:
    return made if column.zone == "UTC" else made.dt.convert_time_zone(column.zone)
