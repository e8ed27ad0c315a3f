"""Files that repeat rows of the file before them, as whole exports do; and which of the rows with the same key stands. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

ROWS = 20  # a file with fewer rows repeats another by chance
SHARE = 0.5  # of the rows before, from which on a file repeats them
DISTINCT = 0.9  # of the rows before that must differ from each other: else rows are alike without being the same
MOST = 2_000_000  # rows of a file that are compared; of more, a part that is chosen by what the rows hold
DIGITS = re.compile(r"([0-9]{1,18})")
Hashes = NDArray[np.uint64]


class Prints(msgspec.Struct, frozen=True):
    """What is kept of a file to compare it: the hash of each row, of its key where there is one, and how many rows there are."""

    name: str
    rows: int
    row: Hashes
    key: Hashes | None


class RepeatedRows(msgspec.Struct, frozen=True):
    """A file that has rows, or keys, of the file before it. ``about``: counted in a part of the rows."""

    name: str
    before: str
    rows: int  # of the file before
    repeated: int  # of those
    differing: int  # rows of the same key that hold something else
    key: tuple[str, ...]
    about: bool

    def words(self, dataset: str) -> str:
        about = "about " if self.about else ""
        rows = f"{about}{self.repeated:,} of the {self.rows:,} rows of {self.before}"
        if not self.key:
            text = f"{self.name} repeats {rows}, and they count twice. "
            text += "If each file is a complete export, name the columns that identify a row:"
            return f"{text} `data.{dataset}.key: [COLUMN]` keeps the newest"
        text = f"{self.name} has {rows} again, by {', '.join(self.key)}; the newer row of each is used"
        return f"{text}, {about}{self.differing:,} of them with other values"


def by_age(names: Iterable[str]) -> list[str]:
    """Names of files, the oldest first: as they stand in the alphabet, with the digits in them read as numbers."""
    return sorted(names, key=lambda name: ([(not at % 2, _part(at, text)) for at, text in enumerate(DIGITS.split(name))], name))


def _part(at: int, text: str) -> tuple[int, str]:
    return (int(text), "") if at % 2 else (0, text)


def prints(name: str, table: pl.DataFrame, key: Sequence[str]) -> Prints:
    """What is kept of a table: 8 or 16 bytes a row, and no more than MOST rows. Rows whose key is missing have none."""
    columns = sorted(table.columns)
    hashed = pl.DataFrame({"row": table.select(columns).hash_rows()})
    if key:
        named = table.select(pl.all_horizontal(pl.col(*key).is_not_null())).to_series()
        hashed = hashed.with_columns(table.select(key).hash_rows().alias("key")).filter(named)
    if (part := _part_of(table.height)) > 1:
        hashed = hashed.filter(pl.col("key" if key else "row") % part == 0)
    return Prints(name, table.height, hashed["row"].to_numpy(), hashed["key"].to_numpy() if key else None)


def judge(before: Prints, after: Prints, key: Sequence[str]) -> RepeatedRows | None:
    """Whether a file repeats the one before it; None where it does not, or so few rows tell nothing."""
    part = _part_of(max(before.rows, after.rows))
    before, after = _same_part(before, part), _same_part(after, part)  # of the smaller file more was kept
    old, new = (before.row, after.row) if before.key is None or after.key is None else (before.key, after.key)
    found = RepeatedRows(after.name, before.name, before.rows, int(np.isin(old, new).sum()) * part, 0, tuple(key), part > 1)
    if key:
        return msgspec.structs.replace(found, differing=_differing(before, after) * part) if found.repeated else None
    distinct = len(np.unique(old)) >= DISTINCT * len(old)
    return found if before.rows >= ROWS and found.repeated >= SHARE * before.rows and distinct else None


def _part_of(rows: int) -> int:
    """One in how many rows is compared: a power of two, so that the parts of two files lie one inside the other."""
    return 1 << max(0, -(-rows // MOST) - 1).bit_length()


def _same_part(found: Prints, part: int) -> Prints:
    if part == 1:
        return found
    chosen = (found.row if found.key is None else found.key) % np.uint64(part) == 0
    return Prints(found.name, found.rows, found.row[chosen], found.key[chosen] if found.key is not None else None)


def _differing(before: Prints, after: Prints) -> int:
    assert before.key is not None
    assert after.key is not None
    _, old, new = np.intersect1d(before.key[::-1], after.key[::-1], return_indices=True)  # the last row of each key stands
    return int((before.row[::-1][old] != after.row[::-1][new]).sum())


def newest_rows(tables: Iterable[pl.DataFrame], key: Sequence[str]) -> tuple[pl.DataFrame | None, int]:
    """Of tables, the newest first, the newest row of each key, and how many rows gave way; the older rows stand first. No more
    than the result and one table are held. Rows whose key is missing all stand."""
    kept, seen, gone = list[pl.DataFrame](), None, 0
    for table in tables:
        missing = pl.any_horizontal(pl.col(*key).is_null())
        found = table.filter(pl.struct(*key).is_last_distinct() | missing)
        if seen is not None:
            found = found.join(seen, on=list(key), how="anti", maintain_order="left")
        gone += table.height - found.height
        fresh = found.select(key)
        seen = fresh if seen is None else pl.concat([seen, fresh])
        kept.append(found)
    return (pl.concat(kept[::-1]) if kept else None), gone
