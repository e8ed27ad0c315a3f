"""CSV and TSV beside the standard library's csv: every cell as it is written, packed or not, damaged or cut off anywhere."""

from __future__ import annotations

import csv
import gc
import gzip
import io
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from noria.data import formats
from noria.data.formats import delimited
from noria.data.formats.format import DialectError
from noria.kernel.dialect import Dialect
from noria.kernel.errors import DataError

CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n", exclude_categories=("Cs",)), max_size=8)
NAMES = st.lists(st.from_regex(r"[a-z][a-z ]{0,3}[a-z]", fullmatch=True), min_size=1, max_size=4, unique=True)
KEEP = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=12)
GOOD = 'id,name,when\n1,Ä,2024-01-02\n2,"b, ""c""",\n'


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[str], list[list[str]]]:
    names = draw(NAMES)
    cells = CELLS if len(names) > 1 else CELLS.filter(bool)  # of one column, an empty line is an empty cell
    return names, draw(st.lists(st.lists(cells, min_size=len(names), max_size=len(names)), max_size=5))


def written(names: list[str], rows: list[list[str]], delimiter: str = ",", end: str = "\n") -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writerows([names, *rows])
    return buffer.getvalue()


@KEEP
@given(table=tables(), mark=st.sampled_from([",", ";", "\t", "|"]), end=st.sampled_from(["\n", "\r\n"]), packed=st.booleans())
def test_cells_are_those_that_csv_wrote(
    tmp_path: Path, table: tuple[list[str], list[list[str]]], mark: str, end: str, packed: bool
) -> None:
    names, rows = table
    data = written(names, rows, mark, end).encode()
    path = tmp_path / ("x.csv.gz" if packed else "x.csv")
    path.write_bytes(gzip.compress(data) if packed else data)
    found = formats.open_table(path, dialect=Dialect(separator=mark)).table
    assert found.columns == names
    assert found.rows() == [tuple(cell or None for cell in row) for row in rows], "an empty cell is missing, quoted or not"


@KEEP
@given(table=tables(), encoding=st.sampled_from(["utf-8-sig", "utf-16", "utf-16-le", "utf-32"]))
def test_other_encodings_read_the_same(tmp_path: Path, table: tuple[list[str], list[list[str]]], encoding: str) -> None:
    names, rows = table
    (tmp_path / "x.csv").write_bytes(written(names, rows).encode(encoding))
    told = "utf-8" if encoding == "utf-8-sig" else encoding
    found = formats.open_table(tmp_path / "x.csv", dialect=Dialect(encoding=told)).table
    assert (found.columns, found.rows()) == (names, [tuple(cell or None for cell in row) for row in rows])


@pytest.mark.parametrize(
    ("data", "message", "hint"),
    [
        (b"", "is empty (0 bytes)", "Deliver the complete file again"),
        (b"a,a\n1,2\n", "has the column 'a' 2 times (columns 1, 2)", "Name each column once"),
        (b"a,b\n1,2,3\n", "row 1 has 3 values where the head has 2 columns", "Correct that row"),
        (b"a,b\n1,2\n3\n", "row 2 has 1 value where the head has 2 columns", "Correct that row"),
        (b"a;b\n1;2\n", "its columns look separated by a semicolon, not by a comma: a;b", 'csv: {separator: ";"}'),
        (b"a\tb\n1\t2\n", "its columns look separated by a tab, not by a comma: a\tb", 'csv: {separator: "\\t"}'),
        (b"a,b\n\xe4,2\n", "is not a readable csv file: ", "encoding: cp1252"),
        (b"a,\xe4\n1,2\n", "is not utf-8 text: ", "encoding: cp1252"),
        (b"PK\x03\x04\0\0,\n", "is named .csv but is not text", "Correct its name"),
        ("a,b\n1,2\n".encode("utf-16"), "looks like utf-16 text, but is read as utf-8", "encoding: utf-16"),
        (b"^a$,b\n1,2\n", "has a column called '^a$', which would be read as a pattern of names", "Rename"),
        (b"*,b\n1,2\n", "has a column called '*', which would be read as a pattern of names", "Rename"),
    ],
)
def test_what_is_wrong_with_a_file_is_told(tmp_path: Path, data: bytes, message: str, hint: str | None) -> None:
    (tmp_path / "x.csv").write_bytes(data)
    with pytest.raises(DataError) as caught:
        formats.open_table(tmp_path / "x.csv", "data/x.csv")
    assert caught.value.message.startswith(message)
    assert caught.value.where == "data/x.csv"
    assert hint is None or hint in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("data", "columns", "rows"),
    [
        (b"a", ["a"], 0),
        (b"a\n", ["a"], 0),
        (b"a,b", ["a", "b"], 0),
        (b"a,b\n1,2", ["a", "b"], 1),
        (b"a\n1\n\n3\n", ["a"], 3),
        (b"a,b\n1,2\n\n3,4\n", ["a", "b"], 2),
        (b",b\n1,2\n", ["column_1", "b"], 1),
        (b" ,b\n1,2\n", ["column_1", "b"], 1),
        (b'"a\nb",c\n"1\n2",3\n', ["a\nb", "c"], 1),
        (b"a,b\r1,2\r", ["a", "b"], 1),
    ],
)
def test_odd_files_that_are_tables(tmp_path: Path, data: bytes, columns: list[str], rows: int) -> None:
    (tmp_path / "x.csv").write_bytes(data)
    found = formats.open_table(tmp_path / "x.csv").table
    assert (found.columns, found.height) == (columns, rows)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # pyarrow's, of odd rows that are no text
