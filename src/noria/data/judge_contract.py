"""Does a file keep its promises? Every broken one is named with its counts, and the rows that break it are collected.

Reasons carry counts and the contract's own bounds, never values of rows: those stay in ``failing``. NaN counts as empty.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from difflib import get_close_matches

import msgspec
import polars as pl
import polars.selectors as cs

from noria.kernel import expression as expressions
from noria.kernel.contract import ColumnRule, Contract, RowRule
from noria.kernel.errors import ConfigError
from noria.kernel.expression import ExpressionError, UncomputedError
from noria.kernel.verdict import Outcome, Reason, Verdict, combine
from noria.kernel.words import duration, lasting, percent

SAMPLE = 1000  # failing rows that are kept
REASON = "noria_reason"
LIGHT_BYTES = 2_000_000_000  # that a rule may pass over here and now, a second or so; beyond that it needs limits


class ContractRuling(msgspec.Struct, frozen=True):
    """``failing``: the first 1,000 rows that break a row-level rule, as they came, with a column ``noria_reason``."""

    verdict: Verdict
    failing: pl.DataFrame
    failing_rows: int  # all of them


class ContractBreach(msgspec.Struct, frozen=True):
    """A broken promise; ``rows`` marks the rows that break it, and ``words`` says of such a row why."""

    reason: Reason
    rows: pl.Series | None = None
    words: str = ""


def compute(sql: str, table: pl.DataFrame) -> pl.Series:
    """An expression over a table, here and now. Raises UncomputedError."""
    try:
        return table.select(noria_holds=pl.sql_expr(sql))["noria_holds"]
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise UncomputedError(str(error)) from error


Compute = Callable[[str, pl.DataFrame], pl.Series]


def judge(
    contract: Contract,
    table: pl.DataFrame,
    *,
    now: float | None,
    known_keys: pl.DataFrame | None = None,
    apart: Compute = compute,
) -> ContractRuling:
    """Hold ``table`` against ``contract``. ``apart`` computes, within limits, rules that may take more than their rows do.

    ``now``: the project clock in seconds since 1970, None to leave freshness out. ``known_keys``: the ``unique`` columns of
    rows accepted earlier. Raises ConfigError when a rule's expression cannot be understood.
    """
    findings = [
        *_shape(contract, table),
        *_columns(contract, table),
        *_unique(contract, table, known_keys),
        *_fresh(contract, table, now),
        *_rules(contract, table, apart),
    ]
    if not findings:
        met = Reason("contract.met", f"{table.height:,} rows meet the contract", numbers={"rows": table.height})
        return ContractRuling(combine((met,)), *_no_rows(table))
    failing, count = _failing(table, findings)
    return ContractRuling(combine(tuple(f.reason for f in findings)), failing, count)


def refuse_file(table: pl.DataFrame, reasons: Sequence[tuple[str, pl.Series | None]]) -> ContractRuling:
    """A file that cannot be a part of its dataset: each reason with the rows that are to blame, if any are."""
    findings = [ContractBreach(Reason("contract.table", text, Outcome.FAIL), rows, text) for text, rows in reasons]
    failing, count = _failing(table, findings)
    return ContractRuling(combine(tuple(f.reason for f in findings)), failing, count)


def _breach(code: str, text: str, rows: pl.Series | None = None, words: str = "", **numbers: float) -> ContractBreach:
    counts = {name: float(number) for name, number in numbers.items()}
    return ContractBreach(Reason(f"contract.{code}", text, Outcome.FAIL, counts), rows, words or text)


def _no_rows(table: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    return table.clear().with_columns(pl.lit("").alias(REASON)), 0


def _failing(table: pl.DataFrame, findings: list[ContractBreach]) -> tuple[pl.DataFrame, int]:
    marked = [f for f in findings if f.rows is not None]
    if not marked:
        return _no_rows(table)
    marks = pl.DataFrame([f.rows.alias(str(i)) for i, f in enumerate(marked) if f.rows is not None])
    chosen = marks.select(pl.any_horizontal(pl.all())).to_series().arg_true()
    some = marks[chosen.head(SAMPLE)]
    words = [pl.when(pl.col(str(i))).then(pl.lit(f.words)) for i, f in enumerate(marked)]
    why = some.select(pl.concat_str(words, separator="; ", ignore_nulls=True)).to_series()
    return table[chosen.head(SAMPLE)].with_columns(why.alias(REASON)), len(chosen)


def _shape(contract: Contract, table: pl.DataFrame) -> Iterator[ContractBreach]:
    rows = table.height
    if rows < contract.rows_min:
        yield _breach("rows", f"{rows:,} rows; the contract asks for at least {contract.rows_min:,}", total=rows)
    if contract.rows_max is not None and rows > contract.rows_max:
        yield _breach("rows", f"{rows:,} rows; the contract allows at most {contract.rows_max:,}", total=rows)
    needed = [r.name for r in contract.columns if r.required] + [*contract.unique] + [contract.fresh_column or ""]
    for name in dict.fromkeys(n for n in needed if n and n not in table.columns):
        yield _breach("missing_column", f"column {name} is missing{_nearest(name, contract, table)}")
    if contract.extra_columns == "forbid":
        promised = {r.name for r in contract.columns} | set(contract.unique)
        extra = [name for name in table.columns if name not in promised]
        if extra:
            yield _breach("extra_column", f"the contract forbids extra columns; the file has {_some(extra)}", columns=len(extra))


def _nearest(name: str, contract: Contract, table: pl.DataFrame) -> str:
    promised = {r.name for r in contract.columns}
    free = {c.casefold(): c for c in table.columns if c not in promised}
    near = get_close_matches(name.casefold(), free, 1, cutoff=0.5)
    return f" (the file has {free[near[0]]})" if near else ""


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _columns(contract: Contract, table: pl.DataFrame) -> Iterator[ContractBreach]:
    if table.is_empty():
        return  # an empty CSV file has no types; the row count says enough
    for rule in contract.columns:
        if rule.name in table.columns:
            column = table[rule.name]
            wrong = _wrong_type(rule, column)
            yield from _empty(rule, column)
            yield from [wrong] if wrong is not None else _values(rule, column)


def _wrong_type(rule: ColumnRule, column: pl.Series) -> ContractBreach | None:
    if rule.type is None or column.dtype == pl.Null or rule.type in _words(column.dtype):
        return None
    return _breach("type", f"{rule.name}: the contract promises {rule.type}, the file has {_words(column.dtype)[0]}")


def _words(dtype: pl.DataType) -> tuple[str, ...]:
    """The contract's words for a column type: the best one first. Whole numbers are accepted where decimals are promised."""
    if dtype.is_integer():
        return ("int", "float")
    if dtype.is_numeric():
        return ("float",)
    named = {
        "String": "string",
        "Categorical": "string",
        "Enum": "string",
        "Boolean": "bool",
        "Datetime": "datetime",
        "Date": "date",
    }
    return (named.get(str(dtype.base_type()), str(dtype)),)


