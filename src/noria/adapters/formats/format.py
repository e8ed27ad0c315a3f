"""What a table format is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from noria.domain.table import Dialect

if TYPE_CHECKING:  # reading loads Polars; asking for a format does not
    import polars as pl

Read = Callable[[Path, Dialect, Sequence[str] | None], "pl.DataFrame"]


class Cells(StrEnum):
    """What a format says of a value's type."""

    TEXT = "text"  # nothing: every cell is text
    JSON = "json"  # numbers, texts, true and false; a date is text
    TYPED = "typed"  # all


@dataclass(frozen=True, slots=True)
class Format:
    """``suffixes`` are in small letters, the usual one first. ``magic`` begins and ends a whole file; text has none.

    ``read`` gives the table, or some of its columns where that is cheaper; it may raise DataError, PolarsError, ArrowException,
    OSError or ValueError for a file that is broken.
    """

    suffixes: tuple[str, ...]
    read: Read
    cells: Cells
    magic: bytes | None = None
    schema: Callable[[Path], pl.Schema] | None = None  # where it can be told without reading the table

    @property
    def name(self) -> str:
        """As errors call it."""
        return self.suffixes[0].removeprefix(".")
