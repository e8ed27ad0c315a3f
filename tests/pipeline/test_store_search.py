"""Runs that are looked for, tagged and noted; series of metrics that come back."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from noria.kernel import where as query
from noria.kernel.errors import NotFoundError, UsageError
from noria.kernel.pins import Pins
from noria.kernel.verdict import Reason
from noria.pipeline.run import Run, RunKind, StepRecord, StepState
from noria.pipeline.run_query import find_runs
from noria.pipeline.run_store import RunStore, StepStore
from noria.pipeline.series_store import SeriesStore
from noria.storage.ledger import Ledger

PINS = Pins("c" * 40, None, {"flights": "a" * 64}, "b" * 64, "d" * 64, "e" * 64)


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger.open(tmp_path / "state")
    yield opened
    opened.close()


def fill(books: Ledger, count: int, steps: int = 0) -> list[Run]:
    chance = random.Random(7)
    records = tuple(
        StepRecord(f"s{i}", StepState.RAN, Reason("step.code_changed", "code changed: a/b.py"), "k" * 64, "o" * 64)
        for i in range(steps)
    )
    runs = [
        Run(
            f"run-{i:06d}",
            "p",
            None,
            PINS,
            1000.0 + i,
            1010.0 + i,
            "done",
            steps=records,
            metrics={"auc": chance.random()} if i % 10 else {"auc": math.nan},
            kind=RunKind.TRIAL if i % 2 else RunKind.EXPERIMENT,
            params={"train.lr": chance.random(), "model": chance.choice(["gbm", "net"])},
            tags=("wide",) if i % 3 == 0 else (),
        )
        for i in range(count)
    ]
    with books.transaction():
        for run in runs:
            RunStore(books, "p").put(run)
    RunStore(books, "p").put(Run("run-x", "another", None, PINS, 5000.0, metrics={"auc": 1.0, "secret": 1.0}))
    return runs


def test_the_runs_that_meet_a_query_in_order(books: Ledger) -> None:
    runs = fill(books, 200)
    where = query.parse("metrics.auc > 0.5 and params.train.lr <= 0.5 and (tag = 'wide' or params.model = 'net')")
    expected = [
        r
        for r in runs
        if r.metrics["auc"] > 0.5 and r.params["train.lr"] <= 0.5 and ("wide" in r.tags or r.params["model"] == "net")
    ]
    assert len(expected) > 20
    assert find_runs(RunStore(books, "p"), where, limit=1000) == sorted(expected, key=lambda r: -r.started_at)
    best = find_runs(RunStore(books, "p"), where, query.parse_order("-metrics.auc"), RunKind.TRIAL, 3)
    assert [r.id for r in best] == [
        r.id for r in sorted((r for r in expected if r.kind is RunKind.TRIAL), key=lambda r: -r.metrics["auc"])[:3]
    ]


def test_without_a_query_the_newest_come_first_and_undefined_ones_sort_last(books: Ledger) -> None:
    fill(books, 30)
    assert [r.id for r in find_runs(RunStore(books, "p"), limit=2)] == ["run-000029", "run-000028"]
    for order in ("metrics.auc", "-metrics.auc"):
        last = find_runs(RunStore(books, "p"), order=query.parse_order(order), limit=100)[-3:]
        assert [math.isnan(r.metrics["auc"]) for r in last] == [True] * 3
    assert RunStore(books, "p").counts() == {RunKind.TRIAL: 15, RunKind.EXPERIMENT: 15}


def test_every_field_can_be_asked(books: Ledger) -> None:
    fill(books, 10)
    for name in query.RUNS.fields:
        find_runs(RunStore(books, "p"), query.parse(f"{name} is not null"), query.parse_order(name))
    assert len(find_runs(RunStore(books, "p"), query.parse("started ~ '1970-01-01' and seconds = 10 and commit ~ 'ccc'"))) == 10


def test_a_name_that_no_run_has_is_told_with_the_nearest(books: Ledger) -> None:
    assert find_runs(RunStore(books, "p"), query.parse("metrics.acu > 1")) == []
    fill(books, 10)
    with pytest.raises(UsageError, match="no run has the metric acu") as caught:
        find_runs(RunStore(books, "p"), query.parse("tag = 'wide' or metrics.acu > 1"))
    assert (caught.value.where, caught.value.hint) == ("--where, column 17", "Did you mean metrics.auc?")
    with pytest.raises(UsageError, match=r"no run has the parameter train\.l") as caught:
        find_runs(RunStore(books, "p"), order=query.parse_order("params.train.l"))
    assert (caught.value.where, caught.value.hint) == ("--sort, column 1", "Did you mean params.train.lr?")
    with pytest.raises(UsageError, match="no run has the metric secret"):
        find_runs(RunStore(books, "p"), query.parse("metrics.secret = 1"))


def test_a_thousand_runs_are_searched_at_once(books: Ledger) -> None:
    fill(books, 1000, steps=8)
    where, order = query.parse("metrics.auc > 0.8 and tag = 'wide'"), query.parse_order("-metrics.auc")

    def seconds() -> float:
        """Of processor time: the machine may have other work."""
        start = time.process_time()
        assert len(find_runs(RunStore(books, "p"), where, order)) == 20
        return time.process_time() - start

    assert min(seconds() for _ in range(5)) < 0.05


def test_a_run_is_found_by_the_beginning_of_its_id(books: Ledger) -> None:
    fill(books, 20)
    RunStore(books, "p").put(Run("run-00001", "p", None, PINS, 1.0))
    assert RunStore(books, "p").find("run-000007").id == "run-000007"
    assert RunStore(books, "p").find("run-00001").id == "run-00001"
    with pytest.raises(NotFoundError, match=r"may be any of run-00001, run-000000, .* and others"):
        RunStore(books, "p").find("run-0000")
    for wrong in ("run-%", "run-x", ""):
        with pytest.raises(NotFoundError):
            RunStore(books, "p").find(wrong)


def test_tags_and_notes_are_written_on_the_run_alone(books: Ledger) -> None:
    (run, other) = fill(books, 2)
    assert RunStore(books, "p").tag(run.id, ["best", "best", "wide"]).tags == ("wide", "best")
    assert RunStore(books, "p").tag(run.id, ["new"], ["wide", "none"]).tags == ("best", "new")
    assert RunStore(books, "p").write_note(run.id, "a note\nof two lines").note == "a note\nof two lines"
    assert RunStore(books, "p").get(other.id) == other
    with pytest.raises(UsageError, match="one line"):
        RunStore(books, "p").tag(run.id, ["a\nb"])
    for call in (
        lambda: RunStore(books, "p").tag("run-no", ["x"]),
        lambda: RunStore(books, "p").write_note("run-no", "x"),
    ):
        with pytest.raises(NotFoundError):
            call()


def test_series_come_back_by_step_and_replace_what_the_step_logged_before(books: Ledger) -> None:
    loss = [(float(i), 1 / (i + 1)) for i in range(1000)]
    SeriesStore(books, "p").put("run-1", "train", {"loss": loss, "auc": [(0.0, 0.5)]})
    SeriesStore(books, "p").put("run-1", "eval", {"auc": [(0.0, 0.6)]})
    SeriesStore(books, "p").put("run-2", "train", {"loss": []})
    assert SeriesStore(books, "p").of_run("run-1") == {
        "train": {"loss": loss, "auc": [(0.0, 0.5)]},
        "eval": {"auc": [(0.0, 0.6)]},
    }
    SeriesStore(books, "p").put("run-1", "train", {"loss": loss[:2]})
    assert SeriesStore(books, "p").of_run("run-1") == {"train": {"loss": loss[:2]}, "eval": {"auc": [(0.0, 0.6)]}}
    assert SeriesStore(books, "another").of_run("run-1") == {}


def test_what_steps_depended_on(books: Ledger) -> None:
    reason = Reason("step.never_ran", "never ran")
    done, failed = (StepRecord(n, StepState.RAN, reason, n * 64) for n in "ab")
    StepStore(books, "p").put(done, {"files": {"m.py": "1"}})
    assert RunStore(books, "p").step_facts(Run("r", "p", None, PINS, 1.0, steps=(done, failed))) == {
        "a": {"files": {"m.py": "1"}}
    }
