"""Which files a project was read from, so that it is read again when one of them has changed, and not before."""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from noria.kernel.errors import ConfigError

Read = TypeVar("Read")
Stamp = tuple[int, ...]  # changes whenever the file does; empty: there is none
MOST = 8  # projects that are remembered: the home, and checkouts of commits
YOUNG_S = 0.1  # a file that changed so lately may change again without its times telling it

_touched: ContextVar[dict[Path, Stamp] | None] = ContextVar("touched", default=None)


def touch(path: Path) -> Path:
    """Note that what is read depends on this file, or on there being none. Called before it is looked at."""
    found = _touched.get()
    if found is not None and path not in found:
        found[path] = _stamp(path)
    return path


def _stamp(path: Path) -> Stamp:
    try:
        facts = path.stat()
    except (OSError, ValueError):
        return ()
    if stat.S_ISDIR(facts.st_mode):
        return (facts.st_ino,)  # that it is there: files come and go in it
    return (facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)


@contextmanager
def _noting() -> Iterator[dict[Path, Stamp]]:
    found: dict[Path, Stamp] = {}
    token = _touched.set(found)
    try:
        yield found
    finally:
        _touched.reset(token)


class _Known(msgspec.Struct, Generic[Read], frozen=True):
    """What was read, or why it could not be, with all that this depended on."""

    files: dict[Path, Stamp]
    environ: dict[str, str]
    value: Read | None
    error: ConfigError | None

    def holds(self) -> bool:
        return self.environ == os.environ and all(_stamp(path) == known for path, known in self.files.items())

    def again(self) -> Read:
        if self.error is not None:
            raise ConfigError(self.error.message, where=self.error.where, hint=self.error.hint)
        assert self.value is not None
        return self.value


class Memory(Generic[Read]):
    """What was read from folders, for as long as no file and no variable that it depends on changes. Safe between threads."""

    def __init__(self) -> None:
        self._known: dict[Path, _Known[Read]] = {}
        self._lock = threading.Lock()

    def of(self, folder: Path, read: Callable[[], Read]) -> Read:
        """What ``read`` makes of the folder. Raises as it does."""
        with self._lock:
            known = self._known.get(folder)
        if known is not None and known.holds():
            return known.again()
        began, environ = time.time_ns(), dict(os.environ)
        value, error = None, None
        with _noting() as files:
            try:
                value = read()
            except ConfigError as found:
                error = found
        self._keep(folder, _Known(files, environ, value, error), began)
        if error is not None:
            raise error
        assert value is not None
        return value

    def _keep(self, folder: Path, known: _Known[Read], began: int) -> None:
        settled = all(began - changed > YOUNG_S * 1e9 for changed in (s[2] for s in known.files.values() if len(s) > 1))
        with self._lock:
            self._known.pop(folder, None)
            if settled:
                self._known[folder] = known
                while len(self._known) > MOST:
                    del self._known[next(iter(self._known))]
