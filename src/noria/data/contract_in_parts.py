"""Does a large file keep its promises? Judged a part at a time, with the answer that ``judge_contract`` gives of the whole table.

Counts of parts are put together; keys wait on disk (``key_spill``). A file that meets its contract is read once, and its keys
alone a second time where they rise at first and cease to. Of one that is refused the failing rows are counted, and none is kept.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import polars as pl
import polars.selectors as cs
from msgspec.structs import replace

from noria.data import judge_columns, judge_contract, judge_personal_data, judge_rows, judge_rules
from noria.data.formats.format import Parts
from noria.data.judge_contract import ContractRuling
from noria.data.judge_rules import Compute, Rows
from noria.data.key_spill import KeySpill, RowMarks
from noria.data.promise import BrokenPromise, ContractBreach, Merge, Promise
from noria.kernel.contract import Contract, Severity

T = TypeVar("T")
JUDGED = {"columns", "unique", "rows_min", "rows_max", "fresh_column", "fresh_within_s", "extra_columns", "rules", "order"}
JUDGED |= {"personal_data", "severity", "references"}  # what a contract may say of a table that is judged in parts
ELSEWHERE = {"anomalies", "schema", "source", "digest"}  # and what no judge of one table's rows asks for


class WholeTableError(Exception):
    """A promise does not follow from the parts of a table: it has to be judged whole."""


def judge(
    contract: Contract, parts: Parts, *, now: float | None, apart: Compute = judge_rules.compute
) -> tuple[ContractRuling, int]:
    """The ruling on a table, and its number of rows. Raises WholeTableError, and what ``parts`` and the judges raise."""
    if _says_more(contract) or not judge_rules.is_by_row(contract):
        raise WholeTableError
    with tempfile.TemporaryDirectory(prefix="noria-keys-") as folder:
        judging = PartJudge(contract, parts, now, apart, Path(folder))
        return judging.rule(), judging.height


def _says_more(contract: Contract) -> bool:
    """Whether it says what this judge does not know."""
    usual = type(contract)()
    names = [name for name in contract.__struct_fields__ if name not in JUDGED | ELSEWHERE]
    return any(getattr(contract, name) != getattr(usual, name) for name in names)


class TablePart(msgspec.Struct, frozen=True):
    """Some rows that follow each other. ``first``: the place of their first in the table; ``before``: the last value of the
    contract's order before them."""

    table: pl.DataFrame
    first: int
    before: Any


class FixedPromises:
    """What a contract promises besides its rules, in the order in which breaches are told. ``keys``: the numbers of its keys."""

    def __init__(self, contract: Contract, schema: pl.Schema, now: float | None) -> None:
        keyed = list(judge_rows.unique_promises_of_parts(contract, schema))
        first = [*judge_contract.shape(contract, schema), *judge_columns.promises(contract, schema)]
        last = [*judge_rows.order(contract, schema, in_parts=True), *judge_rows.fresh(contract, schema, now)]
        self.all = [*first, *(promise for _, promise in keyed), *last]
        self.keys = {number: len(first) + at for at, (number, _) in enumerate(keyed)}  # and where their promises stand


