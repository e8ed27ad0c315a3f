"""Files of rows to be scored: read in pieces, and checked against a signature as requests are."""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from msgspec.structs import replace

from noria.data import formats
from noria.data.formats import delimited, detect, texts
from noria.data.table import Column
from noria.data.table import ColumnKind as Type
from noria.kernel.dialect import PLAIN, Dialect
from noria.kernel.errors import BadBodyError, DataError, SignatureError
from noria.models.signature import Input, Kind, Signature
from noria.serving import protocol

SHOWN = 60  # characters of a value in a reason
EXACT = 2**53  # the whole numbers that a double holds
COLUMNS = {  # signature's kinds as types of text
    Kind.STRING: Column(Type.STRING, said=True),
    Kind.NUMBER: Column(Type.FLOAT, said=True),
    Kind.INTEGER: Column(Type.INT, said=True),
    Kind.BOOLEAN: Column(Type.BOOL, said=True),
}
DTYPES = {Kind.STRING: pl.String(), Kind.NUMBER: pl.Float64(), Kind.INTEGER: pl.Int64(), Kind.BOOLEAN: pl.Boolean()}
WORDS = {Kind.STRING: "text", Kind.NUMBER: "a number", Kind.INTEGER: "a whole number", Kind.BOOLEAN: "true or false"}
FORMATS = ("parquet", "csv", "tsv", "jsonl", "ndjson", "json", "arrow", "ipc", "feather")


class InputFile(msgspec.Struct, frozen=True):
    """A file: ``name`` as people know it, ``path`` where its bytes are, ``kind`` the suffix that tells its format."""

    name: str
    path: Path
    kind: str
    digest: str = ""
    dialect: Dialect | None = None  # how a text file is written; None: as it looks


class RefusedRow(msgspec.Struct, frozen=True):
    """A row that has no answer: its number in its file, from 1, and why."""

    row: int
    reason: str
    record: Any


class RowChunk(msgspec.Struct):
    """Some rows of a file in order. ``numbers`` are those of the rows of ``table``, from 1; ``end``: rows of the file that are
    done with this chunk. ``inputs`` has the signature's columns of the same rows."""

    numbers: list[int]
    table: pl.DataFrame
    inputs: pl.DataFrame
    end: int
    refused: list[RefusedRow] = []


def kind_of(name: str) -> str:
    """The suffix that tells a file's format, without that of its packing. Raises DataError for what is no table."""
    path = Path(name.lower())
    suffix = Path(path.stem).suffix if path.suffix in formats.PACKED else path.suffix
    kind = {".pq": "parquet"}.get(suffix, suffix.removeprefix("."))
    if kind not in FORMATS:
        hint = f"Known: {', '.join(f'.{k}' for k in FORMATS)}; csv and jsonl also as .gz and .zst."
        raise DataError(f"{path.suffix or 'a file without a suffix'} is not a table format", where=name, hint=hint)
    return kind


def count(source: InputFile) -> int | None:
    """How many rows there are, about; None where only reading would tell. Raises DataError for a damaged file."""
    if source.kind == "parquet":
        with _readable(source):
            return int(pq.ParquetFile(source.path).metadata.num_rows)
    if source.kind not in ("csv", "tsv", "jsonl", "ndjson") or _is_packed(source.path):
        return None
    with source.path.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))


def chunks(source: InputFile, signature: Signature, start: int, size: int, carried: Sequence[str] | None) -> Iterator[RowChunk]:
    """The rows behind the first ``start``, ``size`` at a time, with the columns ``carried`` (all of them when None).

    Raises DataError when the file is damaged, or lacks a column, or has one whose type the signature does not take.
    """
    with _readable(source):
        yield from _READERS[source.kind](source, signature, start, size, carried)


@contextmanager
def _readable(source: InputFile) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, pl.exceptions.PolarsError, OSError, EOFError) as error:
        text = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
        raise DataError(f"is not a readable {source.kind} file: {text}", where=source.name) from error


# --- one reader a format


