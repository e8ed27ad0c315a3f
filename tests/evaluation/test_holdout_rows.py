"""Which rows were held out is known by key, by time and label, or by content; and which candidate it was, by all that answers."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import polars as pl
import pytest
from msgspec.structs import replace

from noria import config
from noria.data import personal_key
from noria.engine import assembly
from noria.evaluation import judge_holdout
from noria.evaluation.holdout_rows import holdout_rows
from noria.evaluation.look_store import LookStore
from noria.evaluation.records import HoldoutRows
from noria.kernel.errors import ConfigError, StoreError
from noria.releases.release import ServedForm
from noria.stats import row_sketch

PROJECT = """\
project: p
data: {rows: {source: rows.csv}}
model: {rows: rows, label: y, train: "model:train", MORE}
"""
ROWS = pl.DataFrame(
    {
        "id": list(range(100)),
        "at": [f"2026-01-{number % 28 + 1:02d}T{number % 24:02d}:00:00" for number in range(100)],
        "a": [number / 7 for number in range(100)],
        "y": [number % 2 for number in range(100)],
    }
)


def project(home: Path, more: str) -> config.Project:
    (home / "noria.yaml").write_text(PROJECT.replace("MORE", more))
    (home / "model.py").write_text("def train(features, label): ...\n")
    return config.load(home)


def seen(home: Path, more: str, rows: pl.DataFrame, *, model: str = "m", hosted: str = "", key: bytes = b"k" * 32) -> HoldoutRows:
    rows.write_ipc(home / "holdout.arrow")
    run = SimpleNamespace(project=project(home, more), tree_id=hosted)
    form = ServedForm.HOSTED if hosted else ServedForm.COMPILED
    package = SimpleNamespace(holdout=home / "holdout.arrow", model=model, signature="s", form=form)
    return holdout_rows(cast(Any, run), cast(Any, package), key)


@pytest.mark.parametrize("more", ["key: id", "event_time: at"])
def test_a_changed_column_does_not_make_rows_fresh(tmp_path: Path, more: str) -> None:
    before = seen(tmp_path, more, ROWS)
    after = seen(tmp_path, more, ROWS.reverse().with_columns((pl.col("a") * 2).alias("a"), pl.lit(1).alias("new")), model="n")
    found = judge_holdout.count(after, [before], None)
    assert (found.looks, found.fresh_rows, found.rows) == (2.0, 0, 100)


def test_without_a_key_a_row_is_what_it_holds(tmp_path: Path) -> None:
    before = seen(tmp_path, "task: binary", ROWS)
    assert judge_holdout.count(seen(tmp_path, "task: binary", ROWS, model="n"), [before], None).looks == 2.0
    other = seen(tmp_path, "task: binary", ROWS.with_columns(pl.lit(1).alias("new")), model="n")
    assert judge_holdout.count(other, [before], None).fresh_rows == 100, "another column draws another split as well"


def test_a_candidate_is_its_model_and_the_code_that_it_runs(tmp_path: Path) -> None:
    named = {
        seen(tmp_path, "key: id", ROWS, model=model, hosted=hosted).candidate
        for model, hosted in (("m", ""), ("n", ""), ("m", "commit:1"), ("m", "commit:2"), ("m", ""))
    }
    assert len(named) == 4


def test_a_budget_stands_beside_last_or_fraction(tmp_path: Path) -> None:
    def holdout(more: str) -> tuple[float | None, float | None, int | None]:
        model = project(tmp_path, more).model
        assert model is not None
        return model.holdout.last_s, model.holdout.fraction, model.holdout.budget

    assert holdout("key: id") == (None, 0.2, None)
    assert holdout("holdout: {budget: 12}") == (None, 0.2, 12)
    assert holdout("holdout: {fraction: 30%, budget: 12}") == (None, 0.3, 12)
    assert holdout("event_time: at, holdout: {last: 7d, budget: 30}") == (7 * 86400.0, None, 30)
    for wrong, why in (
        ("holdout: {budget: 31}", "from 1 to 30"),
        ("holdout: {budget: 0}", "from 1 to 30"),
        ("event_time: at, holdout: {last: 7d, fraction: 20%, budget: 3}", "not both"),
    ):
        with pytest.raises(ConfigError, match=why):
            project(tmp_path, wrong)


def test_what_undecided_gates_and_changes_of_policy_ask_for(tmp_path: Path) -> None:
    def policies(more: str) -> tuple[str, str]:
        found = project(tmp_path, f"key: id}}\n{more}#")
        return str(found.not_enough_data), str(found.policy_changes)

    assert policies("") == ("refuse", "allow")
    assert policies("not_enough_data: hold\n") == ("hold", "allow")
    assert policies("environments: {production: {approvals: 1}}\n") == ("refuse", "approve")
    step = "environments: {production: {rollout: {steps: [10%, {approve: 1}, 100%]}}}\n"
    assert policies(step) == ("refuse", "approve")
    assert policies(f"{step}policy_changes: allow\n") == ("refuse", "allow")
    with pytest.raises(ConfigError, match="refuse or hold"):
        policies("not_enough_data: shadow\n")


def test_hashes_tell_no_row_without_the_key_and_looks_of_before_count_on(tmp_path: Path) -> None:
    now = seen(tmp_path, "key: id", ROWS, model="n")
    guessed = set(row_sketch.sketch(map(str, range(100)), "p").tolist())
    assert guessed.isdisjoint(now.smallest)
    assert guessed == set(now.unkeyed)
    other = seen(tmp_path, "key: id", ROWS, model="n", key=b"o" * 32)
    assert set(other.smallest).isdisjoint(now.smallest)

    old = HoldoutRows("old", 100, now.unkeyed)
    counted = judge_holdout.count(now, [old, replace(now, candidate="m")], None)
    assert (counted.looks, counted.fresh_rows, counted.repeated) == (3.0, 0, False)
    assert judge_holdout.count(now, [HoldoutRows(now.candidate, 100, now.unkeyed)], None).repeated
    half = seen(tmp_path, "key: id", ROWS[:50], model="half")
    assert judge_holdout.count(now, [old, half], None).looks == 2.5
    assert judge_holdout.count(now, [half], None).fresh_rows == 50


def test_the_ledger_keeps_keyed_looks_alone_and_asks_for_their_key(tmp_path: Path) -> None:
    (tmp_path / "noria.yaml").write_text("project: p\n")
    context = assembly.assemble(tmp_path, state=tmp_path / ".noria")
    now, store = seen(tmp_path, "key: id", ROWS), LookStore.of(context)
    store.add("turn-1", HoldoutRows("old", 100, now.unkeyed), 1.0)
    assert len(personal_key.demand(context)) == 32  # looks of earlier versions have no key
    store.add("turn-2", now, 2.0)
    assert store.list() == [HoldoutRows("old", 100, now.unkeyed), replace(now, unkeyed=())]
    assert store.forget_unkeyed() == 1
    assert store.list() == [replace(now, unkeyed=())]
    (tmp_path / ".noria" / personal_key.FILE).unlink()
    with pytest.raises(StoreError, match="the key of hashed personal data is gone"):
        personal_key.demand(context)
