"""Held-out rows that training saw as well are counted, and told where they are many."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from small_line import CONFIG, CONTRACT, points, small_line

from noria.evaluation.store import EvaluationStore
from noria.models.judge_overlap import count_repeated, repeated_words

TRAIN = pl.DataFrame({"a": [1.0, 2.0, None, 1.0], "b": ["x", "y", None, "x"], "y": [0, 1, 1, 0], "key": [1, 2, 3, 4]})


def test_rows_that_equal_a_training_row_are_counted_once_each() -> None:
    holdout = pl.DataFrame({"a": [1.0, 2.0, None, 5.0], "b": ["x", "y", None, "x"], "y": [0, 0, 1, 0], "key": [5, 6, 7, 8]})
    assert count_repeated(TRAIN, holdout, ["a", "b", "y"]) == 2
    assert count_repeated(TRAIN, holdout, ["a", "b"]) == 3
    assert count_repeated(TRAIN, holdout.clear(), ["a", "b", "y"]) == 0


@pytest.mark.parametrize(
    ("repeated", "rows", "due"),
    [
        (0, 100, ""),
        (1, 101, ""),
        (0, 0, ""),
        (2, 100, "2 of 100 held-out rows (2 %) have the inputs and"),
    ],
)
def test_few_are_not_worth_a_word(repeated: int, rows: int, due: str) -> None:
    assert repeated_words(repeated, rows).startswith(due)
    assert bool(repeated_words(repeated, rows)) is bool(due)


def test_a_turn_tells_of_rows_under_another_key(tmp_path: Path) -> None:
    """The same points come twice; the key differs, so that a split by key cannot hold them together."""
    with small_line(tmp_path, text=CONFIG, files=[("contracts/points.yaml", CONTRACT)]) as line:
        head, *rows = points(1).splitlines()
        again = [f"9{row}" for row in rows]
        line.deliver("points-01.csv", "\n".join([head, *rows, *again]) + "\n")
        turn = line.turned()
        found = EvaluationStore.of(line).of_turn(turn.id)
        assert found is not None
        (said,) = found.evaluation.remarks
        assert "have the inputs and the label of a training row" in said
