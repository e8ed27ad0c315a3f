"""One SQLite file, one connection per thread, transactions that nest into the outermost."""

from __future__ import annotations

import atexit
import os
import re
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from noria.kernel.errors import NoriaError, StoreError
from noria.storage.disk import UNWRITABLE, disk_full
from noria.storage.read_only import ReadOnly, cannot_write

MIGRATION = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")
CURE = "Put a backup of ledger.db in its place; `noria doctor` looks deeper."
BUSY_MS = 10_000
RETRY_S = 0.01
Value = str | int | float | bytes | None

# SQLite maps "no space left" to FULL, and a file-size limit to one of the others.
NO_ROOM = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE, sqlite3.SQLITE_IOERR_TRUNCATE}
DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
WRITES_NOT = {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM}
LOCKED = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


class Row(sqlite3.Row):
    """A row whose missing columns are told: their names are in the file as well, and may be damaged as all that is in it."""

    def __getitem__(self, key: Any) -> Any:
        try:
            return super().__getitem__(key)
        except IndexError as error:
            raise StoreError(f"the ledger is damaged: a table has no column {key} any more", hint=CURE) from error


class ThreadConnection:
    """One thread's connection; it is closed when the thread ends."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.depth = 0  # of transactions that are open

    def close(self) -> None:
        self.connection.close()

    def __del__(self) -> None:
        self.close()


class Database:
    """The ledger's file. Thread-safe: each thread has its own connection, made when it first asks."""

    preparations: tuple[str, ...] = ()  # what each connection is told first

    def __init__(self, path: Path) -> None:
        self.path = path
        self._local = threading.local()
        self._links: weakref.WeakSet[ThreadConnection] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._read_only = ReadOnly(path) if cannot_write(path) else None
        self.hide: Callable[[str], str] = str  # takes what is secret out of words that are kept
        self.committed: Callable[[], None] = _nothing  # called after an outermost transaction was kept
        _open.add(self)
        self.migrate()

    def connection(self) -> sqlite3.Connection:
        """This thread's connection: WAL, every commit on disk before it returns."""
        return self._link().connection

    def _link(self) -> ThreadConnection:
        found: ThreadConnection | None = getattr(self._local, "link", None)
        if found is None:
            found = self._local.link = ThreadConnection(self._open())
            with self._lock:
                self._links.add(found)
        return found

    def _open(self) -> sqlite3.Connection:
        with translate_errors(self.path):
            if self._read_only is not None:
                made = self._read_only.connect(BUSY_MS / 1000)
                made.row_factory = Row
                return made
            made = sqlite3.connect(self.path, timeout=BUSY_MS / 1000, isolation_level=None, check_same_thread=False)
            try:
                made.row_factory = Row
                for statement in self.preparations:
                    made.execute(statement)
                _use_wal(made)
                made.execute("PRAGMA synchronous = FULL")
                made.execute("PRAGMA foreign_keys = ON")
            except BaseException:  # whatever it was, the handle must not leak
                made.close()
                raise
            return made

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing. Inside another transaction it joins that one: what fails inside is undone, even if it is caught."""
        link = self._link()
        begin, commit, undo = _verbs(link.depth, "DEFERRED" if self._read_only else "IMMEDIATE")
        with translate_errors(self.path):
            self._inside(link).execute(begin)
            link.depth += 1
            try:
                yield
                self._inside(link).execute(commit)
            except BaseException:  # Ctrl-C too: all or nothing
                _undo(link.connection, undo)
                raise
            finally:
                link.depth -= 1
        if link.depth == 0 and self._read_only is None:
            self.committed()

    @contextmanager
    def consistent_read(self) -> Iterator[None]:
        """All that is read inside is of one moment, whatever others write meanwhile; nothing may be written."""
        link = self._link()
        if link.depth:
            yield
            return
        with translate_errors(self.path):
            link.connection.execute("BEGIN DEFERRED")
            link.depth += 1
            try:
                yield
            finally:
                link.depth -= 1
                _undo(link.connection, "ROLLBACK")

    def _inside(self, link: ThreadConnection) -> sqlite3.Connection:
        """The connection, unless SQLite gave up the open transaction by itself (as it does when the disk is full)."""
        if link.depth and not link.connection.in_transaction:
            raise StoreError("the transaction was given up; nothing of it was kept", where=str(self.path))
        return link.connection

    def _run(self, sql: str, values: Sequence[Value]) -> sqlite3.Cursor:
        """The one place where statements meet the driver and its placeholders."""
        try:
            return self._inside(self._link()).execute(sql, values)
        except UnicodeDecodeError as error:  # SQLite quotes damaged names in its words, and the driver cannot read them
            raise StoreError(f"the ledger is damaged: {error}", where=str(self.path), hint=CURE) from error

    def execute(self, sql: str, values: Sequence[Value] = ()) -> int:
        """Run one statement; the number of rows it changed."""
        with translate_errors(self.path):
            return self._run(sql, values).rowcount

    def execute_many(self, sql: str, values: Sequence[Sequence[Value]]) -> int:
        """Run one statement for each of ``values``, all or nothing; the number of rows that changed."""
        if not values:
            return 0
        with self.transaction(), translate_errors(self.path):
            return self._inside(self._link()).executemany(sql, values).rowcount

    def rows(self, sql: str, values: Sequence[Value] = ()) -> list[sqlite3.Row]:
        with translate_errors(self.path):
            return self._run(sql, values).fetchall()

    def each(self, sql: str, values: Sequence[Value] = ()) -> Iterator[sqlite3.Row]:
        """Rows one by one, for results that should not stand in memory at once."""
        with translate_errors(self.path):
            for row in self._run(sql, values):  # noqa: UP028 - a cursor that is let go of may outlive its connection
                yield row

    def row(self, sql: str, values: Sequence[Value] = ()) -> sqlite3.Row | None:
        with translate_errors(self.path):
            found: sqlite3.Row | None = self._run(sql, values).fetchone()
            return found

    def migrate(self) -> None:
        """Apply the migrations that this file has not seen. Raises StoreError when it is newer than this Noria."""
        known = migrations()
        if self._version() == len(known):
            return
        with self.transaction():
            version = self._version()
            if version > len(known):
                raise StoreError(
                    f"the ledger has schema {version}, this Noria knows {len(known)}",
                    where=str(self.path),
                    hint="Upgrade Noria; an older one must not write into a newer ledger.",
                )
            if self._read_only is not None:
                raise StoreError(
                    f"the ledger has schema {version}, and cannot be brought to {len(known)}: its folder cannot be written",
                    where=str(self.path),
                    hint="Copy the state folder to where it can, and name the copy with NORIA_HOME.",
                )
            for script in known[version:]:
                for statement in split(script):
                    self.execute(statement)
            self.execute(f"PRAGMA user_version = {len(known)}")

    def _version(self) -> int:
        found = self.row("PRAGMA user_version")
        return int(found[0]) if found else 0

    def close(self) -> None:
        """Close every thread's connection."""
        with self._lock:
            for link in list(self._links):
                link.close()
            self._links.clear()
        if self._read_only is not None:
            self._read_only.close()
        self._local = threading.local()


