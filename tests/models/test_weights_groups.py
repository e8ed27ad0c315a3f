"""Weights and groups of rows have a way into training, and groups stay on one side of each split."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import polars as pl
import pytest

from noria.kernel.errors import DataError
from noria.models import table_arguments, training, trial
from noria.models.split import split

MODULE = """
import numpy as np
import pandas as pd

class Told:
    def __init__(self, **told): self.told = told
    def predict_proba(self, rows): return np.tile([0.5, 0.5], (len(rows), 1))

def weighted(features, label, *, sample_weight: np.ndarray, groups: pd.Series, depth=3):
    kinds = type(sample_weight), type(groups)
    return Told(inputs=list(features.columns), weight=sample_weight, groups=list(groups), kinds=kinds)

def plain(features, label): return Told(inputs=list(features.columns))
"""
N = 400


@pytest.fixture(scope="module", autouse=True)
def module(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("weights")
    (folder / "weights_under_test.py").write_text(MODULE)
    sys.path.insert(0, str(folder))
    yield
    sys.path.remove(str(folder))


def table() -> pl.DataFrame:
    draw = np.random.default_rng(0)
    return pl.DataFrame(
        {
            "id": np.arange(N),
            "at": np.arange(N) * 3600,
            "house": [f"h{i // 4}" for i in draw.permutation(N)],
            "counts": draw.random(N),
            "a": draw.random(N),
            "y": np.arange(N) % 2,
        }
    )


def facts(**changes: Any) -> dict[str, Any]:
    made = {
        "key": "id", "event_time": "at", "task": "binary", "inputs": [], "label": "y", "features": None, "slices": [],
        "train": "weights_under_test:weighted", "project": "p", "holdout": {"last_s": None, "fraction": 0.2},
        "weight": "counts", "groups": "house",
    }  # fmt: skip
    return made | changes


def trained(folder: Path, model: dict[str, Any]) -> Any:
    table_arguments.write_arrow(table(), folder / "rows.arrow")
    argument = {"kind": "output", "path": str(folder / "rows.arrow"), "format": "arrow"}
    training.run({"rows": argument, "model": model, "params": {}, "seed": 1, "folder": str(folder)})
    return joblib.load(folder / "model.joblib").told


def test_train_gets_weights_and_groups_by_name_and_in_the_kind_it_asks_for(tmp_path: Path) -> None:
    """Number 26: they are no inputs, and belong to the training rows."""
    told = trained(tmp_path, facts())
    assert told["inputs"] == ["a"]
    made = split(table(), facts())
    assert told["weight"].tolist() == made.train["counts"].to_list()
    assert told["groups"] == made.train["house"].to_list()
    assert [kind.__name__ for kind in told["kinds"]] == ["ndarray", "Series"]
    assert trained(tmp_path, facts(train="weights_under_test:plain"))["inputs"] == ["a"]


@pytest.mark.parametrize("holdout", [{"last_s": None, "fraction": 0.2}, {"last_s": 80 * 3600.0, "fraction": None}])
def test_no_group_is_on_both_sides(holdout: dict[str, Any], tmp_path: Path) -> None:
    """Number 26: of the holdout, and of each fold of a search."""
    model = facts(holdout=holdout)
    made = split(table(), model)
    assert made.train.height > 100
    assert not set(made.train["house"]) & set(made.holdout["house"])
    assert split(table(), facts(holdout=holdout, groups=None)).holdout.height > 50
    if holdout["last_s"]:
        assert "earlier rows of the same house train nothing" in made.facts["sentence"]
        return
    table().write_ipc(tmp_path / "in.arrow")
    job = {"rows": {"kind": "table", "files": [str(tmp_path / "in.arrow")]}, "model": model, "folds": 3}
    found = trial.rows({**job, "folder": str(tmp_path)})
    assert set(found["inputs"]) == {"a"}
    rows = pl.read_ipc(tmp_path / trial.ROWS)
    assert rows.group_by("house").agg(pl.col(trial.FOLD).n_unique())[trial.FOLD].max() == 1
    assert {"counts", "house"} <= set(rows.columns)


def test_odd_weights_and_groups_are_told() -> None:
    for value in (None, -1.0, float("nan"), float("inf")):
        rows = table().with_columns(counts=pl.when(pl.col("id") == 7).then(value).otherwise("counts"))
        with pytest.raises(DataError, match="the weight counts is empty, negative or not finite in 1 of 400 rows"):
            split(rows, facts())
    with pytest.raises(DataError, match="the weight house is String, not a number"):
        split(table(), facts(weight="house"))
    with pytest.raises(DataError, match="the column of groups house is empty in 1 of 400 rows"):
        split(table().with_columns(house=pl.when(pl.col("id") == 7).then(None).otherwise("house")), facts())
    with pytest.raises(DataError, match="no column 'cuonts' \\(did you mean 'counts'"):
        split(table(), facts(weight="cuonts"))
