"""JSON: one object a line, or one list of objects."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from noria.data.formats import memory
from noria.data.formats.format import Format, ValueSyntax
from noria.kernel.dialect import Dialect

if TYPE_CHECKING:
    import polars as pl


def read_lines(path: Path, _: Dialect, __: Sequence[str] | None) -> pl.DataFrame:
    """The table of a file with one object a line."""
    import polars as pl

    content = memory.read_unpacked(path)
    return pl.read_ndjson(content, infer_schema_length=None) if content.strip() else pl.DataFrame()


def read_list(path: Path, _: Dialect, __: Sequence[str] | None) -> pl.DataFrame:
    """The table of a file with one list of objects."""
    import polars as pl

    content = memory.read_unpacked(path)
    return pl.read_json(content, infer_schema_length=None) if content.strip() != b"[]" else pl.DataFrame()


def write_lines(table: pl.DataFrame, path: Path, _: Dialect) -> None:
    """One object a line, packed where the suffix says so."""
    _write(table.write_ndjson(), path)


def write_list(table: pl.DataFrame, path: Path, _: Dialect) -> None:
    """One list of objects, packed where the suffix says so."""
    _write(table.write_json(), path)


def _write(text: str, path: Path) -> None:
    import pyarrow as pa

    with pa.output_stream(str(path), compression="detect") as stream:
        stream.write(text.encode())


FORMATS = (
    Format((".ndjson", ".jsonl"), read_lines, ValueSyntax.JSON, write=write_lines),
    Format((".json",), read_list, ValueSyntax.JSON, write=write_list),
)
