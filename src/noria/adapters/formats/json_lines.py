"""JSON: one object a line, or one list of objects."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from noria.adapters.formats.format import Format

if TYPE_CHECKING:
    import polars as pl


def read_lines(path: Path) -> pl.DataFrame:
    """The table of a file with one object a line."""
    import polars as pl

    return pl.read_ndjson(path.read_bytes(), infer_schema_length=None)


def read_list(path: Path) -> pl.DataFrame:
    """The table of a file with one list of objects."""
    import polars as pl

    return pl.read_json(path, infer_schema_length=None)


FORMATS = (Format((".ndjson", ".jsonl"), read_lines), Format((".json",), read_list))
