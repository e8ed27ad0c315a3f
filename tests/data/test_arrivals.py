"""What arrives: read once, judged once, and told once; what is half there, or cannot be read, is never taken."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from noria import config
from noria.data import arrivals, files
from noria.data.arrival import Arrival
from noria.data.store import DataStore
from noria.engine import assembly
from noria.engine.trigger_watcher import SINGLY, TriggerWatcher
from noria.kernel.errors import DataError
from noria.kernel.trigger import TriggerKind
from noria.pipeline import check
from noria.pipeline.context import StartedRun
from noria.pipeline.trigger_store import TriggerStore
from noria.pipeline.turn_store import TurnStore

YAML = """\
project: shop
data:
  points: {source: "data/*.csv", contract: points.yaml, settle: 1ms}
  images: {source: "images/**", format: files, settle: 1ms}
"""


class World:
    """A project in a folder, its delivery line, and which files the blob store reads."""

    def __init__(self, home: Path, patch: pytest.MonkeyPatch) -> None:
        self.home = home
        self.write("noria.yaml", YAML)
        self.write("points.yaml", "columns: {n: {type: int, range: [0, 100]}}\n")
        self.context = assembly.assemble(home, state=home / ".noria")
        self.read: list[str] = []
        self.meanwhile: Callable[[Path], None] = lambda _: None
        whole = self.context.blobs.put_files

        def put_files(paths: Iterable[str]) -> Iterator[tuple[str, str]]:
            for path, digest in whole(paths):
                self.read.append(Path(path).name)
                self.meanwhile(Path(path))
                yield path, digest

        patch.setattr(self.context.blobs, "put_files", put_files)

    def write(self, name: str, text: str) -> Path:
        path = self.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def take(self, *, judge: bool = True, patient: bool = True) -> list[Arrival]:
        """One turn's look, and its judgement unless it is interrupted before."""
        self.read.clear()
        project = config.load(self.home)
        found = arrivals.take_in(self.context, project, patient=patient)
        self.refused: list[str] = []
        if judge:
            TriggerStore.of(self.context).add(TriggerKind.MANUAL, "now")
            turn = TurnStore.of(self.context).start()
            assert turn is not None
            pinned_run = StartedRun(turn, "run", project, self.home, None, None, {}, arrivals=tuple(found))
            check.data(self.context, pinned_run)
            self.refused = pinned_run.refused
        return found

    def files(self, dataset: str) -> list[str]:
        return [pin.name for pin in DataStore.of(self.context).current(dataset).files]

    def events(self, kind: str) -> list[str]:
        return [event.text for event in self.context.ledger.events.tail(self.context.name, kinds=(kind,), limit=1000)]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    made = World(tmp_path, monkeypatch)
    yield made
    made.context.executor.close()
    made.context.ledger.close()


def test_only_what_changed_is_read(world: World) -> None:
    for n in range(5):
        world.write(f"data/{n}.csv", f"n\n{n}\n")
        world.write(f"images/deep/{n}.png", f"\0{n}")
    assert len(world.take()) == 10
    assert world.files("points") == [f"data/{n}.csv" for n in range(5)]
    assert world.files("images") == [f"images/deep/{n}.png" for n in range(5)]
    assert world.take() == []
    assert world.read == []
    world.write("data/3.csv", "n\n33\n")
    world.write("images/new.png", "new")
    assert [each.name for each in world.take()] == ["data/3.csv", "images/new.png"]
    assert world.read == ["3.csv", "new.png"]
    world.take()
    assert world.read == []


def test_a_touched_file_is_hashed_once_and_neither_copied_nor_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[str] = []
    digest = files.digest
    monkeypatch.setattr(files, "digest", lambda path: (hashed.append(path.name), digest(path))[1])
    accepted, refused = world.write("data/a.csv", "n\n1\n"), world.write("data/b.csv", "n\n101\n")
    world.take()
    assert hashed == []
    os.utime(accepted)
    os.utime(refused)
    settle(world)
    assert TriggerWatcher(world.context).data(config.load(world.home)) == 0
    assert hashed == ["a.csv", "b.csv"]
    assert world.take() == []
    assert (world.read, len(hashed)) == ([], 2)
    os.utime(accepted)
    assert world.take() == []
    assert world.read == []
    world.write("data/a.csv", "n\n2\n")
    assert [each.name for each in world.take()] == ["data/a.csv"]


def test_what_was_taken_and_never_judged_arrives_again(world: World) -> None:
    world.write("data/a.csv", "n\n1\n")
    assert world.take(judge=False) == world.take(judge=False) != []
    world.take()
    assert world.take() == []


