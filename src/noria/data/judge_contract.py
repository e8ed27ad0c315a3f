"""Does a file keep its promises? Every broken one is named with its counts, and all rows that break it are collected.

All promises are counted in one query over the table; only where some are broken, the rows are asked for. A lazy table gets the
same answer as the same rows in memory. Reasons carry counts and the contract's own bounds, never values of rows: those stay in
``failing``. NaN counts as empty.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from difflib import get_close_matches
from typing import TypeVar

import msgspec
import polars as pl
import polars.selectors as cs

from noria.data import judge_columns, judge_personal_data, judge_references, judge_rows, judge_rules
from noria.data.judge_rules import Compute, Rows, compute
from noria.data.promise import BrokenPromise, Conclude, ContractBreach, Counts, Promise, breach, some
from noria.data.referenced_values import ReferencedValues
from noria.data.snapshot import RefusalReason
from noria.kernel.contract import Contract, Severity
from noria.kernel.verdict import Outcome, Reason, Verdict, combine
from noria.kernel.words import plural

REASON = "noria_reason"
T = TypeVar("T")
Ask = Callable[[pl.LazyFrame, Sequence[Promise]], T]


class ContractRuling(msgspec.Struct, frozen=True):
    """``failing``: the rows that break a row-level rule, as they came, each with all its reasons in a column ``noria_reason``."""

    verdict: Verdict
    failing: pl.DataFrame  # all of them, or as many as were asked for
    failing_rows: int  # all of them
    mask: pl.Series | None = None  # of all rows, true where one fails; None where none does
    warnings: tuple[Reason, ...] = ()  # what is broken and refuses nothing
    breaches: tuple[ContractBreach, ...] = ()  # what refuses the file

    @property
    def reasons(self) -> tuple[RefusalReason, ...]:
        """What refuses the file, and how many rows each concerns; None where it is not about single rows."""
        return tuple(RefusalReason(b.reason.code, b.reason.text, b.row_count) for b in self.breaches)


def judge(
    contract: Contract,
    table: pl.DataFrame | pl.LazyFrame,
    *,
    now: float | None,
    known_keys: pl.DataFrame | None = None,
    referenced: ReferencedValues | None = None,
    apart: Compute = compute,
    most: int | None = None,
) -> ContractRuling:
    """Hold ``table`` against ``contract``. ``apart`` computes, within limits, rules that may take more than their rows do.

    ``now``: the project clock in seconds since 1970, None to leave freshness out. ``known_keys``: the ``unique`` columns of
    rows accepted earlier. ``referenced``: what its references may name, None to leave them out. ``most``: how many failing rows
    to collect, None for all. Raises ConfigError when a rule's expression cannot be understood.
    """
    frame = table.lazy()
    schema = frame.collect_schema()
    clean = frame.with_columns(cs.float().fill_nan(None))
    marked = clean if known_keys is None else judge_rows.with_known(contract, clean, schema, known_keys)
    rows = _rows(contract, table, clean, schema)
    promises = [
        *shape(contract, schema),
        *judge_columns.promises(contract, schema),
        *judge_rows.unique_promises(contract, schema),
        *judge_rows.known_promises(contract, marked.collect_schema()),
        *judge_references.promises(contract, schema, referenced),
        *judge_rows.order(contract, schema),
        *judge_rows.fresh(contract, schema, now),
    ]
    marked_rules, (found, height) = ask_with_rules(contract, rows, marked, promises, apart, _ask)
    return _ruling(frame, marked_rules, [*found, *_personal_data(contract, frame, height)], height, most)


def ask_with_rules(
    contract: Contract, rows: Rows, marked: pl.LazyFrame, promises: Sequence[Promise], apart: Compute, ask: Ask[T]
) -> tuple[pl.LazyFrame, T]:
    """The table with a mark for each rule, and what is answered to the promises and the rules."""
    try:
        rules = judge_rules.rules(contract, rows, apart, alone=False)
        frame = marked.with_columns(**rules.marks)
        return frame, ask(frame, [*promises, *rules.promises])
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        if not contract.rules:
            raise
        rules = judge_rules.rules(contract, rows, apart, alone=True)  # finds the rule that is to blame
        frame = marked.with_columns(**rules.marks)
        return frame, ask(frame, [*promises, *rules.promises])


def _personal_data(contract: Contract, frame: pl.LazyFrame, height: int) -> Iterator[BrokenPromise]:
    """What the contract forbids of them: whatever its severity, such a file is refused."""
    rule = contract.personal_data
    if rule is None or not rule.forbid:
        return
    part = frame.gather_every(max(1, -(-height // judge_personal_data.ROWS_MOST))).collect()
    for reason in judge_personal_data.judge(rule, part, height):
        yield BrokenPromise(reason)


def add_warnings(ruling: ContractRuling, texts: Sequence[str]) -> ContractRuling:
    """The ruling with what else is to be told of the file."""
    more = tuple(warning(Reason("contract.schema", text)) for text in texts)
    verdict = combine((*ruling.verdict.reasons, *more))
    return msgspec.structs.replace(ruling, verdict=verdict, warnings=(*ruling.warnings, *more))


def refuse_file(
    table: pl.DataFrame, reasons: Sequence[tuple[str, pl.Series | None]], *, most: int | None = None
) -> ContractRuling:
    """A file that cannot be a part of its dataset: each reason with the rows that are to blame, if any are."""
    breaches = [ContractBreach(Reason("contract.table", text, Outcome.FAIL), rows, text) for text, rows in reasons]
    return rule_on_breaches(table, breaches, most=most)


def rule_on_breaches(
    table: pl.DataFrame | pl.LazyFrame,
    breaches: Sequence[ContractBreach],
    *,
    warnings: tuple[Reason, ...] = (),
    most: int | None = None,
) -> ContractRuling:
    """Refuse a file for these breaches, with the rows that are to blame."""
    frame = table.lazy()
    verdict = combine((*(one.reason for one in breaches), *warnings))
    blamed = [one for one in breaches if one.rows is not None]
    marks = pl.DataFrame([one.rows.alias(str(i)) for i, one in enumerate(blamed) if one.rows is not None])
    mask = marks.select(pl.any_horizontal(pl.all())).to_series().alias("failing") if blamed else pl.Series(dtype=pl.Boolean)
    if not mask.any() or any(one.reason.code == judge_personal_data.CODE for one in breaches):  # no copy of personal data
        return ContractRuling(verdict, _no_rows(frame.collect_schema()), 0, None, warnings, tuple(breaches))
    chosen = marks.filter(mask) if most is None else marks.filter(mask).head(most)
    why = explain(chosen, [one.words for one in blamed])
    failing = frame.filter(pl.lit(mask)).head(chosen.height).collect().with_columns(why)
    return ContractRuling(verdict, failing, int(mask.sum()), mask, warnings, tuple(breaches))


def explain(marks: pl.DataFrame, words: Sequence[str]) -> pl.Series:
    """Of each row what its marks say; the columns of ``marks`` are called 0, 1, and so on."""
    said = [pl.when(pl.col(str(i))).then(pl.lit(one)) for i, one in enumerate(words)]
    return marks.select(pl.concat_str(said, separator="; ", ignore_nulls=True).alias(REASON)).to_series()


def _rows(contract: Contract, table: pl.DataFrame | pl.LazyFrame, clean: pl.LazyFrame, schema: pl.Schema) -> Rows:
    if isinstance(table, pl.DataFrame):
        return Rows(clean, schema, table.height, lambda names: int(table.select(names).estimated_size()))
    height = int(clean.select(pl.len()).collect().item()) if contract.rules else 0
    return Rows(clean, schema, height, lambda names: judge_rules.VALUE_BYTES * height * len(names))


def _ask(frame: pl.LazyFrame, promises: Sequence[Promise]) -> tuple[list[BrokenPromise], int]:
    """What is broken, in the order of the promises, and the number of rows: one query."""
    asked = {f"{i}:{name}": expr for i, each in enumerate(promises) for name, expr in each.counts.items()}
    asked |= {f"{i}:{name}": expr.n_unique() for i, each in enumerate(promises) for name, expr in each.distinct.items()}
    answer = frame.select(pl.len().alias("rows"), **asked).collect().row(0, named=True)
    counts = [{name: answer[f"{i}:{name}"] for name in (*each.counts, *each.distinct)} for i, each in enumerate(promises)]
    return conclude(promises, counts, answer["rows"]), answer["rows"]


def conclude(promises: Sequence[Promise], counts: Sequence[Counts], height: int) -> list[BrokenPromise]:
    """What is broken of the promises, by the counts of each."""
    found = []
    for each, counted in zip(promises, counts, strict=True):
        one = each.conclude(counted, height)
        if one is not None:
            found.append(msgspec.structs.replace(one, severity=each.severity))
    return found


def _ruling(
    frame: pl.LazyFrame, marked: pl.LazyFrame, found: Sequence[BrokenPromise], height: int, most: int | None
) -> ContractRuling:
    refusing = [one for one in found if one.severity is Severity.QUARANTINE]
    warnings = tuple(warning(one.reason) for one in found if one.severity is Severity.WARN)
    if refusing:
        rows = [None if one.rows is None else one.rows.fill_null(False).alias(str(i)) for i, one in enumerate(refusing)]
        marks = marked.select(*(each for each in rows if each is not None)).collect()
        breaches = [
            ContractBreach(one.reason, None if one.rows is None else marks[str(i)], one.words) for i, one in enumerate(refusing)
        ]
        return rule_on_breaches(frame, breaches, warnings=warnings, most=most)
    return met(height, warnings, frame.collect_schema())


def met(height: int, warnings: tuple[Reason, ...], schema: pl.Schema) -> ContractRuling:
    """The ruling on a file that keeps its promises."""
    reason = Reason("contract.met", f"{height:,} rows meet the contract", numbers={"rows": height})
    return ContractRuling(combine((reason, *warnings)), _no_rows(schema), 0, None, warnings)


def warning(reason: Reason) -> Reason:
    return msgspec.structs.replace(reason, text=f"warning: {reason.text}", outcome=Outcome.PASS)


def _no_rows(schema: pl.Schema) -> pl.DataFrame:
    return pl.DataFrame(schema={**schema, REASON: pl.String})


def shape(contract: Contract, schema: pl.Schema) -> Iterator[Promise]:
    """What is promised of the columns and of the number of rows."""
    yield Promise(_row_count(contract), severity=contract.severity)
    severities = {rule.name: rule.severity for rule in contract.columns}
    for name in (name for name in contract.needed_columns if name not in schema):
        missing = breach("missing_column", f"column {name} is missing{_nearest(name, contract, schema)}")
        yield _certain(missing, severities.get(name) or contract.severity)
    if contract.extra_columns == "forbid":
        promised = {rule.name for rule in contract.columns} | set(contract.key_columns)
        promised |= {one.column for one in contract.references}
        extra = [name for name in schema if name not in promised]
        if extra:
            text = f"the contract forbids extra columns; the file has {some(extra)}"
            yield _certain(breach("extra_column", text, columns=len(extra)), contract.severity)


def _row_count(contract: Contract) -> Conclude:
    least, largest = contract.rows_min, contract.rows_max

    def conclude(_: Counts, rows: int) -> BrokenPromise | None:
        if rows < least:
            return breach("rows", f"{plural(rows, 'row')}; the contract asks for at least {least:,}", total=rows)
        if largest is not None and rows > largest:
            return breach("rows", f"{plural(rows, 'row')}; the contract allows at most {largest:,}", total=rows)
        return None

    return conclude


def _certain(found: BrokenPromise, severity: Severity) -> Promise:
    """A promise that is broken whatever the rows are."""
    return Promise(lambda _counts, _rows: found, severity=severity)


def _nearest(name: str, contract: Contract, schema: pl.Schema) -> str:
    promised = {rule.name for rule in contract.columns}
    free = {c.casefold(): c for c in schema if c not in promised}
    near = get_close_matches(name.casefold(), free, 1, cutoff=0.5)
    return f" (the file has {free[near[0]]})" if near else ""
