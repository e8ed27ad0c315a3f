"""Data files: what counts as arrived, and what a broken one is called."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from blake3 import blake3

from noria.data import files
from noria.kernel.errors import DataError


def test_a_file_that_is_being_written_has_not_arrived_and_a_renamed_one_has(tmp_path: Path) -> None:
    part = tmp_path / "a.part"
    part.write_bytes(b"x" * 1000)
    assert not files.is_settled(part, 0)
    written = tmp_path / "written.csv"
    written.write_bytes(b"x" * 1000)
    assert not files.is_settled(written, 2)
    arrived = tmp_path / "a.csv"
    part.rename(arrived)
    while arrived.stat().st_ctime_ns == arrived.stat().st_mtime_ns:  # until a tick of the kernel's clock lies between
        arrived.rename(part)
        part.rename(arrived)
    begun = time.monotonic()
    while not files.is_settled(arrived, 3600):  # not within the tick of the rename
        assert time.monotonic() - begun < 30
    with arrived.open("ab") as file:
        file.write(b"more")
    assert not files.is_settled(arrived, 3600)


def test_a_file_that_rests_has_arrived(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"")
    assert not files.is_settled(path, 3600)
    begun = time.monotonic()
    while not files.is_settled(path, 0.2):
        assert time.monotonic() - begun < 30
        time.sleep(0.01)
    assert time.monotonic() - begun > 0.15
    with pytest.raises(FileNotFoundError):
        files.is_settled(tmp_path / "vanished.csv", 2)


def test_the_digest_is_blake3(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(os.urandom(3_000_001))
    assert files.digest(path) == blake3(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("suffix", [".parquet", ".pq", ".csv", ".tsv", ".ndjson", ".jsonl", ".json", ".arrow", ".feather"])
def test_every_format_is_read(tmp_path: Path, suffix: str) -> None:
    table = pl.DataFrame({"n": [1, 2], "c": ["a", "b"]})
    path = tmp_path / f"x[1]{suffix}"
    write: dict[str, Callable[[], object]] = {
        ".parquet": lambda: table.write_parquet(path),
        ".pq": lambda: table.write_parquet(path),
        ".csv": lambda: table.write_csv(path),
        ".tsv": lambda: table.write_csv(path, separator="\t"),
        ".json": lambda: table.write_json(path),
        ".arrow": lambda: table.write_ipc(path),
        ".feather": lambda: table.write_ipc(path),
    }
    write.get(suffix, lambda: table.write_ndjson(path))()
    assert files.read_table(path).equals(table)
    assert files.read_table(path, columns=["c"]).columns == ["c"]
    with pytest.raises(DataError, match="has no column d"):
        files.read_table(path, columns=["d"])


def parquet() -> bytes:
    import io

    buffer = io.BytesIO()
    pl.DataFrame({"n": list(range(5000)), "c": [str(i) for i in range(5000)]}).write_parquet(buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.parquet", b"", "is empty (0 bytes)"),
        ("a.csv", b"", "is empty (0 bytes)"),
        ("a.parquet", parquet()[:-100], "is cut off"),
        ("a.parquet", b"PAR1" + os.urandom(500) + b"PAR1", "is not a readable parquet file"),
        ("a.parquet", parquet()[:4] + b"\xff" * (len(parquet()) - 12) + parquet()[-8:], "is not a readable parquet file"),
        ("a.parquet", b"n,c\n1,a\n", "is named .parquet but is not a parquet file"),
        ("a.arrow", parquet(), "is named .arrow but is not a arrow file"),
        ("a.csv", parquet(), "is named .csv but is not text"),
        ("a.csv", b"a,b\n1,2,3\n", "row 1 has 3 values where the head has 2 columns"),
        ("a.ndjson", b'{"a": 1}\n{"a": ', "is not a readable ndjson file"),
        ("a.json", b"[1, 2", "is not a readable json file"),
        ("a.xlsx", b"x", ".xlsx is not a table format"),
    ],
)
def test_a_broken_file_is_told_in_plain_words(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        files.read_table(path)
    assert said in caught.value.message
    assert caught.value.where == str(path)
    assert caught.value.hint


@pytest.mark.parametrize("cut", [0.2, 0.5, 0.9, 0.999])
def test_a_half_copied_parquet_file_is_never_read(tmp_path: Path, cut: float) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(parquet()[: int(len(parquet()) * cut)])
    with pytest.raises(DataError):
        files.read_table(path)


def test_a_vanished_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        files.read_table(tmp_path / "gone.parquet")


def test_the_watcher_wakes_on_files_and_in_new_folders(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    watcher = files.FileWatcher([tmp_path])
    try:
        rouse(watcher, tmp_path / "data")
        (tmp_path / "later").mkdir()
        rouse(watcher, tmp_path / "later")
    finally:
        watcher.close()


def rouse(watcher: files.FileWatcher, folder: Path) -> None:
    """Rename files in until one is noticed: the watch begins a moment after the watcher, or the folder, was made."""
    for number in range(50):
        watcher.changed.clear()
        part = folder.parent / ".x.part"
        part.write_text("x")
        part.rename(folder / f"{number}.csv")
        if watcher.changed.wait(0.3):
            return
    raise AssertionError("nothing was noticed")
