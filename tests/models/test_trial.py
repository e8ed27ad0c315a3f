"""Folds of a search: which rows fit and which validate, against plain Python; and scores, against scikit-learn."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, roc_auc_score

from noria.kernel.errors import DataError, StepError
from noria.models import trial

START = datetime(2024, 1, 1, tzinfo=UTC)
DAY = 86400.0


def table(n: int, hours: int = 6, seed: int = 0) -> pl.DataFrame:
    """One row every few hours, shuffled."""
    draw = np.random.default_rng(seed)
    a, b = draw.normal(size=n), draw.normal(size=n)
    y = (a + draw.normal(size=n) > 0).astype(int)
    at = [START + timedelta(hours=hours * i) for i in range(n)]
    made = pl.DataFrame({"key": [f"k{i}" for i in range(n)], "at": at, "place": np.arange(n), "a": a, "b": b, "y": y})
    return made.sample(fraction=1.0, shuffle=True, seed=seed)


def model(**more: Any) -> dict[str, Any]:
    facts = {"key": "key", "event_time": "at", "task": "binary", "inputs": ["a", "b", "place"], "label": "y", "features": None}
    return {**facts, "slices": [], "holdout": {"last_s": 10 * DAY, "fraction": None}, "project": "p", **more}


def folded(tmp_path: Path, rows: pl.DataFrame, folds: int = 3, **more: Any) -> tuple[dict[str, Any], pl.DataFrame]:
    """The facts and the rows that ``trial.rows`` leaves."""
    rows.write_ipc(tmp_path / "in.arrow")
    job = {"rows": {"kind": "table", "files": [str(tmp_path / "in.arrow")]}, "model": model(**more), "folds": folds}
    facts = trial.rows({**job, "folder": str(tmp_path)})
    return facts, pl.read_ipc(tmp_path / trial.ROWS)


def test_rolling_windows_are_as_long_as_the_holdout_and_end_where_it_begins(tmp_path: Path) -> None:
    rows = table(400)  # 100 days, four rows a day
    facts, kept = folded(tmp_path, rows)
    newest = 399
    begins_holdout = newest - 40  # places later than this are the last ten days
    train_newest = begins_holdout
    expected = {}
    for place in range(begins_holdout + 1):
        back = (train_newest - place) // 40
        expected[place] = 2 - back if back < 3 else -1
    assert dict(kept.select("place", trial.FOLD).iter_rows()) == expected
    assert facts["folds"] == [40, 40, 40]
    assert facts["rolling"]
    assert facts["sentence"] == "3 rolling windows of 10 d"
    assert set(kept.columns) == {"a", "b", "place", "y", trial.FOLD}


def test_a_short_training_side_gets_shorter_windows(tmp_path: Path) -> None:
    facts, kept = folded(tmp_path, table(100))  # 25 days, of which ten are held out
    assert "shorter than the holdout" in facts["sentence"]
    assert min(facts["folds"]) >= 14
    assert kept.filter(pl.col(trial.FOLD) == -1).height >= 14
    ends = (pl.col("place").min().alias("first"), pl.col("place").max().alias("last"))
    by_fold = kept.group_by(trial.FOLD).agg(*ends).sort("first")
    assert by_fold[trial.FOLD].to_list() == [-1, 0, 1, 2]
    assert (by_fold["last"][:-1] < by_fold["first"][1:]).all()


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(folds=st.integers(2, 6), keyed=st.booleans(), fraction=st.floats(0.1, 0.4))
def test_by_hash_each_training_row_validates_once_and_no_held_out_row_is_there(
    tmp_path: Path, folds: int, keyed: bool, fraction: float
) -> None:
    rows = table(600)
    more = {"key": "key" if keyed else None, "holdout": {"last_s": None, "fraction": fraction}, "event_time": None}
    more["inputs"] = ["a", "b", "place"]
    facts, kept = folded(tmp_path, rows, folds, **more)
    side = trial.split(rows, model(**more)).train
    assert sorted(kept["place"]) == sorted(side["place"])
    assert sum(facts["folds"]) == kept.height
    assert set(kept[trial.FOLD]) == set(range(folds))
    assert min(facts["folds"]) > kept.height / folds / 2
    again = folded(tmp_path, rows.head(500), folds, **more)[1]  # a row keeps its fold when others come or go
    now = dict(kept.select("place", trial.FOLD).iter_rows())
    assert all(now[place] == fold for place, fold in again.select("place", trial.FOLD).iter_rows())


def test_one_fold_by_hash_validates_a_share_as_large_as_the_holdout(tmp_path: Path) -> None:
    facts, kept = folded(tmp_path, table(2000), 1, holdout={"last_s": None, "fraction": 0.3})
    assert abs(facts["folds"][0] / kept.height - 0.3) < 0.05
    assert set(kept[trial.FOLD]) == {-1, 0}


def test_too_few_rows_to_search_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="too few rows to search"):
        folded(tmp_path, table(110), 9)


def test_rows_of_one_moment_are_refused(tmp_path: Path) -> None:
    rows = table(200).with_columns(at=pl.when(pl.col("place") < 150).then(pl.lit(START)).otherwise(pl.lit(START + timedelta(30))))
    with pytest.raises(DataError, match="one event time"):
        folded(tmp_path, rows)


@pytest.fixture
def project(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A module with a training function that notes which rows it got."""
    seen: dict[str, Any] = {"fit": [], "predict": []}

    class Noted(LogisticRegression):  # type: ignore[misc]  # no type information published
        def predict_proba(self, x: Any) -> Any:
            seen["predict"] = x["place"].to_list()
            return super().predict_proba(x.select("a", "b").to_numpy())

    def fit(features: pl.DataFrame, label: pl.Series, *, c: float = 1.0) -> Any:
        seen["fit"] = features["place"].to_list()
        return Noted(C=c).fit(features.select("a", "b").to_numpy(), label.to_numpy())

    def broken(features: pl.DataFrame, label: pl.Series) -> Any:
        raise ZeroDivisionError("no")

    module = ModuleType("noted_model")
    module.fit, module.broken = fit, broken  # type: ignore[attr-defined]  # a module made by hand
    monkeypatch.setitem(sys.modules, "noted_model", module)
    return seen


