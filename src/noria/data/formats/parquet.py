"""Parquet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from noria.data.formats import memory, parquet_footer
from noria.data.formats.format import Format, PartedTable, ValueSyntax, demand_once
from noria.data.formats.parquet_footer import ParquetSize
from noria.kernel.dialect import Dialect

if TYPE_CHECKING:
    import polars as pl

BUFFER_BYTES = 1 << 20  # of a column that is read a part at a time
CELL_BYTES = 16  # of a column whose values have no fixed size
PHYSICAL = ("BOOLEAN", "INT32", "INT64", "INT96", "FLOAT", "DOUBLE")  # by their numbers in the footer
WIDTHS = (1, 4, 8, 12, 4, 8)  # bytes of a value of each; others have no fixed size


def read(path: Path, _: Dialect, columns: Sequence[str] | None) -> pl.DataFrame:
    """The table; folders named like ``month=3`` above the file are no columns."""
    import polars as pl

    memory.demand(path, _decoded_bytes(path))
    return pl.read_parquet(path, glob=False, hive_partitioning=False, columns=None if columns is None else list(columns))


def _decoded_bytes(path: Path) -> int:
    """What the table takes in memory, by its metadata: a few bytes of it can stand for any number of equal values."""
    found = parquet_footer.read(path) or _ask_arrow(path)
    demand_once(found.names, path)
    return _decoded(found)


def _decoded(found: ParquetSize) -> int:
    return max(found.rows * sum(_width(kind) for kind in found.leaves), found.stored_bytes)


def in_parts(path: Path, _: Dialect) -> PartedTable | None:
    """A table that takes much memory, a part at a time; groups of rows may be of any size."""
    found = parquet_footer.read(path) or _ask_arrow(path)
    demand_once(found.names, path)
    decoded = _decoded(found)
    if decoded < memory.PARTED_FROM_BYTES:
        return None
    rows = max(1, found.rows * memory.PART_BYTES // max(1, decoded))
    return PartedTable(found.names, lambda columns: _read_parts(path, columns, rows))


def _read_parts(path: Path, columns: Sequence[str] | None, rows: int) -> Iterator[pl.DataFrame]:
    import polars as pl
    import pyarrow.parquet as pq

    wanted = {name: kind for name, kind in schema(path).items() if columns is None or name in columns}
    empty = True
    with pq.ParquetFile(path, pre_buffer=False, buffer_size=BUFFER_BYTES) as file:
        for batch in file.iter_batches(batch_size=rows, columns=list(wanted)):
            part = pl.DataFrame(pl.from_arrow(batch)).select(pl.col(name).cast(kind) for name, kind in wanted.items())
            empty = False
            yield part
    if empty:
        yield pl.DataFrame(schema=wanted)


def _width(kind: int) -> int:
    return WIDTHS[kind] if 0 <= kind < len(WIDTHS) else CELL_BYTES


def _ask_arrow(path: Path) -> ParquetSize:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        about = file.metadata
        kinds = [about.schema.column(at).physical_type for at in range(about.num_columns)]
        leaves = tuple(PHYSICAL.index(kind) if kind in PHYSICAL else len(PHYSICAL) for kind in kinds)
        stored = sum(about.row_group(at).total_byte_size for at in range(about.num_row_groups))
        return ParquetSize(about.num_rows, stored, tuple(file.schema_arrow.names), leaves)


def schema(path: Path) -> pl.Schema:
    """The columns and their types."""
    import polars as pl

    return pl.scan_parquet(path, glob=False, hive_partitioning=False).collect_schema()


def write(table: pl.DataFrame, path: Path, _: Dialect) -> None:
    """Write the table with its types."""
    table.write_parquet(path, compression="zstd")


FORMATS = (Format((".parquet", ".pq"), read, ValueSyntax.TYPED, b"PAR1", schema, in_parts=in_parts, write=write),)