_open: weakref.WeakSet[Database] = weakref.WeakSet()
_OWNER = os.getpid()  # a process that was forked off must not close what its parent works with


@atexit.register
def _close_all() -> None:
    """The last one who closes a database moves what was committed out of the log beside it: a copy of the file alone is whole."""
    for database in list(_open) if os.getpid() == _OWNER else ():
        with suppress(sqlite3.Error):
            database.close()


def _nothing() -> None:
    """Nobody waits for commits."""


def _use_wal(connection: sqlite3.Connection) -> None:
    """Switch to the write-ahead log. SQLite does not wait for others here, so that we do: they may be making the file too."""
    deadline = time.monotonic() + BUSY_MS / 1000
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in LOCKED or time.monotonic() > deadline:
                raise
        time.sleep(RETRY_S)


def _verbs(depth: int, how: str) -> tuple[str, str, str]:
    """How a transaction at this depth begins, is kept, and is undone."""
    if depth == 0:
        return f"BEGIN {how}", "COMMIT", "ROLLBACK"
    return f"SAVEPOINT inner_{depth}", f"RELEASE SAVEPOINT inner_{depth}", f"ROLLBACK TO SAVEPOINT inner_{depth}"


def _undo(connection: sqlite3.Connection, undo: str) -> None:
    if connection.in_transaction:
        connection.execute(undo)


def migrations() -> list[str]:
    """The texts of the migrations, in order; their numbers run from 1 without a gap."""
    folder = Path(__file__).parent / "migrations"
    found = sorted(f.name for f in folder.iterdir() if MIGRATION.fullmatch(f.name))
    assert [int(name[:4]) for name in found] == list(range(1, len(found) + 1)), "migrations are numbered without a gap"
    return [(folder / name).read_text(encoding="utf-8") for name in found]


def split(script: str) -> list[str]:
    """The statements of a script, for a connection that must stay in its transaction."""
    found, pending = [], ""
    for line in script.splitlines():
        pending += line + "\n"
        if sqlite3.complete_statement(pending):
            found.append(pending.strip())
            pending = ""
    assert not pending.strip(), "a migration ends with a semicolon"
    return found


@contextmanager
def translate_errors(path: Path) -> Iterator[None]:
    """SQLite's errors in words."""
    try:
        yield
    except sqlite3.Error as error:
        raise in_words(error, path) from error


def in_words(error: sqlite3.Error, path: Path) -> NoriaError:
    """What a person should read instead of SQLite's error."""
    code = getattr(error, "sqlite_errorcode", 0)  # errors of the driver itself carry none
    if code in NO_ROOM:
        return disk_full("the ledger was not changed", path)
    if code & 0xFF in LOCKED:
        return StoreError(
            "the ledger is locked by another process", where=str(path), hint="Try again; `noria doctor` looks deeper."
        )
    if code & 0xFF in WRITES_NOT:
        return StoreError("the state folder cannot be written", where=str(path.parent), hint=UNWRITABLE)
    if code & 0xFF in DAMAGED:
        return StoreError(f"the ledger is damaged: {error}", where=str(path), hint=CURE)
    if isinstance(error, sqlite3.IntegrityError):
        return StoreError(f"the ledger refused a row: {error}", where=str(path))
    return StoreError(f"the ledger cannot be used: {error}", where=str(path), hint="`noria doctor` looks deeper.")
