"""1,000 points of a metric, logged by a step one call each, and a search among 1,000 runs.

A call to log returns, in Noria as in MLflow's default, when the point is on file. Noria's figure is what 1,000 calls add to a
whole ``noria run``, its ledger included: the fastest run of a step that logs them less the fastest run of the same step that logs
nothing (a difference of medians would be mostly other work on the machine), and never less than the calls alone took inside the
step. MLflow's is the calls alone, in a process that has imported it.

The search reads the same runs from both: 20 metrics and 20 parameters each, a fifth of them wanted, all of those returned, best
first. MLflow's store is the one it makes by default.
"""

from __future__ import annotations

import json
import random
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.clock import BenchError, Took, commit, in_turn, noria, output, remove, timed, wall
from benchmarks.peers import Peers
from benchmarks.table import Beside, Row, Section, faster

TITLE = "Experiments"
PROJECT = """project: points
params: params.yaml
steps:
  points: {call: "points:log"}
"""
STEP = '''"""A step that logs."""

import time

from noria.pipeline.run_query import find_runs
from noria.pipeline.run_store import RunStore
from noria import track


def log(count: int, again: int) -> dict:
    begun = time.perf_counter()
    for step in range(count):
        track.metric("loss", 1 / (step + 1), step=step)
    track.metric("seconds", time.perf_counter() - begun)
    return {"again": again}
'''
MLFLOW_POINTS = """
import sys, time
import mlflow

mlflow.set_experiment("points")
with mlflow.start_run():
    mlflow.log_metric("first", 1.0)
    begun = time.perf_counter()
    for step in range(int(sys.argv[1])):
        mlflow.log_metric("loss", 1 / (step + 1), step=step)
    print("seconds", time.perf_counter() - begun)
    begun = time.perf_counter()
    for step in range(int(sys.argv[1])):
        mlflow.log_metric("late", 1 / (step + 1), step=step, synchronous=False)
    mlflow.flush_async_logging()
    print("later", time.perf_counter() - begun)
"""
MLFLOW_FILL = """
import json, sys
import mlflow
from mlflow.entities import Metric, Param

mlflow.set_experiment("runs")
client = mlflow.MlflowClient()
experiment = mlflow.get_experiment_by_name("runs").experiment_id
for run in json.load(open(sys.argv[1])):
    made = client.create_run(experiment).info.run_id
    client.log_batch(
        made,
        metrics=[Metric(name, value, 0, 0) for name, value in run["metrics"].items()],
        params=[Param(name, str(value)) for name, value in run["params"].items()],
    )
    client.set_terminated(made)
"""
MLFLOW_SEARCH = """
import sys, time
import mlflow

mlflow.set_experiment("runs")
arguments = dict(filter_string="metrics.auc > 0.8", order_by=["metrics.auc DESC"], max_results=10000)
mlflow.search_runs(**arguments)
begun = time.perf_counter()
found = mlflow.search_runs(**arguments)
print("seconds", time.perf_counter() - begun)
print("found", len(found))
"""
PAIRS = 3  # runs with and without points, for each round
WHERE, SORT, AT_MOST = "metrics.auc > 0.8", "-metrics.auc", 10_000


def measure(folder: Path, peers: Peers, rounds: int, small: bool) -> Section:
    rows = [points(folder / "points", peers, rounds, 100 if small else 1_000)]
    rows += search(folder / "search", peers, rounds, 50 if small else 1_000)
    return Section(
        "experiments", TITLE, tuple(rows), rounds, f"{peers.version('mlflow')}, with the store that it makes by default."
    )


def points(folder: Path, peers: Peers, rounds: int, count: int) -> Row:
    home = _points_project(folder / "noria")
    inside: list[float] = []

    def logged(points: int, number: int) -> Took:
        """Another number each time: the step is stale for that reason alone."""
        (home / "params.yaml").write_text(f"count: {points}\nagain: {time.time_ns()}\n")
        took = timed(noria("run"), home)
        if points:
            inside.append(_inside(home, points))
        return took

    logged(0, -1)  # the first run makes the ledger
    with_points, without = in_turn(PAIRS * rounds, lambda n: logged(count, n), lambda n: logged(0, n))
    calls = statistics.median(inside)
    ours = max(min(t.wall_s for t in with_points) - min(t.wall_s for t in without), calls)
    besides = _mlflow_points(folder / "mlflow", peers, rounds, count)
    remove(folder)
    said = f"{calls * 1000:.1f} ms inside the step"
    return Row(
        f"log {count:,} points", ours, besides, "100 times faster than MLflow", faster(ours, besides[0].seconds, 100), said
    )


def _points_project(home: Path) -> Path:
    home.mkdir(parents=True)
    (home / "noria.yaml").write_text(PROJECT)
    (home / "points.py").write_text(STEP)
    (home / "params.yaml").write_text("count: 0\nagain: 0\n")
    commit(home)
    return home


def _inside(home: Path, count: int) -> float:
    """Seconds in the calls, as the step logged it. Raises BenchError when the newest run does not hold all points."""
    from noria.pipeline.run_store import RunStore
    from noria.pipeline.series_store import SeriesStore
    from noria.storage.ledger import Ledger

    ledger = Ledger.open(home / ".noria")
    try:
        run = RunStore(ledger, "points").list(1)[0]
        series = SeriesStore(ledger, "points").of_run(run.id)
    finally:
        ledger.close()
    held = len(series.get("points", {}).get("loss", ()))
    if held != count:
        raise BenchError(f"the run holds {held} points of {count}")
    return run.metrics["points.seconds"]


