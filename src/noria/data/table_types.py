"""Which type has a dataset's table? It is decided once, from contract and accepted files, and every file is read by it."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from noria.config import DataSource
from noria.data import formats, personal_columns
from noria.data import judge_column_types as judge
from noria.data.arrival import Arrival
from noria.data.formats import DatasetFile, OpenedFile
from noria.data.formats.fitting import Misfit, type_words
from noria.data.judge_column_types import Undecided
from noria.data.store import DataStore
from noria.data.table import Column, FileLooks, TableType
from noria.data.table_store import Settled, TableStore
from noria.kernel import names
from noria.kernel.contract import Contract, SchemaChange
from noria.kernel.errors import DataError
from noria.storage.context import StoreContext

SHOWN = 40  # columns that are named


class TypeDecision(msgspec.Struct, frozen=True):
    """The type by which the files of a dataset are read, and columns of which the files do not tell it."""

    type: TableType
    undecided: tuple[Undecided, ...] = ()
    seen: frozenset[str] = frozenset()  # the columns that a file has
    retyped: tuple[str, ...] = ()  # of a file: how columns got another type by it


def identity(source: DataSource, state: Path) -> str:
    """From where a dataset's files come, and how they are read: when it changes, they are others."""
    return f"{how_read(source, state)} {source.shown if source.sql is None else 'sql'}"


def how_read(source: DataSource, state: Path) -> str:
    """Whether a dataset's files are tables, and by what key which of their columns are hashed or dropped; without a space."""
    treatment = personal_columns.digest(source, state)
    return f"{source.format}+{treatment}" if treatment else source.format


def basis(source: DataSource) -> str:
    """The digest of what is said of types and of how text is written."""
    told = judge.contract_types(source.contract)
    return f"{names.digest_bytes(msgspec.json.encode(source.csv))[:16]} {names.digest_bytes(msgspec.json.encode(told))[:16]}"


def of(context: StoreContext, source: DataSource) -> TableType | None:
    """The type of the accepted files; decided here and now where no turn has. None of what is no table.

    Raises DataError when accepted files do not fit what the contract says now.
    """
    if source.opaque or source.source.startswith("log:"):
        return None
    before = TableStore.of(context).get(source.name)
    decided = decide(context, source, ())
    if before is None or before.basis != basis(source):
        keep(context, source, accepted_type(decided, TableType(), decided.seen))
    return decided.type


def decide(context: StoreContext, source: DataSource, arrivals: Sequence[Arrival]) -> TypeDecision:
    """The type that contract, accepted files and those that arrived make.

    Where the contract or the way in which text is written changed, the accepted files are looked at again, but for those of
    which another version arrived. Raises DataError when one of them does not fit any more.
    """
    before = TableStore.of(context).get(source.name)
    same = before is not None and before.basis == basis(source)
    standing = {} if same else DataStore.of(context).accepted_files(source.name)
    again = {one.name for one in arrivals}
    old = [DatasetFile(pin.name, context.named_blob(pin.digest, pin.name)) for pin in standing.values() if pin.name not in again]
    new = (DatasetFile(one.name, context.named_blob(one.digest, one.name)) for one in arrivals if not one.problem)
    decided = of_files(source, before, old, new)
    _demand_fit(source, decided, old)
    return decided


def of_files(source: DataSource, before: Settled | None, old: Iterable[DatasetFile], new: Iterable[DatasetFile]) -> TypeDecision:
    """The type that contract, what was decided ``before``, accepted files and new ones make; new ones that cannot be read tell
    nothing. Raises DataError for an old one."""
    known = before.type if before is not None and _is_written_alike(before, source) else TableType()
    looks = [_look(source, one, known) for one in old]
    same = before is not None and before.basis == basis(source)
    if not same or not known.columns or any(not column.kind for column in known.columns.values()):
        for one in new:
            with contextlib.suppress(DataError):  # it is refused when it is judged, with that reason
                looks.append(_look(source, one, known))
    kind, undecided = judge.decide(source.contract, known, looks)
    return TypeDecision(kind, undecided, frozenset([*known.columns, *(name for look in looks for name in look.columns)]))


def _is_written_alike(before: Settled, source: DataSource) -> bool:
    """Whether text is written as it was when the type was decided; else what it seemed to be then tells nothing."""
    return before.basis.partition(" ")[0] in ("", basis(source).partition(" ")[0])


def _look(source: DataSource, part: DatasetFile, known: TableType) -> FileLooks:
    told = judge.contract_types(source.contract)
    return formats.peek(
        part.path, part.name, source.csv, told, lambda columns: judge.open_columns(source.contract, known, columns)
    )


def _demand_fit(source: DataSource, decided: TypeDecision, accepted: Sequence[DatasetFile]) -> None:
    """Accepted files that do not fit what the contract says now are no reason to fail later, in a step and without a name."""
    if accepted and decided.undecided:
        first = decided.undecided[0]
        raise DataError(f"{first.text}, in {first.file}, which was accepted before", hint=_format_hint(source, first))
    for part in accepted:
        opened = formats.open_table(part.path, part.name, source.csv)
        _, misfits = formats.fit_columns(opened, decided.type, source.csv)
        if misfits:
            hint = f"Correct the contract ({source.contract_file}), or deliver the file again." if source.contract_file else None
            raise DataError(f"was accepted before and no longer fits: {misfits[0].text}", where=part.name, hint=hint)


