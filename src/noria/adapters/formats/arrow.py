"""Arrow's file format, also called IPC or Feather 2."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from noria.adapters.formats.format import Format

if TYPE_CHECKING:
    import polars as pl


def read(path: Path) -> pl.DataFrame:
    """The table."""
    import polars as pl

    return pl.scan_ipc(path, glob=False).collect()


FORMATS = (Format((".arrow", ".ipc", ".feather"), read, b"ARROW1"),)
