"""Arrow's file format, also called IPC or Feather 2."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from noria.data.formats import memory
from noria.data.formats.format import Format, ValueSyntax, demand_once
from noria.kernel.dialect import Dialect

if TYPE_CHECKING:
    import polars as pl

PEEKED = 64  # batches that are unpacked to learn what one takes


def read(path: Path, _: Dialect, columns: Sequence[str] | None) -> pl.DataFrame:
    """The table."""
    import polars as pl

    memory.demand(path, _decoded_bytes(path))
    lazy = pl.scan_ipc(path, glob=False)
    return (lazy if columns is None else lazy.select(columns)).collect()


def _decoded_bytes(path: Path) -> int:
    """What the table takes in memory: batch for batch, none of which is kept; of many, the first ones stand for the rest."""
    import pyarrow as pa

    limit = memory.most(path.stat().st_size)
    with pa.memory_map(str(path)) as mapped:
        file = pa.ipc.open_file(mapped)
        demand_once(file.schema.names, path)
        total, peeked = 0, min(PEEKED, file.num_record_batches)
        for at in range(peeked):
            total += file.get_batch(at).nbytes
            if total > limit:
                break
        return total * file.num_record_batches // max(1, peeked) if total <= limit else total


def write(table: pl.DataFrame, path: Path, _: Dialect) -> None:
    """Write the table with its types."""
    table.write_ipc(path, compression="zstd")


FORMATS = (Format((".arrow", ".ipc", ".feather"), read, ValueSyntax.TYPED, b"ARROW1", write=write),)
