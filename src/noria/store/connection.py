"""One SQLite file, one connection per thread, transactions that nest into the outermost."""

from __future__ import annotations

import re
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

from noria.errors import DiskFullError, StoreError

MIGRATION = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")
BUSY_MS = 10_000
Value = str | int | float | bytes | None


class Database:
    """The ledger's file. Thread-safe: each thread has its own connection, made when it first asks."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._local = threading.local()
        self._all: list[sqlite3.Connection] = []
        self._lock = threading.Lock()
        self.migrate()

    def connection(self) -> sqlite3.Connection:
        """This thread's connection: WAL, every commit on disk before it returns."""
        found = getattr(self._local, "connection", None)
        if found is None:
            found = self._open()
            self._local.connection, self._local.depth = found, 0
            with self._lock:
                self._all.append(found)
        return found

    def _open(self) -> sqlite3.Connection:
        with translated(self.path):
            made = sqlite3.connect(self.path, timeout=BUSY_MS / 1000, isolation_level=None, check_same_thread=False)
            made.row_factory = sqlite3.Row
            made.execute("PRAGMA journal_mode = WAL")
            made.execute("PRAGMA synchronous = FULL")
            made.execute("PRAGMA foreign_keys = ON")
            return made

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing. Inside another transaction it joins that one."""
        connection = self.connection()
        if self._local.depth:
            yield
            return
        with translated(self.path):
            connection.execute("BEGIN IMMEDIATE")
            self._local.depth = 1
            try:
                yield
            except BaseException:
                connection.rollback()
                raise
            else:
                self._commit(connection)
            finally:
                self._local.depth = 0

    def _commit(self, connection: sqlite3.Connection) -> None:
        try:
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.rollback()
            raise

    def execute(self, sql: str, values: Sequence[Value] = ()) -> int:
        """Run one statement; the number of rows it changed."""
        with translated(self.path):
            return self.connection().execute(sql, values).rowcount

    def rows(self, sql: str, values: Sequence[Value] = ()) -> list[sqlite3.Row]:
        with translated(self.path):
            return self.connection().execute(sql, values).fetchall()

    def row(self, sql: str, values: Sequence[Value] = ()) -> sqlite3.Row | None:
        with translated(self.path):
            found: sqlite3.Row | None = self.connection().execute(sql, values).fetchone()
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
            for statements in known[version:]:
                for statement in split(statements):
                    self.connection().execute(statement)
            self.connection().execute(f"PRAGMA user_version = {len(known)}")

    def _version(self) -> int:
        found = self.row("PRAGMA user_version")
        return int(found[0]) if found else 0

    def close(self) -> None:
        """Close every thread's connection."""
        with self._lock:
            for connection in self._all:
                connection.close()
            self._all.clear()
        self._local = threading.local()


def migrations() -> list[str]:
    """The texts of the migrations, in order; their numbers run from 1 without a gap."""
    folder = resources.files("noria.store") / "migrations"
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
def translated(path: Path) -> Iterator[None]:
    """SQLite's errors in words."""
    try:
        yield
    except sqlite3.OperationalError as error:
        text = str(error)
        if "full" in text:
            raise DiskFullError(
                "the disk is full: the ledger was not changed", where=str(path), hint="Free some space; nothing is half written."
            ) from error
        if "locked" in text or "busy" in text:
            raise StoreError(
                "the ledger is locked by another process", where=str(path), hint="Try again; `noria doctor` looks deeper."
            ) from error
        raise StoreError(f"the ledger cannot be used: {text}", where=str(path), hint="`noria doctor` looks deeper.") from error
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.IntegrityError):
            raise
        raise StoreError(
            f"the ledger is damaged: {error}", where=str(path), hint="Put a backup of ledger.db in its place."
        ) from error
