"""Large files a part at a time: the parts are the table, and errors are those of a reading."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from noria.config import DataSource
from noria.data import formats, large_files, table_types
from noria.data.formats import DatasetFile, delimited, memory
from noria.kernel.contract import ColumnRule, Contract
from noria.kernel.dialect import PLAIN, Dialect
from noria.kernel.errors import DataError

TABLE = pl.DataFrame(
    {
        "id": range(50),
        "name": [None if n % 5 == 0 else f"name {n}" for n in range(50)],
        "at": [dt.datetime(2026, 1, 1) + dt.timedelta(hours=n) for n in range(50)],
        "list": [[n, n + 1] for n in range(50)],
        "pair": [{"a": n, "b": "x"} for n in range(50)],
        "kind": pl.Series(["a", "b"] * 25, dtype=pl.Categorical),
        "small": pl.Series(range(50), dtype=pl.Int8),
    }
)


@pytest.fixture(autouse=True)
def in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "PARTED_FROM_BYTES", 0)
    monkeypatch.setattr(memory, "PART_BYTES", 500)


def read(path: Path, columns: list[str] | None = None, dialect: Dialect = PLAIN) -> list[pl.DataFrame]:
    opened = formats.open_parts(path, dialect=dialect)
    assert opened is not None
    return list(opened.parts(columns))


@pytest.mark.parametrize("group", [7, 1000])
def test_the_parts_of_a_parquet_file_are_its_table(tmp_path: Path, group: int) -> None:
    path = tmp_path / "a.parquet"
    TABLE.write_parquet(path, row_group_size=group)
    parts = read(path)
    assert len(parts) > 5
    assert pl.concat(parts).equals(formats.open_table(path).table)
    assert parts[0].schema == formats.open_table(path).table.schema
    assert pl.concat(read(path, ["small", "id"])).equals(TABLE.select("id", "small"))


def test_arrows_own_types_are_those_of_polars(tmp_path: Path) -> None:
    table = pa.table(
        {
            "word": pa.array(["a", "b", "a"]).dictionary_encode(),
            "large": pa.array(["x", None, "y"], pa.large_string()),
            "seconds": pa.array([1, 2, 3], pa.timestamp("s")),
            "decimal": pa.array([1, 2, None], pa.decimal128(12, 2)),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    whole = formats.open_table(tmp_path / "a.parquet").table
    parts = pl.concat(read(tmp_path / "a.parquet"))
    assert parts.schema == whole.schema
    assert parts.equals(whole)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".csv.gz", ".csv.zst"])
def test_the_parts_of_a_text_file_are_its_table(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delimited, "BLOCK_BYTES", 200)
    monkeypatch.setattr(memory, "PART_BYTES", 100)
    path = tmp_path / f"a{suffix}"
    written = TABLE.select("id", "name").cast(pl.String).with_columns(pl.col("name").str.replace(" ", "\n"))
    formats.write_table(path, written)
    parts = read(path)
    assert len(parts) > 1
    assert pl.concat(parts).equals(written)
    assert pl.concat(read(path, ["name"])).equals(written.select("name"))


def test_a_table_without_rows_is_one_part(tmp_path: Path) -> None:
    TABLE.clear().write_parquet(tmp_path / "a.parquet")
    (tmp_path / "a.csv").write_text("a,b\n")
    assert [one.schema for one in read(tmp_path / "a.parquet")] == [TABLE.schema]
    assert [(one.columns, one.height) for one in read(tmp_path / "a.csv")] == [(["a", "b"], 0)]


def test_small_files_and_other_formats_are_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n')
    assert formats.open_parts(tmp_path / "a.jsonl") is None
    assert formats.open_parts(tmp_path / "a.txt") is None
    monkeypatch.setattr(memory, "PARTED_FROM_BYTES", 1 << 20)
    (tmp_path / "a.csv").write_text("a\n1\n")
    TABLE.write_parquet(tmp_path / "a.parquet")
    assert formats.open_parts(tmp_path / "a.csv") is None
    assert formats.open_parts(tmp_path / "a.parquet") is None


def test_a_bad_row_far_into_a_file_is_told_by_its_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delimited, "BLOCK_BYTES", 100)
    (tmp_path / "a.csv").write_text("a,b\n" + "1,2\n" * 90 + "1,2,3\n")
    opened = formats.open_parts(tmp_path / "a.csv", "delivered.csv")
    assert opened is not None
    with pytest.raises(DataError, match="row 91 has 3 values where the head has 2 columns") as caught:
        list(opened.parts(None))
    assert caught.value.where == "delivered.csv"


def test_a_file_that_is_gone_is_told_of(tmp_path: Path) -> None:
    for name in ("a.csv", "a.parquet"):
        with pytest.raises(DataError, match="does not exist"):
            formats.open_parts(tmp_path / name)


def test_a_text_file_whose_types_are_told_is_not_read_for_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.csv").write_text("a,b\n1,x\n")
    told = Contract((ColumnRule("a", "int"), ColumnRule("b", "string")))
    source, file = DataSource("a", "a.csv", told), DatasetFile("a.csv", tmp_path / "a.csv")
    with monkeypatch.context() as patch:
        patch.setattr(delimited, "batches", None)
        decided = table_types.of_files(source, None, (), [file])
    assert [(name, column.kind) for name, column in decided.type.columns.items()] == [("a", "int"), ("b", "string")]
    half = table_types.of_files(DataSource("a", "a.csv", Contract((ColumnRule("a", "int"),))), None, (), [file])
    assert half.type.columns["b"].kind == "string"


def test_a_date_that_may_be_read_in_two_ways_refuses_a_large_file(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("day\n" + "01/02/2026\n" * 60)
    source = DataSource("a", "a.csv", Contract((ColumnRule("day", "date"),)))
    decided = table_types.of_files(source, None, (), [DatasetFile("a.csv", tmp_path / "a.csv")])
    opened = formats.open_parts(tmp_path / "a.csv")
    assert opened is not None
    judged = large_files.ruling(source, decided, opened, (), None)
    assert judged.rows == 60
    assert "may be %d/%m/%Y or %m/%d/%Y" in judged.ruling.verdict.sentence()
