"""Table formats by suffix: one file each. A new one is a module here with a ``FORMATS`` line, or a call of ``register``."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from noria.adapters.formats import arrow, delimited, json_lines, parquet
from noria.adapters.formats.format import Format
from noria.errors import DataError

if TYPE_CHECKING:  # reading loads Polars; asking for a format does not
    import polars as pl

PACKED = (".gz", ".zst")  # may follow a suffix: a.csv.gz
BROKEN = "Deliver it again, whole; rename it into place when it is complete."


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


def read_table(path: Path, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """The table in a file, by its suffix; only ``columns`` when they are named.

    Raises DataError when it is missing, empty, cut off, of another format, or lacks a column.
    """
    where = str(path)
    kind = of(path.name)
    if kind is None:
        raise DataError(f"{path.suffix or 'a file without a suffix'} is not a table format", where=where, hint=_known())
    _sniff(path, kind)
    import polars as pl

    try:
        table = kind.read(path)
    except FileNotFoundError:
        raise _vanished(where) from None
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError) as error:
        raise DataError(f"is not a readable {kind.name} file: {_first_line(error)}", where=where, hint=BROKEN) from error
    return table if columns is None else _select(table, columns, where)


def read_tables(paths: Sequence[Path]) -> pl.DataFrame:
    """The files one below the other, in the given order; columns by name, types widened where they differ.

    Raises DataError when a file has other columns than the first.
    """
    import polars as pl

    tables = [read_table(path) for path in paths]
    first = tables[0]
    for path, table in zip(paths, tables, strict=True):
        if set(table.columns) != set(first.columns):
            raise DataError(f"{_difference(first.columns, table.columns)}, compared with {paths[0].name}", where=str(path))
    try:
        return pl.concat([table.select(first.columns) for table in tables], how="vertical_relaxed")
    except pl.exceptions.PolarsError as error:
        raise DataError(f"the files do not fit together: {_first_line(error)}", where=str(paths[0])) from error


def _difference(first: Iterable[str], columns: Iterable[str]) -> str:
    lacking, extra = sorted(set(first) - set(columns)), sorted(set(columns) - set(first))
    words = [f"lacks {', '.join(lacking)}" if lacking else "", f"has {', '.join(extra)} besides" if extra else ""]
    return " and ".join(filter(None, words))


def _sniff(path: Path, kind: Format) -> None:
    """Say in plain words what a library would say in its own."""
    begin, end = _ends(path)
    if not begin:
        raise DataError("is empty (0 bytes)", where=str(path), hint=BROKEN)
    if kind.magic is None:
        if b"\0" in begin and path.suffix.lower() not in PACKED:
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
        raise _vanished(str(path)) from None
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=str(path)) from error


def _select(table: pl.DataFrame, columns: Sequence[str], where: str) -> pl.DataFrame:
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise DataError(f"has no column {', '.join(missing)}; it has {', '.join(table.columns)}", where=where)
    return table.select(columns)


def _known() -> str:
    return f"Known: {' '.join(_by_suffix)}, and .csv.gz. Files that are no tables are kept with `format: files`."


def _vanished(where: str) -> DataError:
    return DataError("is not there (any more)", where=where, hint=BROKEN)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
