"""Where datasets come from: one file for each kind of source. A new one is a module here, or a call of ``register``."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from noria.config import DataSource
from noria.data.sources import local, remote, sql
from noria.data.sources.found import FoundFile, Remembered, SourceListing

__all__ = ["Connect", "FoundFile", "Remembered", "SourceListing", "connect", "nearby", "read", "register"]

SAMPLE_ROWS = 10_000
Connect = Callable[[DataSource, Path, Remembered], SourceListing]

_kinds: list[tuple[Callable[[DataSource], bool], Connect]] = [
    (sql.matches, sql.Sql),
    (remote.matches, remote.Remote),
    (lambda _: True, local.LocalWalk),
]


def register(matches: Callable[[DataSource], bool], make: Connect) -> None:
    """Add a kind of source; the newest is asked first."""
    _kinds.insert(0, (matches, make))


def connect(dataset: DataSource, home: Path, remembered: Remembered = tuple) -> SourceListing:
    """The source of a dataset; relative paths are under ``home``. Nothing is opened before it is asked.

    ``remembered`` lets a source go on from where it stood, as a query with a cursor does.
    """
    return next(make for matches, make in _kinds if matches(dataset))(dataset, home, remembered)


def nearby(dataset: DataSource) -> bool:
    """Whether a look at it costs no more than a walk over folders."""
    return not (sql.matches(dataset) or remote.matches(dataset))


def read(dataset: DataSource, home: Path) -> Iterator[tuple[FoundFile, Path | None]]:
    """Everything a source holds, to be looked at once and kept nowhere: what it found, and a file to read, None on a problem.

    A file from elsewhere is there until the next one is asked for. Of a query the first 10,000 rows are read.
    """
    source = connect(dataset, home)
    if isinstance(source, sql.Sql):
        source.limit = SAMPLE_ROWS
    with tempfile.TemporaryDirectory(prefix="noria-") as folder:
        for found in source.list_files():
            if source.problem(found):
                yield found, None
            elif found.path is not None:
                yield found, Path(found.path)
            else:
                target = Path(folder) / Path(found.name).name
                source.fetch(found, target)
                yield found, target
                target.unlink()
