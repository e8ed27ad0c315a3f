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
SHELVES = 256  # lock files; names that share one wait for each other, which is rare and harms nothing


class Locks:
    """Lock files in a folder; there are never more than ``SHELVES`` of a kind."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def held(self, kind: str, name: str, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Hold the lock of ``name``; while another has it, ``waiting`` is called again and again, and may raise."""
        self._folder.mkdir(parents=True, exist_ok=True)
        shelf = int(names.digest_bytes(name.encode())[:8], 16) % SHELVES
        handle = os.open(self._folder / f"{kind}-{shelf:02x}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            while not _taken(handle):
                waiting()
                time.sleep(POLL_S)
            yield
        finally:
            os.close(handle)


def _taken(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
