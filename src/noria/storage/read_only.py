"""SQLite files in folders that cannot be written: a mounted backup, a read-only root file system."""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    import tempfile


def cannot_write(file: Path) -> bool:
    """Whether the file is there and it, or the folder that its journal would be in, cannot be written."""
    return file.exists() and not (os.access(file, os.W_OK) and os.access(file.parent, os.W_OK))


class ReadOnly:
    """One such file, and a copy of it where nothing less tells what its journal holds."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._copy: tempfile.TemporaryDirectory[str] | None = None

    def connect(self, timeout_s: float) -> sqlite3.Connection:
        """A connection that reads, and sees what a journal beside the file holds.

        SQLite reads a file with a journal where the journal's index is there too. Without one it would have to make it: a file
        without a journal is declared unchanging, one with a journal is copied to where it can.
        """
        try:
            return _open(f"{_address(self._path)}?mode=ro", timeout_s)
        except sqlite3.OperationalError:
            if not _journal(self._path).exists() or not _journal(self._path).stat().st_size:
                return _open(f"{_address(self._path)}?mode=ro&immutable=1", timeout_s)
        made = _open(_address(self._copied()), timeout_s)
        made.execute("PRAGMA query_only = ON")  # what is written to the copy would be lost
        return made

    def close(self) -> None:
        if self._copy is not None:
            self._copy.cleanup()
            self._copy = None

    def _copied(self) -> Path:
        import tempfile  # 1 ms: hardly a file needs a copy

        self._copy = self._copy or tempfile.TemporaryDirectory(prefix="noria-ledger-")
        target = Path(self._copy.name) / self._path.name
        if not target.exists():
            shutil.copyfile(_journal(self._path), _journal(target))
            shutil.copyfile(self._path, target)
        return target


def _address(path: Path) -> str:
    return f"file:{quote(str(path.resolve()))}"


def _journal(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def _open(address: str, timeout_s: float) -> sqlite3.Connection:
    made = sqlite3.connect(address, uri=True, timeout=timeout_s, isolation_level=None, check_same_thread=False)
    try:
        made.execute("SELECT count(*) FROM sqlite_schema").fetchone()  # it is opened when it is first read
    except BaseException:  # whatever it was, the handle must not leak
        made.close()
        raise
    return made
