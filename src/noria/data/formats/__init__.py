"""Table formats by suffix: one file each. A new one is a module here with a ``FORMATS`` line, or a call of ``register``."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from noria.data import judge_column_types
from noria.data.formats import arrow, delimited, detect, fitting, json_lines, parquet
from noria.data.formats.fitting import Misfit
from noria.data.formats.format import DialectError, Format, Parts, UnreadableError, ValueSyntax
from noria.data.table import Column, ColumnLooks, FileLooks, TableType
from noria.kernel.dialect import PLAIN, Dialect
from noria.kernel.errors import DataError

if TYPE_CHECKING:  # reading loads Polars; asking for a format does not
    import polars as pl

WIDE = (b"\xff\xfe", b"\xfe\xff")  # with which UTF-16 begins
PACKED = (".gz", ".zst")  # may follow a suffix: a.csv.gz
WHICH = "Write dates year first, or say which in the dataset's contract: columns: {NAME: {format: ...}}."
BROKEN = "Deliver the complete file again, and rename it into place when it is complete."


_by_suffix: dict[str, Format] = {}


def register(*formats: Format) -> None:
    """Add formats; a later one takes over the suffixes it names."""
    for each in formats:
        _by_suffix.update(dict.fromkeys(each.suffixes, each))


register(*parquet.FORMATS, *delimited.FORMATS, *json_lines.FORMATS, *arrow.FORMATS)


def of(name: str) -> Format | None:
    """The format of a file by its name (``a.csv.gz`` is CSV), or None when it is no table."""
    stem, suffix = os.path.splitext(os.path.basename(name).lower())
    if suffix in PACKED:
        suffix = os.path.splitext(stem)[1]
    return _by_suffix.get(suffix)


def as_it_looks(path: Path) -> Dialect:
    """How a file is written, by a look at it; what is no text is not written in any way."""
    kind = of(path.name)
    return detect.detect(path, detect.comma(path)) if kind is not None and kind.cells is ValueSyntax.TEXT else PLAIN


class OpenedFile(msgspec.Struct, frozen=True):
    """A file as it is written: of text all cells are text."""

    table: pl.DataFrame
    cells: ValueSyntax
    name: str  # as people know it


class DatasetFile(msgspec.Struct, frozen=True):
    """A file of a dataset: its name as people know it, and where its bytes are."""

    name: str
    path: Path


def open_table(path: Path, name: str = "", dialect: Dialect = PLAIN, columns: Sequence[str] | None = None) -> OpenedFile:
    """The table in a file, by its suffix; with ``columns``, maybe only these.

    Raises DataError, which calls the file ``name``, when it is missing, empty, cut off, of another format, or too large to read.
    """
    where = name or str(path)
    kind = of(path.name)
    if kind is None:
        raise DataError(f"{path.suffix or 'a file without a suffix'} is not a table format", where=where, hint=_suffix_hint())
    with _plain_errors(kind, where):
        _sniff(path, kind, dialect)
        table = kind.read(path, dialect, columns)
    _demand_names(table.columns, where)
    return OpenedFile(table, kind.cells, where)


class OpenedParts(msgspec.Struct, frozen=True):
    """A large file as it is written, a part at a time."""

    columns: tuple[str, ...]
    cells: ValueSyntax
    name: str
    parts: Parts  # raises DataError as ``open_table`` does

    @property
    def head(self) -> OpenedFile:
        """Its columns without rows."""
        import polars as pl

        return OpenedFile(pl.DataFrame(schema=dict.fromkeys(self.columns, pl.String())), self.cells, self.name)


def open_parts(path: Path, name: str = "", dialect: Dialect = PLAIN) -> OpenedParts | None:
    """A large table, to be read a part at a time; None of one that is small, or of a format that is read whole.

    Raises DataError as ``open_table`` does.
    """
    where = name or str(path)
    kind = of(path.name)
    if kind is None or kind.in_parts is None:
        return None
    with _plain_errors(kind, where):
        _sniff(path, kind, dialect)
        found = kind.in_parts(path, dialect)
    if found is None:
        return None
    _demand_names(found.columns, where)

    def parts(columns: Sequence[str] | None = None) -> Iterator[pl.DataFrame]:
        with _plain_errors(kind, where):
            yield from found.parts(columns)

    return OpenedParts(found.columns, kind.cells, where, parts)


@contextmanager
def _plain_errors(kind: Format, where: str) -> Iterator[None]:
    """What readers raise, as a DataError that calls the file by its name."""
    import polars as pl

    try:
        yield
    except DataError as error:
        raise type(error)(error.message, where=where, hint=error.hint) from error
    except FileNotFoundError:
        raise _vanished_error(where) from None
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError, EOFError) as error:
        raise UnreadableError(f"is not a readable {kind.name} file: {_first_line(error)}", where=where, hint=BROKEN) from error


def _demand_names(names: Iterable[str], where: str) -> None:
    """Raises DataError for a name that says nothing, or that Polars takes for a pattern wherever it is asked for by that."""
    names = list(names)
    if "" in names:
        raise DataError("has a column without a name", where=where, hint="Name the column in the file.")
    pattern = next((name for name in names if name == "*" or (name.startswith("^") and name.endswith("$"))), None)
    if pattern is not None:
        raise DataError(
            f"has a column called {pattern[:80]!r}, which would be read as a pattern of names",
            where=where,
            hint="Rename the column in the file.",
        )


def write_table(path: Path, table: pl.DataFrame, dialect: Dialect = PLAIN) -> None:
    """Write a table, as it was opened, by the suffix of ``path``. Raises DataError where that cannot be done."""
    kind = of(path.name)
    if kind is None or kind.write is None:
        raise DataError(f"Noria cannot write {path.suffix} files", where=str(path))
    import polars as pl

    try:
        kind.write(table, path, dialect)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, ValueError) as error:
        raise DataError(f"cannot be written as {kind.name}: {_first_line(error)}", where=str(path)) from error


def peek(
    path: Path, name: str, dialect: Dialect, told: Mapping[str, Column], asked: Callable[[Sequence[str]], Sequence[str]]
) -> FileLooks:
    """What the columns of a file look like; of a Parquet file its schema tells. ``asked``: of all, those that matter."""
    kind = of(path.name)
    if kind is not None and kind.head is not None:
        return _peek_at_text(path, name, kind, dialect, told, asked)
    if kind is None or kind.schema is None:
        opened = open_table(path, name, dialect)
        return looks(opened, dialect, told, asked(opened.table.columns))
    import polars as pl

    try:
        _sniff(path, kind, dialect)
        schema = kind.schema(path)
        _demand_names(schema, name)
        return fitting.looks(pl.DataFrame(schema=schema), kind.cells, name, dialect, told)
    except (pl.exceptions.PolarsError, OSError, ValueError) as error:
        raise UnreadableError(f"is not a readable {kind.name} file: {_first_line(error)}", where=name, hint=BROKEN) from error


def _peek_at_text(
    path: Path,
    name: str,
    kind: Format,
    dialect: Dialect,
    told: Mapping[str, Column],
    asked: Callable[[Sequence[str]], Sequence[str]],
) -> FileLooks:
    """Only the columns that matter are read; of none, the head tells all."""
    assert kind.head is not None, "only such a format is asked"
    with _plain_errors(kind, name):
        _sniff(path, kind, dialect)
        columns = kind.head(path, dialect)
    _demand_names(columns, name)
    matter = list(asked(columns))
    found = looks(open_table(path, name, dialect, matter), dialect, told, matter).columns if matter else {}
    return FileLooks(name, {column: found.get(column, ColumnLooks()) for column in columns})


def looks(opened: OpenedFile, dialect: Dialect, told: Mapping[str, Column], asked: Collection[str] | None = None) -> FileLooks:
    """What the columns of an opened file look like; see ``fitting.looks``."""
    return fitting.looks(opened.table, opened.cells, opened.name, dialect, told, asked)


def fit_columns(opened: OpenedFile, kind: TableType, dialect: Dialect) -> tuple[pl.DataFrame, list[Misfit]]:
    """An opened file's columns as the types of its dataset, and what does not fit."""
    return fitting.fit(opened.table, opened.cells, kind, dialect)


