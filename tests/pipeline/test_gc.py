"""Garbage collection: what is needed stays, what is not goes, and afterwards everything still works."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from place import InnerPlace, Place

from noria.storage.locks import Locks

PROJECT = """\
project: keepers
data:
  points: {source: "data/*.csv", contract: contracts/points.yaml}
steps:
  table: {call: "work:table"}
model:
  rows: table
  key: id
  task: binary
  inputs: [a, b]
  label: y
  train: "work:train"
  holdout: {fraction: 0.3}
gates: [roc_auc >= 0.5]
environments: {production: {rollout: direct}}
"""
CONTRACT = "columns:\n  a: {type: float, range: [-100, 100]}\n"
WORK = """\
import polars as pl

def table(points: pl.DataFrame, shift=0.0): return points.with_columns(pl.col("a") + shift)
def train(features, label, c=1.0):
    from sklearn.linear_model import LogisticRegression  # no other step needs it

    return LogisticRegression(C=c).fit(features, label.to_numpy())
"""
DAY_S = 86400.0


def points(first: int, count: int, shift: float = 0.0) -> str:
    import random

    chance = random.Random(first)
    lines = []
    for number in range(first, first + count):
        a = chance.gauss(shift, 1)
        lines.append(f"{number},{a:.3f},{chance.gauss(0, 1):.3f},{int(a + chance.gauss(0, 1) > 0)}\n")
    return "id,a,b,y\n" + "".join(lines)


def age(place: Place, days: float, *, before: float | None = None) -> None:
    """Make all that happened (before a time) older, as if nobody had come by for so long."""
    old = days * DAY_S
    state = place.home / ".noria"
    for folder, names, files in os.walk(state):
        for name in [*names, *files]:
            path = Path(folder, name)
            facts = path.lstat()
            if path.name not in ("ledger.db", "ledger.db-wal", "ledger.db-shm") and (before is None or facts.st_mtime < before):
                os.utime(path, (facts.st_mtime - old, facts.st_mtime - old), follow_symlinks=False)
    link = sqlite3.connect(state / "ledger.db")
    limit = before or time.time() + 1
    for table, columns in {
        "runs": ("ended_at", "started_at"),
        "steps": ("at",),
        "snapshots": ("at",),
        "deliveries": ("at",),
    }.items():
        for column in columns:
            link.execute(f"UPDATE {table} SET {column} = {column} - ? WHERE {columns[-1]} < ?", (old, limit))  # ours
    link.commit()
    link.close()


def stored(place: Place) -> set[str]:
    return {path.name for path in (place.home / ".noria/blobs").glob("??/*")}


def bytes_of(place: Place) -> int:
    return sum(path.stat().st_size for path in (place.home / ".noria/blobs").glob("??/*"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """v1, an experiment, a version of the data that a run refused to release, a refused file, v2, and one more version."""
    place = InnerPlace(tmp_path_factory.mktemp("made"))
    place.put("noria.yaml", PROJECT).put("contracts/points.yaml", CONTRACT).put("work.py", WORK)
    place.put(".gitignore", ".noria\ndata\n__pycache__\n").put("params.yaml", "table: {shift: 0.0}\n")
    place.put("data/1.csv", points(0, 300)).commit()
    assert place.json("run")["release"] == "v1"
    place.noria("run", "--set", "table.shift=0.5")
    place.put("data/2.csv", points(1000, 200)).put("params.yaml", "table: {shift: 0.25}\n").noria(
        "run", code=1
    )  # nothing committed
    place.put("data/3.csv", points(2000, 10, 1000)).noria("run", code=None)
    (place.home / "data/3.csv").unlink()
    place.put("data/2.csv", points(3000, 250)).put("params.yaml", "table: {shift: 0.1}\n").commit()
    assert place.json("run")["release"] == "v2"
    return place


@pytest.fixture
def keepers(made: Place, copied: Callable[[Place], Place]) -> Place:
    """v1, an experiment, a version of the data that a run refused to release, a refused file, v2, and one more version."""
    return copied(made)


def test_young_things_and_things_within_retention_stay(keepers: Place) -> None:
    before = stored(keepers)
    assert keepers.json("gc", "--keep", "1ms", "--yes")["count"] == 0, "all is younger than an hour"
    assert stored(keepers) == before
    age(keepers, 20)
    told = keepers.json("gc", "--yes")
    assert told["kinds"].keys() <= {"scratch"}
    assert stored(keepers) == before, "every blob is of a run of the last 30 days"


def test_what_nothing_needs_goes_and_everything_works_on(keepers: Place) -> None:
    age(keepers, 40)
    before, size = stored(keepers), bytes_of(keepers)
    told = keepers.json("gc")
    assert (told["deleted"], stored(keepers)) == (False, before)
    assert {"data", "results", "scratch"} <= told["kinds"].keys()
    assert told["forgotten"]["results"] > 0
    assert told["forgotten"]["snapshots"] == 1  # with the data that no release and no newer run used
    said = keepers.noria("gc")
    assert "would be deleted" in said
    assert "Nothing was deleted" in said

    done = keepers.json("gc", "--yes")
    assert {key: done[key] for key in ("count", "size_bytes", "kinds", "forgotten")} == {
        key: told[key] for key in ("count", "size_bytes", "kinds", "forgotten")
    }
    blobs = sum(done["kinds"][kind]["size_bytes"] for kind in ("data", "results", "other blobs") if kind in done["kinds"])
    assert size - bytes_of(keepers) == blobs
    assert keepers.json("gc")["count"] == 0, "once more finds nothing"

    assert keepers.json("data", "verify")["findings"] == []
    assert keepers.json("run")["outcome"] == "nothing changed"
    for version in ("v1", "v2"):
        found = keepers.json("reproduce", version, "--into", str(keepers.home.parent / version))
        assert found["bytes_agree"] is True, found["text"]
    keepers.put("data/4.csv", points(5000, 100)).noria("run")
    keepers.noria("run", "--set", "table.shift=0.5")  # what it left before is gone: it is made again
    keepers.noria("status")
    keepers.noria("diff", "v1", "v2")
    assert keepers.json("audit", "verify")["ok"] is True


def test_a_pin_holds_and_its_end_lets_go(keepers: Place) -> None:
    versions = keepers.json("data", "log", "points")["snapshots"]
    loose = next(v for v in versions if not v["releases"] and not v["current"])
    keepers.noria("data", "pin", loose["digest"], "held")
    age(keepers, 40)
    keepers.noria("gc", "--yes")
    assert keepers.json("data", "checkout", "held", "--into", "old")["written"] == loose["files"]
    keepers.noria("data", "unpin", "held")
    assert keepers.json("gc", "--yes")["kinds"]["data"]["count"] == 1
    keepers.noria("data", "checkout", loose["digest"], "--into", "older", code=2)


def test_a_work_that_was_collected_is_done_again_not_called_unchanged(place: Place) -> None:
    place.put("noria.yaml", 'project: p\nsteps: {up: {cmd: "tr a-z A-Z < in.txt > out.txt", deps: [in.txt], outs: [out.txt]}}\n')
    place.put(".gitignore", ".noria\nout.txt\n").put("in.txt", "one").commit()
    place.noria("run")
    place.put("in.txt", "two").commit().noria("run")
    age(place, 40)
    assert place.json("gc", "--yes")["kinds"]["results"]["count"] == 2  # the older result, and its manifest
    place.put("in.txt", "one").commit()
    (place.home / "out.txt").unlink()
    assert place.states()["up"] == ("ran", "its result is gone") or place.read("out.txt") == "ONE"
    assert place.read("out.txt") == "ONE"


def test_leftovers_of_killed_processes_go(keepers: Place) -> None:
    state = keepers.home / ".noria"
    (state / "releases/feedfeed").mkdir()
    (state / "releases/feedfeed/manifest.json").write_text("{}")
    (state / "blobs/incoming/abc").write_text("half")
    (state / "search").mkdir()
    (state / "search/0123.journal").write_text("old")
    (state / "worktrees/.c0ffee.w-1").mkdir()
    (state / "worktrees" / ("c0ffee00" * 5)).mkdir()
    age(keepers, 40)
    (state / "work/run-young").mkdir()
    told = keepers.json("gc", "--yes")
    assert {kind: told["kinds"][kind]["count"] for kind in ("bundles", "incoming", "searches", "checkouts")} == {
        "bundles": 1,
        "checkouts": 2,
        "incoming": 1,
        "searches": 1,
    }
    assert sorted(p.name for p in (state / "work").iterdir()) == ["named", "run-young"]
    assert all(link.exists() for link in (state / "work/named").iterdir())
    assert len(list((state / "worktrees").iterdir())) == 2, "of the commits of v1 and v2"
    assert len(list((state / "releases").iterdir())) == 2


def test_it_says_who_is_at_work_and_deletes_nothing(keepers: Place) -> None:
    age(keepers, 40)
    before = stored(keepers)
    with Locks(keepers.home / ".noria/locks").hold_shared("blobs"):
        said = keepers.noria("gc", "--yes", code=1)
    assert "an experiment, or a command that copies data, is using this store" in said
    assert stored(keepers) == before


def test_beside_a_running_turn_it_refuses(place: Place, until: Callable[[Callable[[], bool]], None]) -> None:
    place.put(
        "noria.yaml",
        'project: p\nsteps: {slow: {cmd: "touch $FLAG; sleep 60", env: {FLAG: "' + f"{place.home.parent}/on" + '"}}}\n',
    )
    turn = place.start("run")
    try:
        until((place.home.parent / "on").exists)
        assert "a turn of p is running" in place.noria("gc", "--yes", code=1)
        assert place.json("gc")["deleted"] is False
    finally:
        turn.terminate()
        turn.communicate(timeout=120)


def test_a_wrong_time_is_told(place: Place) -> None:
    place.put("noria.yaml", "project: p\n")
    assert "no turn has run here yet" in place.noria("gc", code=2)
    place.noria("run")
    assert "is no time" in place.noria("gc", "--keep", "soon", code=2)


def test_a_damaged_model_is_trained_again_within_the_turn(inner_place: InnerPlace) -> None:
    place = inner_place
    place.put("noria.yaml", PROJECT.replace("roc_auc >= 0.5", "roc_auc >= 0.4")).put("contracts/points.yaml", CONTRACT)
    place.put("work.py", WORK).put(".gitignore", ".noria\ndata\n__pycache__\n").put("params.yaml", "table: {shift: 0.0}\n")
    place.put("data/1.csv", points(0, 300)).commit()
    assert place.json("run")["release"] == "v1"
    blobs = place.home / ".noria/blobs"
    for path in blobs.glob("??/*"):
        if path.read_bytes().startswith(b"\x80"):  # the pickle of the model
            path.chmod(0o600)
            path.write_bytes(b"\x80" + path.read_bytes()[1:-9] + b"\x00" * 9)
    link = sqlite3.connect(place.home / ".noria/ledger.db")
    with link:
        assert link.execute("DELETE FROM steps WHERE name = 'package'").rowcount == 1  # what is packed anew reads the model
    link.close()
    place.put("noria.yaml", PROJECT.replace("roc_auc >= 0.5", "roc_auc >= 0.45")).commit()
    told = place.json("run")
    assert told["outcome"] == "nothing changed"
    assert {step["name"]: step["state"] for step in told["steps"]}["train"] == "ran"
    assert [e["text"] for e in place.json("audit", "log")["events"] if e["kind"] == "blob.damaged"]
    assert place.json("data", "verify")["findings"] == []
