"""Which type has a column? The contract says it; else what was accepted decided it once; else all files that there are decide it.

The rule for text is written in docs/data.md, and tests/data/test_table_rule.py states it as a table.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
from msgspec.structs import replace

from noria.data.table import Column, ColumnKind, ColumnLooks, FileLooks, TableType
from noria.kernel.contract import ColumnRule, Contract

STRING = Column(ColumnKind.STRING)
_ORDER = (ColumnKind.INT, ColumnKind.FLOAT, ColumnKind.BOOL, ColumnKind.DATE, ColumnKind.DATETIME)  # the narrowest first
_TIMES = frozenset("HIMSTRXcfp")  # directives of a format that tell the time of a day


class Undecided(msgspec.Struct, frozen=True):
    """A column whose dates may be read in two ways."""

    column: str
    formats: tuple[str, ...]
    example: str
    file: str

    @property
    def text(self) -> str:
        first, *others = self.formats
        return f"{self.column}: a date like {self.example} may be {first} or {' or '.join(others)}"


def contract_types(contract: Contract | None) -> dict[str, Column]:
    """The types that the contract says."""
    return {rule.name: found for rule in (contract.columns if contract else ()) if (found := _rule_type(rule)).kind}


def _rule_type(rule: ColumnRule) -> Column:
    kind = rule.type or ""
    if not kind and rule.format:
        kind = ColumnKind.DATETIME if any(f"%{letter}" in rule.format for letter in _TIMES) else ColumnKind.DATE
    return Column(kind, rule.format or "", "UTC" if "%z" in (rule.format or "") else "", said=True)


def open_columns(contract: Contract | None, known: TableType, names: Iterable[str]) -> list[str]:
    """The columns of which only the files can tell the type, or how their dates are written."""
    told = contract_types(contract)
    found = []
    for name in names:
        column = told.get(name)
        before = known.columns.get(name)
        if column is None:
            if before is None or not before.kind:
                found.append(name)
        elif (
            column.kind in (ColumnKind.DATE, ColumnKind.DATETIME)
            and not column.format
            and not (before and before.kind == column.kind)
        ):
            found.append(name)
    return found


def decide(contract: Contract | None, known: TableType, files: Sequence[FileLooks]) -> tuple[TableType, tuple[Undecided, ...]]:
    """The type of the table: the contract's columns, those that were decided before, and those of ``files``."""
    told = contract_types(contract)
    order = dict.fromkeys([*known.columns, *(name for file in files for name in file.columns), *told])
    columns: dict[str, Column] = {}
    undecided: list[Undecided] = []
    for name in order:
        seen = [(file.name, file.columns[name]) for file in files if name in file.columns and file.columns[name].filled]
        found = _decide_column(name, told.get(name), known.columns.get(name), seen)
        if isinstance(found, Undecided):
            undecided.append(found)
            found = told.get(name, Column())
        columns[name] = found
    return TableType(columns), tuple(undecided)


def _decide_column(
    name: str, told: Column | None, before: Column | None, seen: list[tuple[str, ColumnLooks]]
) -> Column | Undecided:
    if told is None:
        if before is not None and before.kind:
            return replace(before, said=False)
        return _of_files(name, seen) if seen else Column()
    if told.kind not in (ColumnKind.DATE, ColumnKind.DATETIME) or told.format:
        return told
    if before is not None and before.kind == told.kind:
        return replace(before, said=True)
    fitting = [(file, replace(look, fits=frozenset(one for one in look.fits if one.kind == told.kind))) for file, look in seen]
    fitting = [(file, look) for file, look in fitting if look.fits]  # the others do not fit, and say so when they are read
    found = _of_files(name, fitting) if fitting else told
    return found if isinstance(found, Undecided) else replace(found, said=True)


def _of_files(name: str, seen: list[tuple[str, ColumnLooks]]) -> Column | Undecided:
    """The narrowest type that all values have; where files have none in common, the first file's."""
    common = frozenset.intersection(*(look.fits for _, look in seen))
    file, look = seen[0]
    if not common or (common == {STRING} and all(_is_temporal(each) for _, each in seen)):
        common = look.fits
    for kind in _ORDER:
        fits = sorted((one for one in common if one.kind == kind), key=lambda one: (one.format, one.zone))
        if len({one.format for one in fits}) > 1:
            return Undecided(name, tuple(one.format for one in fits), look.example, file)
        if fits:
            return fits[0]
    if STRING in common:
        return Column(ColumnKind.STRING, why=next((each.why for _, each in seen if each.why), ""))
    return min(common, key=lambda one: one.kind)


def _is_temporal(look: ColumnLooks) -> bool:
    """Whether every value is a date or a time, of whatever zone."""
    return any(one.kind in (ColumnKind.DATE, ColumnKind.DATETIME) for one in look.fits)
