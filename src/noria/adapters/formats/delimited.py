"""CSV and TSV, also packed with gzip or zstd."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from noria.adapters.formats.format import Format

if TYPE_CHECKING:
    import polars as pl


def read(path: Path, separator: str) -> pl.DataFrame:
    """The table; types are inferred from every row, so that no later row can be of another."""
    import polars as pl

    return pl.read_csv(path, separator=separator, infer_schema_length=None, try_parse_dates=True, glob=False)


FORMATS = (Format((".csv",), partial(read, separator=",")), Format((".tsv",), partial(read, separator="\t")))