def _blank(column: pl.Series) -> pl.Series:
    return column.is_null() | column.is_nan() if column.dtype.is_float() else column.is_null()


def _empty(rule: ColumnRule, column: pl.Series) -> Iterator[ContractBreach]:
    blank = _blank(column)
    empty, rows = int(blank.sum()), len(column)
    if empty / rows > rule.nulls:
        text = f"{rule.name}: {percent(empty / rows)} of {rows:,} rows are empty; the contract allows {percent(rule.nulls)}"
        yield _breach("nulls", text, blank, f"{rule.name} is empty", empty=empty, total=rows)


def _values(rule: ColumnRule, column: pl.Series) -> Iterator[ContractBreach]:
    if rule.low is not None or rule.high is not None:
        yield from _outside(rule, column)
    if rule.values is not None:
        wrong = ~(_is_allowed(column, rule.values) | _blank(column)).fill_null(True)
        count = int(wrong.sum())
        if count:
            kinds, allowed = column.filter(wrong).n_unique(), _some(list(rule.values))
            text = f"{rule.name}: {count:,} of {len(column):,} rows hold {kinds:,} values other than {allowed}"
            yield _breach("values", text, wrong, f"{rule.name} is not an allowed value", failing=count, total=len(column))


def _is_allowed(column: pl.Series, values: tuple[str, ...]) -> pl.Series:
    """Numbers are compared as numbers: 1 in the contract allows 1.0 in the file."""
    if not column.dtype.is_numeric():
        return column.cast(pl.String).is_in([v.lower() for v in values] if column.dtype == pl.Boolean else list(values))
    numbers = pl.Series(list(values), dtype=pl.String).cast(pl.Float64, strict=False).drop_nulls()
    return column.cast(pl.Float64).is_in(numbers.to_list())


