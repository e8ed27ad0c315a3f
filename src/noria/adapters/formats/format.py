"""What a table format is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # reading loads Polars; asking for a format does not
    import polars as pl


@dataclass(frozen=True, slots=True)
class Format:
    """``suffixes`` are in small letters, the usual one first. ``magic`` begins and ends a whole file; text has none.

    ``read`` gives the table; it may raise PolarsError, OSError or ValueError for a file that is broken.
    """

    suffixes: tuple[str, ...]
    read: Callable[[Path], pl.DataFrame]
    magic: bytes | None = None

    @property
    def name(self) -> str:
        """As errors call it."""
        return self.suffixes[0].removeprefix(".")
