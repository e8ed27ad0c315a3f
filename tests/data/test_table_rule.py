"""Numbers 2, 21, 22: the one rule for types of text files, as a table; docs/data.md says it in words."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from noria.data import formats, judge_column_types
from noria.data.formats import DatasetFile, texts
from noria.data.table import Column, ColumnKind, FileLooks, TableType
from noria.kernel.contract import ColumnRule, Contract
from noria.kernel.dialect import Dialect
from noria.kernel.errors import DataError

PLAIN, COMMA, DASH = Dialect(), Dialect(decimal=","), Dialect(nulls=("-", "?"))
DAY, NOON = date(2024, 7, 3), datetime(2024, 7, 3, 12, 0)


def decided(cells: list[str | None], dialect: Dialect = PLAIN) -> tuple[Column, pl.Series]:
    """The type that a column of these cells has by itself, and its values."""
    series = pl.Series("c", cells, dtype=pl.String)
    kind, undecided = judge_column_types.decide(None, TableType(), [FileLooks("f", {"c": texts.looks(series, dialect)})])
    assert not undecided, undecided
    values, bad = texts.convert(series, kind.columns["c"], dialect)
    assert not bad.any()
    return kind.columns["c"], values


@pytest.mark.parametrize(
    ("cells", "dialect", "kind", "values"),
    [
        # whole numbers
        (["1", "-2", " 3 ", None], PLAIN, "int", [1, -2, 3, None]),
        (["0", "9007199254740992"], PLAIN, "int", [0, 2**53]),
        (["01002", "2139"], PLAIN, "string", ["01002", "2139"]),  # a leading zero: a code
        (["-007"], PLAIN, "string", ["-007"]),
        (["+4912", "17"], PLAIN, "string", ["+4912", "17"]),  # a plus sign: a telephone
        (["9007199254740993"], PLAIN, "string", ["9007199254740993"]),  # no exact number in JSON
        (["123456789012345678901234567890"], PLAIN, "string", ["123456789012345678901234567890"]),
        (["1", "12345678901234567", "2.5"], PLAIN, "string", ["1", "12345678901234567", "2.5"]),
        (["20240103"], PLAIN, "int", [20240103]),
        # other numbers
        (["1.5", "2", ".5", "3.", "-1e-3"], PLAIN, "float", [1.5, 2.0, 0.5, 3.0, -0.001]),
        (["5.0", "7.0"], PLAIN, "float", [5.0, 7.0]),
        (["01.5"], PLAIN, "string", ["01.5"]),
        (["1,5", "2,5"], PLAIN, "string", ["1,5", "2,5"]),
        (["1,5", "2"], COMMA, "float", [1.5, 2.0]),
        (["1.5"], COMMA, "string", ["1.5"]),
        (["1,234", "12"], PLAIN, "string", ["1,234", "12"]),  # thousands
        (["1.234,5"], COMMA, "string", ["1.234,5"]),
        (["5 %", "3 EUR"], PLAIN, "string", ["5 %", "3 EUR"]),
        (["inf", "1"], PLAIN, "float", [float("inf"), 1.0]),
        (["inf"], PLAIN, "string", ["inf"]),
        # truth
        (["true", "FALSE", None], PLAIN, "bool", [True, False, None]),
        (["yes", "no"], PLAIN, "string", ["yes", "no"]),
        (["t", "f"], PLAIN, "string", ["t", "f"]),
        (["1", "0"], PLAIN, "int", [1, 0]),
        # nothing
        (["1", "NA", "nan", "null", "#N/A", ""], PLAIN, "int", [1, None, None, None, None, None]),
        (["x", "NA", "null"], PLAIN, "string", ["x", "NA", "null"]),
        (["true", "None"], PLAIN, "bool", [True, None]),
        (["x", "-", "?"], DASH, "string", ["x", None, None]),
        (["1", "-"], DASH, "int", [1, None]),
        (["1", "NA"], DASH, "string", ["1", "NA"]),
        (["NA", None], PLAIN, "", ["NA", None]),
        ([None, None], PLAIN, "", [None, None]),
        # dates and times
        (["2024-07-03", "2024/07/03"], PLAIN, "date", [DAY, DAY]),
        (["03.07.2024"], PLAIN, "date", [DAY]),  # with dots the day is first
        (["13/07/2024", "03/07/2024"], PLAIN, "date", [date(2024, 7, 13), DAY]),
        (["07/13/2024", "07/03/2024"], PLAIN, "date", [date(2024, 7, 13), DAY]),
        (["13/07/2024", "07/13/2024"], PLAIN, "string", ["13/07/2024", "07/13/2024"]),
        (["2024-02-30"], PLAIN, "string", ["2024-02-30"]),  # there is no such day
        (["2024-07-03 12:00", "2024-07-03T12:00:00.0"], PLAIN, "datetime", [NOON, NOON]),
        (["2024-07-03", "2024-07-03 12:00"], PLAIN, "datetime", [datetime(2024, 7, 3), NOON]),
        (["2024-07-03T12:00Z", "2024-07-03 14:00:00+02:00"], PLAIN, "datetime", [NOON.replace(tzinfo=UTC)] * 2),
        (["12:30", "7:05:01"], PLAIN, "string", ["12:30", "7:05:01"]),
        (["03/07/24"], PLAIN, "string", ["03/07/24"]),
    ],
)
def test_a_column_is_what_all_its_cells_are(cells: list[str | None], dialect: Dialect, kind: str, values: list[Any]) -> None:
    """Number 2: what would lose something as a number stays text; and one cell that is text makes the column text."""
    column, found = decided(cells, dialect)
    assert (str(column.kind), found.to_list()) == (kind, values)


@pytest.mark.parametrize("cells", [["03/07/2024", "12/12/2024"], ["03-07-2024"], ["03/07/2024 10:15"]])
def test_dates_that_may_be_read_in_two_ways_are_undecided(cells: list[str]) -> None:
    """Number 22: 03/07/2024 is 3 July or March 7: nobody guesses."""
    looks = texts.looks(pl.Series("at", cells), PLAIN)
    _, undecided = judge_column_types.decide(None, TableType(), [FileLooks("orders.csv", {"at": looks})])
    assert [one.column for one in undecided] == ["at"]
    assert "may be" in undecided[0].text
    contract = Contract((ColumnRule("at", format=undecided[0].formats[1]),))
    kind, left = judge_column_types.decide(contract, TableType(), [FileLooks("orders.csv", {"at": looks})])
    assert not left
    assert kind.columns["at"].format == undecided[0].formats[1]


@pytest.mark.parametrize(
    ("kind", "written", "cells", "values", "bad"),
    [
        ("string", None, ["01002", "7", "2024-01-01", "true"], ["01002", "7", "2024-01-01", "true"], []),
        ("int", None, ["007", "+3", "5.0", "1.5", "x"], [7, 3, 5, None, None], [3, 4]),
        ("float", None, ["007.5", "+3", "1,5"], [7.5, 3.0, None], [2]),
        ("bool", None, ["yes", "N", "1", "0", "T", "maybe"], [True, False, True, False, True, None], [5]),
        ("date", "%m/%d/%Y", ["07/03/2024", "7/3/2024", "13/07/2024"], [DAY, DAY, None], [2]),
        ("datetime", "%d.%m.%Y %H:%M", ["03.07.2024 12:00"], [NOON], []),
        ("date", None, ["2024-07-03", "03.07.24"], [DAY, None], [1]),
    ],
)
def test_the_contract_drives_the_reading(
    kind: str, written: str | None, cells: list[str], values: list[Any], bad: list[int]
) -> None:
    """Number 2: a contract that says string, or int, or how dates are written, is followed to the letter."""
    contract = Contract((ColumnRule("c", type=kind, format=written),))
    series = pl.Series("c", cells)
    found, undecided = judge_column_types.decide(contract, TableType(), [FileLooks("f", {"c": texts.looks(series)})])
    made, wrong = texts.convert(series, found.columns["c"])
    assert not undecided
    assert (made.to_list(), wrong.arg_true().to_list()) == (values, bad)


def test_what_was_decided_before_is_kept() -> None:
    """Number 21: a file whose column is all digits, empty or true and false changes no type, and loses no zero."""
    known = TableType({"sku": Column(ColumnKind.STRING), "n": Column(ColumnKind.INT), "x": Column(ColumnKind.FLOAT)})
    looks = FileLooks("b.csv", {name: texts.looks(pl.Series(name, ["12", "7"])) for name in known.columns})
    kind, _ = judge_column_types.decide(None, known, [looks])
    assert kind == known
    made, bad = texts.convert(pl.Series("n", ["5.0", "007", ""]), known.columns["n"])
    assert (made.to_list(), bad.to_list()) == ([5, None, None], [False, True, False]), "007 is no number where nobody says so"


def test_files_are_read_by_the_type_of_their_dataset(tmp_path: Path) -> None:
    """Number 21: one table type for all files; a header alone, an empty column, other orders of columns change nothing."""
    (tmp_path / "a.csv").write_text("id,n,x\n01,1,1.5\n")
    (tmp_path / "b.csv").write_text("id,n,x\n")
    (tmp_path / "c.csv").write_text('x,id,n\n"",17,\n')
    parts = [DatasetFile(f"data/{name}", tmp_path / name) for name in ("a.csv", "b.csv", "c.csv")]
    table = formats.read_tables(parts)
    assert table.schema == {"id": pl.String, "n": pl.Int64, "x": pl.Float64}
    assert table.rows() == [("01", 1, 1.5), ("17", None, None)]
    kind = TableType(
        {
            "id": Column(ColumnKind.STRING),
            "n": Column(ColumnKind.FLOAT),
            "x": Column(ColumnKind.FLOAT),
            "more": Column(ColumnKind.DATE),
        }
    )
    table = formats.read_tables(parts, kind)
    assert table.schema == {"id": pl.String, "n": pl.Float64, "x": pl.Float64, "more": pl.Date}


def test_what_does_not_fit_is_told_with_file_column_and_value(tmp_path: Path) -> None:
    """Number 21: and the file is called as the person knows it."""
    (tmp_path / "a.csv").write_text("n\n1\n")
    (tmp_path / "b.csv").write_text("n\n1\nfour\n")
    with pytest.raises(DataError) as caught:
        formats.read_table(tmp_path / "b.csv", name="data/b.csv", kind=TableType({"n": Column(ColumnKind.INT)}))
    assert caught.value.where == "data/b.csv"
    assert "n: row 2 is no whole number; in this dataset it is int, as long as no contract says" in caught.value.message
    assert caught.value.message.endswith(": n in row 2 is 'four'")
    (tmp_path / "c.csv").write_text("n,m\n1,2\n")
    with pytest.raises(DataError, match=r"has m besides, compared with data/a.csv") as caught:
        formats.read_tables([DatasetFile("data/a.csv", tmp_path / "a.csv"), DatasetFile("data/c.csv", tmp_path / "c.csv")])
    assert caught.value.where == "data/c.csv"


def test_typed_files_follow_the_type_of_their_dataset(tmp_path: Path) -> None:
    """Number 24: Parquet with Decimal, Enum, NaN, whole numbers as floats, other zones and empty columns."""
    table = pl.DataFrame(
        {
            "d": pl.Series(["1.50", None]).cast(pl.Decimal(10, 2)),
            "e": pl.Series(["a", "b"], dtype=pl.Enum(["b", "a"])),
            "f": [1.0, float("nan")],
            "n": [3.0, None],
            "t": [NOON.replace(tzinfo=UTC), None],
            "none": [None, None],
        }
    )
    table.write_parquet(tmp_path / "a.parquet")
    kind = TableType(
        {
            "d": Column(ColumnKind.FLOAT),
            "e": Column(ColumnKind.STRING),
            "f": Column(ColumnKind.FLOAT),
            "n": Column(ColumnKind.INT),
            "t": Column(ColumnKind.DATETIME, zone="Europe/Berlin"),
            "none": Column(ColumnKind.INT),
        }
    )
    read = formats.read_tables([DatasetFile("a", tmp_path / "a.parquet")], kind)
    assert read["f"].null_count() == 1, "NaN is a missing value"
    assert read.schema["e"] == pl.String
    assert read.schema["n"] == read.schema["none"] == pl.Int64
    assert str(read["t"].dtype.time_zone) == "Europe/Berlin"  # type: ignore[attr-defined]
    with pytest.raises(DataError, match="f: the file has float, and in this dataset it is string"):
        formats.read_table(tmp_path / "a.parquet", kind=TableType({"f": Column(ColumnKind.STRING)}))


@pytest.mark.parametrize(
    ("name", "content", "said", "hint"),
    [
        ("twice.csv", b"a,b,a\n1,2,3\n", "has the column 'a' 2 times", "once"),
        ("semi.csv", b"a;b\n1;2\n", "separated by a semicolon", 'separator: ";"'),
        ("tab.csv", b"a\tb\n1\t2\n", "separated by a tab", "separator"),
        ("cp.csv", "name\nM\xfcller\n".encode("cp1252"), "UTF8", "encoding: cp1252"),
        ("head.csv", "gr\xf6\xdfe,b\n1,2\n".encode("cp1252"), "is not utf-8 text", "encoding: cp1252"),
        ("wide.csv", "a,b\n1,2\n".encode("utf-16"), "utf-16", "encoding: utf-16"),
        ("short.csv", b"a,b\n1,2\n3\n", "row 2 has 1 value", "row"),
    ],
)
def test_a_csv_that_is_written_in_another_way_says_how_to_say_so(
    tmp_path: Path, name: str, content: bytes, said: str, hint: str
) -> None:
    """Numbers 23 and 24: a column that stands twice is refused; hints tell the key to write."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        formats.read_table(tmp_path / name)
    assert said in caught.value.message
    assert hint in str(caught.value.hint)