def fold(tmp_path: Path, facts: dict[str, Any], number: int, **more: Any) -> dict[str, Any]:
    job = {
        "rows": str(tmp_path / trial.ROWS),
        "inputs": facts["inputs"],
        "rolling": facts["rolling"],
        "fold": number,
        "model": model(),
        "train": "noted_model:fit",
        "params": {"c": 0.5},
        "seed": 1,
        "metrics": ["brier", "roc_auc", "precision"],
        "metric": "brier",
        "folder": str(tmp_path),
    }
    return trial.run({**job, **more})


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_fold_fits_on_what_is_before_and_scores_its_window(tmp_path: Path, project: dict[str, Any], number: int) -> None:
    rows = table(400)
    facts, _ = folded(tmp_path, rows)
    made = fold(tmp_path, facts, number)
    first = 360 - 40 * (3 - number)  # the place where the window begins
    assert sorted(project["fit"]) == list(range(first))
    assert sorted(project["predict"]) == list(range(first, first + 40))
    fitting, window = (rows.filter(p) for p in (pl.col("place") < first, pl.col("place").is_between(first, first + 39)))
    reference = LogisticRegression(C=0.5).fit(fitting.select("a", "b").to_numpy(), fitting["y"].to_numpy())
    answers = reference.predict_proba(window.select("a", "b").to_numpy())[:, 1]
    assert made["metrics"]["brier"] == pytest.approx(brier_score_loss(window["y"].to_numpy(), answers), abs=1e-6)
    assert made["metrics"]["roc_auc"] == pytest.approx(roc_auc_score(window["y"].to_numpy(), answers), abs=1e-6)
    assert (made["train_rows"], made["validation_rows"]) == (first, 40)
    assert made["fit_s"] > 0


def test_a_metric_without_a_value_is_left_out_unless_it_is_the_one_that_counts(tmp_path: Path, project: dict[str, Any]) -> None:
    rows = table(400).with_columns(y=pl.when(pl.col("place") >= 320).then(1).otherwise(pl.col("y")))
    facts, _ = folded(tmp_path, rows)
    assert "roc_auc" not in fold(tmp_path, facts, 2)["metrics"]
    with pytest.raises(StepError, match="roc_auc has no value on fold 3"):
        fold(tmp_path, facts, 2, metric="roc_auc")


def test_training_rows_of_one_class_are_told(tmp_path: Path, project: dict[str, Any]) -> None:
    rows = table(400).with_columns(y=pl.when(pl.col("place") < 250).then(0).otherwise(pl.col("y")))
    facts, _ = folded(tmp_path, rows)
    with pytest.raises(DataError, match="fold 1: its 240 training rows are all of one class"):
        fold(tmp_path, facts, 0)
