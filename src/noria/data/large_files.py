"""A large file is held against its contract a part at a time, by the types of its dataset."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
import polars as pl
from msgspec.structs import replace

from noria.config import DataSource
from noria.data import contract_in_parts, formats, judge_contract, rule_process, table_types
from noria.data.formats import OpenedFile, OpenedParts
from noria.data.formats.fitting import BadValues, Misfit, misfit_of
from noria.data.judge_contract import ContractRuling
from noria.data.table import Column
from noria.data.table_types import TypeDecision
from noria.kernel.contract import Contract


class JudgedFile(msgspec.Struct, frozen=True):
    """``example``: a value for which it is refused."""

    ruling: ContractRuling
    rows: int
    example: str = ""


class MisfitError(Exception):
    """A value is not of the type of its column: such a file is held against no contract."""


def ruling(source: DataSource, decided: TypeDecision, opened: OpenedParts, base: Sequence[str], now: float | None) -> JudgedFile:
    """What becomes of a file beside accepted ones with the columns ``base``.

    Raises WholeTableError where a promise asks for the whole table, and DataError where the file cannot be read to its end.
    """
    refusals = table_types.refusals(source, decided, opened.head, base)
    if refusals:
        rows = sum(part.height for part in opened.parts(opened.columns[:1]))
        return JudgedFile(judge_contract.refuse_file(opened.head.table, [(text, None) for text in refusals]), rows)

    def typed(columns: Sequence[str] | None) -> Iterator[pl.DataFrame]:
        for part in opened.parts(columns):
            table, misfits = _fit(part, source, decided, opened)
            if misfits:
                raise MisfitError
            yield table

    try:
        found, rows = contract_in_parts.judge(source.contract or Contract(), typed, now=now, apart=rule_process.apart)
    except MisfitError:
        return _refuse(source, decided, opened)
    return JudgedFile(judge_contract.add_warnings(found, table_types.schema_warnings(source, decided, opened.head, base)), rows)


def _fit(part: pl.DataFrame, source: DataSource, decided: TypeDecision, opened: OpenedParts) -> tuple[pl.DataFrame, list[Misfit]]:
    return formats.fit_columns(OpenedFile(part, opened.cells, opened.name), decided.type, source.csv)


def _refuse(source: DataSource, decided: TypeDecision, opened: OpenedParts) -> JudgedFile:
    """The ruling on a file some of whose values are not of their types, which is read to its end."""
    whole: dict[str, Misfit] = {}
    values: dict[str, BadValues] = {}
    height = failing = 0
    for part in opened.parts(None):
        _, misfits = _fit(part, source, decided, opened)
        for one in misfits:
            if one.values is None:
                whole[one.column] = one
                continue
            before = values.get(one.column)
            placed = replace(one.values, first=one.values.first + height)
            values[one.column] = placed if before is None else replace(before, count=before.count + one.values.count)
        marks = [one.rows.alias(one.column) for one in misfits if one.rows is not None]
        failing += int(pl.DataFrame(marks).select(pl.any_horizontal(pl.all()).sum()).item()) if marks else 0
        height += part.height
    types = decided.type.columns
    found = []
    for name in opened.columns:
        if name in whole:
            found.append(whole[name])
        elif name in values:
            found.append(misfit_of(name, types.get(name, Column()), values[name], height))
    ruling = judge_contract.refuse_file(opened.head.table, [(one.text, None) for one in found])
    counted = [replace(breach, count=one.values and one.values.count) for breach, one in zip(ruling.breaches, found, strict=True)]
    refused = replace(ruling, failing_rows=failing, breaches=tuple(counted))
    return JudgedFile(refused, height, table_types.examples(found))
