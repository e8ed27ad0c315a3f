"""Validation rows inside the training side: by time in rolling windows, else by hash. The holdout is no part of it."""

from __future__ import annotations

from typing import Any

import polars as pl

from noria.kernel.errors import DataError
from noria.kernel.words import lasting, percent, plural
from noria.models.split import contents, draw_by_hash, seconds

EARLIER = -1  # the fold of rows that validate nothing


def rolling(side: pl.DataFrame, model: dict[str, Any], folds: int) -> tuple[pl.Series, str]:
    """By event time: the newest rows in windows as long as the holdout, each validated by a model of the rows before it.

    Where the training side is too short for that, its span is cut into equal parts, and all but the first validate.
    """
    at = seconds(side[model["event_time"]])
    first, newest = float(at.min()), float(at.max())  # type: ignore[arg-type]  # neither empty nor null: split() saw to it
    wanted: float = model["holdout"]["last_s"]
    window = min(wanted, (newest - first) / (folds + 1))
    if window <= 0:
        raise DataError("the training rows have one event time, so that none of them validates a model of earlier ones")
    passed = ((newest - at) / window).floor().cast(pl.Int64)  # 0: less than a window before the newest row
    fold = (folds - 1 - passed).clip(lower_bound=EARLIER).cast(pl.Int32)
    short = "" if window == wanted else ", shorter than the holdout: the training rows span no more"
    return fold, f"{plural(folds, 'rolling window')} of {lasting(window)}{short}"


def by_hash(side: pl.DataFrame, model: dict[str, Any], folds: int) -> tuple[pl.Series, str]:
    """By the hash of the key, or of the row, under another salt than the holdout's: each row validates once.

    With one fold: a share as large as the holdout validates.
    """
    key = model.get("groups") or model["key"]
    keys = (contents(side) if key is None else side[key].cast(pl.String)).to_list()
    salt = f"{model['project']}/search"
    if folds == 1:
        share = model["holdout"].get("fraction") or 0.2
        chosen = pl.Series(draw_by_hash(keys, salt, share), dtype=pl.Boolean)
        return chosen.cast(pl.Int32) - 1, f"{percent(share)} of the rows, by hash"
    fold = sum(pl.Series(draw_by_hash(keys, salt, (i + 1) / folds), dtype=pl.Int32) for i in range(folds - 1))
    assert isinstance(fold, pl.Series)
    return folds - 1 - fold, f"{folds} folds by hash"
