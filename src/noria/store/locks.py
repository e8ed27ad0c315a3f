"""Locks between processes of one machine, by name. The system lets go of a lock when its holder dies, however it dies."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from noria import names

POLL_S = 0.02


class Locks:
    """Lock files in a folder, one for each name that is held."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def held(self, kind: str, name: str, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Hold the lock of ``name``; while another has it, ``waiting`` is called again and again, and may raise."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{kind}-{names.digest_bytes(name.encode())[:32]}"
        handle = _take(path, waiting)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)  # while it is held: whoever waits for this very file sees that it is gone
            os.close(handle)


def _take(path: Path, waiting: Callable[[], None]) -> int:
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if _locked(handle) and _still(handle, path):
                return handle
        except BaseException:  # whatever it was, the handle must not leak
            os.close(handle)
            raise
        os.close(handle)
        waiting()
        time.sleep(POLL_S)


def _locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _still(handle: int, path: Path) -> bool:
    """Whether the file is the one at this path, and not one that its former holder took away."""
    try:
        return os.fstat(handle).st_ino == path.stat().st_ino
    except FileNotFoundError:
        return False
