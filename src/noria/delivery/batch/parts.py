"""The work in progress of a scoring job: parts in a folder beside the output, a journal of them, and one file in the end.

key.json       what the job is: the digests of its inputs and of its release. Another job begins anew
journal.jsonl  one line for each part that is wholly on disk
NNNNNN.arrow   rows with their answers; NNNNNN.jsonl: rows that have none
done.json      the job's end, written before its output appears
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from noria.kernel import names
from noria.kernel.errors import DataError, UsageError
from noria.storage.disk import sync_path, write_whole

KEY, JOURNAL, DONE = "key.json", "journal.jsonl", "done.json"
SUFFIXES = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".arrow": "arrow",
    ".ipc": "arrow",
    ".feather": "arrow",
}


class BatchPart(msgspec.Struct, frozen=True):
    """A line of the journal: this part ends at row ``end`` of input file ``file``."""

    number: int
    file: int
    end: int
    rows: int
    refused: int
    digest: str  # of the rows with answers


class BatchParts:
    """The parts of one job."""

    def __init__(self, folder: Path, key: dict[str, Any]) -> None:
        """Keeps the parts of an interrupted job with the same key; deletes others."""
        self.folder = folder
        if not has_job(folder, key):
            clear(folder)
            write_whole(folder / KEY, _content(key))
        self.done = self._journal()
        self._remove_strays()

    @property
    def rows(self) -> int:
        return sum(part.rows for part in self.done)

    @property
    def refused(self) -> int:
        return sum(part.refused for part in self.done)

    def add(self, file: int, end: int, tables: Sequence[pl.DataFrame], refused: Sequence[dict[str, Any]]) -> None:
        """Adds a part, which is on disk when this returns; a part that is not in the journal does not count."""
        number = len(self.done) + 1
        rows = sum(t.height for t in tables)
        path = self.folder / f"{number:06}.arrow"
        pl.concat(tables, how="diagonal_relaxed").write_ipc(path, compression="lz4")
        sync_path(path)
        if refused:
            lines = b"".join(msgspec.json.encode(one) + b"\n" for one in refused)
            path.with_suffix(".jsonl").write_bytes(lines)
            sync_path(path.with_suffix(".jsonl"))
        part = BatchPart(number, file, end, rows, len(refused), names.digest_file(path))
        sync_path(self.folder)
        with (self.folder / JOURNAL).open("ab") as journal:
            journal.write(msgspec.json.encode(part) + b"\n")
            journal.flush()
            os.fsync(journal.fileno())
        self.done.append(part)

    def join(self, target: Path, last: Sequence[str]) -> None:
        """All parts as one file of the format that the suffix of ``target`` names, the columns ``last`` at its end; on disk."""
        paths = [self.folder / f"{part.number:06}.arrow" for part in self.done]
        for part, path in zip(self.done, paths, strict=True):
            if names.digest_file(path) != part.digest:
                raise DataError("a part of the scored rows was changed", where=str(path), hint="--restart starts again.")
        heads = [pl.scan_ipc(path).collect_schema() for path in paths]
        try:
            schema = pl.concat([pl.DataFrame(schema=h) for h in heads], how="diagonal_relaxed").schema
        except pl.exceptions.PolarsError as error:
            raise DataError(
                f"columns of the files do not fit together: {_first(error)}", hint="Name others: --columns"
            ) from error
        order = [n for n in schema if n not in last] + list(last)
        wanted = {n: pl.String() if schema[n] == pl.Null else schema[n] for n in order}
        tables = (_as(pl.read_ipc(path), wanted) for path in paths)
        try:
            write(target, wanted, tables)
        except (pl.exceptions.PolarsError, pa.ArrowException) as error:
            hint = "Name the columns to keep with --columns, or choose .parquet."
            raise DataError(f"cannot be written: {_first(error)}", where=target.name, hint=hint) from error
        sync_path(target)

    def write_rejected(self, target: Path) -> None:
        """Writes the rows without an answer, one JSON object on each line."""
        with target.open("wb") as file:
            for part in self.done:
                if part.refused:
                    with (self.folder / f"{part.number:06}.jsonl").open("rb") as lines:
                        shutil.copyfileobj(lines, file)
        sync_path(target)

    def _journal(self) -> list[BatchPart]:
        """Its whole lines, as far as they are in order: what a loss of power left behind them counts for nothing."""
        found: list[BatchPart] = []
        for line in _read(self.folder / JOURNAL).splitlines(keepends=True):
            try:
                part = msgspec.json.decode(line, type=BatchPart) if line.endswith(b"\n") else None
            except msgspec.DecodeError:
                part = None
            if part is None or part.number != len(found) + 1:
                break
            found.append(part)
        return found

    def _remove_strays(self) -> None:
        """Deletes files that are not parts."""
        content = b"".join(msgspec.json.encode(part) + b"\n" for part in self.done)
        if _read(self.folder / JOURNAL) != content:
            write_whole(self.folder / JOURNAL, content)


def kind_of(target: Path) -> str:
    """The format that a name asks for. Raises UsageError."""
    kind = SUFFIXES.get(target.suffix.lower())
    if kind is None:
        raise UsageError(f"{target.name} names no format to write", hint=f"End it in one of: {' '.join(SUFFIXES)}")
    return kind


def has_job(folder: Path, key: dict[str, Any]) -> bool:
    """Whether the folder holds this very job."""
    return _read(folder / KEY) == _content(key)


def any_in(folder: Path) -> bool:
    """Whether a part of some job is there."""
    return bool(_read(folder / JOURNAL))


def _content(key: dict[str, Any]) -> bytes:
    return json.dumps(key, sort_keys=True).encode()


def clear(folder: Path) -> None:
    """Deletes what an earlier job left, except the lock and an unpacked release."""
    for path in folder.iterdir():
        if path.suffix in (".arrow", ".jsonl", ".json", ".joined"):
            path.unlink()


def write(target: Path, schema: dict[str, pl.DataType], tables: Iterable[pl.DataFrame]) -> None:
    """Tables of one schema as one file, one after the other."""
    kind = SUFFIXES[Path(target.stem).suffix.lower()]  # OUTPUT.csv.joined
    if kind == "parquet":
        _arrow_file(tables, schema, lambda head: pq.ParquetWriter(target, head, compression="zstd"))
    elif kind == "arrow":
        _arrow_file(tables, schema, lambda head: pa.ipc.new_file(str(target), head))
    else:
        with target.open("wb") as file:
            _text_file(file, kind, schema, tables)


def _arrow_file(tables: Iterable[pl.DataFrame], schema: dict[str, pl.DataType], opened: Any) -> None:
    with opened(_arrow(pl.DataFrame(schema=schema)).schema) as writer:
        for table in tables:
            if table.height:
                writer.write_table(_arrow(table))


def _arrow(table: pl.DataFrame) -> Any:
    return table.to_arrow(compat_level=pl.CompatLevel.oldest())


def _text_file(file: BinaryIO, kind: str, schema: dict[str, pl.DataType], tables: Iterable[pl.DataFrame]) -> None:
    separator = "\t" if kind == "tsv" else ","
    if kind != "jsonl":
        _flat(pl.DataFrame(schema=schema)).write_csv(file, separator=separator)
    for table in tables:
        if kind == "jsonl":
            table.write_ndjson(file)
        else:
            _flat(table).write_csv(file, separator=separator, include_header=False)


def _flat(table: pl.DataFrame) -> pl.DataFrame:
    """Without nesting, for csv: ``probabilities.CLASS`` is a column each; other nested columns are JSON text."""
    made: list[pl.Series] = []
    for series in table:
        if isinstance(series.dtype, pl.Struct):
            made += [s.alias(f"{series.name}.{s.name}") for s in series.struct.unnest()]
        elif series.dtype.is_nested():
            texts = [None if v is None else json.dumps(v, default=str, ensure_ascii=False) for v in series.to_list()]
            made.append(pl.Series(series.name, texts, dtype=pl.String))
        else:
            made.append(series)
    return pl.DataFrame(made)


def _as(table: pl.DataFrame, schema: dict[str, pl.DataType]) -> pl.DataFrame:
    cells: Iterator[pl.Expr] = (
        pl.col(n).cast(t) if n in table.columns else pl.lit(None, dtype=t).alias(n) for n, t in schema.items()
    )
    return table.select(cells)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def _first(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