def _parquet(source: InputFile, signature: Signature, start: int, size: int, carried: Sequence[str] | None) -> Iterator[RowChunk]:
    file = pq.ParquetFile(source.path)
    columns = _choose_columns(source, file.schema_arrow.names, signature, carried)
    groups: list[int] = []
    before = 0
    for group in range(file.num_row_groups):
        rows = file.metadata.row_group(group).num_rows
        if start >= before + rows and not groups:
            before += rows
        else:
            groups.append(group)
    if groups:
        yield from _batch_chunks(source, file.iter_batches(size, groups, columns), signature, start, before, size)
    elif start == 0:
        yield _hollow(source, file.schema_arrow.empty_table().select(columns), signature)


def _arrow(source: InputFile, signature: Signature, start: int, size: int, carried: Sequence[str] | None) -> Iterator[RowChunk]:
    with pa.memory_map(str(source.path)) as mapped:
        file = pa.ipc.open_file(mapped)
        columns = _choose_columns(source, file.schema.names, signature, carried)
        batches = (file.get_batch(i).select(columns) for i in range(file.num_record_batches))
        yield from _batch_chunks(source, batches, signature, start, 0, size)
        if file.num_record_batches == 0:
            yield _hollow(source, file.schema.empty_table().select(columns), signature)


def _batch_chunks(
    source: InputFile, batches: Any, signature: Signature, start: int, before: int, size: int
) -> Iterator[RowChunk]:
    """Chunks of batches whose first row is row ``before`` of the file."""
    at = before
    for batch in batches:
        for offset in range(0, batch.num_rows, size):
            piece = batch.slice(offset, size)
            skip = max(0, start - at)
            at += piece.num_rows
            if skip < piece.num_rows:
                table = pl.DataFrame(pl.from_arrow(piece.slice(skip)))
                first = at - table.height + 1
                yield _judge_chunk(source, table, signature, list(range(first, at + 1)), at)


def _csv(source: InputFile, signature: Signature, start: int, size: int, carried: Sequence[str] | None) -> Iterator[RowChunk]:
    """Everything is read as text: inputs become what the signature says, other columns stay as they are written."""
    comma = "\t" if source.kind == "tsv" else ","
    dialect = source.dialect or detect.detect(source.path, comma)
    separator = dialect.separator or comma
    odd: dict[int, str] = {}  # rows with too many or too few values
    texts_of: dict[int, str] = {}

    def note(number: int, reason: str, text: str) -> None:
        odd[number], texts_of[number] = reason, text

    names = delimited.head(source.path, dialect, separator)
    columns = _choose_columns(source, names, signature, carried)
    source = replace(source, dialect=dialect)
    done = 0
    for table in delimited.batches(source.path, dialect, separator, names, columns, note):
        numbers = list(itertools.islice((i for i in itertools.count(done + 1) if i not in odd), table.height))
        end = numbers[-1] if numbers else done
        for offset in range(0, table.height, size):
            piece = numbers[offset : offset + size]
            last = piece[-1]
            if last > start:
                keep = sum(n > start for n in piece)
                taken = table.slice(offset, size).tail(keep)
                made = _judge_chunk(source, taken, signature, piece[-keep:], last)
                made.refused += _odd(odd, texts_of, max(start, done), last)
                yield made
            done = last
        done = max(done, end)
    left = _odd(odd, texts_of, max(start, done), max(odd, default=0))
    if left or (done == 0 and start == 0):
        made = _hollow(source, pa.schema([(name, pa.string()) for name in columns]).empty_table(), signature)
        made.refused, made.end = left, max(odd, default=0)
        yield made


def _odd(odd: Mapping[int, str], texts: Mapping[int, str], after: int, last: int) -> list[RefusedRow]:
    return [RefusedRow(n, odd[n], texts[n]) for n in sorted(odd) if after < n <= last]


def _lines(source: InputFile, signature: Signature, start: int, size: int, carried: Sequence[str] | None) -> Iterator[RowChunk]:
    with pa.input_stream(str(source.path), compression="detect") as stream, io.BufferedReader(stream) as file:
        numbered = enumerate(file, 1)
        while lines := [(n, line) for n, line in itertools.islice(numbered, size) if line.strip()]:
            if lines[-1][0] > start:
                yield _records([_decode_line(n, line) for n, line in lines if n > start], signature, carried)


