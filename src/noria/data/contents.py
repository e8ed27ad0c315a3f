"""Reads the contents of a data file that no project knows, or of all files of a version, as one table."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
import polars as pl

from noria.config import DataSource
from noria.data import formats, judge_column_types
from noria.data.formats import DatasetFile
from noria.data.judge_column_types import Undecided
from noria.data.snapshot import FilePin
from noria.data.table import Column, ColumnKind, TableType
from noria.kernel.dialect import PLAIN, Dialect
from noria.kernel.errors import DataError, NotFoundError, UsageError
from noria.storage.blobs import BlobStore


class Contents(msgspec.Struct, frozen=True):
    """A data file: its table, how it is written, the types of its columns, and dates that may be read in two ways."""

    table: pl.DataFrame
    dialect: Dialect = PLAIN
    type: TableType = msgspec.field(default_factory=TableType)
    undecided: dict[str, Undecided] = {}

    @property
    def comparable(self) -> pl.DataFrame:
        """The table, in which a column of a text file that holds no value has no type."""
        empty = [name for name, column in self.type.columns.items() if not column.kind and name not in self.undecided]
        return self.table.with_columns(pl.Series(name, [None] * self.table.height, dtype=pl.Null) for name in empty)


def is_file(text: str, start: Path) -> bool:
    """Whether a person means a file by ``text``, and not a dataset or a version of one."""
    return "/" in text or formats.of(text) is not None or (bool(Path(text).suffix) and (start / text).is_file())


def read_file(path: Path) -> Contents:
    """The contents of a file, by its suffix and as it looks; dates that may be read in two ways are text.

    Raises NotFoundError, UsageError for a folder, DataError for what cannot be read as a table.
    """
    if path.is_dir():
        raise UsageError("is a folder", where=str(path), hint="Name one of its files.")
    if not path.is_file():
        raise NotFoundError("there is no such file", where=str(path))
    if path.stat().st_size == 0:
        raise DataError("is empty (0 bytes)", where=str(path), hint=formats.BROKEN)
    dialect = formats.as_it_looks(path)
    opened = formats.open_table(path, str(path), dialect)
    found, undecided = judge_column_types.decide(None, TableType(), [formats.looks(opened, dialect, {})])
    as_text = {one.column: Column(ColumnKind.STRING) for one in undecided}  # until somebody says which
    table = formats.typed_table(opened, TableType(found.columns | as_text), dialect)
    return Contents(table, dialect, found, {one.column: one for one in undecided})


@contextmanager
def version_files(blobs: BlobStore, pins: Sequence[FilePin]) -> Iterator[list[DatasetFile]]:
    """The files of a version under names whose suffixes tell the format, as long as the context lasts."""
    with tempfile.TemporaryDirectory(prefix="noria-") as folder:
        files = []
        for place, pin in enumerate(pins):
            link = Path(folder) / f"{place}{''.join(Path(pin.name).suffixes[-2:])}"
            link.symlink_to(blobs.path(pin.digest))
            files.append(DatasetFile(pin.name, link))
        yield files


def read_version(source: DataSource | None, files: Sequence[DatasetFile]) -> pl.DataFrame:
    """The rows of all files of a version, in the given order.

    Columns have the types that its contract and its own files say; where these contradict each other, as after a change of the
    contract, those of its files. Raises DataError when they do not fit together.
    """
    _demand_tables(files)
    dialect = _dialect(source, files)
    if source is not None and source.contract is not None:
        told = judge_column_types.contract_types(source.contract)
        looks = [formats.looks(formats.open_table(one.path, one.name, dialect), dialect, told) for one in files]
        kind, undecided = judge_column_types.decide(source.contract, TableType(), looks)
        there = {name for look in looks for name in look.columns}
        try:
            if not undecided:
                held = TableType({name: column for name, column in kind.columns.items() if name in there})
                return formats.read_tables(files, held, dialect)
        except DataError:  # the contract is of another time than the version
            pass
    return formats.read_tables(files, None, dialect)


def read_files(source: DataSource | None, files: Sequence[DatasetFile]) -> tuple[Contents, tuple[int, ...]]:
    """The contents of files as they look, one below the other, whatever a contract says; and how many rows each has.

    Raises DataError when they do not fit together.
    """
    _demand_tables(files)
    dialect = _dialect(source, files)
    opened = [formats.open_table(one.path, one.name, dialect) for one in files]
    found, undecided = judge_column_types.decide(None, TableType(), [formats.looks(one, dialect, {}) for one in opened])
    as_text = {one.column: Column(ColumnKind.STRING) for one in undecided}
    table = formats.read_tables(files, TableType(found.columns | as_text), dialect)
    heights = tuple(one.table.height for one in opened)
    return Contents(table, dialect, found, {one.column: one for one in undecided}), heights


def _demand_tables(files: Sequence[DatasetFile]) -> None:
    unread = next((one.name for one in files if formats.of(one.name) is None), None)
    if unread is not None:
        raise DataError("is not a table", where=unread)


def _dialect(source: DataSource | None, files: Sequence[DatasetFile]) -> Dialect:
    if source is not None:
        return source.csv
    return formats.as_it_looks(files[0].path) if files else PLAIN
