"""Further tables and parameters on their way to ``features`` and ``train``: by name, in the kind asked for, as sealed."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from noria.kernel.errors import StepError
from noria.models import further_tables, table_arguments, trial
from noria.models.python_model import bind_features, load_tables

REGIONS = pl.DataFrame({"region": ["n", "s", None], "people": [1, None, 3]}).with_columns(kind=pl.lit("x").cast(pl.Categorical))


def features(rows: pl.DataFrame, regions: pd.DataFrame, *, scale: float, shift: float = 1.0) -> Any:
    return type(regions), scale, shift, len(regions), rows.height


def greedy(rows: pl.DataFrame, **more: Any) -> Any:
    return sorted(more)


def train(features: Any, label: Any, *, regions: np.ndarray) -> Any:
    return regions


def test_features_get_what_they_take_and_nothing_else() -> None:
    bound = bind_features(features, {"scale": 3, "rows": "not this", "unknown": 1}, {"regions": REGIONS})
    assert bound is not None
    assert bound(pl.DataFrame({"a": [1, 2]})) == (pd.DataFrame, 3, 1.0, 3, 2)
    bound = bind_features(greedy, {"scale": 3}, {"regions": REGIONS})
    assert bound is not None
    assert bound(REGIONS) == ["regions", "scale"]
    assert bind_features(None, {"scale": 3}, {}) is None
    assert bind_features(greedy, {}, {}) is greedy, "releases from before have neither"


def test_training_sees_the_table_as_the_release_holds_it(tmp_path: Path) -> None:
    facts = table_arguments.write(REGIONS, tmp_path / "one.arrow")
    read = further_tables.read({"regions": {"kind": "output", "path": str(tmp_path / "one.arrow"), **facts}})
    further_tables.save(read, tmp_path)
    sealed = load_tables({"regions": tmp_path / further_tables.file_of("regions")})
    assert sealed["regions"].equals(read["regions"])
    assert sealed["regions"].equals(REGIONS)
    assert sealed["regions"].schema == read["regions"].schema == REGIONS.schema
    first = (tmp_path / "also/regions.parquet").read_bytes()
    further_tables.save({"regions": pl.concat([REGIONS.head(1), REGIONS.slice(1)], rechunk=False)}, tmp_path)
    assert (tmp_path / "also/regions.parquet").read_bytes() == first, "the bytes depend on the content alone"


def test_train_gets_the_kind_it_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("named_under_test")
    module.train = train  # type: ignore[attr-defined]  # a module made here
    monkeypatch.setitem(sys.modules, "named_under_test", module)
    found = further_tables.for_training({"regions": REGIONS, "other": REGIONS}, "named_under_test:train")
    assert list(found) == ["regions"]
    assert isinstance(found["regions"], np.ndarray)
    assert further_tables.for_training({}, "nowhere:at_all") == {}


def people(rows: pl.DataFrame, *, regions: pl.DataFrame, scale: float) -> pl.DataFrame:
    return rows.join(regions, on="region", how="left", maintain_order="left").select(x=pl.col("people") / scale)


class Lifted:
    def __init__(self, lift: float) -> None:
        self.lift = lift

    def predict(self, x: pl.DataFrame) -> Any:
        return x["x"].to_numpy() + self.lift


def lifted(features: pl.DataFrame, label: Any, *, regions: pl.DataFrame, lift: float = 0.0) -> Lifted:
    return Lifted(lift + regions.height - 2)


def test_a_fold_of_a_search_asks_with_the_same_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("folds_under_test")
    module.people, module.lifted = people, lifted  # type: ignore[attr-defined]  # a module made here
    monkeypatch.setitem(sys.modules, "folds_under_test", module)
    table = pl.DataFrame({"region": ["n", "s"], "people": [10, 30]})
    facts = table_arguments.write(table, tmp_path / "regions.arrow")
    rows = pl.DataFrame({"region": ["n", "s"] * 20, "y": [1.0, 3.0] * 20, trial.FOLD: [0] * 20 + [1] * 20})
    table_arguments.write_arrow(rows, tmp_path / trial.ROWS)
    model = {
        "task": "regression", "label": "y", "key": None, "event_time": None, "inputs": ["region"],
        "features": "folds_under_test:people",
    }  # fmt: skip
    job = {
        "rows": str(tmp_path / trial.ROWS), "inputs": {"region": "string"}, "rolling": False, "fold": 0, "model": model,
        "train": "folds_under_test:lifted", "params": {"lift": 0.5}, "seed": 1, "metrics": ["mae"], "metric": "mae",
        "also": {"regions": {"kind": "output", "path": str(tmp_path / "regions.arrow"), **facts}},
        "feature_params": {"scale": 10},
    }  # fmt: skip
    assert trial.run(job)["metrics"]["mae"] == pytest.approx(0.5)
    assert trial.run({**job, "feature_params": {"scale": 5}})["metrics"]["mae"] == pytest.approx(2.5), "(1.5 + 3.5) / 2"


def test_a_step_that_returns_no_table_is_told(tmp_path: Path) -> None:
    facts = table_arguments.write({"n": 1}, tmp_path / "one.json")
    with pytest.raises(StepError, match="'means' is dict, not a table") as caught:
        further_tables.read({"means": {"kind": "output", "path": str(tmp_path / "one.json"), **facts}})
    assert "Let the step means return a table" in (caught.value.hint or "")