def _list(source: InputFile, signature: Signature, start: int, size: int, carried: Sequence[str] | None) -> Iterator[RowChunk]:
    """One list of objects: read whole, as JSON has to be."""
    try:
        found = msgspec.json.decode(source.path.read_bytes())
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataError(f"is not JSON: {error}", where=source.name) from error
    if not isinstance(found, list):
        raise DataError("must hold a list of objects", where=source.name, hint="One object a line is .jsonl.")
    for at in range(start, len(found), size):
        yield _records(list(enumerate(found[at : at + size], at + 1)), signature, carried)


_READERS = {
    "parquet": _parquet,
    "arrow": _arrow,
    "ipc": _arrow,
    "feather": _arrow,
    "csv": _csv,
    "tsv": _csv,
    "jsonl": _lines,
    "ndjson": _lines,
    "json": _list,
}


def _is_packed(path: Path) -> bool:
    return path.suffix.lower() in formats.PACKED


def _choose_columns(source: InputFile, names: Sequence[str], signature: Signature, carried: Sequence[str] | None) -> list[str]:
    """The columns to read. Raises DataError naming those that are missing."""
    missing = [i.name for i in signature.inputs if i.name not in names] + [c for c in carried or () if c not in names]
    if missing:
        has = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
        raise DataError(f"has no column {', '.join(dict.fromkeys(missing))}", where=source.name, hint=f"It has: {has}.")
    inputs = {i.name for i in signature.inputs}
    return [name for name in names if carried is None or name in carried or name in inputs]


# --- the check


def _judge_chunk(source: InputFile, table: pl.DataFrame, signature: Signature, numbers: list[int], end: int) -> RowChunk:
    """A chunk of a table: rows that the signature does not take are refused with their reasons."""
    inputs, problems = [], dict[int, list[str]]()
    for spec in signature.inputs:
        made, bad = _convert_column(source, table[spec.name], spec)
        inputs.append(made)
        for position, reason in _problems(table[spec.name], made, bad, spec):
            problems.setdefault(position, []).append(reason)
    frame = pl.DataFrame(inputs)
    if not problems:
        return RowChunk(numbers, table, frame, end)
    refused = [RefusedRow(numbers[p], "; ".join(problems[p]), _plain(table.row(p, named=True))) for p in sorted(problems)]
    keep = [p for p in range(table.height) if p not in problems]
    return RowChunk([numbers[p] for p in keep], table[keep], frame[keep], end, refused)


def _convert_column(source: InputFile, series: pl.Series, spec: Input) -> tuple[pl.Series, pl.Series]:
    """The column as the signature has it, and which values are not of its kind: null there, as where there is none.

    Raises DataError for a type that has no such values.
    """
    kind, dtype = spec.kind, series.dtype
    if dtype == pl.String and source.kind in ("csv", "tsv"):
        return texts.convert(series, COLUMNS[kind], source.dialect or PLAIN)
    if dtype == pl.Null or dtype == DTYPES[kind]:
        made = series.cast(DTYPES[kind])
    elif kind is Kind.STRING and dtype in (pl.Categorical, pl.Enum):
        made = series.cast(pl.String)
    elif kind is Kind.NUMBER and dtype.is_numeric():
        made = series.cast(pl.Float64)
    elif kind is Kind.INTEGER and dtype.is_integer():
        made = series.cast(pl.Int64, strict=False)
    elif kind is Kind.INTEGER and dtype.is_numeric():
        whole = series.cast(pl.Float64)
        made = whole.set((whole != whole.floor()).fill_null(False), None).cast(pl.Int64, strict=False)
    else:
        raise DataError(f"column {spec.name} is {dtype}, where the release takes {WORDS[kind]}", where=source.name)
    nothing = series.is_null() | series.is_nan() if dtype.is_float() else series.is_null()
    return (made.fill_nan(None) if kind is Kind.NUMBER else made), made.is_null() & ~nothing