@pytest.mark.parametrize(
    ("content", "name", "separator", "encoding", "decimal"),
    [
        ("a,b\n1,2.5\n", "x.csv", "", "utf-8", "."),
        ("a;b\n1;2,5\n", "x.csv", ";", "utf-8", ","),
        ("gr\xf6\xdfe;b\n1;2,5\n", "x.csv", ";", "cp1252", ","),
        ("a\tb\n\xfc\t2\n", "x.csv", "\t", "utf-16", "."),
        ("a\tb\n1\t2,5\n", "x.tsv", "", "utf-8", ","),
        ('a,b\n"1,5","x;y"\n', "x.csv", "", "utf-8", ","),
        ('a,b\n"1,500","2,000"\n', "x.csv", "", "utf-8", "."),  # thousands, as likely
        ("a|b|c\n1|2|3\n", "x.csv", "|", "utf-8", "."),
        ("a\n1\n", "x.csv", "", "utf-8", "."),
    ],
)
def test_how_a_file_is_written_is_detected(
    tmp_path: Path, content: str, name: str, separator: str, encoding: str, decimal: str
) -> None:
    """Number 24: separator, encoding and decimal comma of what Excel and others write."""
    from noria.data.formats import detect

    path = tmp_path / name
    path.write_bytes(content.encode(encoding))
    assert detect.detect(path, detect.comma(path)) == Dialect(separator, encoding, decimal)


