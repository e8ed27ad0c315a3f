"""Which columns are a part of the row's own date or time, such as its weekday: what a window holds of them is decided by when it
is, and differs from any training that lasted longer."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import polars as pl
from numpy.typing import NDArray

from noria.stats.profile_records import ColumnProfile

ROWS = 200  # of a table that are looked at
ZONES = range(-11, 13)  # hours by which the row's own clock may differ from UTC
AGREES = 0.95  # of the rows, on one clock
SEEN = 50  # rows, fewer say nothing
WEEKENDS = (0.15, 0.45)  # the share of them in a training of whole weeks, whatever the traffic

Part = tuple[str, Callable[[pl.Expr], pl.Expr]]
T = pl.col("t")
PARTS: tuple[Part, ...] = (
    ("the weekday", lambda t: t.dt.weekday()),
    ("the weekday", lambda t: t.dt.weekday() - 1),
    ("the weekday", lambda t: t.dt.weekday() % 7),
    ("the weekday", lambda t: t.dt.weekday() % 7 + 1),
    ("the weekday", lambda t: t.dt.strftime("%A").str.to_lowercase()),
    ("the weekday", lambda t: t.dt.strftime("%a").str.to_lowercase()),
    ("whether it is the weekend", lambda t: (t.dt.weekday() > 5).cast(pl.Int8)),
    ("the hour", lambda t: t.dt.hour()),
    ("the minute of the day", lambda t: t.dt.hour().cast(pl.Int32) * 60 + t.dt.minute()),
    ("the day of the month", lambda t: t.dt.day()),
    ("the day of the year", lambda t: t.dt.ordinal_day()),
    ("the week", lambda t: t.dt.week()),
    ("the month", lambda t: t.dt.month()),
    ("the month", lambda t: t.dt.month() - 1),
    ("the month", lambda t: t.dt.strftime("%B").str.to_lowercase()),
    ("the month", lambda t: t.dt.strftime("%b").str.to_lowercase()),
    ("the month", lambda t: t.dt.strftime("%Y-%m")),
    ("the quarter", lambda t: t.dt.quarter()),
    ("the year", lambda t: t.dt.year()),
    ("the date", lambda t: t.dt.strftime("%Y-%m-%d")),
)
WEEKEND = next(i for i, (words, _) in enumerate(PARTS) if "weekend" in words)


def agreements(table: pl.DataFrame, times_s: NDArray[np.float64]) -> dict[str, NDArray[np.int64]]:
    """By column: of how many rows each part, on each zone's clock, is the value, [parts, zones]. Rows looked at: see ROWS."""
    some = table.head(ROWS)
    if some.is_empty():
        return {}
    at = np.floor(times_s[: some.height])[:, None] + 3600.0 * np.array(list(ZONES))
    frame = pl.DataFrame({"t": at.T.ravel()}).select(pl.from_epoch(pl.col("t").cast(pl.Int64), time_unit="s").alias("t"))
    parts = frame.select(part(T).cast(pl.String).alias(str(i)) for i, (_, part) in enumerate(PARTS))
    shown = {name: np.asarray(parts[name].to_list(), dtype=object).reshape(len(ZONES), -1) for name in parts.columns}
    found = {}
    for column in some.columns:
        values = np.asarray(_texts(some[column]).to_list(), dtype=object)
        found[column] = np.array([(part == values).sum(axis=1) for part in shown.values()])
    return found


def _texts(column: pl.Series) -> pl.Series:
    """Whole numbers without a point, true and false as 1 and 0, text in small letters; nothing of what has parts of its own, or
    is no text."""
    if column.dtype.is_nested() or column.dtype in (pl.Object, pl.Binary):
        return pl.Series(column.name, [None] * len(column), pl.String)
    if column.dtype == pl.Boolean:
        column = column.cast(pl.Int8)
    if column.dtype.is_float():
        whole = column.is_finite() & (column == column.floor()) & (column.abs() < 1e9)
        return (
            column.to_frame()
            .select(pl.when(whole).then(pl.col(column.name).cast(pl.Int64, strict=False)))
            .to_series()
            .cast(pl.String)
        )
    text = column.cast(pl.String, strict=False).str.to_lowercase()
    return text.str.replace(r"^0+(\d)", "${1}")


def time_parts(seen: Mapping[str, tuple[int, NDArray[np.int64]]], reference: Mapping[str, ColumnProfile]) -> dict[str, str]:
    """Column -> which part of the date or time it is, of those that were told over ``seen`` rows."""
    found = {}
    for name, (rows, agree) in seen.items():
        if rows < SEEN or name not in reference:
            continue
        for part in np.flatnonzero(agree.max(axis=1) >= AGREES * rows):
            if name not in found and _several(reference[name], int(part)):
                found[name] = PARTS[part][0]
    return found


def _several(column: ColumnProfile, part: int) -> bool:
    """Whether the training knew several values, as it must of a part of the time; a flag may be the weekend's, by its share."""
    known = [count for count in column.counts if count]
    if len(known) > 2 or not known:
        return len(known) > 2
    return part == WEEKEND and WEEKENDS[0] <= min(known) / sum(known) <= WEEKENDS[1]
