"""CSV and TSV, also packed with gzip or zstd: every cell as the text that it is written as.

What the texts mean is for ``texts`` and ``data.judge_column_types``. An empty cell is missing, quoted or not.
"""

from __future__ import annotations

import csv
import functools
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noria.data.formats import memory
from noria.data.formats.format import DialectError, Format, PartedTable, UnreadableError, ValueSyntax, demand_once
from noria.kernel.dialect import Dialect
from noria.kernel.errors import DataError
from noria.kernel.words import plural

if TYPE_CHECKING:
    import polars as pl

BLOCK_BYTES = 4 << 20  # of text, parsed at once
TEXT_TIMES = 8  # what a table takes at its peak, in sizes of its text: cells as text and as values
PACKED_TIMES = 5
HEAD_BYTES = 1 << 16  # of a file that may be a head alone
SEPARATORS = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a bar"}
UNNAMED = "column_{}"  # a column whose head is empty, by its place from 1: the index that pandas writes is column_1
Odd = Callable[[int, str, str], None]  # the number of a row with too many or too few values, why, and its text


class RowHandler:
    """What Arrow asks about a row that has too many or too few values.

    Arrow hands over the row's text, and prints a trace where that is none. That error is kept instead, as ``undecodable``.
    """

    def __init__(self, judge: Callable[[Any], str]) -> None:
        self.judge = judge
        self.undecodable: BaseException | None = None
        _hear_traces()

    def __call__(self, row: Any) -> str:
        return self.judge(row)


@functools.cache
def _hear_traces() -> None:
    """Once in a process: what Arrow would print of a RowHandler goes to it; all else is printed as ever."""
    before = sys.unraisablehook

    def hear(trace: sys.UnraisableHookArgs) -> None:
        if isinstance(trace.object, RowHandler) and isinstance(trace.exc_value, UnicodeError):
            trace.object.undecodable = trace.exc_value
        else:
            before(trace)

    sys.unraisablehook = hear


def read(path: Path, dialect: Dialect, columns: Sequence[str] | None, *, comma: str) -> pl.DataFrame:
    """The table, all text."""
    import polars as pl

    separator, names = dialect.separator or comma, columns_of(path, dialect, comma=comma)
    wanted = [name for name in names if columns is None or name in columns]

    tables: list[pl.DataFrame] = []
    size, limit = 0, memory.most(path.stat().st_size)
    for batch in batches(path, dialect, separator, names, wanted, _refuse(path)):
        size += int(batch.estimated_size())
        if size > limit:
            memory.demand(path, size)
        tables.append(batch)
    return pl.concat(tables) if tables else pl.DataFrame(schema=dict.fromkeys(wanted, pl.String()))


def _refuse(path: Path) -> Odd:
    def refuse(number: int, reason: str, _: str) -> None:
        raise DataError(f"row {number:,} {reason}", where=str(path), hint="Correct that row, or deliver the complete file again.")

    return refuse


def in_parts(path: Path, dialect: Dialect, *, comma: str) -> PartedTable | None:
    """A large table, a part at a time."""
    packed = PACKED_TIMES if path.suffix.lower() in memory.PACKINGS else 1
    if path.stat().st_size * packed * TEXT_TIMES < memory.PARTED_FROM_BYTES:
        return None
    separator, names = dialect.separator or comma, columns_of(path, dialect, comma=comma)
    return PartedTable(tuple(names), lambda columns: _read_parts(path, dialect, separator, names, columns))


def _read_parts(
    path: Path, dialect: Dialect, separator: str, names: Sequence[str], columns: Sequence[str] | None
) -> Iterator[pl.DataFrame]:
    import polars as pl

    wanted = [name for name in names if columns is None or name in columns]
    held: list[pl.DataFrame] = []
    yielded, size = False, 0
    for batch in batches(path, dialect, separator, names, wanted, _refuse(path)):
        held.append(batch)
        size += int(batch.estimated_size())
        if size >= memory.PART_BYTES:
            yield pl.concat(held)
            held, yielded, size = [], True, 0
    if held or not yielded:
        yield pl.concat(held) if held else pl.DataFrame(schema=dict.fromkeys(wanted, pl.String()))


def write(table: pl.DataFrame, path: Path, dialect: Dialect, *, comma: str) -> None:
    """Write the texts as cells, packed where the suffix says so."""
    import pyarrow as pa

    separator = dialect.separator or comma
    if dialect.quote:
        text = table.write_csv(separator=separator, quote_char=dialect.quote)
    else:
        text = table.write_csv(separator=separator, quote_style="never")
    with pa.output_stream(str(path), compression="detect") as stream:
        stream.write(text.encode(dialect.encoding))


def head(path: Path, dialect: Dialect, separator: str) -> list[str]:
    """The names of the columns; one that has none is named by its place. Raises DataError when two are the same."""
    import pyarrow as pa
    import pyarrow.csv as pc

    try:
        with _open_stream(path, dialect) as stream:
            options = parsing(dialect, separator, invalid_row_handler=RowHandler(lambda _: "skip"))
            found: list[str] = pc.open_csv(stream, _reading(dialect), options).schema.names
    except pa.ArrowInvalid as error:
        found = _lone_head(path, dialect, separator)
        if not found:
            raise UnreadableError(f"is not a readable csv file: {str(error).splitlines()[0]}", where=str(path)) from error
    names = [name if name.strip() else UNNAMED.format(at) for at, name in enumerate(found, 1)]
    demand_once(names, path)
    return names