def _mlflow_points(folder: Path, peers: Peers, rounds: int, count: int) -> tuple[Beside, Beside]:
    python = peers.command("mlflow", "python")
    titles = ("MLflow", "MLflow, synchronous=False")
    if python is None:
        return Beside(titles[0], None), Beside(titles[1], None)
    folder.mkdir(parents=True)
    said = [_figures(output([python, "-c", MLFLOW_POINTS, str(count)], folder)) for _ in range(rounds)]
    now, later = (statistics.median(s[name] for s in said) for name in ("seconds", "later"))
    return Beside(titles[0], now), Beside(titles[1], later)


def _figures(text: str) -> dict[str, float]:
    """Lines ``name number`` of a script's output."""
    pairs = (line.split() for line in text.splitlines())
    return {p[0]: float(p[1]) for p in pairs if len(p) == 2 and p[0] in ("seconds", "later", "found")}


def made_up(count: int) -> Iterator[dict[str, dict[str, float]]]:
    """Metrics and parameters of runs; the same for every tool."""
    noise = random.Random(7)
    for _ in range(count):
        metrics = {f"m{i}": noise.random() for i in range(19)} | {"auc": noise.random()}
        params = {f"p{i}": noise.random() for i in range(19)} | {"lr": noise.random()}
        yield {"metrics": metrics, "params": params}


def search(folder: Path, peers: Peers, rounds: int, count: int) -> list[Row]:
    home = _search_project(folder / "noria", count)
    wanted = sum(run["metrics"]["auc"] > 0.8 for run in made_up(count))
    command = noria("runs", "--where", WHERE, "--sort", SORT, "--limit", str(AT_MOST), "--json")
    found = json.loads(output(command, home))["runs"]
    if len(found) != wanted:
        raise BenchError(f"the search found {len(found)} runs of {wanted}")
    line = wall(in_turn(rounds, lambda _: timed(command, home))[0])
    call = _search_call(home, wanted, rounds)
    theirs = _mlflow_search(folder / "mlflow", peers, rounds, count, wanted)
    remove(folder)
    goal = "20 times faster than MLflow"
    from_python = Row(
        f"search {count:,} runs, from Python", call, (Beside("MLflow", theirs[0]),), goal, faster(call, theirs[0], 20)
    )
    from_shell = Row(
        f"search {count:,} runs, command and script from their start", line, (Beside("MLflow", theirs[1]),), "", None
    )
    return [from_python, from_shell]


def _search_project(home: Path, count: int) -> Path:
    """A project with ``count`` finished experiments in its ledger."""
    from noria.kernel.pins import Pins
    from noria.pipeline.run import Run, RunKind
    from noria.pipeline.run_store import RunStore
    from noria.storage.ledger import Ledger

    home.mkdir(parents=True)
    (home / "noria.yaml").write_text('project: runs\nsteps:\n  s: {cmd: "cp a b", deps: [a], outs: [b]}\n')
    commit(home)
    ledger = Ledger.open(home / ".noria")
    pins = Pins("c" * 40, None, {"a": "a" * 64}, "b" * 64, "d" * 64, "e" * 64)
    with ledger.transaction():
        for number, run in enumerate(made_up(count)):
            times = (1_700_000_000.0 + number, 1_700_000_010.0 + number)
            kind = RunKind.EXPERIMENT
            RunStore(ledger, "runs").put(
                Run(
                    f"run-{number:06d}",
                    "runs",
                    None,
                    pins,
                    *times,
                    "done",
                    "",
                    (),
                    run["metrics"],
                    kind,
                    None,
                    dict(run["params"]),
                )
            )
    ledger.close()
    return home


def _search_call(home: Path, wanted: int, rounds: int) -> float:
    from noria.kernel import where
    from noria.pipeline.run_query import find_runs
    from noria.pipeline.run_store import RunStore
    from noria.storage.ledger import Ledger

    ledger = Ledger.open(home / ".noria")
    took = []
    for _ in range(rounds + 1):  # the first is left out, as MLflow's is
        begun = time.perf_counter()
        found = find_runs(RunStore(ledger, "runs"), where.parse(WHERE), where.parse_order(SORT), None, AT_MOST)
        took.append(time.perf_counter() - begun)
        if len(found) != wanted:
            raise BenchError(f"the search found {len(found)} runs of {wanted}")
    ledger.close()
    return statistics.median(took[1:])


def _mlflow_search(folder: Path, peers: Peers, rounds: int, count: int, wanted: int) -> tuple[float, float] | tuple[None, None]:
    """Seconds of the call, and of the whole script less its first search."""
    python = peers.command("mlflow", "python")
    if python is None:
        return None, None
    folder.mkdir(parents=True)
    (folder / "runs.json").write_text(json.dumps(list(made_up(count))))
    timed([python, "-c", MLFLOW_FILL, "runs.json"], folder)
    calls, whole = [], []
    for _ in range(rounds):
        begun = time.perf_counter()
        said = _figures(output([python, "-c", MLFLOW_SEARCH], folder))
        whole.append(time.perf_counter() - begun - said["seconds"])
        calls.append(said["seconds"])
        if said["found"] != wanted:
            raise BenchError(f"MLflow found {said['found']:.0f} runs of {wanted}")
    return statistics.median(calls), statistics.median(whole)