class PartJudge:
    def __init__(self, contract: Contract, parts: Parts, now: float | None, apart: Compute, folder: Path) -> None:
        self._contract = contract
        self._parts = parts
        self._now = now
        self._apart = apart
        self._folder = folder
        self._repeats: dict[int, RowMarks] = {}
        self._schema = pl.Schema()
        self.height = 0

    def rule(self) -> ContractRuling:
        """Judge the table from the beginning to the end."""
        found = self._count_promises()
        found += self._find_personal_data()
        refusing = [one for one in found if one.severity is Severity.QUARANTINE]
        warnings = tuple(judge_contract.warning(one.reason) for one in found if one.severity is Severity.WARN)
        if not refusing:
            return judge_contract.met(self.height, warnings, self._schema)
        counts, failing = self._count_rows(refusing)
        breaches = [ContractBreach(one.reason, None, one.words, count) for one, count in zip(refusing, counts, strict=True)]
        ruling = judge_contract.rule_on_breaches(pl.DataFrame(schema=self._schema), breaches, warnings=warnings)
        return replace(ruling, failing_rows=failing)

    def _count_promises(self) -> list[BrokenPromise]:
        promises: Sequence[Promise] = ()
        counts: list[dict[str, Any]] = []
        kinds: dict[tuple[int, str], KeySpill] = {}
        keys: dict[int, RisingKeys] = {}
        for part in self._each_part():
            fixed = FixedPromises(self._contract, part.table.schema, self._now)
            if any((each.counts or each.distinct) and each.merge is None for each in fixed.all):
                raise WholeTableError
            _, (promises, answers) = self._ask(part, fixed.all, _answer)
            counts = counts or [{} for _ in promises]
            for at, (promise, answer) in enumerate(zip(promises, answers, strict=True)):
                _merge(counts[at], promise, answer)
                for name in promise.distinct:
                    counts[at].setdefault(name, 0)
                    if len(answer[name]):
                        kinds.setdefault((at, name), KeySpill(self._new_folder())).add(answer[name].to_frame(), 0)
            for number in fixed.keys:
                keys.setdefault(number, RisingKeys(KeySpill(self._new_folder()))).add(self._key(number, part), part.first)
            self._schema, self.height = part.table.schema, part.first + part.table.height
        self._repeats = self._find_repeats(keys)
        for (at, name), spill in kinds.items():
            counts[at][name] = spill.distinct()
        for number, at in FixedPromises(self._contract, self._schema, self._now).keys.items():
            counts[at]["repeated"] = self._repeats[number].count
        return judge_contract.conclude(promises, counts, self.height)

    def _find_repeats(self, keys: dict[int, RisingKeys]) -> dict[int, RowMarks]:
        again = {number: one for number, one in keys.items() if one.must_be_read_again}
        if again:
            names = list(dict.fromkeys(name for number in again for name in self._contract.unique[number]))
            for part in self._each_part(names):
                for number, one in again.items():
                    one.spill.add(self._key(number, part), part.first)
        return {number: one.spill.repeats() for number, one in keys.items()}

    def _key(self, number: int, part: TablePart) -> pl.DataFrame:
        return part.table.select(self._contract.unique[number]).with_columns(cs.float().fill_nan(None))

    def _find_personal_data(self) -> list[BrokenPromise]:
        """What the contract forbids of them, in as many rows as of a table that is judged whole."""
        rule = self._contract.personal_data
        if rule is None or not rule.forbid:
            return []
        step = max(1, -(-self.height // judge_personal_data.ROWS_MOST))
        sample = pl.concat([part.table.gather_every(step, -part.first % step) for part in self._each_part()])
        return [BrokenPromise(reason) for reason in judge_personal_data.judge(rule, sample, self.height)]

    def _count_rows(self, broken: Sequence[BrokenPromise]) -> tuple[list[int | None], int]:
        """How many rows each is about, None of what is not about rows; and how many fail at all."""
        marks = {str(at): one.rows.fill_null(False) for at, one in enumerate(broken) if one.rows is not None}
        totals, failing = dict.fromkeys(marks, 0), 0
        if marks:
            asked = [expr.sum().alias(name) for name, expr in marks.items()]
            asked.append(pl.any_horizontal(marks.values()).sum().alias("failing"))
            for part in self._each_part():
                _, found = self._ask(part, (), lambda frame, _: frame.select(asked).collect().row(0, named=True))
                totals = {name: count + found[name] for name, count in totals.items()}
                failing += found["failing"]
        personal = any(one.reason.code == judge_personal_data.CODE for one in broken)
        return [totals.get(str(at)) for at in range(len(broken))], 0 if personal else failing

    def _each_part(self, columns: Sequence[str] | None = None) -> Iterator[TablePart]:
        """The parts that have rows; of a table without any, one that has none."""
        order, first, before, empty = self._contract.order, 0, None, None
        for table in self._parts(columns):
            if not table.height:
                empty = table
                continue
            yield TablePart(table, first, before)
            first += table.height
            if order in table.columns:
                values = table[order].fill_nan(None) if table[order].dtype.is_float() else table[order]
                last = values.drop_nulls().tail(1)
                before = last[0] if len(last) else before
        if not first and empty is not None:
            yield TablePart(empty, 0, None)

    def _ask(self, part: TablePart, promises: Sequence[Promise], ask: judge_contract.Ask[T]) -> tuple[pl.LazyFrame, T]:
        table, order = part.table, self._contract.order
        clean = table.lazy().with_columns(cs.float().fill_nan(None))
        rows = Rows(clean, table.schema, table.height, lambda names: int(table.select(names).estimated_size()))
        marks = [
            one.part(part.first, table.height).alias(judge_rows.repeat_mark(number)) for number, one in self._repeats.items()
        ]
        before = [pl.lit(part.before, table.schema[order]).alias(judge_rows.BEFORE)] if order in table.columns else []
        marked = clean.with_columns(*marks, *before)
        return judge_contract.ask_with_rules(self._contract, rows, marked, promises, self._apart, ask)

    def _new_folder(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self._folder))


class RisingKeys:
    """Keys that rise from row to row are told apart by the last one alone; others are left to ``spill``."""

    def __init__(self, spill: KeySpill) -> None:
        self.spill = spill
        self.must_be_read_again = False
        self._rises = True
        self._last: pl.Series | None = None

    def add(self, keys: pl.DataFrame, first: int) -> None:
        if self._rises and keys.height:
            self._rises = self._continue(keys)
            self.must_be_read_again = not self._rises and first > 0
        if not self._rises and not self.must_be_read_again:
            self.spill.add(keys, first)

    def _continue(self, keys: pl.DataFrame) -> bool:
        """Whether each is larger than the one before it."""
        values = keys.to_series()
        if keys.width > 1 or values.null_count() or not (values.dtype.is_integer() or values.dtype.is_temporal()):
            return False
        if self._last is not None:
            values = pl.concat([self._last, values])
        self._last = values.tail(1)
        return bool((values.slice(1) > values.slice(0, len(values) - 1)).all())


def _answer(frame: pl.LazyFrame, promises: Sequence[Promise]) -> tuple[Sequence[Promise], list[dict[str, Any]]]:
    """The counts of each promise in a part, and the values that differ."""
    asked = {f"{i}:{name}": expr for i, each in enumerate(promises) for name, expr in each.counts.items()}
    asked |= {f"{i}:{name}": expr.unique().implode() for i, each in enumerate(promises) for name, expr in each.distinct.items()}
    answer = frame.select(pl.len().alias("rows"), **asked).collect()
    return promises, [
        {name: answer[f"{i}:{name}"][0] for name in (*each.counts, *each.distinct)} for i, each in enumerate(promises)
    ]


def _merge(total: dict[str, Any], promise: Promise, part: dict[str, Any]) -> None:
    for name in promise.counts:
        known = [count for count in (total.get(name), part[name]) if count is not None]
        total[name] = (max(known) if promise.merge is Merge.LARGEST else sum(known)) if known else None