def test_a_refused_file_is_not_read_again_until_it_or_its_contract_changes(world: World) -> None:
    world.write("data/a.csv", "n\n101\n")
    world.take()
    assert "data/a.csv quarantined" in world.refused[0]
    assert world.take() == []
    assert world.read == []
    world.write("points.yaml", "columns: {n: {type: int, range: [0, 101]}}\n")
    assert [each.name for each in world.take()] == ["data/a.csv"]
    assert world.refused == []
    world.write("points.yaml", "columns: {n: {type: int, range: [0, 50]}}\n")
    assert world.take() == [], "what was accepted stands"
    world.write("data/a.csv", "n\n102\n")
    world.take()
    assert len(world.refused) == 1
    assert world.files("points") == ["data/a.csv"]


def test_a_file_that_changes_while_it_is_read_is_taken_on_the_next_look(world: World) -> None:
    path = world.write("data/a.csv", "n\n1\n")

    def grow(_: Path) -> None:
        world.meanwhile = lambda _: None
        with path.open("a") as file:
            file.write("2\n")

    world.meanwhile = grow
    assert world.take() == []
    assert [each.size_bytes for each in world.take()] == [6]
    world.write("data/b.csv", "n\n1\n")
    world.meanwhile = lambda path: path.unlink()
    assert world.take() == []
    assert world.files("points") == ["data/a.csv"]


def test_an_impatient_look_leaves_what_was_just_written(world: World) -> None:
    found: list[Arrival] = []
    world.write("data/a.csv", "n\n1\n")
    found = world.take(patient=False)
    assert found == [] or time.time() - (world.home / "data/a.csv").stat().st_ctime > 0.02
    assert len(found + world.take()) == 1


