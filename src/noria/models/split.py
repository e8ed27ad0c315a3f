"""The split: which rows train and which are held out, decided before any feature or training code sees them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any

import msgspec
import polars as pl

from noria.kernel.errors import DataError
from noria.kernel.task import Task
from noria.kernel.words import plural
from noria.models.labels import check_label
from noria.models.missing_columns import missing_columns

MIN_ROWS = 10  # on either side; fewer say nothing
DAY_S = 86400.0


class Split(msgspec.Struct, frozen=True):
    """``facts``: ``kind``, ``sentence``, ``train_rows``, ``holdout_rows``, ``dropped_rows``; by time also ``train_until`` (of
    the newest training row) and ``holdout_from`` (every held-out row is later), in seconds since 1970."""

    train: pl.DataFrame
    holdout: pl.DataFrame
    facts: dict[str, Any]


def split(table: pl.DataFrame, model: dict[str, Any]) -> Split:
    """Split the labelled table. Rows without a label are dropped and counted.

    ``model`` has ``key``, ``event_time``, ``label``, ``inputs``, ``slices``, ``task``, ``project`` (salts the hash) and
    ``holdout`` ({"last_s": seconds} or {"fraction": share}). Raises DataError when the table cannot be split soundly.
    """
    check_columns(table, model)
    labelled = drop_unlabelled(table, model["label"])
    check_keys(labelled, model["key"])
    check_columns_of_training(labelled, model)
    last_s = model["holdout"].get("last_s")
    made = by_time(labelled, model["event_time"], last_s) if last_s else by_hash(labelled, model)
    if last_s and model.get("groups"):
        made = apart(made, model["groups"])
    made.facts["dropped_rows"] = table.height - labelled.height
    _check_sizes(made)
    check_label(made.train, model["label"], Task(model["task"]))
    return made


def check_columns(table: pl.DataFrame, model: dict[str, Any]) -> None:
    """Every column that the model names is in the table; the error names the nearest there is."""
    more = [model.get("weight"), model.get("groups"), model.get("query"), model.get("series"), *model.get("slices", [])]
    named = [model["key"], model.get("event_time"), model["label"], *model["inputs"], *more]
    if missing := missing_columns(named, table.columns):
        raise DataError(f"the labelled table has {missing}")
    if model["label"] in model["inputs"]:
        raise DataError(f"the label {model['label']} is among the inputs: no request can know it")


def drop_unlabelled(table: pl.DataFrame, label: str) -> pl.DataFrame:
    """The rows that have a label; NaN is none."""
    has_label = pl.col(label).is_not_null()
    if table.schema[label].is_float():
        has_label &= pl.col(label).is_not_nan()
    kept = table.filter(has_label)
    if kept.is_empty():
        raise DataError(f"no row has a label: {label} is empty in all {table.height:,} rows")
    return kept


def check_keys(table: pl.DataFrame, key: str | None) -> None:
    """A key identifies one row; otherwise a row could be on both sides."""
    if key is None:
        return
    nulls = table[key].null_count()
    if nulls:
        raise DataError(f"the key {key} is empty in {nulls:,} of {plural(table.height, 'row')}")
    doubled = table[key].is_duplicated()
    if doubled.any():
        first = doubled.arg_true().head(3).to_list()
        rows = ", ".join(f"{row + 1:,}" for row in first)
        raise DataError(
            f"the key {key} is not unique: {int(doubled.sum()):,} of {table.height:,} rows share theirs (rows {rows}, ...)",
            hint="Name a column that identifies a row, or remove the doubles in the step that makes the table.",
        )


def check_columns_of_training(table: pl.DataFrame, model: dict[str, Any]) -> None:
    """Weights are numbers from zero on, and each row has one; each row has a group."""
    weight = model.get("weight")
    for kind in ("groups", "query"):
        name = model.get(kind)
        if name is not None and (empty := table[name].null_count()):
            what = "column of groups" if kind == "groups" else kind
            raise DataError(f"the {what} {name} is empty in {empty:,} of {plural(table.height, 'row')}")
    if weight is None:
        return
    if not table.schema[weight].is_numeric():
        raise DataError(f"the weight {weight} is {table.schema[weight]}, not a number")
    values = table[weight].cast(pl.Float64)
    odd = table.height - int((values.is_finite() & (values >= 0)).sum())
    if odd:
        raise DataError(f"the weight {weight} is empty, negative or not finite in {odd:,} of {plural(table.height, 'row')}")


def by_time(table: pl.DataFrame, event_time: str | None, last_s: float) -> Split:
    """Hold out the rows later than the newest row less ``last_s`` seconds."""
    if event_time is None:
        raise DataError("a holdout by time needs event_time", hint="Set model.event_time, or `holdout: {fraction: 0.2}`.")
    at = seconds(table[event_time])
    newest = float(at.max())  # type: ignore[arg-type]  # no nulls: seconds() refuses them
    boundary = newest - last_s
    late = at > boundary
    train, holdout = table.filter(~late), table.filter(late)
    begin, until = at.filter(late).min(), at.filter(~late).max()
    sentence = f"last {_duration(last_s)}: {_day(begin)} to {_day(newest)}, {holdout.height:,} rows"
    facts = {"kind": "time", "sentence": sentence, "holdout_from": boundary, "train_until": until}
    return Split(train, holdout, facts | _counts(train, holdout))


def apart(made: Split, groups: str) -> Split:
    """A split by time without the training rows whose group is held out, too."""
    both = made.train[groups].is_in(made.holdout[groups].unique().implode())
    train = made.train.filter(~both)
    if not both.any():
        return made
    sentence = f"{made.facts['sentence']}; {int(both.sum()):,} earlier rows of the same {groups} train nothing"
    return Split(train, made.holdout, made.facts | {"sentence": sentence} | _counts(train, made.holdout))


def by_hash(table: pl.DataFrame, model: dict[str, Any]) -> Split:
    """Hold out the share of groups (or keys, or rows, as there are) whose salted hash is low: a key never changes sides."""
    fraction = model["holdout"].get("fraction") or 0.2
    key = model.get("groups") or model["key"]
    keys = contents(table) if key is None else table[key].cast(pl.String)
    chosen = pl.Series(draw_by_hash(keys.to_list(), model["project"], fraction), dtype=pl.Boolean)
    train, holdout = table.filter(~chosen), table.filter(chosen)
    sentence = f"{fraction:.3g} of the {_unit_name(model)}, by hash: {holdout.height:,} rows"
    kind = f"hash {fraction:g} of {f'rows of {_shape(table)}' if key is None else key}"  # another hash, another split
    return Split(train, holdout, {"kind": kind, "sentence": sentence} | _counts(train, holdout))


def _unit_name(model: dict[str, Any]) -> str:
    return f"values of {model['groups']}" if model.get("groups") else "rows" if model["key"] is None else "keys"


def contents(table: pl.DataFrame) -> pl.Series:
    """What each row holds, as JSON: its identity where no key is named. Equal rows are on one side; columns may change places."""
    readable = table.select(sorted(table.columns)).with_columns(pl.selectors.binary().bin.encode("hex"))
    return readable.select(pl.struct(pl.all()).struct.json_encode()).to_series()


def _shape(table: pl.DataFrame) -> str:
    """What must stay the same for rows to keep their sides without a key: the columns and their types."""
    columns = sorted(f"{name}: {dtype}" for name, dtype in table.schema.items())
    return f"{table.width} columns ({blake2b(repr(columns).encode(), digest_size=4).hexdigest()})"


def draw_by_hash(keys: Sequence[str], salt: str, fraction: float) -> list[bool]:
    """Whether each key is held out: BLAKE2b keyed with the salt, as a number in [0, 1), is below ``fraction``."""
    limit = int(fraction * 2**64)
    secret = blake2b(salt.encode(), digest_size=32).digest()
    return [int.from_bytes(blake2b(key.encode(), digest_size=8, key=secret).digest()) < limit for key in keys]


def seconds(times: pl.Series) -> pl.Series:
    """Seconds since 1970 of times, dates, ISO 8601 text or numbers (taken as seconds). Times without a zone are UTC."""
    name, dtype = times.name, times.dtype
    if dtype == pl.String:
        times = times.str.to_datetime(time_zone="UTC", strict=False)
    elif dtype == pl.Date:
        times = times.cast(pl.Datetime("us"))
    elif dtype.is_numeric():
        return _whole(times.cast(pl.Float64), name)
    elif not isinstance(dtype, pl.Datetime):
        raise DataError(f"the event time {name} is {dtype}, not a time")
    return _whole(times.dt.epoch("us") / 1e6, name)


def _whole(at: pl.Series, name: str) -> pl.Series:
    missing = at.null_count() + int(at.is_nan().sum())
    if missing:
        raise DataError(f"the event time {name} is empty or not a time in {missing:,} of {plural(len(at), 'row')}")
    return at


def _check_sizes(made: Split) -> None:
    for side, rows in (("training", made.train.height), ("holdout", made.holdout.height)):
        if rows < MIN_ROWS:
            raise DataError(
                f"too few rows: the {side} side has {rows:,}, fewer than {MIN_ROWS} ({made.facts['sentence']})",
                hint="Bring more labelled rows, or change `model.holdout`.",
            )


def _counts(train: pl.DataFrame, holdout: pl.DataFrame) -> dict[str, int]:
    return {"train_rows": train.height, "holdout_rows": holdout.height}


def _duration(span_s: float) -> str:
    return f"{span_s / DAY_S:g} days" if span_s >= DAY_S else f"{span_s / 3600:g} hours"


def _day(at: Any) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d") if at is not None else "-"