def columns_of(path: Path, dialect: Dialect, *, comma: str) -> list[str]:
    """The names of the columns. Raises DataError also where they are separated otherwise than they are read."""
    separator = dialect.separator or comma
    names = head(path, dialect, separator)
    _demand_separated(path, names, separator, dialect)
    return names


def _lone_head(path: Path, dialect: Dialect, separator: str) -> list[str]:
    """The head of a file that ends with it, without a line break."""
    with _open_stream(path, dialect) as stream:
        content = stream.read(HEAD_BYTES)
    with _decoding(path, dialect):
        text = content.decode(dialect.encoding).removeprefix("\ufeff")
    lines = [line for line in text.splitlines() if line.strip()]
    return next(csv.reader(lines, delimiter=separator), []) if len(lines) == 1 else []


def batches(
    path: Path, dialect: Dialect, separator: str, names: Sequence[str], wanted: Sequence[str], odd: Odd
) -> Iterator[pl.DataFrame]:
    """Pieces of the table in their order; rows that have too many or too few values are told to ``odd`` and left out.

    ``odd`` is told of rows of a piece before the piece comes.
    """
    import polars as pl
    import pyarrow as pa
    import pyarrow.csv as pc

    stopped: list[DataError] = []

    def note(row: Any) -> str:
        reason = f"has {plural(row.actual_columns, 'value')} where the head has {plural(row.expected_columns, 'column')}"
        try:
            odd(row.number - 1, reason, row.text)
        except DataError as error:  # what is raised here would be lost
            stopped.append(error)
            return "error"
        return "skip"

    handler = RowHandler(note)
    ignore = len(names) > 1  # of one column, an empty line is a row without a value
    converting = pc.ConvertOptions(
        column_types=dict.fromkeys(_places(len(names)), pa.string()),
        include_columns=[_places(len(names))[names.index(name)] for name in wanted],
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=True,
    )
    reading = _reading(dialect, _places(len(names)))
    try:
        with _open_stream(path, dialect) as stream, _decoding(path, dialect):
            parse = parsing(dialect, separator, ignore_empty_lines=ignore, invalid_row_handler=handler)
            first = True
            for batch in pc.open_csv(stream, reading, parse, converting):
                table = pl.DataFrame(pl.from_arrow(batch)).rename(dict(zip(batch.schema.names, wanted, strict=True)))
                yield table[1:] if first else table
                first = False
    except pa.ArrowInvalid as error:
        if stopped:
            raise stopped[0] from None
        if handler.undecodable is not None:
            raise _undecodable_error(handler.undecodable, path, dialect) from error
        if "Empty CSV" not in str(error):  # Arrow has no class for it
            hint = _hint(error, dialect)
            kind = UnreadableError if hint is None else DialectError
            raise kind(f"is not a readable csv file: {_words(error)}", where=str(path), hint=hint) from error


def _places(count: int) -> list[str]:
    """Names for columns that are sure to differ."""
    return [str(at) for at in range(count)]


def parsing(dialect: Dialect, separator: str, **more: Any) -> Any:
    """The options with which cells are told apart."""
    import pyarrow.csv as pc

    return pc.ParseOptions(delimiter=separator, quote_char=dialect.quote or False, newlines_in_values=True, **more)


def _reading(dialect: Dialect, names: Sequence[str] | None = None) -> Any:
    import pyarrow.csv as pc

    return pc.ReadOptions(use_threads=False, block_size=BLOCK_BYTES, encoding=dialect.encoding, column_names=names)


@contextmanager
def _open_stream(path: Path, dialect: Dialect) -> Iterator[Any]:
    import pyarrow as pa

    with _decoding(path, dialect), pa.input_stream(str(path), compression="detect") as stream:
        yield stream


@contextmanager
def _decoding(path: Path, dialect: Dialect) -> Iterator[None]:
    try:
        yield
    except UnicodeError as error:
        raise _undecodable_error(error, path, dialect) from error


def _undecodable_error(error: BaseException, path: Path, dialect: Dialect) -> DialectError:
    return DialectError(f"is not {dialect.encoding} text: {_words(error)}", where=str(path), hint=_hint(error, dialect))


def _words(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def _hint(error: BaseException, dialect: Dialect) -> str | None:
    if isinstance(error, UnicodeError) or "UTF8" in str(error):  # Arrow has no class for it
        other = "cp1252" if dialect.encoding == "utf-8" else "utf-8"
        say = f"data: {{NAME: {{csv: {{encoding: {other}}}}}}}"
        return f"Say how it is written, in noria.yaml: {say}; or save it as {dialect.encoding}."
    return None


def _demand_separated(path: Path, names: Sequence[str], separator: str, dialect: Dialect) -> None:
    """One column whose name holds another separator: the whole line was taken for a name."""
    if len(names) != 1 or dialect.separator:
        return
    other = next((mark for mark in SEPARATORS if mark != separator and mark in names[0]), None)
    if other is not None:
        written = "\\t" if other == "\t" else other
        raise DialectError(
            f"its columns look separated by {SEPARATORS[other]}, not by {SEPARATORS[separator]}: {names[0][:80]}",
            where=str(path),
            hint=f'Say so in noria.yaml: data: {{NAME: {{csv: {{separator: "{written}"}}}}}}.',
        )


def _format(suffix: str, comma: str) -> Format:
    reading, parting = functools.partial(read, comma=comma), functools.partial(in_parts, comma=comma)
    writing = functools.partial(write, comma=comma)
    return Format(
        (suffix,), reading, ValueSyntax.TEXT, head=functools.partial(columns_of, comma=comma), in_parts=parting, write=writing
    )


FORMATS = (_format(".csv", ","), _format(".tsv", "\t"))
