"""Gives a column whose values no longer fit its type another one, where the contract allows that."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator

from msgspec.structs import replace

from noria.config import DataSource
from noria.data import formats, table_types
from noria.data import judge_column_types as judge
from noria.data.formats import DatasetFile, OpenedFile
from noria.data.formats.fitting import type_words
from noria.data.store import DataStore
from noria.data.table import Column, FileLooks, TableType
from noria.data.table_store import TableStore
from noria.data.table_types import TypeDecision
from noria.kernel.contract import SchemaChange
from noria.storage.context import StoreContext

_SAID = Column(said=True)
AcceptedLooks = Callable[[Collection[str]], list[FileLooks]]


def with_other_types(source: DataSource, decided: TypeDecision, opened: OpenedFile, accepted: AcceptedLooks) -> TypeDecision:
    """The type by which the accepted files and this one can be read together, and which columns got another one.

    ``accepted``: what these columns look like in the accepted files. A column keeps its type where the contract says it, where
    `schema.retyped` refuses, and where no type takes all values: then the file is refused for what does not fit.
    """
    if source.contract is None or source.contract.schema.retyped is SchemaChange.REFUSE:
        return decided
    _, misfits = formats.fit_columns(opened, decided.type, source.csv)
    known_columns = decided.type.columns
    columns = {name: known_columns[name] for one in misfits if not known_columns.get(name := one.column, _SAID).said}
    if not columns:
        return decided
    known = TableType({name: column for name, column in decided.type.columns.items() if name not in columns})
    looks = [*accepted(columns), formats.looks(opened, source.csv, judge.contract_types(source.contract), columns)]
    found, undecided = judge.decide(source.contract, known, looks)
    types = {name: found.columns.get(name, column) for name, column in decided.type.columns.items()}
    _, misfits = formats.fit_columns(opened, TableType(types), source.csv)
    unfit = {one.column for one in misfits} | {one.column for one in undecided}
    unfit |= {name for name in columns if not _takes_all(name, types[name], looks)}
    kept = {name: columns[name] if name in unfit else types[name] for name in columns}
    texts = tuple(
        f"has {type_words(column)} in the column {name}, which was {type_words(columns[name])} in the files accepted before"
        for name, column in kept.items()
        if name not in unfit
    )
    return replace(decided, type=TableType({**types, **kept}), retyped=texts)


def _takes_all(name: str, column: Column, looks: Iterable[FileLooks]) -> bool:
    return all(column in look.columns[name].fits for look in looks if name in look.columns and look.columns[name].filled)


def of_files(source: DataSource, files: Iterable[DatasetFile], columns: Collection[str]) -> Iterator[FileLooks]:
    """What these columns look like in files."""
    told = judge.contract_types(source.contract)
    for one in files:
        yield formats.peek(one.path, one.name, source.csv, told, lambda names: [name for name in names if name in columns])


def files_beside(context: StoreContext, source: DataSource, name: str) -> list[DatasetFile]:
    """The accepted files, less an earlier version of the one of this name."""
    standing = [pin for pin in DataStore.of(context).accepted_files(source.name).values() if pin.name != name]
    return [DatasetFile(pin.name, context.named_blob(pin.digest, pin.name)) for pin in standing]


def for_arrival(context: StoreContext, source: DataSource, decided: TypeDecision, opened: OpenedFile) -> TypeDecision:
    """The type for one file beside those that are accepted now."""
    before = TableStore.of(context).get(source.name)
    if before is not None and before.basis == table_types.basis(source):
        decided = _as_kept(source, decided, before.type)

    def accepted(columns: Collection[str]) -> list[FileLooks]:
        return list(of_files(source, files_beside(context, source, opened.name), columns))

    return with_other_types(source, table_types.for_file(source, decided, opened), opened, accepted)


def _as_kept(source: DataSource, decided: TypeDecision, kept: TableType) -> TypeDecision:
    """The type of this look at the arrivals, with what an earlier one of them changed."""
    if source.contract is None or source.contract.schema.retyped is SchemaChange.REFUSE:
        return decided
    changed = {name: column for name, column in kept.columns.items() if column.kind and name in decided.type.columns}
    return replace(decided, type=TableType({**decided.type.columns, **changed}))
