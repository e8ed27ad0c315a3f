"""Files that repeat each other, and which row of a key stands."""

from __future__ import annotations

import polars as pl
import pytest

from noria.data import judge_repeats


def table(first: int, last: int, **changed: int) -> pl.DataFrame:
    ids = [f"k{n}" for n in range(first, last)]
    return pl.DataFrame({"id": ids, "v": [changed.get(name, place) for place, name in enumerate(ids, first)]})


def judged(before: pl.DataFrame, after: pl.DataFrame, *key: str) -> judge_repeats.RepeatedRows | None:
    return judge_repeats.judge(judge_repeats.prints("a.csv", before, key), judge_repeats.prints("b.csv", after, key), key)


def test_a_whole_export_is_recognised_and_a_log_is_not() -> None:
    """Number 29: an export of all rows so far, beside a log whose files hold what is new."""
    found = judged(table(0, 100), table(0, 140))
    assert found is not None
    assert (found.rows, found.repeated) == (100, 100)
    assert "b.csv repeats 100 of the 100 rows of a.csv, and they count twice" in found.words("rows")
    assert "data.rows.key" in found.words("rows")
    assert judged(table(0, 100), table(100, 200)) is None
    assert judged(table(0, 100), table(90, 200)) is None, "a few rows of overlap are no export"
    assert judged(table(0, 10), table(0, 12)) is None, "so few rows tell nothing"


def test_rows_that_are_alike_by_chance_are_no_repetition() -> None:
    """Number 29: a table of few columns with few values has equal rows in any two files."""
    alike = pl.DataFrame({"a": [n % 3 for n in range(300)], "b": [n % 2 for n in range(300)]})
    assert judged(alike, alike) is None


def test_with_a_key_conflicts_are_counted() -> None:
    """Number 29: where a key exists and rows conflict, it is told."""
    found = judged(table(0, 100), table(50, 140, k60=-1, k61=-2), "id")
    assert found is not None
    assert (found.repeated, found.differing) == (50, 2)
    assert (
        "has 50 of the 100 rows of a.csv again, by id; the newer row of each is used, 2 of them with other values"
        in found.words("rows")
    )
    assert judged(table(0, 100), table(100, 140), "id") is None


def test_of_many_rows_a_part_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Number 29: memory is bounded, and the count is then an estimate that says so."""
    monkeypatch.setattr(judge_repeats, "MOST", 1000)
    before, after = table(0, 10_000), table(0, 12_000)
    assert len(judge_repeats.prints("a.csv", before, ()).row) < 2000
    found = judged(before, after)
    assert found is not None
    assert found.about
    assert 8_000 < found.repeated < 12_000
    assert "repeats about" in found.words("rows")


def test_the_newest_row_of_a_key_stands() -> None:
    """Number 29: the last file by name, read as people count; within a file the last row; a missing key is nobody's."""
    assert judge_repeats.by_age(["e-10.csv", "e-9.csv", "e-2024-02.csv"]) == ["e-9.csv", "e-10.csv", "e-2024-02.csv"]
    old = pl.DataFrame({"id": ["a", "b", None, "c"], "v": [1, 2, 3, 4]})
    new = pl.DataFrame({"id": ["b", "d", "d", None], "v": [20, 5, 6, 7]})
    found, gone = judge_repeats.newest_rows([new, old], ["id"])
    assert found is not None
    assert found.rows() == [("a", 1), (None, 3), ("c", 4), ("b", 20), ("d", 6), (None, 7)]
    assert gone == 2
    both, _ = judge_repeats.newest_rows([new, old], ["id", "v"])
    assert both is not None
    assert both.height == 8, "by two columns nothing is the same"
