"""What a contract promises of the rows together: keys that stand once, an order, and how fresh the newest is."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import polars as pl

from noria.data import promised_types
from noria.data.promise import BrokenPromise, Counts, Merge, Promise, breach
from noria.kernel.contract import Contract
from noria.kernel.words import duration, lasting, plural

BEFORE = "noria:before"


def unique_promises(contract: Contract, schema: pl.Schema) -> Iterator[Promise]:
    """No key stands twice in the file; a null equals a null."""
    for key in contract.unique:
        if all(name in schema for name in key):
            again = ~(pl.col(key[0]) if len(key) == 1 else pl.struct(*key)).is_first_distinct()
            repeated = pl.len() - pl.col(key[0]).n_unique() if len(key) == 1 else again.sum()  # each the faster way
            yield _once(key, contract, again, repeated)


def unique_promises_of_parts(contract: Contract, schema: pl.Schema) -> Iterator[tuple[int, Promise]]:
    """The same where parts of a table are judged, each with the number of its key: whoever judges them counts what repeats, and
    marks it."""
    for number, key in enumerate(contract.unique):
        if all(name in schema for name in key):
            again = pl.col(repeat_mark(number))
            yield number, msgspec.structs.replace(_once(key, contract, again, again.sum()), counts={})


def repeat_mark(number: int) -> str:
    """The column that marks the rows whose key a row before them has."""
    return f"noria:repeat:{number}"


def _once(key: tuple[str, ...], contract: Contract, again: pl.Expr, repeated: pl.Expr) -> Promise:
    name = ", ".join(key)

    def conclude(counts: Counts, rows: int) -> BrokenPromise | None:
        if not counts["repeated"]:
            return None
        text = f"{counts['repeated']:,} of {plural(rows, 'row')} repeat the ({name}) of a row before them in this file"
        return breach("unique", text, again, f"({name}) repeats a row of this file", repeated=counts["repeated"])

    return Promise(conclude, {"repeated": repeated}, contract.severity)


def with_known(contract: Contract, frame: pl.LazyFrame, schema: pl.Schema, known: pl.DataFrame) -> pl.LazyFrame:
    """The rows with a mark for each key that a row accepted earlier has."""
    for number, key in enumerate(contract.unique):
        if all(name in schema and name in known.columns for name in key):
            alike = _as_types(known.select(key), schema).with_columns(pl.lit(True).alias(_known_mark(number)))
            frame = frame.join(alike.lazy(), on=list(key), how="left", nulls_equal=True, maintain_order="left")
    return frame


def _as_types(known: pl.DataFrame, schema: pl.Schema) -> pl.DataFrame:
    """The known keys as the types of the file, each once. Those that no value of the file can equal are left out."""
    cast = known.select(
        *(pl.col(name).cast(schema[name], strict=False) for name in known.columns),
        noria_lost=pl.any_horizontal(
            pl.col(name).is_not_null() & pl.col(name).cast(schema[name], strict=False).is_null() for name in known.columns
        ),
    )
    return cast.filter(~pl.col("noria_lost")).drop("noria_lost").unique()


def _known_mark(number: int) -> str:
    return f"noria:known:{number}"


def known_promises(contract: Contract, marked: pl.Schema) -> Iterator[Promise]:
    """No key was accepted before."""
    for number, key in enumerate(contract.unique):
        mark = _known_mark(number)
        if mark in marked:
            yield _new(", ".join(key), mark, contract)


def _new(name: str, mark: str, contract: Contract) -> Promise:
    def conclude(counts: Counts, rows: int) -> BrokenPromise | None:
        if not counts["repeated"]:
            return None
        text = f"{counts['repeated']:,} of {plural(rows, 'row')} repeat the ({name}) of a row that was accepted before"
        rows_again = pl.col(mark).is_not_null()
        return breach("unique", text, rows_again, f"({name}) was accepted before", repeated=counts["repeated"])

    return Promise(conclude, {"repeated": pl.col(mark).count()}, contract.severity, merge=Merge.SUM)


def order(contract: Contract, schema: pl.Schema, *, in_parts: bool = False) -> Iterator[Promise]:
    """Each value is at least that of the row before it; rows without one are passed over.

    ``in_parts``: each part of the table has the last value of the parts before it in the column ``BEFORE``.
    """
    name = contract.order
    if name is None or name not in schema or schema[name] == pl.Null:
        return
    dtype = schema[name]
    if not (dtype.is_numeric() or dtype.is_temporal()):
        found = breach("order", f"{name}: only times and numbers have an order, the file has {promised_types.words(dtype)}")
        yield Promise(lambda _, rows: found if rows else None, severity=contract.severity)
        return
    before = pl.col(name).forward_fill().shift(1)
    fell = (pl.col(name) < (before.fill_null(pl.col(BEFORE)) if in_parts else before)).fill_null(False)

    def conclude(counts: Counts, rows: int) -> BrokenPromise | None:
        if not counts["fell"]:
            return None
        text = f"{name}: {counts['fell']:,} of {plural(rows, 'row')} are earlier than the row before them"
        return breach("order", text, fell, f"{name} is earlier than in the row before", failing=counts["fell"], total=rows)

    yield Promise(conclude, {"fell": fell.sum()}, contract.severity, merge=Merge.SUM)


def fresh(contract: Contract, schema: pl.Schema, now: float | None) -> Iterator[Promise]:
    """The age of the newest value. A file that is ahead of the clock is fresh."""
    name, within = contract.fresh_column, contract.fresh_within_s
    if name is None or within is None or now is None or name not in schema:
        return
    newest = _newest(name, schema[name])

    def conclude(counts: Counts, rows: int) -> BrokenPromise | None:
        if not rows:
            return None
        seconds = counts.get("newest")
        if seconds is None:
            return breach("freshness", f"{name}: no row has a time")
        age = now - seconds
        if age <= within:
            return None
        text = f"{name}: the newest row is {duration(age)} old; the contract allows {lasting(within)}"
        return breach("freshness", text, age_s=age, within_s=within)

    yield Promise(conclude, {} if newest is None else {"newest": newest}, contract.severity, merge=Merge.LARGEST)


def _newest(name: str, dtype: pl.DataType) -> pl.Expr | None:
    """Seconds since 1970. Text is read as ISO 8601, numbers as seconds; times without a zone are UTC."""
    column = pl.col(name)
    if dtype == pl.String:
        column, dtype = column.str.to_datetime(strict=False, time_zone="UTC"), pl.Datetime("us", "UTC")
    if dtype.is_numeric():
        return column.cast(pl.Float64).max()
    if dtype == pl.Date or isinstance(dtype, pl.Datetime):
        return column.cast(pl.Datetime("ms")).dt.epoch("ms").max() / 1000
    return None
