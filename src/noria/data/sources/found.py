"""What a source is, and what it finds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

Remembered = Callable[[], Iterable[tuple[str, str]]]  # name and mark of what was taken in before, by name


class FoundFile(NamedTuple):
    """One file that a source holds, or rows that it offers as one. A tuple, because a walk makes hundreds of thousands.

    ``mark`` changes whenever the content may have: size, times and inode of a local file, the version that a remote store
    tells, the range and content of a query's result.
    """

    name: str  # relative to the project's home, '/' separated; the absolute path or address where it lies elsewhere
    size_bytes: int
    mark: str
    path: str | None = None  # on this machine; None: it is fetched
    problem: str = ""  # why it cannot be taken in, in words
    digest: str = ""  # of the content, where it had to be read to see whether it changed


class SourceListing(Protocol):
    """One dataset's source, looked at once."""

    def list_files(self) -> Iterator[FoundFile]:
        """Everything that is there now, by name, each name once. Raises DataError when the source cannot be read."""

    def has_settled(self, found: FoundFile, settle_s: float) -> bool:
        """Whether it has arrived whole. Raises FileNotFoundError when it is gone."""

    def problem(self, found: FoundFile) -> str:
        """Why it cannot be taken in, in words; nothing when it can."""

    def fetch(self, found: FoundFile, target: Path) -> None:
        """Write it to ``target``. Raises FileNotFoundError when it is gone, DataError when it cannot be read."""

    def is_unchanged(self, found: FoundFile) -> bool:
        """Whether it is as it was found: what was read in between is whole."""