@pytest.mark.parametrize("packing", ["", ".gz"])
def test_a_file_that_is_cut_off_or_damaged_anywhere_is_a_table_or_told(tmp_path: Path, packing: str) -> None:
    """Never a trace, and never a name or a number of columns that the head does not have."""
    whole = GOOD.encode()
    data = gzip.compress(whole, mtime=0) if packing else whole
    path = tmp_path / f"x.csv{packing}"
    for at in range(len(data)):
        for made in (data[:at], data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :], data[:at] + b"\0" + data[at + 1 :]):
            path.write_bytes(made)
            told = None
            try:
                found = formats.open_table(path, "x").table
            except DataError as error:
                told = error
            if told is None:
                assert found.width <= 4
            else:
                assert told.where == "x"
                assert told.message


def test_only_the_columns_that_are_asked_for_in_the_order_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a,b,c\n1,2,3\n")
    assert formats.open_table(tmp_path / "x.csv", columns=["c", "a"]).table.rows() == [("1", "3")]
    assert formats.read_table(tmp_path / "x.csv", ["c", "a"]).rows() == [(3, 1)]
    with pytest.raises(DataError, match="has no column d; it has a, b, c"):
        formats.read_table(tmp_path / "x.csv", ["a", "d"], name="x")


@pytest.mark.parametrize(
    ("dialect", "data", "row"),
    [
        (Dialect(quote="'"), b"a,b\n'1,2',3\n", ("1,2", "3")),
        (Dialect(quote=""), b'a,b\n"1,2"\n', ('"1', '2"')),
        (Dialect(separator=";"), b"a;b\n1,5;2\n", ("1,5", "2")),
        (Dialect(encoding="cp1252"), b"a,b\n\x80,\xe4\n", ("€", "ä")),
    ],
)
def test_how_a_file_is_written(tmp_path: Path, dialect: Dialect, data: bytes, row: tuple[str, str]) -> None:
    (tmp_path / "x.csv").write_bytes(data)
    assert formats.open_table(tmp_path / "x.csv", dialect=dialect).table.rows() == [row]


@KEEP
@given(table=tables(), mark=st.sampled_from([",", ";", "\t", "|"]))
def test_how_a_file_looks_to_be_written_reads_it_or_says_so(
    tmp_path: Path, table: tuple[list[str], list[list[str]]], mark: str
) -> None:
    names, rows = table
    path = tmp_path / "x.csv"
    path.write_text(written(names, rows, mark), newline="")
    dialect = formats.as_it_looks(path)
    assert dialect.encoding == "utf-8"
    if len(names) > 1 and not rows:
        assert formats.open_table(path, dialect=dialect).table.columns == names


@pytest.mark.parametrize(
    "data",
    [
        b"a,b\n1,2\n\xff\n3,4\n",
        b"a,b\n1,2\n\xff,2,3\n",
        pytest.param(b"a,b\n" + b"1,2\n" * (delimited.BLOCK_BYTES // 4) + b"\xff\n", id="behind the first block"),
    ],
)
def test_a_row_of_another_length_that_is_no_text_is_told_by_noria_alone(
    tmp_path: Path, data: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    """Arrow prints a trace where it cannot hand over the text of such a row."""
    (tmp_path / "x.csv").write_bytes(data)
    with pytest.raises(DataError, match="is not utf-8 text: ") as caught:
        formats.open_table(tmp_path / "x.csv")
    assert "csv: {encoding: cp1252}" in str(caught.value.hint)
    gc.collect()
    assert capfd.readouterr() == ("", "")


def test_traces_of_others_are_printed_as_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.csv").write_bytes(b"a,b\n\xff\n")
    heard: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda trace: heard.append(trace.object))
    delimited._hear_traces.cache_clear()
    with pytest.raises(DataError):
        formats.open_table(tmp_path / "x.csv")
    assert heard == []

    class Broken:
        def __del__(self) -> None:
            raise ZeroDivisionError

    Broken()
    assert len(heard) == 1
    delimited._hear_traces.cache_clear()


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"a,b\n1,2\n\xff,2\n", "csv: {encoding: cp1252}"),
        (b"a,b\n1,2\n\xff\n", "csv: {encoding: cp1252}"),
        ("a,b\n1,2\n".encode("utf-16"), "csv: {encoding: utf-16}"),
        (b"a;b\n1;2\n", 'csv: {separator: ";"}'),
        (b"a,b\n1,2,3\n", None),
        (b"", None),
        (b"a,b\n\0,2\n", None),
    ],
)
def test_that_noria_yaml_may_say_how_a_file_is_written_is_a_class_of_error(tmp_path: Path, data: bytes, told: str | None) -> None:
    """The turn tells what to say there, and nothing else of a hint; the words of a message decide nothing."""
    (tmp_path / "x.csv").write_bytes(data)
    with pytest.raises(DataError) as caught:
        formats.open_table(tmp_path / "x.csv")
    assert isinstance(caught.value, DialectError) == (told is not None)
    assert told is None or told in str(caught.value.hint)
