"""Log files for people, of bounded size: NAME, then NAME.1 (newer) to NAME.5 (older). Several processes may append to one."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from pathlib import Path

LIMIT_BYTES = 16 << 20
KEPT = 5


class RotatingFile:
    """Appends whole lines. Whoever finds the file full moves it aside, the others notice and follow."""

    def __init__(self, path: Path, limit_bytes: int = LIMIT_BYTES, kept: int = KEPT) -> None:
        self._path, self._limit, self._kept = path, limit_bytes, kept
        self._fd = self._open()

    def append(self, data: bytes) -> None:
        """Write ``data``, which ends with a newline, in one call of the operating system. Raises OSError."""
        self._follow()
        if os.fstat(self._fd).st_size + len(data) > self._limit:
            self._rotate(len(data))
        os.write(self._fd, data)

    def close(self) -> None:
        os.close(self._fd)

    def _open(self) -> int:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def _follow(self) -> None:
        """Be on the file that has the name now."""
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.stat(self._path), os.fstat(self._fd)):
                return
        self._change()

    def _change(self) -> None:
        old, self._fd = self._fd, self._open()
        os.close(old)

    def _rotate(self, size_bytes: int) -> None:
        """Move full files aside, unless another process has just done it."""
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            self._follow()
            if 0 < os.fstat(self._fd).st_size > self._limit - size_bytes:
                _shift(self._path, self._kept)
                self._path.rename(_older(self._path, 1))
                self._change()
        finally:
            os.close(folder)


def rotate_inherited(path: Path, limit_bytes: int = LIMIT_BYTES, kept: int = KEPT) -> None:
    """The same for a file that other processes hold open as their standard error, opened for appending: it is copied and emptied.

    What is written between the two is lost. Raises OSError.
    """
    if path.stat().st_size > limit_bytes:
        _shift(path, kept)
        shutil.copyfile(path, _older(path, 1))
        os.truncate(path, 0)


def _shift(path: Path, kept: int) -> None:
    """Make NAME.1 free; the oldest goes."""
    for number in range(kept - 1, 0, -1):
        with contextlib.suppress(FileNotFoundError):
            _older(path, number).replace(_older(path, number + 1))


def _older(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")
