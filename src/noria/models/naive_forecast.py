"""The naive forecast: a label is what it was a season before. Its error in training scales MASE (Hyndman and Koehler, 2006)."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from noria.models.split import seconds

ALL = ""  # the name of the only series, where no column tells several apart


def errors(train: pl.DataFrame, label: str, event_time: str, series: str | None, season: int) -> dict[str, float]:
    """The mean absolute error of each series. A series that is not longer than a season has none.

    Rows of one series at one time, such as those of several horizons, count as one: the mean of their labels.
    """
    table = pl.DataFrame({"series": names(train, series), "at": seconds(train[event_time]), "y": train[label].cast(pl.Float64)})
    points = table.group_by("series", "at").agg(pl.col("y").mean()).sort("series", "at")
    missed = (pl.col("y") - pl.col("y").shift(season)).abs().over("series")
    found = points.select("series", missed.alias("missed")).drop_nulls().group_by("series").agg(pl.col("missed").mean())
    return dict(found.sort("series").iter_rows())


def scales(rows: pl.DataFrame, series: str | None, known: dict[str, float]) -> NDArray[np.float64]:
    """The error of each row's series [n]; NaN where it is not known."""
    found = names(rows, series).replace_strict(list(known), list(known.values()), default=None, return_dtype=pl.Float64)
    return found.fill_null(float("nan")).to_numpy()


def names(rows: pl.DataFrame, series: str | None) -> pl.Series:
    if series is None:
        return pl.repeat(ALL, rows.height, eager=True)
    return rows[series].cast(pl.String).fill_null(ALL)
