"""Which keys stand twice in a table that is read a part at a time? Keys wait on disk, and memory holds a part of them.

Equal keys fall into the same partition by their hash; a partition is read back and judged by itself. What repeats is marked in
one bit for each row of the table.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:  # NumPy: only a large file needs it
    import numpy as np
    from numpy.typing import NDArray

HELD_BYTES = 1 << 24  # of keys in memory, before they are written
PARTITIONS = 128
ROW = "noria:row"


class RowMarks:
    """A bit for each row of a table."""

    def __init__(self) -> None:
        import numpy as np

        self._bits: NDArray[np.uint8] = np.zeros(1 << 10, np.uint8)
        self.count = 0

    def add(self, rows: pl.Series) -> None:
        """Mark rows, each of which has no mark yet."""
        if rows.is_empty():
            return
        import numpy as np

        places = rows.to_numpy()
        needed = int(places.max()) // 8 + 1
        if needed > len(self._bits):
            self._bits = np.concatenate([self._bits, np.zeros(max(needed - len(self._bits), len(self._bits)), np.uint8)])
        np.bitwise_or.at(self._bits, places >> 3, (1 << (places & 7)).astype(np.uint8))
        self.count += len(rows)

    def part(self, first: int, height: int) -> pl.Series:
        """The marks of some rows that follow each other."""
        import numpy as np

        found = np.unpackbits(self._bits[first >> 3 : (first + height + 7) >> 3], bitorder="little")[first & 7 :][:height]
        return pl.Series(np.concatenate([found, np.zeros(height - len(found), np.uint8)])).cast(pl.Boolean)


class KeySpill:
    """The keys of a table, in the order of its rows. ``folder`` is its own, and is there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: list[pl.DataFrame] = []
        self._held_bytes = 0
        self._written = 0  # times
        self._added = 0
        self._repeats = RowMarks()
        self._judged = False

    def add(self, keys: pl.DataFrame, first: int) -> None:
        """Keys of the rows from ``first`` on."""
        rows = pl.int_range(first, first + keys.height, dtype=pl.Int64, eager=True)
        held = keys.with_columns(rows.alias(ROW))
        self._held.append(held)
        self._held_bytes += int(held.estimated_size())
        self._added += keys.height
        if self._held_bytes >= HELD_BYTES:
            self._write()

    def repeats(self) -> RowMarks:
        """The rows whose key a row before them has; a null equals a null. No keys are added any more."""
        if not self._judged:
            self._judged = True
            if not self._written:
                self._mark_repeats()
            else:
                self._write()
                for number in range(PARTITIONS):
                    self._held = [pl.read_ipc(path) for path in self._parts(number)]
                    self._mark_repeats()
            self._held = []
        return self._repeats

    def distinct(self) -> int:
        """How many keys differ."""
        return self._added - self.repeats().count

    def _mark_repeats(self) -> pl.DataFrame:
        """Mark what repeats among the held keys. Returns the others."""
        if not self._held:
            return pl.DataFrame()
        table = pl.concat(self._held)
        first = _key(table).is_first_distinct()
        marked = table.select(ROW, noria_first=first)
        self._repeats.add(marked.filter(~pl.col("noria_first"))[ROW])
        return table.filter(marked["noria_first"])

    def _write(self) -> None:
        """Write the held keys, each once: many rows with one key make no partition large."""
        kept = self._mark_repeats()
        self._held, self._held_bytes = [], 0
        if kept.is_empty():
            return
        parted = kept.with_columns((_key(kept).hash(seed=7) % PARTITIONS).alias("noria:partition"))
        for (number,), part in parted.partition_by("noria:partition", as_dict=True, include_key=False).items():
            part.write_ipc(self._folder / f"{number}-{self._written:06d}.arrow")
        self._written += 1

    def _parts(self, number: int) -> list[Path]:
        return sorted(self._folder.glob(f"{number}-*.arrow"))


def _key(table: pl.DataFrame) -> pl.Expr:
    names = [name for name in table.columns if name != ROW]
    return pl.col(names[0]) if len(names) == 1 else pl.struct(names)
