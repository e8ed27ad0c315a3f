"""Keys on disk: what repeats is what Polars says of the whole table, however the keys came and however little memory there is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.data import key_spill
from noria.data.key_spill import KeySpill, RowMarks

NUMBERS = st.none() | st.sampled_from([0.0, -0.0, 1.0, -1.0, 1e300, float("inf")])
TEXTS = st.none() | st.sampled_from(["", "a", "A", "ä", "a" * 50])
WHOLE = st.none() | st.integers(-3, 3)


def spill_of(folder: Path, table: pl.DataFrame, size: int) -> KeySpill:
    spill = KeySpill(folder)
    for first in range(0, table.height, size):
        spill.add(table[first : first + size], first)
    return spill


def repeated(table: pl.DataFrame) -> list[bool]:
    names = table.columns
    key = pl.col(names[0]) if len(names) == 1 else pl.struct(names)
    return table.select(~key.is_first_distinct()).to_series().to_list()


@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    rows=st.lists(st.tuples(NUMBERS, TEXTS, WHOLE), max_size=40),
    names=st.sampled_from([["number"], ["text"], ["whole"], ["whole", "text"], ["number", "text", "whole"]]),
    size=st.integers(1, 11),
    held=st.sampled_from([1, 300, 1 << 26]),
)
def test_repeats_are_those_of_the_whole_table(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[Any, ...]],
    names: list[str],
    size: int,
    held: int,
) -> None:
    schema = {"number": pl.Float64(), "text": pl.String(), "whole": pl.Int64()}
    table = pl.DataFrame(rows, schema=schema, orient="row").select(names)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(key_spill, "HELD_BYTES", held)
        patch.setattr(key_spill, "PARTITIONS", 4)
        spill = spill_of(tmp_path_factory.mktemp("keys"), table, size)
        marks = spill.repeats()
        assert marks.part(0, table.height).to_list() == repeated(table)
        assert marks.count == sum(repeated(table))
        assert spill.distinct() == table.n_unique()


def test_keys_are_written_once_each_and_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_spill, "HELD_BYTES", 1)
    table = pl.DataFrame({"key": ["same"] * 1000 + ["other"]})
    spill = spill_of(tmp_path, table, 100)
    written = [pl.read_ipc(path) for path in tmp_path.iterdir()]
    assert sum(one.height for one in written) == 11  # one of each hundred, and the other
    assert spill.distinct() == 2
    assert spill.repeats().part(0, 1001).to_list() == [False, *[True] * 999, False]


def test_few_keys_touch_no_disk(tmp_path: Path) -> None:
    spill = spill_of(tmp_path, pl.DataFrame({"key": [1, 2, 1]}), 2)
    assert spill.repeats().count == 1
    assert list(tmp_path.iterdir()) == []


def test_no_keys_repeat_nothing(tmp_path: Path) -> None:
    spill = KeySpill(tmp_path)
    assert spill.distinct() == 0
    assert spill.repeats().part(0, 0).to_list() == []


def test_repeats_are_counted_once_however_often_they_are_asked_for(tmp_path: Path) -> None:
    spill = spill_of(tmp_path, pl.DataFrame({"key": [1, 1, 1]}), 1)
    assert [spill.repeats().count, spill.distinct(), spill.repeats().count] == [2, 1, 2]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    groups=st.lists(st.sets(st.integers(0, 40_000), max_size=20), max_size=4),
    first=st.integers(0, 40_100),
    height=st.integers(0, 300),
)
def test_marks_are_bits_of_rows(groups: list[set[int]], first: int, height: int) -> None:
    marks, known = RowMarks(), set[int]()
    for group in groups:
        marks.add(pl.Series(sorted(group - known), dtype=pl.Int64))
        known |= group
    assert marks.count == len(known)
    found = marks.part(first, height)
    assert found.dtype == pl.Boolean
    assert found.to_list() == [row in known for row in range(first, first + height)]


def test_neighbours_in_one_byte_are_all_marked() -> None:
    marks = RowMarks()
    marks.add(pl.Series([8, 9, 10, 15]))
    marks.add(pl.Series([11]))
    assert marks.part(8, 8).to_list() == [True, True, True, True, False, False, False, True]