def typed_table(opened: OpenedFile, kind: TableType | None, dialect: Dialect) -> pl.DataFrame:
    """The table with the types of its dataset; without one, with those that the file itself shows.

    Raises DataError for the first column that does not fit, or whose dates may be read in two ways.
    """
    if kind is None:
        kind, undecided = judge_column_types.decide(None, TableType(), [looks(opened, dialect, {})])
        if undecided:
            raise DataError(undecided[0].text, where=opened.name, hint=WHICH)
    table, misfits = fit_columns(opened, kind, dialect)
    if misfits:
        first = misfits[0]
        raise DataError(first.text + (f": {first.example}" if first.example else ""), where=opened.name)
    return table


def read_table(
    path: Path, columns: Sequence[str] | None = None, *, name: str = "", kind: TableType | None = None, dialect: Dialect = PLAIN
) -> pl.DataFrame:
    """The table in a file; only ``columns`` when they are named.

    Raises DataError when it is missing, empty, cut off, of another format, lacks a column, or does not fit its dataset.
    """
    where = name or str(path)
    try:
        opened = open_table(path, name, dialect, columns)
    except UnreadableError:
        if columns is None:
            raise
        opened = open_table(path, name, dialect)  # readers tell of a column that is not there in words of their own
    if columns is not None:
        if not set(columns) <= set(opened.table.columns):
            opened = open_table(path, name, dialect)  # readers leave out what nobody asked for: the error names all there are
        opened = OpenedFile(_select(opened.table, columns, where), opened.cells, where)
    return typed_table(opened, kind, dialect)


