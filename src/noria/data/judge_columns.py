"""What a contract promises of each column: its type, missing values, range, allowed values, pattern and length.

A missing value is null; NaN was made null before. Reasons carry counts and the contract's own bounds, never values of rows.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import polars as pl

from noria.data import promised_types
from noria.data.promise import BrokenPromise, Counts, Merge, Promise, breach, broken, is_text, some
from noria.kernel.contract import ColumnRule, Contract
from noria.kernel.words import percent, plural


def promises(contract: Contract, schema: pl.Schema) -> Iterator[Promise]:
    for rule in contract.columns:
        if rule.name in schema:
            yield _nulls(rule, contract)
            yield from _of_values(rule, schema[rule.name], contract)


def wrong_type(rule: ColumnRule, dtype: pl.DataType) -> BrokenPromise | None:
    if rule.type is None or dtype == pl.Null or promised_types.fits(rule.type, dtype):
        return None
    return breach("type", f"{rule.name}: the contract promises {rule.type}, the file has {promised_types.words(dtype)}")


def _nulls(rule: ColumnRule, contract: Contract) -> Promise:
    def conclude(counts: Counts, rows: int) -> BrokenPromise | None:
        empty = counts["empty"]
        if not rows or empty / rows <= rule.nulls:
            return None
        shares = f"{percent(empty / rows)} of {plural(rows, 'row')} are empty; the contract allows {percent(rule.nulls)}"
        marked = pl.col(rule.name).is_null()
        return breach("nulls", f"{rule.name}: {shares}", marked, f"{rule.name} is empty", empty=empty, total=rows)

    return Promise(conclude, {"empty": pl.col(rule.name).null_count()}, rule.severity or contract.severity, merge=Merge.SUM)


def _of_values(rule: ColumnRule, dtype: pl.DataType, contract: Contract) -> Iterator[Promise]:
    severity = rule.severity or contract.severity
    wrong = wrong_type(rule, dtype)
    if wrong is not None:
        yield broken(wrong, severity)
        return
    for made in (_range(rule, dtype), _values(rule, dtype), _pattern(rule, dtype), _length(rule, dtype)):
        if isinstance(made, BrokenPromise):
            yield broken(made, severity)
        elif made is not None:
            yield msgspec.structs.replace(made, severity=severity)


def _range(rule: ColumnRule, dtype: pl.DataType) -> Promise | BrokenPromise | None:
    if (rule.low is None and rule.high is None) or dtype == pl.Null:
        return None
    if not dtype.is_numeric():  # a promise that cannot be held against the file is not kept
        return breach("range", f"{rule.name}: the contract sets a range of numbers, the file has {promised_types.words(dtype)}")
    column = pl.col(rule.name).cast(pl.Float64) if dtype.is_decimal() else pl.col(rule.name)
    below = column < _bound(rule.low, dtype) if rule.low is not None else pl.lit(False)
    above = column > _bound(rule.high, dtype) if rule.high is not None else pl.lit(False)

    def conclude(counts: Counts, rows: int) -> BrokenPromise | None:
        under, over = counts["below"], counts["above"]
        if not under and not over:
            return None
        text = f"{rule.name}: {under + over:,} of {plural(rows, 'row')} lie outside {_bounds(rule)}"
        text += f" ({under:,} below, {over:,} above)"
        words = f"{rule.name} lies outside {_bounds(rule)}"
        return breach("range", text, below | above, words, below=under, above=over, total=rows)

    return Promise(conclude, {"below": below.sum(), "above": above.sum()}, merge=Merge.SUM)


def _bound(bound: float, dtype: pl.DataType) -> int | float:
    """Whole numbers are compared with whole ones: a double does not hold all of them."""
    return int(bound) if dtype.is_integer() and float(bound).is_integer() and abs(bound) < 1 << 63 else bound


def _bounds(rule: ColumnRule) -> str:
    low = "" if rule.low is None else f"{rule.low:,g}"
    high = "" if rule.high is None else f"{rule.high:,g}"
    return f"{low} to {high}" if low and high else f"{low} and above" if low else f"{high} and below"


def _values(rule: ColumnRule, dtype: pl.DataType) -> Promise | BrokenPromise | None:
    if rule.values is None:
        return None
    if dtype.is_nested():
        return breach("values", f"{rule.name}: the contract lists values, the file has {promised_types.words(dtype)}")
    column, allowed = pl.col(rule.name), some(list(rule.values))
    wrong = column.is_not_null() & ~_is_allowed(column, rule.values, dtype)

    def conclude(counts: Counts, rows: int) -> BrokenPromise | None:
        count = counts["failing"]
        if not count:
            return None
        text = f"{rule.name}: {count:,} of {plural(rows, 'row')} hold {plural(counts['kinds'], 'value')} other than {allowed}"
        return breach("values", text, wrong, f"{rule.name} is not an allowed value", failing=count, total=rows)

    return Promise(conclude, {"failing": wrong.sum()}, distinct={"kinds": column.filter(wrong)}, merge=Merge.SUM)


def _is_allowed(column: pl.Expr, values: tuple[str, ...], dtype: pl.DataType) -> pl.Expr:
    """Numbers are compared as numbers: 1 in the contract allows 1.0 in the file."""
    if not dtype.is_numeric():
        text = column if dtype == pl.String else column.cast(pl.String)
        return text.is_in([v.lower() for v in values] if dtype == pl.Boolean else list(values)).fill_null(False)
    numbers = pl.Series(list(values), dtype=pl.String).cast(pl.Float64, strict=False).drop_nulls()
    return column.cast(pl.Float64).is_in(numbers.to_list()).fill_null(False)


def _pattern(rule: ColumnRule, dtype: pl.DataType) -> Promise | BrokenPromise | None:
    if rule.pattern is None or dtype == pl.Null:
        return None
    if not is_text(dtype):
        return breach("pattern", f"{rule.name}: the contract sets a pattern of text, the file has {promised_types.words(dtype)}")
    column = pl.col(rule.name).cast(pl.String)
    wrong = (~column.str.contains(whole_value(rule.pattern))).fill_null(False)

    def conclude(counts: Counts, rows: int) -> BrokenPromise | None:
        count = counts["failing"]
        if not count:
            return None
        text = f"{rule.name}: {count:,} of {plural(rows, 'row')} do not match {rule.pattern}"
        return breach("pattern", text, wrong, f"{rule.name} does not match {rule.pattern}", failing=count, total=rows)

    return Promise(conclude, {"failing": wrong.sum()}, merge=Merge.SUM)


def whole_value(pattern: str) -> str:
    """The pattern of a whole value, of what may also match a part of one."""
    return rf"\A(?:{pattern})\z"


def _lengths(rule: ColumnRule) -> str:
    if rule.length_min is None:
        return f"at most {rule.length_max:,}"
    return f"at least {rule.length_min:,}" if rule.length_max is None else f"{rule.length_min:,} to {rule.length_max:,}"


def _length(rule: ColumnRule, dtype: pl.DataType) -> Promise | BrokenPromise | None:
    if (rule.length_min is None and rule.length_max is None) or dtype == pl.Null:
        return None
    column = pl.col(rule.name)
    if is_text(dtype):
        length, noun = column.cast(pl.String).str.len_chars(), "characters"
    elif isinstance(dtype, pl.List):
        length, noun = column.list.len(), "items"
    elif isinstance(dtype, pl.Array):
        length, noun = column.arr.len(), "items"
    else:
        return breach("length", f"{rule.name}: only text and lists have a length, the file has {promised_types.words(dtype)}")
    short = length < rule.length_min if rule.length_min is not None else pl.lit(False)
    long = length > rule.length_max if rule.length_max is not None else pl.lit(False)
    limits = f"{_lengths(rule)} {noun}"

    def conclude(counts: Counts, rows: int) -> BrokenPromise | None:
        less, more = counts["short"], counts["long"]
        if not less and not more:
            return None
        text = f"{rule.name}: {less + more:,} of {plural(rows, 'row')} do not have {limits}"
        text += f" ({less:,} shorter, {more:,} longer)"
        words = f"{rule.name} does not have {limits}"
        return breach("length", text, short | long, words, shorter=less, longer=more, total=rows)

    return Promise(conclude, {"short": short.sum(), "long": long.sum()}, merge=Merge.SUM)
