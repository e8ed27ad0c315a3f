"""Cells of text as values, beside int,
float and datetime of the standard library; and the newest row of each key by brute force."""

from __future__ import annotations

import json
import math
import re
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.data.formats import texts
from noria.data.judge_repeats import by_age, newest_rows
from noria.data.table import EXACT, NULL_WORDS, Column, ColumnKind
from noria.kernel.dialect import Dialect

INT, FLOAT, BOOL = Column(ColumnKind.INT), Column(ColumnKind.FLOAT), Column(ColumnKind.BOOL)
DATE, TIME, ZONED = Column(ColumnKind.DATE), Column(ColumnKind.DATETIME), Column(ColumnKind.DATETIME, zone="UTC")
MOMENTS = st.datetimes(datetime(2, 1, 1), datetime(9998, 12, 31))
FEW = settings(max_examples=30)


def converted(cells: list[str | None], column: Column, dialect: Dialect = Dialect()) -> tuple[list[Any], list[bool]]:  # noqa: B008 - it is frozen
    values, bad = texts.convert(pl.Series("x", cells, dtype=pl.String), column, dialect)
    return values.to_list(), [bool(one) for one in bad.to_list()]


@FEW
@given(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=5))
def test_whole_numbers(numbers: list[int]) -> None:
    assert converted([str(n) for n in numbers], INT) == (numbers, [False] * len(numbers))
    assert converted([f" {n}.0 " for n in numbers], INT) == (numbers, [False] * len(numbers))


@FEW
@given(st.lists(st.floats(allow_nan=False), max_size=5))
def test_numbers_as_json_and_python_write_them(numbers: list[float]) -> None:
    written = [json.dumps(n) if math.isfinite(n) else str(n) for n in numbers]
    assert converted(written, FLOAT) == (numbers, [False] * len(numbers))
    commas = [text.replace(".", ",") for text in written]
    assert converted(commas, FLOAT, Dialect(decimal=",")) == (numbers, [False] * len(numbers))


@FEW
@given(st.text("0123456789.,eE+-_ infa", max_size=6))
def test_what_reads_as_a_number_is_one_that_python_reads_as_the_same(text: str) -> None:
    for column in (INT, FLOAT):
        (value,), (bad,) = converted([text], column)
        bare = text.strip()
        if value is not None:
            assert value == float(bare)
            assert "_" not in bare
        elif not bad:
            assert bare == "" or bare in NULL_WORDS


@FEW
@given(moment=MOMENTS, mark=st.sampled_from("-/"), join=st.sampled_from("T "))
def test_dates_and_times_that_begin_with_the_year(moment: datetime, mark: str, join: str) -> None:
    day = f"{moment.year:04}-{moment:%m-%d}".replace("-", mark)
    clock = f"{moment:%H:%M:%S.%f}"
    assert converted([day], DATE) == ([moment.date()], [False])
    assert converted([day], TIME) == ([datetime.combine(moment.date(), datetime.min.time())], [False])
    assert converted([f"{day}{join}{clock}"], TIME) == ([moment], [False])
    assert converted([f"{day}{join}{clock.replace('.', ',')}"], TIME) == ([moment], [False])
    assert converted([f"{day}{join}{moment:%H:%M}"], TIME) == ([moment.replace(second=0, microsecond=0)], [False])
    assert converted([f"{day}{join}{clock}"], DATE) == ([None], [True])


@FEW
@given(moment=MOMENTS, minutes=st.integers(-14 * 60, 14 * 60), colon=st.booleans(), space=st.sampled_from(["", " "]))
def test_times_with_a_zone_are_those_of_datetime(moment: datetime, minutes: int, colon: bool, space: str) -> None:
    zone = timezone(timedelta(minutes=minutes))
    offset = f"{moment.replace(tzinfo=zone):%z}"
    offset = f"{offset[:3]}:{offset[3:]}" if colon else offset
    day = f"{moment.year:04}-{moment:%m-%d}"
    expected = moment.replace(tzinfo=zone).astimezone(UTC)
    assert converted([f"{day}T{moment:%H:%M:%S.%f}{space}{offset}"], ZONED) == ([expected], [False])
    assert converted([f"{day}T{moment:%H:%M:%S.%f}Z"], ZONED) == ([moment.replace(tzinfo=UTC)], [False])


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ("2024-02-30", DATE), ("2023-02-29", DATE), ("2024-13-01", DATE), ("2024-1-1", DATE), ("24-01-01", DATE),
        ("0000-01-01", DATE), ("0000-12-31T10:00", TIME), ("0001-01-01T00:30+01:00", ZONED),
        ("9999-12-31T23:30-01:00", ZONED), ("31.12.0000", Column(ColumnKind.DATE, "%d.%m.%Y")),
        ("2024-01-01T24:00", TIME), ("2024-01-01T12:60", TIME), ("2024-01-01T", TIME), ("2024-01/01", DATE),
        ("2024-01-01Z", ZONED),
        ("2024-01-01T10:00", ZONED), ("2024-01-01T10:00Z", TIME), ("٢٠٢٤-01-01", DATE), ("007", INT), ("+7", INT), ("7.5", INT),
        ("1e3", INT), ("9223372036854775808", INT), ("1,5", FLOAT), ("1_0", FLOAT), ("0x1F", FLOAT), ("+1.5", FLOAT),
        ("1.5.2", FLOAT),
        ("yes", BOOL), ("1", BOOL), ("truee", BOOL),
    ],
)  # fmt: skip
def test_what_is_none_of_its_type_is_told_and_null(text: str, column: Column) -> None:
    assert converted(["", text, None], column) == ([None, None, None], [False, True, False])