def test_an_unnamed_column_has_a_name(tmp_path: Path) -> None:
    """Number 24: the index that pandas writes."""
    (tmp_path / "x.csv").write_text(",a\n0,1\n1,2\n")
    assert formats.read_table(tmp_path / "x.csv").columns == ["column_1", "a"]


def test_reading_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Number 54: a small file that would take gigabytes (here: 20 MB) is refused in words, before it does."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from noria.data.formats import memory

    monkeypatch.setattr(memory, "UNPACKED_BYTES", 20_000_000)
    path = tmp_path / "big.parquet"
    group = pa.table({f"c{at}": pa.array([0]).take(pa.array([0] * 100_000)) for at in range(8)})
    with pq.ParquetWriter(path, group.schema, compression="zstd") as writer:
        for _ in range(5):
            writer.write_table(group)
    assert path.stat().st_size < 100_000
    with pytest.raises(DataError, match=r"would take 32\.0 MB in memory"):
        formats.read_table(path)
    for name in ("big.csv.gz", "big.jsonl.gz"):
        with pa.output_stream(str(tmp_path / name), compression="gzip") as stream:
            stream.write(b"a\n")
            for _ in range(30):
                stream.write(b"0" * (1 << 20) + b"\n")
        with pytest.raises(DataError, match="in memory"):
            formats.read_table(tmp_path / name)
    arrow = pl.DataFrame({"n": pl.repeat(0, 4_000_000, dtype=pl.Int64, eager=True)})
    arrow.write_ipc(tmp_path / "big.arrow", compression="zstd")
    with pytest.raises(DataError, match="in memory"):
        formats.read_table(tmp_path / "big.arrow")
