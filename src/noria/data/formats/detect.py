"""How is a text file written? A guess at separator, encoding and decimal point, for `noria init` and files to be scored."""

from __future__ import annotations

import codecs
import csv
import io
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from noria.data.formats import delimited, texts
from noria.data.table import NULL_WORDS
from noria.kernel.dialect import Dialect
from noria.kernel.errors import DataError

if TYPE_CHECKING:
    import polars as pl

PIECE_BYTES = 1 << 20
HEAD_LINES = 50  # that the separator is judged by
SAMPLED = 10_000  # rows that the decimal point is judged by
BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
COMMA = r"^-?(0|[1-9][0-9]*),[0-9]+$"
THOUSANDS = r"^-?[1-9][0-9]{0,2}(,[0-9]{3})+$"
WHOLE = r"^-?(0|[1-9][0-9]*)$"


def comma(path: Path) -> str:
    """What separates cells, by the suffix."""
    return "\t" if ".tsv" in path.name.lower() else ","


def detect(path: Path, comma: str) -> Dialect:
    """How the file looks to be written; ``comma`` is what separates cells by its suffix.

    Raises DataError when it cannot be read.
    """
    encoding = _encoding(path)
    separator = _separator(_lines(path, encoding), comma)
    made = Dialect(separator="" if separator == comma else separator, encoding=encoding)
    return Dialect(made.separator, encoding, _decimal(path, made, separator))


def _encoding(path: Path) -> str:
    """UTF-8 if it is, UTF-16 if it says so or every second byte of its beginning is zero; else cp1252, as Windows writes."""
    import pyarrow as pa

    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        with pa.input_stream(str(path), compression="detect") as stream:
            piece = stream.read(PIECE_BYTES)
            for mark, encoding in BOMS:
                if piece.startswith(mark):
                    return encoding
            if len(piece) > 3 and piece[1:200:2].strip(b"\0") == b"":
                return "utf-16-le"
            while piece:
                decoder.decode(piece)
                piece = stream.read(PIECE_BYTES)
            decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return "cp1252"
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"cannot be read: {str(error).splitlines()[0]}", where=str(path)) from error
    return "utf-8"


def _lines(path: Path, encoding: str) -> list[str]:
    import pyarrow as pa

    with pa.input_stream(str(path), compression="detect") as stream:
        content = stream.read(PIECE_BYTES)
    text = content.decode(encoding, errors="replace").removeprefix("\ufeff")
    return [line for line in text.splitlines()[:HEAD_LINES] if line.strip()]


def _separator(lines: list[str], comma: str) -> str:
    """What splits all lines into the same number of cells, more than one; the one by the suffix if it does."""
    marks = dict.fromkeys([comma, *delimited.SEPARATORS])
    found = {mark: _cells(lines, mark) for mark in marks}
    best = max(marks, key=lambda mark: (found[mark][0] > 1, found[mark][1], mark == comma, found[mark][0]), default=comma)
    return best if found[best][0] > 1 else comma


def _cells(lines: list[str], mark: str) -> tuple[int, float]:
    """How many cells the head has, and the share of lines that have as many."""
    counts = [len(row) for row in csv.reader(io.StringIO("\n".join(lines)), delimiter=mark) if row]
    if not counts:
        return 0, 0.0
    return counts[0], Counter(counts)[counts[0]] / len(counts)


def _decimal(path: Path, dialect: Dialect, separator: str) -> str:
    """A comma where a column holds numbers with one, and none with a point."""
    names = delimited.head(path, dialect, separator)
    table = next(delimited.batches(path, dialect, separator, names, names, lambda *_: None), None)
    if table is None:
        return "."
    columns = [column.head(SAMPLED).drop_nulls().str.strip_chars() for column in table.get_columns()]
    return "," if any(_has_commas(column) for column in columns) and not any(_has_points(column) for column in columns) else "."


def _has_commas(column: pl.Series) -> bool:
    values = column.filter(~column.is_in(list(NULL_WORDS)))
    commas = values.str.contains(COMMA)
    thousands = values.str.contains(THOUSANDS)
    numbers = commas | values.str.contains(WHOLE)
    return bool(commas.any()) and bool(numbers.all()) and not bool(thousands.filter(commas).all())


def _has_points(column: pl.Series) -> bool:
    values = column.filter(~column.is_in(list(NULL_WORDS)))
    points = values.str.contains(r"[.]")
    return bool(points.any()) and bool(values.str.contains(texts.number(".")).all())