def test_what_cannot_be_taken_is_refused_in_words_once(world: World, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "secret.csv"
    elsewhere.write_text("n\n1\n")
    (world.home / "data").mkdir()
    (world.home / "images").mkdir()
    (world.home / "data" / "out.csv").symlink_to(elsewhere)
    (world.home / "images" / "out.png").symlink_to(elsewhere)
    with open(os.fsencode(world.home) + b"/data/caf\xe9.csv", "w") as file:
        file.write("n\n1\n")
    world.take()
    assert len(world.refused) == 3
    assert f"data/out.csv quarantined: is a link that leads out of the project, to {elsewhere}" in world.refused
    assert any("caf\\xe9.csv quarantined: has a name that is not UTF-8" in text for text in world.refused)
    assert world.take() == []
    assert world.files("points") == world.files("images") == []
    (world.home / "data" / "out.csv").unlink()
    world.write("data/out.csv", "n\n1\n")
    assert [each.name for each in world.take()] == ["data/out.csv"]
    assert world.files("points") == ["data/out.csv"]


def test_files_that_are_no_tables_are_one_event(world: World) -> None:
    for n in range(30):
        world.write(f"images/{n:02}.csv", "not a table\0")
    world.take()
    assert world.events("data.accepted") == ["images: 30 files accepted (360 B)"]
    pins = DataStore.of(world.context).current("images").files
    assert [(pin.name, pin.rows, pin.size_bytes) for pin in pins] == [(f"images/{n:02}.csv", 0, 12) for n in range(30)]
    assert all(world.context.blobs.read(pin.digest) == b"not a table\0" for pin in pins)


def test_rows_of_a_query_arrive_once(world: World) -> None:
    pytest.importorskip("sqlalchemy", reason="the extra sql is not installed")

    def execute(sql: str) -> None:
        with closing(sqlite3.connect(world.home / "shop.db")) as database, database:
            database.execute(sql)

    execute("CREATE TABLE t (n INTEGER)")
    execute("INSERT INTO t VALUES (1), (2)")
    world.write(
        "noria.yaml", YAML.replace('source: "data/*.csv"', "sql: {url: 'sqlite:///shop.db', query: SELECT n FROM t, cursor: n}")
    )
    first = [each.name for each in world.take(judge=False)]
    execute("INSERT INTO t VALUES (3)")
    second = [each.name for each in world.take()]
    assert (first, second) == (["points/start~0000000002.parquet"], ["points/start~0000000003.parquet"])
    assert world.take() == []
    execute("INSERT INTO t VALUES (101)")
    world.take()
    assert len(world.refused) == 1
    assert world.take() == [], "what was refused is read again, and is the same"
    execute("INSERT INTO t VALUES (102)")
    execute("DELETE FROM t WHERE n = 101")
    assert [each.name for each in world.take()] == ["points/0000000101~0000000102.parquet"]
    assert sum(pin.rows for pin in DataStore.of(world.context).current("points").files) == 3
    watcher = TriggerWatcher(world.context)
    assert watcher.data(config.load(world.home)) == 0, "nothing is news that a turn has seen"


def test_files_from_elsewhere_are_fetched_once_and_a_source_that_is_down_stops_nobody(world: World) -> None:
    fsspec = pytest.importorskip("fsspec", reason="the extra remote is not installed")
    fs = fsspec.filesystem("memory")
    try:
        for n in range(100):
            fs.pipe_file(f"/depot/{n:03}.csv", f"n\n{n}\n".encode())
        world.write("noria.yaml", YAML.replace("data/*.csv", "memory://depot/*.csv"))
        assert len(world.take()) == 100
        assert world.files("points")[:2] == ["memory://depot/000.csv", "memory://depot/001.csv"]
        assert world.take() == []
        fs.pipe_file("/depot/007.csv", b"n\n99\n")
        assert [each.name for each in world.take()] == ["memory://depot/007.csv"]
        assert len(world.read) == 1
        world.write("noria.yaml", YAML.replace("data/*.csv", "http://127.0.0.1:9/x.csv"))
        with pytest.raises(DataError, match="cannot be read"):
            world.take()
        assert world.take(patient=False) == []
        assert "files accepted before remain accepted" in world.events("data.unreadable")[0]
        assert not list((world.home / ".noria" / "work").glob("fetch-*"))
    finally:
        fs.rm("/depot", recursive=True)


def test_the_scout_reads_nothing_and_tells_once(world: World) -> None:
    world.write("data/a.csv", "n\n1\n")
    settle(world)
    watcher = TriggerWatcher(world.context)
    look = lambda: watcher.data(config.load(world.home))  # noqa: E731
    assert look() == 1
    assert look() == 0
    assert TriggerWatcher(world.context).data(config.load(world.home)) == 0, "another process tells it no second time"
    assert world.read == []
    reasons = [trigger.reason for trigger in TriggerStore(world.context.ledger, "shop").pending()]
    assert reasons == ["data/a.csv arrived"]
    world.take()
    assert look() == 0
    world.write("data/a.csv", "n\n2\n")
    settle(world)
    assert look() == 1
    world.take()
    world.write("data/a.csv", "n\n1\n")
    settle(world)
    assert look() == 1, "a file that returns to earlier bytes arrives again"


def test_many_files_are_one_trigger(world: World) -> None:
    for n in range(SINGLY + 1):
        world.write(f"images/{n}.png", "x")
    settle(world)
    watcher = TriggerWatcher(world.context)
    assert watcher.data(config.load(world.home)) == 1
    assert [t.reason for t in TriggerStore(world.context.ledger, "shop").pending()] == [f"images: {SINGLY + 1} files arrived"]
    assert TriggerWatcher(world.context).data(config.load(world.home)) == 0


def test_the_scout_complains_once_of_a_source_and_goes_on_with_the_others(world: World) -> None:
    pytest.importorskip("fsspec", reason="the extra remote is not installed")
    world.write(
        "noria.yaml",
        YAML.replace("data/*.csv", "http://127.0.0.1:9/x.csv").replace("settle: 1ms}\n  im", "settle: 1ms, every: 50ms}\n  im"),
    )
    world.write("images/a.png", "x")
    settle(world)
    watcher = TriggerWatcher(world.context)
    assert watcher.data(config.load(world.home)) == 1
    time.sleep(0.06)  # until the address is due again
    assert watcher.data(config.load(world.home)) == 0
    assert len(world.events("data.unreadable")) == 1


def test_a_source_from_elsewhere_is_looked_at_as_often_as_it_says(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[str] = []
    monkeypatch.setattr(arrivals, "connect", lambda line, dataset: looks.append(dataset.name) or Empty())
    world.write("noria.yaml", YAML.replace("data/*.csv", "s3://shop/*.csv"))
    watcher = TriggerWatcher(world.context)
    for _ in range(3):
        watcher.data(config.load(world.home))
    assert looks == ["points", "images", "images", "images"]


class Empty:
    """A source that holds nothing."""

    def list_files(self) -> Iterator[object]:
        return iter(())


def settle(world: World) -> None:
    """Until every file lies beyond a tick of the kernel's clock."""
    project = config.load(world.home)
    deadline = time.monotonic() + 30
    for dataset in project.data.values():
        source = arrivals.connect(world.context, dataset)
        while dataset.source.startswith(("data", "images")) and not all(
            source.has_settled(found, 0) for found in source.list_files()
        ):
            assert time.monotonic() < deadline
