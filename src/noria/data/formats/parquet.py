"""Parquet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from noria.data.formats import memory
from noria.data.formats.format import Format, ValueSyntax, demand_once
from noria.kernel.dialect import Dialect

if TYPE_CHECKING:
    import polars as pl

CELL_BYTES = 16  # of a column whose values have no fixed size
BITS = {"BOOLEAN": 1, "INT32": 4, "FLOAT": 4, "INT64": 8, "DOUBLE": 8, "INT96": 12}


def read(path: Path, _: Dialect, columns: Sequence[str] | None) -> pl.DataFrame:
    """The table; folders named like ``month=3`` above the file are no columns."""
    import polars as pl

    memory.demand(path, _decoded_bytes(path))
    return pl.read_parquet(path, glob=False, hive_partitioning=False, columns=None if columns is None else list(columns))


def _decoded_bytes(path: Path) -> int:
    """What the table takes in memory, by its metadata: a few bytes of it can stand for any number of equal values."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        demand_once(file.schema_arrow.names, path)
        about = file.metadata
        widths = sum(BITS.get(about.schema.column(at).physical_type, CELL_BYTES) for at in range(about.num_columns))
        stored = sum(about.row_group(at).total_byte_size for at in range(about.num_row_groups))
        return max(int(about.num_rows * widths), int(stored))


def schema(path: Path) -> pl.Schema:
    """The columns and their types."""
    import polars as pl

    return pl.scan_parquet(path, glob=False, hive_partitioning=False).collect_schema()


FORMATS = (Format((".parquet", ".pq"), read, ValueSyntax.TYPED, b"PAR1", schema),)
