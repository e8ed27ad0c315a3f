"""The flights example, with direct rollout: what a turn of the wheel costs besides the project's own code.

- overhead of a turn: from the rename-in of a data file to the first answer that names the new release, less the wall time inside
  the project's own functions and its test command (as recorded in the run);
- a turn where nothing changed, in a running daemon (from the call to the turn's end) and from the command line;
- `noria --help` and `noria status`.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import time
import urllib.request
from pathlib import Path
from typing import Any

import polars as pl
import psutil
from rich.console import Console

from benchmarks.clock import noria, timed
from benchmarks.table import Row, Section
from noria.cli.demo import commits, example_folder
from noria.cli.demo.story import day
from noria.cli.demo.theatre import DemoStage, closing

TITLE = "A turn of the wheel"


def section(folder: Path, rounds: int) -> Section:
    with closing(DemoStage(folder / "flights", example_folder(), Console())) as theatre:
        rows = [Row(work, seconds, (), goal, seconds <= most) for work, seconds, most, goal in measure(theatre, rounds)]
    return Section("wheel", TITLE, tuple(rows), rounds, "The flights example, 81,000 to 109,000 flights, with direct rollout.")


def measure(theatre: DemoStage, rounds: int) -> list[tuple[str, float, float, str]]:
    """(what, median seconds, at most so many, the goal in words)."""
    theatre.set_up()
    yaml = theatre.home / "noria.yaml"
    text = yaml.read_text()
    start, end = text.index("    rollout:\n"), text.index("\nserving:")
    yaml.write_text(text[:start] + "    rollout: direct\n" + text[end:])
    # every round must bring a release: the increments are days, whose holdouts differ too much for the example's gates
    yaml.write_text(cut(yaml.read_text(), "gates:\n", "environments:", "gates: [roc_auc >= 0.5]\n\n"))
    for contract in (theatre.home / "contracts").glob("*.yaml"):  # January is old in May, and is to be learned from
        contract.write_text(contract.read_text().replace("within: 60d", "within: 365d"))
    theatre.commit("Direct rollout, one gate, old data")
    theatre.up()
    theatre.replay(day(5, 1), 0.0, 0.0)
    theatre.arrive(*[path for month in (1, 2, 3) for path in theatre.month(month)])
    turn = theatre.wait_for_turn(0)
    while turn["release"] is None:
        turn = theatre.wait_for_turn(turn["number"])
    overheads = [one_turn(theatre, path) for path in increments(theatre, rounds)]
    idle = [no_op_daemon(theatre) for _ in range(rounds)]
    theatre.daemon_stop()
    line = [timed(noria("run", "--no-wait"), theatre.home).wall_s for _ in range(rounds)]
    helps = [timed(noria("--help"), theatre.home).wall_s for _ in range(rounds)]
    status = [timed(noria("status"), theatre.home).wall_s for _ in range(rounds)]
    return [
        ("overhead of a turn, file to first answer", statistics.median(overheads), 2.0, "at most 2 s, aim 0.5 s"),
        ("a turn where nothing changed, in the daemon", statistics.median(idle), 0.5, "at most 0.5 s"),
        ("a turn where nothing changed, `noria run`", statistics.median(line), 1.0, "at most 1 s"),
        ("`noria --help`", statistics.median(helps), 0.25, "at most 0.25 s"),
        ("`noria status`", statistics.median(status), 0.25, "at most 0.25 s"),
    ]


def cut(text: str, start: str, end: str, new: str) -> str:
    return text[: text.index(start)] + new + text[text.index(end) :]


def increments(theatre: DemoStage, rounds: int) -> list[Path]:
    """April, in as many files as there are rounds."""
    _, flights = theatre.month(4)
    weather, _ = theatre.month(4)
    theatre.arrive(weather)
    theatre.wait_for_turn(theatre.last_turn)
    table = pl.read_parquet(flights)
    size = -(-table.height // rounds)
    paths = []
    for i in range(rounds):
        path = theatre.months / f"flights-2013-04-{i:02d}.parquet"
        table.slice(i * size, size).write_parquet(path)
        paths.append(path)
    return paths


def one_turn(theatre: DemoStage, path: Path) -> float:
    """Seconds from the rename to the first answer of the new release, less the project's own time."""
    calm(theatre)
    old, number = theatre.serving()["release"], theatre.last_turn
    body = commits.REQUEST.encode()
    url = theatre.addresses["production"] + "/predict"
    theatre.arrive(path)
    begun = time.time()
    while True:
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            if json.loads(answer.read())["release"] != old:
                break
        if time.time() - begun > 60:
            raise SystemExit(f"no new release after 60 s: {theatre.turns()[-1]}")
        time.sleep(0.005)
    took = time.time() - begun
    turn: dict[str, Any] = theatre.wait_for_turn(number)
    print(f"  turn {turn['number']}: {took:.2f} s, of which {turn['user_s']:.2f} s in the project's own code", flush=True)
    return took - float(turn["user_s"])


def calm(theatre: DemoStage) -> None:
    """Wait until the daemon has nothing to do: data does not arrive in the second in which an earlier turn ended."""
    assert theatre.daemon is not None
    daemon = psutil.Process(theatre.daemon.pid)

    def used_s() -> float:
        found = 0.0
        for process in [daemon, *daemon.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                found += sum(process.cpu_times()[:2])
        return found

    deadline, before = time.monotonic() + 60, -1.0
    while time.monotonic() < deadline:
        now = used_s()
        if abs(now - before) < 0.1:
            return
        before = now
        time.sleep(1.0)
    raise SystemExit("the daemon does not come to rest")


def no_op_daemon(theatre: DemoStage) -> float:
    number = theatre.last_turn
    begun = time.time()
    theatre.post("/api/trigger", {"reason": "bench"})
    turn = theatre.wait_for_turn(number)
    assert turn["outcome"] == "nothing changed", turn
    return float(turn["ended_at"]) - begun
