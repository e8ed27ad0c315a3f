"""The search with the real Optuna in real processes: what it finds, what it sees, and what an interruption costs."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from noria.delivery.context import DeliveryContext
from noria.engine import assembly
from noria.pipeline import experiment, steps
from noria.pipeline.executors.local import LocalExecutor
from noria.pipeline.executors.pool import Pool
from noria.pipeline.judge_search import STARTUP
from noria.pipeline.run import Run, RunKind, StepState
from noria.pipeline.run_query import find_runs
from noria.pipeline.run_store import RunStore
from noria.pipeline.search import search
from noria.pipeline.train import training

ROWS, HELD_OUT = 480, 96  # ten rows a day; the last 9.6 days are held out
MODULE = '''
"""Two algorithms: one that cannot know a circle, and one that does when its radius is right. Both note what they get."""
import json, os, time
from pathlib import Path
import numpy as np

CALLS = Path({calls!r})


def note(**facts):
    line = (json.dumps(facts) + "\\n").encode()
    handle = os.open(CALLS, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(handle, line)
    os.close(handle)


class Rule:
    classes_ = [0, 1]

    def __init__(self, *params):
        self.params = params

    def predict_proba(self, x):
        note(predict=x["place"].to_list())
        p = self.chance(x["a"].to_numpy(), x["b"].to_numpy())
        return np.column_stack([1 - p, p])


class Flat(Rule):
    def chance(self, a, b):
        return np.clip(self.params[0] + self.params[1] * a, 0, 1)


class Circle(Rule):
    def chance(self, a, b):
        return np.where(a * a + b * b < self.params[0], 0.9, 0.1)


def noted(name, features, params):
    note(fit=name, rows=features["place"].to_list(), params=params)
    time.sleep({pause})


def flat(features, label, *, level=0.5, slope=0.0):
    noted("flat", features, [level, slope])
    return Flat(level, slope)


def circle(features, label, *, radius=0.2, seed=0):
    noted("circle", features, [radius, seed])
    return Circle(radius)


def broken(features, label, *, radius=0.2):
    raise ArithmeticError(f"no circle of {{radius}}")
'''
CONFIG = """\
project: rings
data:
  points: {source: data/points.csv, settle: 20ms}
model:
  key: id
  event_time: at
  inputs: [a, b, place]
  label: y
  holdout: {last: 230h}
  search:
"""
BOTH = """\
    metric: brier
    trials: 14
    folds: 2
    parallel: 2
    algorithms:
      flat: {train: "model:flat", space: {level: [0.1, 0.9], slope: [-1.0, 1.0]}}
      circle: {train: "model:circle", space: {radius: [0.05, 1.0]}}
