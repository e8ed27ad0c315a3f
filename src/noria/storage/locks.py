"""Locks between processes of one machine, by name. The system lets go of a lock when its holder dies, however it dies."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from noria.kernel import names
from noria.storage.disk import unwritable

POLL_S = 0.02


class Locks:
    """Lock files in a folder, one for each name that is held."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def hold(self, kind: str, name: str, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Hold the lock of ``name``; while another has it, ``waiting`` is called again and again, and may raise."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{kind}-{names.digest_bytes(name.encode())[:32]}"
        handle = _take(path, waiting)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)  # while it is held: whoever waits for this very file sees that it is gone
            os.close(handle)

    @contextmanager
    def hold_shared(self, kind: str, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Keep ``alone`` out, beside others who do so too."""
        with self._lock_kept_file(kind, fcntl.LOCK_SH, waiting):
            yield

    @contextmanager
    def hold_exclusive(self, kind: str, waiting: Callable[[], None]) -> Iterator[None]:
        """Keep everybody else out; while there is one, ``waiting`` is called again and again, and may raise."""
        with self._lock_kept_file(kind, fcntl.LOCK_EX, waiting):
            yield

    @contextmanager
    def _lock_kept_file(self, kind: str, how: int, waiting: Callable[[], None]) -> Iterator[None]:
        """A lock whose file stays: others may hold it when this one lets go."""
        handle = _take(self._place(kind), waiting, how)
        try:
            yield
        finally:
            os.close(handle)

    def _place(self, kind: str) -> Path:
        """The lock file; in a state folder that cannot be written, where it may not be, what stands for it."""
        path = self._folder / kind
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            if unwritable(error) is None:
                raise
        return path if path.exists() or os.access(self._folder, os.W_OK) else self._folder.parent


def _take(path: Path, waiting: Callable[[], None], how: int = fcntl.LOCK_EX) -> int:
    while True:
        handle = open_lock(path)
        try:
            if _try_lock(handle, how) and _still(handle, path):
                return handle
        except BaseException:  # whatever it was, the handle must not leak
            os.close(handle)
            raise
        os.close(handle)
        waiting()
        time.sleep(POLL_S)


def open_lock(path: Path) -> int:
    """A handle to lock; the file is made where it can be. Who only reads may lock a file, or a folder, that cannot be written."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except IsADirectoryError:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        if unwritable(error) is None or not path.exists():
            raise
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def _try_lock(handle: int, how: int) -> bool:
    try:
        fcntl.flock(handle, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _still(handle: int, path: Path) -> bool:
    """Whether the file is the one at this path, and not one that its former holder took away."""
    try:
        return os.fstat(handle).st_ino == path.stat().st_ino
    except FileNotFoundError:
        return False