def read_tables(files: Sequence[DatasetFile], kind: TableType | None = None, dialect: Dialect = PLAIN) -> pl.DataFrame:
    """The files one below the other, in the given order; columns by name.

    With a ``kind``, each has its columns, and those that a file has not are empty. Raises DataError when a file does not fit.
    """
    import polars as pl

    opened = [open_table(each.path, each.name, dialect) for each in files]
    if kind is None:
        kind = together(opened, dialect)
        _demand_alike(opened)
    order = list(kind.columns) or opened[0].table.columns
    held = {name: fitting.dtype_of(kind.columns[name]) for name in order if name in kind.columns}
    parts = []
    for each in opened:
        table = typed_table(each, kind, dialect)
        if table.width:
            lacking = [pl.lit(None, dtype=held[name]).alias(name) for name in order if name not in table.columns]
            parts.append(table.with_columns(lacking).select(order))
    if not parts:
        return pl.DataFrame(schema=held)
    try:
        return pl.concat(parts, how="vertical_relaxed")
    except pl.exceptions.PolarsError as error:
        names = ", ".join(each.name for each in files[:3])
        raise DataError(f"the files do not fit together: {_first_line(error)}", where=names) from error


def together(opened: Sequence[OpenedFile], dialect: Dialect) -> TableType:
    """The type that files without a contract and a history have together. Raises DataError for dates that are ambiguous."""
    kind, undecided = judge_column_types.decide(None, TableType(), [looks(each, dialect, {}) for each in opened])
    if undecided:
        raise DataError(undecided[0].text, where=undecided[0].file, hint=WHICH)
    return kind


def _demand_alike(opened: Sequence[OpenedFile]) -> None:
    first = opened[0]
    for each in opened:
        words = difference(first.table.columns, each.table.columns)
        if words:
            raise DataError(f"{words}, compared with {first.name}", where=each.name)


def difference(first: Iterable[str], columns: Iterable[str]) -> str:
    """What sets the columns of two tables apart, in words; nothing when they are the same."""
    lacking, extra = sorted(set(first) - set(columns)), sorted(set(columns) - set(first))
    words = [f"lacks {', '.join(lacking)}" if lacking else "", f"has {', '.join(extra)} besides" if extra else ""]
    return " and ".join(filter(None, words))


def _sniff(path: Path, kind: Format, dialect: Dialect) -> None:
    """Say in plain words what a library would say in its own."""
    begin, end = _ends(path)
    if not begin:
        raise DataError("is empty (0 bytes)", where=str(path), hint=BROKEN)
    if kind.magic is None:
        wide = dialect.encoding.lower().replace("_", "-").startswith(("utf-16", "utf-32"))
        if begin.startswith(WIDE) and not wide and path.suffix.lower() not in PACKED:
            hint = "Say how it is written, in noria.yaml: data: {NAME: {csv: {encoding: utf-16}}}; or save it as utf-8."
            raise DialectError(f"looks like utf-16 text, but is read as {dialect.encoding}", where=str(path), hint=hint)
        if b"\0" in begin and not wide and path.suffix.lower() not in PACKED:
            raise DataError(
                f"is named {path.suffix} but is not text", where=str(path), hint="Correct its name, or write it again."
            )
        return
    if not begin.startswith(kind.magic):
        raise DataError(
            f"is named {path.suffix} but is not a {kind.name} file", where=str(path), hint="Correct its name, or write it again."
        )
    if not end.endswith(kind.magic):
        raise DataError(f"is cut off: the end of a {kind.name} file is missing", where=str(path), hint=BROKEN)


def _ends(path: Path) -> tuple[bytes, bytes]:
    """The first 4096 bytes and the last 8."""
    try:
        with path.open("rb") as file:
            begin = file.read(4096)
            file.seek(0 if len(begin) < 16 else -8, os.SEEK_END if len(begin) >= 16 else os.SEEK_SET)
            return begin, file.read(8)
    except FileNotFoundError:
        raise _vanished_error(str(path)) from None
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=str(path)) from error


def _select(table: pl.DataFrame, columns: Sequence[str], where: str) -> pl.DataFrame:
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise DataError(f"has no column {', '.join(missing)}; it has {', '.join(table.columns)}", where=where)
    return table.select(columns)


def _suffix_hint() -> str:
    return f"Known: {' '.join(_by_suffix)}, and .csv.gz. For files that are not tables, set `format: files`."


def _vanished_error(where: str) -> DataError:
    return DataError("does not exist (any more)", where=where, hint=BROKEN)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