"""


@dataclass(frozen=True, slots=True)
class Rings:
    """A project in a folder, and what its search left."""

    home: Path

    def write(self, search: str, pause: float = 0.0, params: str = "") -> Rings:
        self.home.mkdir(exist_ok=True)
        (self.home / "noria.yaml").write_text(CONFIG + search)
        (self.home / "model.py").write_text(MODULE.format(calls=str(self.home / "calls.jsonl"), pause=pause))
        if params:
            (self.home / "params.yaml").write_text(params)
        (self.home / "data").mkdir(exist_ok=True)
        draw, lines = random.Random(5), ["id,at,place,a,b,y"]
        for place in range(ROWS):
            a, b = draw.uniform(-1, 1), draw.uniform(-1, 1)
            at = datetime(2024, 1, 1) + timedelta(hours=2.4 * place)
            lines.append(f"k{place},{at.isoformat()},{place},{a:.5f},{b:.5f},{int(a * a + b * b < 0.5)}")
        (self.home / "data" / "points.csv").write_text("\n".join(lines) + "\n")
        return self

    @contextmanager
    def context(self) -> Iterator[tuple[DeliveryContext, list[str]]]:
        """A line whose processes do not import scikit-learn, and what it tells."""
        said: list[str] = []
        context = assembly.assemble(self.home, progress=said.append)
        context.executor.close()
        context = replace(context, executor=LocalExecutor(Pool(size=2, preload=("polars", "numpy"), running=2), context.places))
        try:
            yield context, said
        finally:
            context.executor.close()
            context.ledger.close()

    def search(self) -> tuple[StepState, dict[str, Any], str, list[str]]:
        """State, result and reason of a search, and what was told on the way."""
        with self.context() as (context, said):
            pinned_run = experiment.prepare(context, experiment.ExperimentOptions())
            record = search(context, pinned_run, {})
            assert pinned_run.records[-1] is record
            result = json.loads(context.blobs.read(record.output))["result"] if record.output else {}
            return record.state, result, record.reason.text, said

    def trials(self) -> list[Run]:
        with self.context() as (context, _):
            return sorted(find_runs(RunStore(context.ledger, "rings"), kind=RunKind.TRIAL, limit=1000), key=lambda run: run.id)

    def calls(self) -> list[dict[str, Any]]:
        path = self.home / "calls.jsonl"
        return [json.loads(text) for text in path.read_text().splitlines()] if path.exists() else []

    def fits(self) -> Counter[tuple[Any, ...]]:
        """(algorithm, parameters, rows) of each fit, and how often it was made."""
        return Counter((c["fit"], *c["params"], len(c["rows"])) for c in self.calls() if "fit" in c)


def told(trials: list[Run]) -> list[Any]:
    """What must be equal in equal searches."""
    return [(run.id.rpartition("-")[2], run.outcome, run.params, run.metrics.get("validation.brier")) for run in trials]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[Rings, tuple[StepState, dict[str, Any], str, list[str]]]:
    """A search that went to its end."""
    rings = Rings(tmp_path_factory.mktemp("found") / "home").write(BOTH)
    return rings, rings.search()


def test_it_finds_the_algorithm_that_is_better(found: Any) -> None:
    state, result, _, said = found[1]
    assert state is StepState.RAN
    assert result["algorithm"] == "circle"
    assert result["train"] == "model:circle"
    assert 0.3 < result["params"]["radius"] < 0.75
    assert result["trials"] == 14
    assert result["metric"] == "brier"
    assert any(text.startswith("search: trial 1 of 14, flat, brier ") for text in said)


def test_held_out_rows_are_never_seen(found: Any) -> None:
    calls = found[0].calls()
    fitted = {place for call in calls for place in call.get("rows", [])}
    validated = {place for call in calls for place in call.get("predict", [])}
    assert fitted | validated == set(range(ROWS - HELD_OUT))


def test_models_are_judged_on_rows_later_than_they_were_fitted_on(found: Any) -> None:
    for call in found[0].calls():
        if "fit" in call:
            assert max(call["rows"]) in (191, 287)
        else:
            assert (min(call["predict"]), max(call["predict"])) in ((192, 287), (288, 383))


def test_every_trial_is_a_run_that_can_be_compared(found: Any) -> None:
    rings, (_, result, _, _) = found
    trials = rings.trials()
    assert len(trials) == 14
    assert [run.id.rpartition("-")[2] for run in trials] == [f"{n:04d}" for n in range(1, 15)]
    assert {run.parent for run in trials} == {trials[0].parent}
    done = [run for run in trials if run.outcome == "done"]
    best = min(done, key=lambda run: run.metrics["validation.brier"])
    assert best.id == result["trial"]
    assert result["value"] == pytest.approx(best.metrics["validation.brier"])
    assert [run.id for run in trials if "best" in run.tags] == [best.id]
    assert best.params["algorithm"] == "circle"
    assert best.params["train.radius"] == result["params"]["radius"]
    assert {"validation.roc_auc", "validation.log_loss", "validation.fit_s"} <= best.metrics.keys()
    assert [step.name for step in best.steps] == ["fold-0", "fold-1"]
    with rings.context() as (context, _):
        asked = RunStore.of(context).step_facts(best)
    assert asked["fold-0"]["params"].keys() == {"radius", "search.fold"}


def test_a_run_records_what_its_search_chose(found: Any) -> None:
    """Number 32: algorithm and parameters of the winner are the run's, and so the release's: `show` and `diff` tell them."""
    rings, (_, result, _, _) = found
    with rings.context() as (line, _):
        run = experiment.run(line, experiment.ExperimentOptions())
    assert run.params["algorithm"] == result["algorithm"] == "circle"
    assert run.params["train.radius"] == result["params"]["radius"]


def test_trials_worse_than_the_median_are_pruned_after_their_first_fold(found: Any) -> None:
    trials = found[0].trials()
    pruned = [run for run in trials if run.outcome == "pruned"]
    assert found[1][1]["pruned"] == len(pruned) > 0
    for run in pruned:
        assert len(run.steps) == 1
        assert run.reason.startswith("pruned after 1 fold: brier ")
    earliest = int(pruned[0].id.rpartition("-")[2])
    assert earliest > STARTUP


def test_a_search_of_equal_content_is_remembered_and_a_longer_one_goes_on(tmp_path: Path) -> None:
    rings = Rings(tmp_path / "home").write(BOTH.replace("trials: 14", "trials: 3"))
    rings.search()
    before = rings.fits()
    state, result, reason, said = rings.search()
    assert (state, reason, said) == (StepState.REUSED, "unchanged", [])
    assert result["trials"] == 3
    (rings.home / "noria.yaml").write_text(CONFIG + BOTH.replace("trials: 14", "trials: 5"))
    state, result, reason, _ = rings.search()
    assert state is StepState.RAN
    assert reason == "parameter changed: search.trials"
    assert result["trials"] == 5
    assert all(rings.fits()[fit] == count for fit, count in before.items())
    trials = rings.trials()
    assert len(trials) == 5
    assert len({run.parent for run in trials}) == 1


def test_the_same_seed_makes_the_same_search_however_many_trials_run_at_a_time(tmp_path: Path, found: Any) -> None:
    alone = Rings(tmp_path / "home").write(BOTH.replace("parallel: 2", "parallel: 1"))
    alone.search()
    assert told(alone.trials()) == told(found[0].trials())


def test_a_killed_search_goes_on_where_it_was(tmp_path: Path, found: Any) -> None:
    rings = Rings(tmp_path / "home").write(BOTH, pause=0.1)
    process = subprocess.Popen(
        [sys.executable, "-m", "noria", "run", "--tag", "x"],
        cwd=rings.home,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while finished_trials(rings) < 3:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    folds = finished_folds(rings)
    assert len(folds) >= 5
    before = rings.fits()
    state, result, _, _ = rings.search()
    assert state is StepState.RAN
    assert result["trials"] == 14
    trials = rings.trials()
    assert told(trials) == told(found[0].trials())
    assert len({run.parent for run in trials}) == 1
    after = rings.fits()
    again = sum((after - before)[fit] for fit in before)
    assert again <= sum(before.values()) - len(folds)  # those that the kill caught in the middle


def finished_trials(rings: Rings) -> int:
    return len(_rows(rings, "SELECT id FROM runs WHERE kind = 'trial'"))


def finished_folds(rings: Rings) -> list[str]:
    return [str(row[0]) for row in _rows(rings, "SELECT name FROM steps WHERE name LIKE 'search.trial-%'")]


def _rows(rings: Rings, sql: str) -> list[Any]:
    path = rings.home / ".noria" / "ledger.db"
    if not path.exists():
        return []
    with closing(sqlite3.connect(path, timeout=10)) as connection:
        try:
            return connection.execute(sql).fetchall()
        except sqlite3.OperationalError:  # its tables are not made yet
            return []


ONE = """\
    trials: 40
    folds: 1
    parallel: 2
    space: {radius: [0.05, 1.0]}
