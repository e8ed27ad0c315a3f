"""The ledger's connection: nesting, threads, migrations, a full disk, a locked file, a damaged one."""

from __future__ import annotations

import gc
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from noria.data.store import DataStore
from noria.kernel.errors import DiskFullError, StoreError
from noria.pipeline.turn_store import TurnStore
from noria.storage import connection
from noria.storage.ledger import Ledger


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger.open(tmp_path / "state")
    yield opened
    opened.close()


def known(books: Ledger) -> list[str]:
    return [row.name for row in books.projects.list()]


def test_what_failed_inside_is_undone_even_when_it_is_caught(books: Ledger) -> None:
    with books.transaction():
        books.projects.ensure("before", "/")
        try:
            with books.transaction():
                books.projects.ensure("half", "/")
                with books.transaction():
                    books.projects.ensure("deeper", "/")
                raise ValueError("the other half fails")
        except ValueError:
            pass
        with books.transaction():
            books.projects.ensure("after", "/")
    assert known(books) == ["after", "before"]


def test_a_row_that_is_refused_is_said_in_words_and_rolls_back(books: Ledger) -> None:
    def twice() -> None:
        with books.transaction():
            books.projects.ensure("first", "/")
            books.database.execute("INSERT INTO projects (name, home, created_at) VALUES ('first', '/', 0)")

    with pytest.raises(StoreError, match="refused a row"):
        twice()
    assert known(books) == []


def test_a_thread_that_ends_gives_its_connection_back(books: Ledger) -> None:
    for _ in range(10):
        thread = threading.Thread(target=books.events.latest_seq)
        thread.start()
        thread.join()
    gc.collect()
    assert len(books.database._links) == 1


def test_a_locked_ledger_is_said_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "BUSY_MS", 50)
    books = Ledger.open(tmp_path / "state")
    other = sqlite3.connect(books.database.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="locked by another process") as caught:
        books.projects.ensure("p", "/")
    assert caught.value.hint is not None
    other.execute("ROLLBACK")
    other.close()
    books.projects.ensure("p", "/")
    assert known(books) == ["p"]
    books.close()


def test_damage_inside_the_file_is_said_in_words(tmp_path: Path) -> None:
    books = Ledger.open(tmp_path / "state")
    for i in range(200):
        books.events.append("p", "k", str(i), "x" * 500)
    books.close()
    path = tmp_path / "state" / "ledger.db"
    content = bytearray(path.read_bytes())
    content[8192 : len(content)] = b"\xa5" * (len(content) - 8192)
    path.write_bytes(content)
    with pytest.raises(StoreError, match="damaged"):
        verify(tmp_path / "state")


def verify(state: Path) -> None:
    with closing(Ledger.open(state)) as books:
        books.events.verify()


FILLER = """
import resource, sys
from pathlib import Path
from noria.kernel.errors import DiskFullError
from noria.storage.ledger import Ledger
books = Ledger.open(Path(sys.argv[1]))
size = books.database.path.stat().st_size + 2_000_000
resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
kept = 0
try:
    while True:
        with books.transaction():
            books.projects.ensure(f"p{kept}", "/")
            books.events.append("p", "k", str(kept), "x" * 2000)
        kept += 1
except DiskFullError as error:
    print(kept, "the ledger was not changed" in str(error))
"""


def test_a_full_disk_keeps_every_transaction_whole(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FILLER, str(tmp_path)], capture_output=True, text=True, check=True)
    kept, said = done.stdout.split()
    assert int(kept) > 10
    assert said == "True"
    books = Ledger.open(tmp_path)
    check = books.events.verify()
    assert (check.ok, check.count) == (True, int(kept))
    assert len(known(books)) == int(kept)
    books.close()


def test_a_transaction_that_sqlite_gave_up_writes_nothing_more(books: Ledger) -> None:
    """SQLite ends the transaction by itself when the disk is full; what follows must not commit one by one."""

    def goes_on() -> None:
        with books.transaction():
            books.projects.ensure("first", "/")
            books.database.connection().execute("ROLLBACK")
            books.projects.ensure("second", "/")

    with pytest.raises(StoreError, match="given up"):
        goes_on()
    assert known(books) == []
    books.projects.ensure("third", "/")
    assert known(books) == ["third"]


OPENER = """
import sys
from pathlib import Path
from noria.storage.ledger import Ledger
print("ready", flush=True)
sys.stdin.readline()
books = Ledger.open(Path(sys.argv[1]))
for i in range(20):
    books.events.append("p", "k", str(i), "t")
"""


def test_processes_that_open_a_new_ledger_at_once_share_one_chain(tmp_path: Path) -> None:
    command = [sys.executable, "-c", OPENER, str(tmp_path / "state")]
    engines = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    for engine in engines:
        assert engine.stdout is not None
        assert engine.stdout.readline() == "ready\n"
    for engine in engines:
        assert engine.stdin is not None
        engine.stdin.write("go\n")
        engine.stdin.flush()
    for engine in engines:
        engine.communicate()
        assert engine.returncode == 0
    books = Ledger.open(tmp_path / "state")
    check = books.events.verify()
    assert (check.ok, check.count) == (True, 80)
    books.close()


def test_a_ledger_of_the_first_schema_keeps_its_rows(tmp_path: Path) -> None:
    old = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
    for statement in connection.split(connection.migrations()[0]):
        old.execute(statement)
    old.execute("PRAGMA user_version = 1")
    old.execute("INSERT INTO deliveries VALUES ('d1', 'p', 'flights', 'f', 'a', 5, 5, 0, 1, 'fine', 0, NULL, 1.0)")
    old.execute("INSERT INTO files VALUES ('p', 'flights', 'f', 'a', 10, 5)")
    old.execute(
        'INSERT INTO turns (id, project, number, triggers, "trigger", started_at, stage, outcome, reason, user_s) '
        "VALUES ('t1', 'p', 1, '[]', 'x', 1.0, 'pin', 'running', '', 0)"
    )
    old.execute("INSERT INTO turn_records VALUES ('t1', 'pin', '{\"commit\":\"c\"}')")
    old.close()
    books = Ledger.open(tmp_path)
    seen = DataStore(books, "p").find_judgement("flights", "f", "a")
    assert seen is not None
    assert (seen.id, seen.rows_in, seen.reason) == ("d1", 5, "fine")
    assert TurnStore(books, "p").recorded("t1", "pin") == {"commit": "c"}
    owner = books.database.row("SELECT project FROM turn_records")
    assert owner is not None
    assert owner["project"] == "p"
    books.close()


def test_a_full_disk_is_a_store_error() -> None:
    assert issubclass(DiskFullError, StoreError)
