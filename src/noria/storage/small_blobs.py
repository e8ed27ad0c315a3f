"""Small blobs, many to a file: to make a file takes the system longer than to write some kilobytes into one that is open."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from noria.storage.connection import Database

AT_ONCE = 500  # digests that one statement names
SCHEMA = """
CREATE TABLE IF NOT EXISTS small (
    id INTEGER PRIMARY KEY, digest TEXT NOT NULL UNIQUE, at REAL NOT NULL, bytes BLOB NOT NULL
)
"""


class PackedBlob(NamedTuple):
    """A small blob from outside; ``at``: seconds since 1970 when its bytes were last put."""

    digest: str
    size_bytes: int
    at: float


class _File(Database):
    """One SQLite file. What is deleted from it is overwritten, and its room is given back."""

    preparations = ("PRAGMA page_size = 65536", "PRAGMA auto_vacuum = INCREMENTAL", "PRAGMA secure_delete = ON")

    def migrate(self) -> None:
        self.execute(SCHEMA)


class SmallBlobs:
    """Digest -> bytes, not verified. The file is made when the first blob is put; readers never wait for a writer."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._opened: _File | None = None

    def put(self, blobs: Mapping[str, bytes]) -> None:
        """Keep them all, on disk when this returns. Bytes that are there already are replaced. Raises DiskFullError."""
        file = self._opened = self._opened or _File(self._path)
        now = time.time()
        file.execute_many(
            "INSERT INTO small (digest, at, bytes) VALUES (?, ?, ?) "
            "ON CONFLICT (digest) DO UPDATE SET at = excluded.at, bytes = excluded.bytes",
            [(digest, now, data) for digest, data in blobs.items()],
        )

    def get(self, digest: str) -> bytes | None:
        """The bytes as they are kept."""
        file = self._file()
        row = file.row("SELECT bytes FROM small WHERE digest = ?", (digest,)) if file else None
        return bytes(row[0]) if row else None

    def has(self, digest: str) -> bool:
        file = self._file()
        return file is not None and file.row("SELECT 1 FROM small WHERE digest = ?", (digest,)) is not None

    def renew(self, digest: str, before: float) -> bool:
        """Whether the blob is there, and from now on young: put before that time, it counts as put now."""
        file = self._file()
        if file is None:
            return False
        row = file.row("SELECT at FROM small WHERE digest = ?", (digest,))
        if row is None or row[0] >= before:
            return row is not None
        return file.execute("UPDATE small SET at = ? WHERE digest = ?", (time.time(), digest)) > 0

    def each(self) -> Iterator[PackedBlob]:
        """All of them, in the order of digests."""
        file = self._file()
        for row in file.each("SELECT digest, length(bytes), at FROM small ORDER BY digest") if file else ():
            yield PackedBlob(row[0], row[1], row[2])

    def drop(self, digests: Iterable[str], before: float | None = None) -> set[str]:
        """Delete those of them that were last put before that time; which those are."""
        file = self._file()
        gone: set[str] = set()
        wanted = list(digests)
        if file is None or not wanted:
            return gone
        for start in range(0, len(wanted), AT_ONCE):
            part = wanted[start : start + AT_ONCE]
            marks = ", ".join("?" * len(part))
            limit = (float("inf") if before is None else before,)
            sql = f"DELETE FROM small WHERE digest IN ({marks}) AND at < ? RETURNING digest"  # noqa: S608  # only marks are filled in
            gone.update(row[0] for row in file.rows(sql, (*part, *limit)))
        if gone:
            file.rows("PRAGMA incremental_vacuum")
            file.rows("PRAGMA wal_checkpoint(TRUNCATE)")  # what was erased is in no log either
        return gone

    def _file(self) -> _File | None:
        if self._opened is None and self._path.exists():
            self._opened = _File(self._path)
        return self._opened