"""


def model(target: str, search: str) -> str:
    return f"{search}  train: model:{target}\n"


def test_when_all_trials_fail_it_says_of_what_and_stops_early(tmp_path: Path) -> None:
    rings = Rings(tmp_path / "home").write(model("broken", ONE))
    state, result, reason, _ = rings.search()
    assert state is StepState.FAILED
    assert result == {}
    trials = rings.trials()
    assert reason.startswith(f"all {len(trials)} trials failed: fold 1: raised ArithmeticError at model.py:")
    assert 6 <= len(trials) <= 10
    assert {run.outcome for run in trials} == {"failed"}
    assert not list((rings.home / ".noria" / "search").iterdir())


def test_an_experiment_trains_what_the_search_chose_and_params_come_first(tmp_path: Path) -> None:
    search = model("circle", ONE.replace("trials: 40", "trials: 3"))
    rings = Rings(tmp_path / "home").write(search, params="train: {radius: 0.5, seed: 7}\n")
    with rings.context() as (line, said):
        run = experiment.run(line, experiment.ExperimentOptions())
        assert run.outcome == "done", run.reason
        assert [step.name for step in run.steps] == ["search.rows", "search"]
        sheet = experiment.prepare(line, experiment.ExperimentOptions())
        steps.demand(steps.perform(line, sheet, training(line, sheet, {})))
    trials = rings.trials()
    assert trials[0].params == {"algorithm": "circle", "train.radius": 0.5, "train.seed": 7}
    best = next(run for run in trials if "best" in run.tags)
    assert run.metrics == {"validation.brier": pytest.approx(best.metrics["validation.brier"])}
    last = [call for call in rings.calls() if "fit" in call][-1]
    assert last["params"] == [best.params["train.radius"], 7]
    assert last["rows"] == list(range(ROWS - HELD_OUT))
    assert any("is the best of 3 trials" in text for text in said)


def test_a_timeout_ends_it_with_what_there_is(tmp_path: Path) -> None:
    rings = Rings(tmp_path / "home").write(model("circle", ONE + "    timeout: 50ms\n"), pause=0.3)
    state, result, _, _ = rings.search()
    assert state is StepState.RAN
    assert 1 <= result["trials"] <= 4
    assert "stopped by its timeout, 40 were requested" in result["sentence"]
    assert rings.search()[0] is StepState.REUSED


def test_a_journal_whose_runs_are_gone_is_begun_anew(tmp_path: Path) -> None:
    rings = Rings(tmp_path / "home").write(model("circle", ONE.replace("trials: 40", "trials: 2")))
    first = rings.search()[1]
    with closing(sqlite3.connect(rings.home / ".noria" / "ledger.db")) as connection:
        connection.executescript("DELETE FROM runs; DELETE FROM steps;")
    again = rings.search()[1]
    assert (again["params"], again["trials"]) == (first["params"], 2)
    assert len(rings.trials()) == 2
