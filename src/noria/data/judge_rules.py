"""A contract's rules: expressions over the columns of a file that must hold in each row."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec
import polars as pl

from noria.data import judge_columns
from noria.data.promise import BrokenPromise, Conclude, Counts, Merge, Promise, breach, broken, some
from noria.kernel import expression as expressions
from noria.kernel.contract import Contract, RowRule
from noria.kernel.errors import ConfigError
from noria.kernel.expression import Expression, ExpressionError, UncomputedError
from noria.kernel.words import percent, plural

LIGHT_BYTES = 2_000_000_000  # that a rule may pass over here and now, a second or so; beyond that it needs limits
VALUE_BYTES = 16  # of a lazy table, whose size nobody knows yet

Compute = Callable[[str, pl.DataFrame], pl.Series]


def compute(sql: str, table: pl.DataFrame) -> pl.Series:
    """An expression over a table, here and now. Raises UncomputedError."""
    try:
        return table.select(noria_holds=pl.sql_expr(sql))["noria_holds"]
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise UncomputedError(str(error)) from error


def is_by_row(contract: Contract) -> bool:
    """Whether every rule can be asked of a part of the rows; of one that cannot be read, whoever asks it says so."""
    try:
        return not any(expressions.parse(rule.expr).of_all_rows for rule in contract.rules)
    except ExpressionError:
        return True


class Rules(msgspec.Struct, frozen=True):
    """``marks``: columns to add to the table, true where a rule does not hold; ``promises`` ask for them."""

    marks: Mapping[str, pl.Expr | pl.Series]
    promises: tuple[Promise, ...]


class Rows(msgspec.Struct, frozen=True):
    """The rows that rules are asked of: lazily, and how large they are."""

    frame: pl.LazyFrame
    schema: pl.Schema
    height: int
    size_bytes: Callable[[list[str]], int]


def rules(contract: Contract, rows: Rows, apart: Compute, *, alone: bool) -> Rules:
    """``alone``: compute each rule by itself, since one of them cannot be computed. Raises ConfigError for a rule without
    sense."""
    marks: dict[str, pl.Expr | pl.Series] = {}
    promises = []
    if not rows.height:
        return Rules({}, ())  # an empty CSV file has no types to compute with
    for number, rule in enumerate(contract.rules):
        severity = rule.severity or contract.severity
        found = _broken_rows(rule, contract, rows, apart, alone)
        if isinstance(found, BrokenPromise):
            promises.append(broken(found, severity))
        elif found is not None:
            name = f"noria:rule:{number}"
            marks[name] = found
            promises.append(Promise(_conclude(rule, name), {"failing": pl.col(name).sum()}, severity, merge=Merge.SUM))
    return Rules(marks, tuple(promises))


def _conclude(rule: RowRule, mark: str) -> Conclude:
    def conclude(counts: Counts, rows: int) -> BrokenPromise | None:
        count = counts["failing"]
        if count <= rule.at_most * rows:
            return None
        allowed = f"; the contract allows {percent(rule.at_most)}" if rule.at_most else ""
        text = f"rule '{rule.name}' does not hold on {count:,} of {plural(rows, 'row')}{allowed}"
        return breach("rule", text, pl.col(mark), f"rule '{rule.name}' does not hold", failing=count, total=rows)

    return conclude


def _broken_rows(
    rule: RowRule, contract: Contract, rows: Rows, apart: Compute, alone: bool
) -> pl.Expr | pl.Series | BrokenPromise | None:
    """Which rows break the rule, or why it could not be asked of this file; None where a wrong type has a reason of its own."""
    try:
        allowed = expressions.parse(rule.expr)  # nothing but this reaches the engine: no other file, no address, no table
    except ExpressionError as error:
        raise _error(rule, contract, f"cannot be read: {error}") from error
    lacking = [name for name in allowed.columns if name not in rows.schema]
    if lacking:
        return breach("rule", f"rule '{rule.name}' needs {some(lacking)}, which the file does not have")
    needed = list(allowed.columns) or list(rows.schema)[:1]
    passed = allowed.parts * (rows.size_bytes(needed) + 8 * rows.height)
    if not (alone or allowed.heavy or passed > LIGHT_BYTES):
        return _inline(rule, contract, rows, allowed)
    try:
        holds = (apart if allowed.heavy or passed > LIGHT_BYTES else compute)(allowed.sql, rows.frame.select(needed).collect())
    except UncomputedError as error:
        types = {r.name: r for r in contract.columns if r.name in allowed.columns}
        if any(judge_columns.wrong_type(r, rows.schema[name]) for name, r in types.items()):
            return None
        raise _error(rule, contract, f"cannot be computed: {error}") from error
    _demand_truth(rule, contract, holds.dtype)
    failing = ~holds.cast(pl.Boolean).fill_null(True)
    return failing if len(failing) == rows.height else failing.new_from_index(0, rows.height)


def _inline(rule: RowRule, contract: Contract, rows: Rows, allowed: Expression) -> pl.Expr:
    """As a part of the one query. Raises a PolarsError where the rule cannot be computed."""
    holds = pl.sql_expr(allowed.sql)
    _demand_truth(rule, contract, rows.frame.select(noria_holds=holds).collect_schema()["noria_holds"])
    return ~holds.cast(pl.Boolean).fill_null(True)


def _demand_truth(rule: RowRule, contract: Contract, dtype: pl.DataType) -> None:
    if dtype not in (pl.Boolean, pl.Null):
        raise _error(rule, contract, "is neither true nor false")


def _error(rule: RowRule, contract: Contract, text: str) -> ConfigError:
    return ConfigError(f"rule '{rule.name}' {text}", where=contract.source or None, hint=f"expr: {rule.expr}")