def _outside(rule: ColumnRule, column: pl.Series) -> Iterator[ContractBreach]:
    if column.dtype == pl.Null:
        return
    if not column.dtype.is_numeric():  # a promise that cannot be held against the file is not kept
        text = f"{rule.name}: the contract sets a range of numbers, the file has {_words(column.dtype)[0]}"
        yield _breach("range", text)
        return
    known = ~_blank(column)
    below = known & (column < rule.low) if rule.low is not None else pl.repeat(False, len(column), eager=True)
    above = known & (column > rule.high) if rule.high is not None else pl.repeat(False, len(column), eager=True)
    wrong = (below | above).fill_null(False)
    count, under, over = int(wrong.sum()), int(below.sum()), int(above.sum())
    if count:
        text = f"{rule.name}: {count:,} of {len(column):,} rows lie outside {_bounds(rule)} ({under:,} below, {over:,} above)"
        yield _breach(
            "range", text, wrong, f"{rule.name} lies outside {_bounds(rule)}", below=under, above=over, total=len(column)
        )


def _bounds(rule: ColumnRule) -> str:
    low = "" if rule.low is None else f"{rule.low:,g}"
    high = "" if rule.high is None else f"{rule.high:,g}"
    return f"{low} to {high}" if low and high else f"{low} and above" if low else f"{high} and below"


def _unique(contract: Contract, table: pl.DataFrame, known: pl.DataFrame | None) -> Iterator[ContractBreach]:
    columns = list(contract.unique)
    if not columns or any(c not in table.columns for c in columns):
        return
    keys, name = table.select(columns), ", ".join(columns)
    again = ~keys.to_struct().is_first_distinct()
    if again.any():
        text = f"{int(again.sum()):,} of {table.height:,} rows repeat the ({name}) of a row before them in this file"
        yield _breach("unique", text, again, f"({name}) repeats a row of this file", repeated=int(again.sum()))
    if known is not None and not known.is_empty():
        seen = _is_known(keys, known.select(columns))
        if seen.any():
            text = f"{int(seen.sum()):,} of {table.height:,} rows repeat the ({name}) of a row that was accepted before"
            yield _breach("unique", text, seen, f"({name}) was accepted before", repeated=int(seen.sum()))


def _is_known(keys: pl.DataFrame, known: pl.DataFrame) -> pl.Series:
    """Which rows of ``keys`` are in ``known``; a null equals a null."""
    alike = known.select(pl.col(name).cast(dtype, strict=False) for name, dtype in keys.schema.items()).unique()
    hit = keys.with_row_index("_row").join(alike, on=keys.columns, how="semi", nulls_equal=True)["_row"]
    return pl.Series("seen", pl.int_range(keys.height, eager=True)).is_in(hit.cast(pl.Int64).implode())


