"""What the end of a Parquet file says, read without Arrow: the same as Arrow reads, or nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.data.formats import parquet, parquet_footer
from noria.kernel.errors import DataError

TABLES = {
    "flat": pa.table({"a": [1, 2, None], "b": ["x", "y", "z"], "c": [1.5, None, 2.0], "d": [True, False, None]}),
    "nested": pa.table({"a": [[1, 2], [3]], "b": [{"x": 1, "y": {"z": "q"}}] * 2, "c": [1, 2]}),
    "small numbers": pa.table({"a": pa.array([1, 2], pa.int32()), "b": pa.array([1.0, 2.0], pa.float32())}),
    "map": pa.table({"a": pa.array([[("k", 1)], []], pa.map_(pa.string(), pa.int64())), "b": [1, 2]}),
    "no rows": pa.table({"a": pa.array([], pa.int64())}),
    "many columns": pa.table({f"column {n}": [n] for n in range(40)}),
    "decimal": pa.table({"a": pa.array([1, 2], pa.decimal128(30, 2)), "ä": pa.array([b"x", b"y"])}),
}


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("group", [1, 100])
def test_says_what_arrow_says(tmp_path: Path, name: str, group: int) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(TABLES[name], path, row_group_size=group)
    ours, arrows = parquet_footer.read(path), parquet._ask_arrow(path)
    assert ours is not None
    assert (ours.rows, ours.stored_bytes, ours.names) == (arrows.rows, arrows.stored_bytes, arrows.names)
    assert [parquet._width(kind) for kind in ours.leaves] == [parquet._width(kind) for kind in arrows.leaves]


def test_says_what_arrow_says_of_polars_files(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pl.DataFrame({"a": range(1000), "b": ["x"] * 1000}).write_parquet(path, row_group_size=100)
    ours, arrows = parquet_footer.read(path), parquet._ask_arrow(path)
    assert ours is not None
    assert (ours.rows, ours.stored_bytes, ours.names) == (1000, arrows.stored_bytes, ("a", "b"))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(at=st.integers(0, 600), byte=st.integers(0, 255))
def test_a_broken_footer_is_left_to_arrow_or_read(tmp_path_factory: pytest.TempPathFactory, at: int, byte: int) -> None:
    path = tmp_path_factory.getbasetemp() / "broken.parquet"
    pq.write_table(TABLES["nested"], path)
    content = bytearray(path.read_bytes())
    content[-9 - at % (len(content) - 16)] = byte
    path.write_bytes(content)
    found = parquet_footer.read(path)  # raises nothing
    assert found is None or found.rows >= 0


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1\xff\xff\xff\x7fPAR1", b"PAR1" + bytes(20) + b"\x14\0\0\0PARE"])
def test_what_is_no_footer_is_left_to_arrow(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.parquet").write_bytes(content)
    assert parquet_footer.read(tmp_path / "a.parquet") is None


def test_structures_without_end_are_left_to_arrow(tmp_path: Path) -> None:
    footer = b"\x1c" * 5000
    (tmp_path / "a.parquet").write_bytes(b"PAR1" + footer + len(footer).to_bytes(4, "little") + b"PAR1")
    assert parquet_footer.read(tmp_path / "a.parquet") is None


def test_a_long_footer_is_left_to_arrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pq.write_table(TABLES["flat"], tmp_path / "a.parquet")
    monkeypatch.setattr(parquet_footer, "FOOTER_MOST", 10)
    assert parquet_footer.read(tmp_path / "a.parquet") is None
    assert parquet._decoded_bytes(tmp_path / "a.parquet") > 0


def test_a_column_that_stands_twice_is_named(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"]), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="'a' 2 times"):
        parquet._decoded_bytes(tmp_path / "a.parquet")


def test_a_parquet_check_loads_neither_arrow_nor_numpy(tmp_path: Path) -> None:
    """They take half as long again as all else that a small file needs."""
    pl.DataFrame({"a": [1, 2]}).write_parquet(tmp_path / "a.parquet")
    (tmp_path / "c.yaml").write_text("columns:\n  a: {type: int, nulls: never}\nunique: [[a]]\n")
    told = "import sys; from noria.cli import execute; execute(sys.argv[1:])\n"
    told += "print([name for name in ('pyarrow', 'numpy', 'scipy', 'pandas') if name in sys.modules])"
    command = [sys.executable, "-c", told, "data", "check", "a.parquet", "--contract", "c.yaml"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert run.stdout.splitlines()[-2:] == ["ok    a.parquet: 2 rows meet the contract", "[]"], run.stdout + run.stderr
