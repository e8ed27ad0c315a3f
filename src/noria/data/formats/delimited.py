"""CSV and TSV, also packed with gzip or zstd: every cell as the text that it is written as.

What the texts mean is for ``texts`` and ``data.judge_column_types``. An empty cell is missing, quoted or not.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noria.data.formats import memory
from noria.data.formats.format import Format, UnreadableError, ValueSyntax, demand_once
from noria.kernel.dialect import Dialect
from noria.kernel.errors import DataError

if TYPE_CHECKING:
    import polars as pl

BLOCK_BYTES = 4 << 20  # of text, parsed at once
HEAD_BYTES = 1 << 16  # of a file that may be a head alone
SEPARATORS = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a bar"}
UNNAMED = "column_{}"  # a column whose head is empty, by its place from 1: the index that pandas writes is column_1
Odd = Callable[[int, str, str], None]  # the number of a row with too many or too few values, why, and its text


def read(path: Path, dialect: Dialect, columns: Sequence[str] | None, *, comma: str) -> pl.DataFrame:
    """The table, all text."""
    import polars as pl

    separator = dialect.separator or comma
    names = head(path, dialect, separator)
    _demand_separated(path, names, separator, dialect)
    wanted = [name for name in names if columns is None or name in columns]

    def refuse(number: int, reason: str, _: str) -> None:
        raise DataError(f"row {number:,} {reason}", where=str(path), hint="Correct that row, or deliver the file again, whole.")

    tables: list[pl.DataFrame] = []
    size, limit = 0, memory.most(path.stat().st_size)
    for batch in batches(path, dialect, separator, names, wanted, refuse):
        size += int(batch.estimated_size())
        if size > limit:
            memory.demand(path, size)
        tables.append(batch)
    return pl.concat(tables) if tables else pl.DataFrame(schema=dict.fromkeys(wanted, pl.String()))


def head(path: Path, dialect: Dialect, separator: str) -> list[str]:
    """The names of the columns; one that has none is named by its place. Raises DataError when two are the same."""
    import pyarrow as pa
    import pyarrow.csv as pc

    try:
        with _open_stream(path, dialect) as stream:
            options = parsing(dialect, separator, invalid_row_handler=lambda _: "skip")
            found: list[str] = pc.open_csv(stream, _reading(dialect), options).schema.names
    except pa.ArrowInvalid as error:
        found = _lone_head(path, dialect, separator)
        if not found:
            raise UnreadableError(f"is not a readable csv file: {str(error).splitlines()[0]}", where=str(path)) from error
    names = [name if name.strip() else UNNAMED.format(at) for at, name in enumerate(found, 1)]
    demand_once(names, path)
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
        reason = f"has {row.actual_columns} values where the head has {row.expected_columns} columns"
        try:
            odd(row.number - 1, reason, row.text)
        except DataError as error:  # what is raised here would be lost
            stopped.append(error)
            return "error"
        return "skip"

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
            parse = parsing(dialect, separator, ignore_empty_lines=ignore, invalid_row_handler=note)
            first = True
            for batch in pc.open_csv(stream, reading, parse, converting):
                table = pl.DataFrame(pl.from_arrow(batch)).rename(dict(zip(batch.schema.names, wanted, strict=True)))
                yield table[1:] if first else table
                first = False
    except pa.ArrowInvalid as error:
        if stopped:
            raise stopped[0] from None
        if "Empty CSV" not in str(error):  # Arrow has no class for it
            raise UnreadableError(
                f"is not a readable csv file: {_words(error)}", where=str(path), hint=_hint(error, dialect)
            ) from error


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
        raise DataError(
            f"is not {dialect.encoding} text: {_words(error)}", where=str(path), hint=_hint(error, dialect)
        ) from error


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
        raise DataError(
            f"its columns look separated by {SEPARATORS[other]}, not by {SEPARATORS[separator]}: {names[0][:80]}",
            where=str(path),
            hint=f'Say so in noria.yaml: data: {{NAME: {{csv: {{separator: "{written}"}}}}}}.',
        )


FORMATS = (
    Format((".csv",), partial(read, comma=","), ValueSyntax.TEXT),
    Format((".tsv",), partial(read, comma="\t"), ValueSyntax.TEXT),
)