def _fresh(contract: Contract, table: pl.DataFrame, now: float | None) -> Iterator[ContractBreach]:
    """The age of the newest value. A file that is ahead of the clock is fresh."""
    name, within = contract.fresh_column, contract.fresh_within_s
    if name is None or within is None or now is None or name not in table.columns:
        return
    if table.is_empty():
        return  # the row count says enough
    newest = _newest(table[name])
    if newest is None:
        yield _breach("freshness", f"{name}: no row says when it is from")
        return
    age = now - newest
    if age > within:
        text = f"{name}: the newest row is {duration(age)} old; the contract allows {lasting(within)}"
        yield _breach("freshness", text, age_s=age, within_s=within)


def _newest(column: pl.Series) -> float | None:
    """Seconds since 1970. Text is read as ISO 8601, numbers as seconds; times without a zone are UTC."""
    if column.dtype == pl.String:
        column = column.str.to_datetime(strict=False, time_zone="UTC")
    if column.dtype.is_numeric():
        newest = column.cast(pl.Float64).fill_nan(None).max()
    elif column.dtype in (pl.Date, pl.Datetime):
        newest = (column.cast(pl.Datetime("ms")).dt.epoch("ms") / 1000).max()
    else:
        return None
    return newest if isinstance(newest, float) else None


def _rules(contract: Contract, table: pl.DataFrame, apart: Compute) -> Iterator[ContractBreach]:
    if table.is_empty():
        return  # an empty CSV file has no types to compute with
    for rule in contract.rules:
        yield from _rule(rule, contract, table, apart)


def _rule(rule: RowRule, contract: Contract, table: pl.DataFrame, apart: Compute) -> Iterator[ContractBreach]:
    broken = _breaking(rule, contract, table, apart)
    if isinstance(broken, ContractBreach):
        yield broken
        return
    count, rows = int(broken.sum()), table.height
    if count > rule.at_most * rows:
        allowed = f"; the contract allows {percent(rule.at_most)}" if rule.at_most else ""
        text = f"rule '{rule.name}' does not hold on {count:,} of {rows:,} rows{allowed}"
        yield _breach("rule", text, broken, f"rule '{rule.name}' does not hold", failing=count, total=rows)


def _breaking(rule: RowRule, contract: Contract, table: pl.DataFrame, apart: Compute) -> pl.Series | ContractBreach:
    """Which rows break the rule, or why it could not be asked of this file. Raises ConfigError for a rule without sense."""
    where = contract.source or None
    try:
        allowed = expressions.parse(rule.expr)  # nothing but this reaches the engine: no other file, no address, no table
    except ExpressionError as error:
        raise ConfigError(f"rule '{rule.name}' cannot be read: {error}", where=where, hint=f"expr: {rule.expr}") from error
    needed = allowed.columns
    lacking = [name for name in needed if name not in table.columns]
    if lacking:
        return _breach("rule", f"rule '{rule.name}' needs {_some(lacking)}, which the file does not have")
    try:
        some = table.select(needed or table.columns[:1]).with_columns(cs.float().fill_nan(None))
        passed = allowed.parts * (some.estimated_size() + 8 * some.height)
        holds = (apart if allowed.heavy or passed > LIGHT_BYTES else compute)(allowed.sql, some)
    except UncomputedError as error:
        if any(r.name in needed and _wrong_type(r, table[r.name]) for r in contract.columns):
            return pl.repeat(False, table.height, eager=True)  # the type has its own reason
        raise ConfigError(f"rule '{rule.name}' cannot be computed: {error}", where=where, hint=f"expr: {rule.expr}") from error
    if holds.dtype == pl.Null:
        holds = holds.cast(pl.Boolean)
    if holds.dtype != pl.Boolean:
        raise ConfigError(f"rule '{rule.name}' is neither true nor false", where=where, hint=f"expr: {rule.expr}")
    broken = ~holds.fill_null(True)
    return broken if len(broken) == table.height else broken.new_from_index(0, table.height)
