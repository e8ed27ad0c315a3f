"""What a table format is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from noria.kernel.dialect import Dialect
from noria.kernel.errors import DataError

if TYPE_CHECKING:  # reading loads Polars; asking for a format does not
    import polars as pl

Read = Callable[[Path, Dialect, Sequence[str] | None], "pl.DataFrame"]
Parts = Callable[[Sequence[str] | None], Iterator["pl.DataFrame"]]
Write = Callable[["pl.DataFrame", Path, Dialect], None]


class UnreadableError(DataError):
    """A file is not what its name says: its reader does not get through it."""


class DialectError(UnreadableError):
    """A file of text is written otherwise than it is read; noria.yaml may say how, and the hint tells what to say."""


class ValueSyntax(StrEnum):
    """What a format says of a value's type."""

    TEXT = "text"  # nothing: every cell is text
    JSON = "json"  # numbers, texts, true and false; a date is text
    TYPED = "typed"  # all


def demand_once(names: Sequence[str], path: Path) -> None:
    """Raise DataError for a column that stands twice: readers would name the second one otherwise, or take one of the two."""
    twice = next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None
    if twice is not None:
        places = [str(at) for at, name in enumerate(names, 1) if name == twice]
        raise DataError(
            f"has the column {twice!r} {len(places)} times (columns {', '.join(places)})",
            where=str(path),
            hint="Name each column once; a copy of the label would be an input that knows the answer.",
        )


class PartedTable(msgspec.Struct, frozen=True):
    """A table that is read a part at a time. ``parts`` gives them anew with each call, all columns or some of them; of a table
    without rows, one part without rows. It may raise what ``Format.read`` raises."""

    columns: tuple[str, ...]
    parts: Parts


class Format(msgspec.Struct, frozen=True):
    """``suffixes`` are in small letters, the usual one first. ``magic`` begins and ends a whole file; text has none.

    ``read`` gives the table, or some of its columns where that is cheaper; it may raise DataError, PolarsError, ArrowException,
    OSError or ValueError for a file that is broken.
    """

    suffixes: tuple[str, ...]
    read: Read
    cells: ValueSyntax
    magic: bytes | None = None
    schema: Callable[[Path], pl.Schema] | None = None  # where it can be told without reading the table
    head: Callable[[Path, Dialect], Sequence[str]] | None = None  # the columns of text, where their types take a reading
    in_parts: Callable[[Path, Dialect], PartedTable | None] | None = None  # None of a table that is small enough to be read
    write: Write | None = None  # a table as ``read`` gives it; equal tables make equal bytes

    @property
    def name(self) -> str:
        """As errors call it."""
        return self.suffixes[0].removeprefix(".")
