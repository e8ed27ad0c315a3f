"""Parquet, Arrow and JSON beside pyarrow and the standard library: the same rows, and every damage told in one error."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from noria.data import formats
from noria.data.formats import memory
from noria.data.formats.format import ValueSyntax
from noria.data.formats.formulas import harmless
from noria.kernel.errors import DataError

KEEP = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
TABLE = pa.table(
    {
        "i": pa.array([1, None, -(2**63)], pa.int64()),
        "f": pa.array([1.5, math.inf, None], pa.float64()),
        "s": pa.array(["ä", "", None]),
        "b": pa.array([True, None, False]),
        "d": pa.array([date(1, 1, 1), date(9999, 12, 31), None]),
        "t": pa.array([datetime(1, 1, 1, tzinfo=UTC), None, datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)]),
    }
)


def parquet(path: Path, table: pa.Table) -> Path:
    pq.write_table(table, path.with_suffix(".parquet"))
    return path.with_suffix(".parquet")


def arrow(path: Path, table: pa.Table) -> Path:
    with pa.OSFile(str(path.with_suffix(".arrow")), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return path.with_suffix(".arrow")


def packed_feather(path: Path, table: pa.Table) -> Path:
    feather.write_feather(table, str(path.with_suffix(".feather")), compression="lz4")
    return path.with_suffix(".feather")


WRITERS = (parquet, arrow, packed_feather)


@pytest.mark.parametrize("write", WRITERS)
def test_values_at_the_ends_of_their_types(tmp_path: Path, write: Callable[[Path, pa.Table], Path]) -> None:
    opened = formats.open_table(write(tmp_path / "x", TABLE))
    assert opened.cells is ValueSyntax.TYPED
    assert opened.table.to_dicts() == TABLE.to_pylist()


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("columns", [["s"], ["t", "i"], []])
def test_some_columns(tmp_path: Path, write: Callable[[Path, pa.Table], Path], columns: list[str]) -> None:
    found = formats.open_table(write(tmp_path / "x", TABLE), columns=columns).table
    assert set(found.columns) == set(columns)
    assert found.select(columns).to_dicts() == TABLE.select(columns).to_pylist() or not columns


@pytest.mark.parametrize("write", WRITERS)
def test_a_table_without_rows_keeps_its_columns(tmp_path: Path, write: Callable[[Path, pa.Table], Path]) -> None:
    found = formats.open_table(write(tmp_path / "x", TABLE.slice(0, 0))).table
    assert (found.height, found.columns) == (0, TABLE.column_names)


@pytest.mark.parametrize("write", WRITERS)
def test_a_column_that_stands_twice_is_told_with_its_places(tmp_path: Path, write: Callable[[Path, pa.Table], Path]) -> None:
    twice = pa.Table.from_arrays([pa.array([1]), pa.array([2]), pa.array([3])], names=["a", "b", "a"])
    with pytest.raises(DataError) as caught:
        formats.open_table(write(tmp_path / "x", twice), "data/x")
    assert caught.value.message == "has the column 'a' 2 times (columns 1, 3)"


@pytest.mark.parametrize("write", WRITERS)
def test_every_cut_is_told(tmp_path: Path, write: Callable[[Path, pa.Table], Path]) -> None:
    path = write(tmp_path / "x", TABLE.slice(0, 2).select(["i", "s"]))
    data = path.read_bytes()
    for length in range(0, len(data), max(1, len(data) // 60)):
        path.write_bytes(data[:length])
        with pytest.raises(DataError) as caught:
            formats.open_table(path, "data/x")
        assert caught.value.where == "data/x"
        assert caught.value.hint in (formats.BROKEN, "Correct its name, or write it again.")


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("x.parquet", b"", "is empty (0 bytes)"),
        ("x.parquet", b"a,b\n1,2\n", "is named .parquet but is not a parquet file"),
        ("x.parquet", b"PAR1", "is not a readable parquet file: "),
        ("x.parquet", b"PAR1" + b"x" * 20 + b"PAR1", "is not a readable parquet file: "),
        ("x.parquet", b"PAR1" + b"x" * 20, "is cut off: the end of a parquet file is missing"),
        ("x.arrow", b"ARROW1" + b"x" * 20, "is cut off: the end of a arrow file is missing"),
        ("x.arrow", b"PAR1" * 5, "is named .arrow but is not a arrow file"),
        ("x.json", b"{", "is not a readable json file: "),
        ("x.json", b"[1, 2]", None),
        ("x.jsonl", b'{"a": 1}\n{"a": \n', "is not a readable ndjson file: "),
        ("x.jsonl", b'{"a": 1}\n[1]\n', None),
        ("x.txt", b"x", ".txt is not a table format"),
        ("x", b"x", "a file without a suffix is not a table format"),
        ("x.tar.gz", b"x", ".gz is not a table format"),
    ],
)
def test_what_is_no_table_is_told(tmp_path: Path, name: str, data: bytes, message: str | None) -> None:
    (tmp_path / name).write_bytes(data)
    told = None
    try:
        formats.open_table(tmp_path / name, "data/x")
    except DataError as error:
        told = error
    if message is not None:
        assert told is not None
        assert told.message.startswith(message)
        assert told.where == "data/x"


def test_a_file_that_is_gone(tmp_path: Path) -> None:
    for suffix in (".csv", ".parquet", ".arrow", ".json", ".jsonl"):
        with pytest.raises(DataError, match=r"does not exist \(any more\)"):
            formats.open_table(tmp_path / f"x{suffix}")


VALUES = st.one_of(st.none(), st.integers(-(2**53), 2**53), st.text(st.characters(exclude_categories=("Cs",)), max_size=6))


@KEEP
@given(
    rows=st.lists(
        st.fixed_dictionaries({"a": st.none() | st.integers(-(2**53), 2**53), "b": st.none() | st.text(max_size=5)}),
        min_size=1,
        max_size=6,
    ),
    listed=st.booleans(),
)
def test_json_is_that_of_the_standard_library(tmp_path: Path, rows: list[dict[str, Any]], listed: bool) -> None:
    rows = [
        {name: value if not isinstance(value, str) else value.encode("utf-8", "ignore").decode() for name, value in row.items()}
        for row in rows
    ]
    path = tmp_path / ("x.json" if listed else "x.jsonl")
    path.write_text(json.dumps(rows) if listed else "".join(json.dumps(row) + "\n" for row in rows))
    opened = formats.open_table(path)
    assert opened.cells is ValueSyntax.JSON
    assert opened.table.to_dicts() == rows


@pytest.mark.parametrize(("name", "data"), [("x.jsonl", b"\n\n"), ("x.json", b" [] ")])
def test_json_without_rows_is_an_empty_table(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    assert formats.open_table(tmp_path / name).table.shape == (0, 0)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.csv", "csv"), ("A.CSV", "csv"), ("a.csv.gz", "csv"), ("a.tsv.zst", "tsv"), ("x/y.jsonl", "ndjson"),
        ("a.json.gz", "json"),
        ("a.pq", "parquet"), ("a.ipc", "arrow"), ("a.feather", "arrow"), ("a.gz", None), ("csv", None), (".csv", None),
        ("a.csv.bz2", None),
        ("a.csv.gz.gz", None), ("", None),
    ],
)  # fmt: skip
def test_a_format_is_known_by_the_name(name: str, kind: str | None) -> None:
    found = formats.of(name)
    assert (found.name if found else None) == kind


@pytest.mark.parametrize("size", [0, 1, 10**6, 10**9, 10**12])
def test_memory_is_bounded_and_grows_with_the_file(size: int) -> None:
    assert 0 < memory.most(size) <= memory.most(size * 2 + 1)
    assert memory.most(size) >= min(memory.UNPACKED_BYTES, memory.most(10**15))


def test_few_bytes_that_stand_for_many_are_refused_before_they_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "UNPACKED_BYTES", 10**6)
    bomb = pa.table({"a": pa.repeat(pa.scalar(7, pa.int64()), 1_000_000)})
    for write in WRITERS:
        path = write(tmp_path / "x", bomb)
        if path.stat().st_size * memory.TIMES > 8 * 10**6:
            continue
        with pytest.raises(DataError, match=r"would take .* MB in memory: a file of .* may take .* here"):
            formats.open_table(path, "x")
    lines = pa.compress(b"a\n" + b"7\n" * 1_200_000, "gzip", asbytes=True)
    (tmp_path / "x.csv.gz").write_bytes(lines)
    with pytest.raises(DataError, match="in memory"):
        formats.open_table(tmp_path / "x.csv.gz", "x")


TEXTS = st.text(st.sampled_from("=+-@|%\t\r\nA1.e, '\"ä"), max_size=8)


@given(st.lists(TEXTS, min_size=1, max_size=8))
def test_no_cell_begins_like_a_formula_and_numbers_stay(texts: list[str]) -> None:
    found = harmless(pl.DataFrame({"x": texts, "n": [-1.5] * len(texts)}).lazy()).collect()
    assert found["n"].to_list() == [-1.5] * len(texts)
    for before, after in zip(texts, found["x"].to_list(), strict=True):
        assert after in (before, f"'{before}")
        if after and after[0] in "=+-@|%\t\r\n":
            float(after)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("=1+1", "'=1+1"), ("-5", "-5"), ("+5.5e-3", "+5.5e-3"), ("-", "'-"), ("+49 30 1234", "'+49 30 1234"),
        ("@x", "'@x"), ("a=b", "a=b"),
        ("", ""), ("-.5", "-.5"), ("-1-1", "'-1-1"), ("%x", "'%x"), ("\tx", "'\tx"), ("'=1", "'=1"), ("-inf", "'-inf"),
    ],
)  # fmt: skip
def test_formulas_get_an_apostrophe(text: str, written: str) -> None:
    table = pl.DataFrame({"=x": [text], "c": pl.Series([text], dtype=pl.Categorical)})
    found = harmless(table.lazy()).collect()
    assert found.columns == ["'=x", "c"]
    assert found.row(0) == (written, written)
    assert harmless(found.lazy()).collect().equals(found.rename({"'=x": "'=x"}))