def _problems(given: pl.Series, made: pl.Series, bad: pl.Series, spec: Input) -> Iterator[tuple[int, str]]:
    """Position and reason of each value that a request could not carry."""
    for position in bad.arg_true():
        yield position, f"{spec.name} must be {WORDS[spec.kind]}, not {_render_value(given[position])}"
    if not spec.nullable:
        for position in (made.is_null() & ~bad).arg_true():
            yield position, f"{spec.name} must not be null"
    if spec.kind is Kind.NUMBER:
        for position in made.is_infinite().fill_null(False).arg_true():
            yield position, f"{spec.name} is infinite"


def _records(found: list[tuple[int, Any]], signature: Signature, carried: Sequence[str] | None) -> RowChunk:
    """A chunk of decoded objects, checked by the very code that checks requests."""
    names = [i.name for i in signature.inputs]
    refused = [RefusedRow(n, v.reason, v.text) for n, v in found if isinstance(v, _Broken)]
    objects = [(n, v) for n, v in found if not isinstance(v, _Broken)]
    refused += [RefusedRow(n, f"is no object: {_render_value(v)}", v) for n, v in objects if not isinstance(v, dict)]
    objects = [(n, v) for n, v in objects if isinstance(v, dict)]
    asked = [{name: v[name] for name in names if name in v} for _, v in objects]
    try:
        columns = protocol.columns(asked, signature) if asked else {name: [] for name in names}
    except SignatureError:
        bad = {p: reason for p, record in enumerate(asked) if (reason := _reason(record, signature))}
        refused += [RefusedRow(objects[p][0], reason, objects[p][1]) for p, reason in bad.items()]
        objects = [one for p, one in enumerate(objects) if p not in bad]
        columns = protocol.columns([r for p, r in enumerate(asked) if p not in bad], signature)
    types = {i.name: DTYPES[i.kind] for i in signature.inputs}
    inputs = pl.DataFrame([pl.Series(name, columns[name], dtype=types[name], strict=False) for name in names])
    table = _table([v for _, v in objects], carried)
    return RowChunk([n for n, _ in objects], table, inputs, found[-1][0], sorted(refused, key=lambda r: r.row))


def _reason(record: dict[str, Any], signature: Signature) -> str:
    try:
        protocol.columns([record], signature)
    except SignatureError as error:
        return error.message.replace("records[0].", "")
    return ""


class _Broken(msgspec.Struct, frozen=True):
    """A line that is not JSON."""

    text: str
    reason: str


def _decode_line(number: int, line: bytes) -> tuple[int, Any]:
    try:
        return number, protocol.parse(line)
    except BadBodyError as error:
        return number, _Broken(line.decode(errors="replace")[:1000].rstrip("\n"), error.message.replace("the body", "the line"))


def _table(records: Sequence[dict[str, Any]], carried: Sequence[str] | None) -> pl.DataFrame:
    """Objects as a table. Nothing is lost: values of several kinds, lists, objects and huge numbers become JSON text."""
    names = list(carried) if carried is not None else list(dict.fromkeys(k for r in records for k in r))
    if not names:
        return pl.DataFrame(height=len(records))
    return pl.DataFrame([_series(name, [record.get(name) for record in records]) for name in names])


def _series(name: str, values: list[Any]) -> pl.Series:
    kinds = {type(v) for v in values} - {type(None)}
    whole = all(-(2**63) <= v < 2**63 for v in values if type(v) is int)
    if kinds == {int, float} and all(abs(v) <= EXACT for v in values if type(v) is int):
        return pl.Series(name, values, dtype=pl.Float64, strict=False)
    if not kinds or (len(kinds) == 1 and kinds <= {str, int, float, bool} and whole):
        return pl.Series(name, values)
    texts = [v if v is None or isinstance(v, str) else json.dumps(v, ensure_ascii=False) for v in values]
    return pl.Series(name, texts, dtype=pl.String)


def _hollow(source: InputFile, table: Any, signature: Signature) -> RowChunk:
    """A chunk without a row: what tells the columns of a file that has none."""
    return _judge_chunk(source, pl.DataFrame(pl.from_arrow(table)), signature, [], 0)


def _render_value(value: Any) -> str:
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."


def _plain(record: dict[str, Any]) -> dict[str, Any]:
    """What JSON can hold: other values as text."""
    held: dict[str, Any] = json.loads(json.dumps(record, default=str))
    return held