def _format_hint(source: DataSource, undecided: Undecided) -> str:
    place = source.contract_file or f"a contract of {source.name}"
    choices = " or ".join(f'"{one}"' for one in undecided.formats)
    return f"Say which in {place}: {undecided.column}: {{format: {choices}}}."


def for_file(source: DataSource, decided: TypeDecision, opened: OpenedFile) -> TypeDecision:
    """The type for one file, which may have columns that nobody has seen before."""
    open_now = [
        name
        for name in judge.open_columns(source.contract, decided.type, opened.table.columns)
        if name not in decided.type.columns or not decided.type.columns[name].kind
    ]
    if not open_now or any(one.column in open_now for one in decided.undecided):
        return decided
    look = formats.looks(opened, source.csv, judge.contract_types(source.contract), open_now)
    kind, undecided = judge.decide(source.contract, decided.type, [look])
    return TypeDecision(kind, (*decided.undecided, *undecided), decided.seen)


def refusals(source: DataSource, decided: TypeDecision, opened: OpenedFile, base: Collection[str]) -> list[str]:
    """Why a file cannot stand below the accepted ones, whose columns are ``base``: by its columns and its dates."""
    found = []
    columns = opened.table.columns
    found += [text for change, text in _schema_changes(source, columns, base) if change is SchemaChange.REFUSE]
    unnamed = [name for name in source.key if columns and name not in columns]
    if unnamed:
        found.append(f"has no {_columns(unnamed)}, which data.{source.name}.key needs to identify rows")
    found += [f"{one.text}; {_format_hint(source, one)[:-1]}" for one in decided.undecided if one.column in columns]
    return found


def schema_warnings(source: DataSource, decided: TypeDecision, opened: OpenedFile, base: Collection[str]) -> list[str]:
    """How the columns of a file that may be accepted differ from those of the accepted ones, where that is to be told."""
    retyped = decided.retyped if source.contract is not None and source.contract.schema.retyped is SchemaChange.WARN else ()
    changes = _schema_changes(source, opened.table.columns, base)
    return [*(text for change, text in changes if change is SchemaChange.WARN), *retyped]


def _schema_changes(source: DataSource, columns: Sequence[str], base: Collection[str]) -> Iterator[tuple[SchemaChange, str]]:
    """Each difference from the accepted files, and what becomes of it."""
    if not base or not columns:
        return
    contract = source.contract or Contract()
    listed = {rule.name for rule in contract.columns}
    lacking = [name for name in base if name not in columns and name not in listed]
    extra = [name for name in columns if name not in base and name not in listed]
    if lacking:
        yield contract.schema.dropped, f"has no {_columns(lacking)}, which the files accepted before have"
    if extra:
        hint = "" if contract.schema.added is not SchemaChange.REFUSE else _how_to_take(source)
        yield contract.schema.added, f"has the {_columns(extra)}, which the files accepted before have not{hint}"
    if [name for name in columns if name in base] != [name for name in base if name in columns]:
        yield contract.schema.reordered, "has its columns in another order than the files accepted before"


def _how_to_take(source: DataSource) -> str:
    return f"; listed in {source.contract_file or 'a contract'}, it is taken"


def keep(context: StoreContext, source: DataSource, kind: TableType) -> None:
    """Write down the type of the accepted files."""
    TableStore.of(context).put(source.name, Settled(identity(source, context.state), basis(source), kind))


def accepted_type(decided: TypeDecision, base: TableType, columns: Iterable[str]) -> TableType:
    """The type of the accepted files, which was ``base``, once one with these columns is among them."""
    order = dict.fromkeys([*base.columns, *(name for name in decided.type.columns if name in set(columns))])
    return TableType({name: decided.type.columns.get(name) or base.columns[name] for name in order})


def examples(misfits: Iterable[Misfit]) -> str:
    """The first value that does not fit, of the first columns."""
    return "; ".join(one.example for one in list(misfits)[:3] if one.example)


def column_words(column: Column) -> str:
    """How one column is read, and why where digits are text."""
    return (type_words(column) if column.kind else "empty so far") + (f" ({column.why})" if column.why else "")


def words(decided: TypeDecision) -> str:
    """How a dataset's table is read: its columns with their types, and who said so."""
    said, seen = list[str](), list[str]()
    for name, column in decided.type.columns.items():
        text = f"{name} {column_words(column)}"
        (said if column.said else seen).append(text)
    parts = [f"by the contract: {_some(said)}"] if said else []
    parts += [f"by the files: {_some(seen)}"] if seen else []
    return f"read as {'; '.join(parts)}"


def _columns(found: Sequence[str]) -> str:
    return f"column {found[0]}" if len(found) == 1 else f"columns {_some(found)}"


def _some(texts: Sequence[str]) -> str:
    more = f" and {len(texts) - SHOWN:,} more" if len(texts) > SHOWN else ""
    return ", ".join(texts[:SHOWN]) + more
