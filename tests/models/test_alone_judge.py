"""Number 23: an input that predicts the label alone is said."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from noria.kernel.task import Task
from noria.models.judge_leakage import judge_inputs


@pytest.fixture
def table() -> pl.DataFrame:
    rng, n = np.random.default_rng(0), 2000
    y, z, w = rng.integers(0, 2, n), rng.integers(0, 3, n), rng.normal(size=n)
    return pl.DataFrame(
        {
            "y": y,
            "z": z,
            "w": w,
            "copy of y": y,
            "words of y": [["no", "yes"][v] for v in y],
            "known after y": [None if v else 3.0 for v in y],
            "near y": y + rng.normal(0, 0.1, n),
            "good for y": y + rng.normal(0, 1, n),
            "near z": z * 10 + rng.normal(0, 0.1, n),
            "line of w": w * 2 + 1,
            "chance": rng.normal(size=n),
            "name": [f"u{i}" for i in range(n)],
        }
    )


@pytest.mark.parametrize(
    ("label", "task", "telling"),
    [
        ("y", Task.BINARY, ["copy of y", "words of y", "known after y", "near y"]),
        ("z", Task.MULTICLASS, ["near z"]),
        ("w", Task.REGRESSION, ["line of w"]),
        ("absent", Task.BINARY, []),
    ],
)
def test_what_tells_the_label_alone_is_found(table: pl.DataFrame, label: str, task: Task, telling: list[str]) -> None:
    """Copies, words for it, what is missing where it is true; not what is merely good, nor a name of each row."""
    found = judge_inputs(table, table.columns, label, task)
    assert [one.name for one in found] == telling
    assert all(label in one.words(label) and "is it known" in one.words(label) for one in found)


def test_few_rows_tell_nothing(table: pl.DataFrame) -> None:
    """In 30 rows something is always a copy by chance."""
    assert judge_inputs(table.head(30), table.columns, "y", Task.BINARY) == []
