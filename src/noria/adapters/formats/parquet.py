"""Parquet."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from noria.adapters.formats.format import Format

if TYPE_CHECKING:
    import polars as pl


def read(path: Path) -> pl.DataFrame:
    """The table; folders named like ``month=3`` above the file are no columns."""
    import polars as pl

    return pl.read_parquet(path, glob=False, hive_partitioning=False)


FORMATS = (Format((".parquet", ".pq"), read, b"PAR1"),)