@pytest.mark.parametrize("word", sorted(NULL_WORDS))
@pytest.mark.parametrize("column", [INT, FLOAT, BOOL, DATE, TIME, ZONED])
def test_words_for_nothing_are_missing_but_in_text(word: str, column: Column) -> None:
    assert converted([word, f" {word} "], column) == ([None, None], [False, False])
    assert converted([word], Column(ColumnKind.STRING)) == ([word], [False])
    if column is not BOOL:
        assert converted([word, "-999"], column, Dialect(nulls=("-999",)))[1] == [True, False], "the project named its own words"


@pytest.mark.parametrize(
    ("text", "value"), [("TRUE", True), ("f", False), ("Yes", True), ("0", False), ("1", True), ("n", False), (" T ", True)]
)
def test_where_the_contract_says_so_more_words_are_truth(text: str, value: bool) -> None:
    assert converted([text], Column(ColumnKind.BOOL, said=True)) == ([value], [False])


@pytest.mark.parametrize(("text", "value"), [("007", 7), ("+7", 7), ("-007.0", -7), ("00", 0)])
def test_where_the_contract_says_so_zeros_may_stand_before_a_number(text: str, value: int) -> None:
    assert converted([text], Column(ColumnKind.INT, said=True)) == ([value], [False])
    assert converted([text], Column(ColumnKind.FLOAT, said=True)) == ([float(value)], [False])


@FEW
@given(
    st.lists(
        st.one_of(
            st.integers(-EXACT - 2, EXACT + 2).map(str),
            st.sampled_from(["", "NA", "1.5", "x", "2024-01-02", "true", "03/04/2024"]),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_every_type_that_a_column_looks_like_takes_every_value_of_it(cells: list[str]) -> None:
    for column in texts.looks(pl.Series(cells, dtype=pl.String)).fits:
        assert not any(converted([*cells], column)[1]), column


KEYS = st.sampled_from([None, "a", "b", "c"])
TABLES = st.lists(st.lists(st.tuples(KEYS, KEYS, st.integers(0, 9)), max_size=6), max_size=4)


@FEW
@given(tables=TABLES, key=st.sampled_from([["k"], ["k", "l"]]))
def test_the_newest_row_of_each_key_stands(tables: list[list[tuple[Any, ...]]], key: list[str]) -> None:
    frames = [pl.DataFrame(rows, schema={"k": pl.String, "l": pl.String, "v": pl.Int64}, orient="row") for rows in tables]
    found, gone = newest_rows(reversed(frames), key)
    rows = [row for table in tables for row in table]
    last = {row[: len(key)]: at for at, row in enumerate(rows)}
    expected = [row for at, row in enumerate(rows) if None in row[: len(key)] or last[row[: len(key)]] == at]
    assert (found.rows() if found is not None else []) == expected
    assert gone == len(rows) - len(expected)


@FEW
@given(st.lists(st.from_regex(r"[ab]{0,2}[0-9]{0,3}[ab]?", fullmatch=True), max_size=8))
def test_numbers_in_names_are_read_as_numbers(names: list[str]) -> None:
    ordered = by_age(names)
    assert sorted(ordered) == sorted(names)
    plain = [name for name in ordered if re.fullmatch(r"a[0-9]+", name)]
    assert [int(name[1:]) for name in plain] == sorted(int(name[1:]) for name in plain)
    assert by_age(reversed(ordered)) == ordered


def test_the_oldest_stands_first() -> None:
    names = ["day-10.csv", "day-9.csv", "day-2.csv", "2024-01-10.csv", "2024-01-09.csv", "day-002.csv"]
    assert by_age(names) == ["2024-01-09.csv", "2024-01-10.csv", "day-002.csv", "day-2.csv", "day-9.csv", "day-10.csv"]


def test_a_day_is_the_same_however_it_is_written() -> None:
    for form, text in [("%d.%m.%Y", "31.12.2024"), ("%m/%d/%Y", "12/31/2024"), ("%d-%m-%Y", "31-12-2024")]:
        assert converted([text], Column(ColumnKind.DATE, form)) == ([date(2024, 12, 31)], [False])
        assert converted(["31.31.2024"], Column(ColumnKind.DATE, form)) == ([None], [True])
