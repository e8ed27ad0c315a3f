"""What of an environment's prediction log stands in Parquet: one index file tells, and it alone makes it so.

    log/ENVIRONMENT/compacted.json                                 the index, replaced as a whole
    log/ENVIRONMENT/parquet/project=P/date=2026-11-21/*.parquet    predictions, by day (UTC)
    log/ENVIRONMENT/feedback/project=P/date=2026-11-21/*.parquet   labels, by the day on which they came
    log/ENVIRONMENT/incoming/                                      files on their way in

A segment is in Parquet from the moment the index names it; its `.plog` may stand a little longer and is not read any more.
A Parquet file that the index does not name is not there, for Noria: it was left behind by a process that died.
"""

from __future__ import annotations

import contextlib
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from noria.kernel.errors import StoreError
from noria.predictions.segments import WRITABLE
from noria.storage.disk import write_whole

if TYPE_CHECKING:
    from noria.predictions.records import Record

INDEX = "compacted.json"
FORMAT = 1
BATCH_BYTES = 64 << 20  # of segments that are compacted together; one that is larger comes alone
DAY_S = 86_400.0


class File(msgspec.Struct, frozen=True):
    """One Parquet file; ``path`` is relative to the log's folder."""

    path: str
    record: str  # prediction or feedback
    project: str
    date: str  # 2026-11-21, UTC
    rows: int
    size_bytes: int
    kinds: dict[str, str]  # inputs.NAME, outputs.NAME, label -> bool, int, float, number, text, json, null


class SegmentSize(msgspec.Struct, frozen=True):
    """How much a segment held."""

    rows: int
    size_bytes: int


class CompactedBatch(msgspec.Struct, frozen=True):
    """Segments that were compacted together, and the files that hold them now."""

    id: str
    segments: dict[str, SegmentSize]
    files: list[File]


class Index(msgspec.Struct, frozen=True):
    """``damaged``: segments that stay as they are, because not all of them can be read."""

    batches: list[CompactedBatch] = []
    damaged: list[str] = []
    format: int = FORMAT

    def files(self, record: str) -> list[File]:
        return [file for batch in self.batches for file in batch.files if file.record == record]


def read(folder: Path) -> Index:
    """The index of a log's folder; an empty one before the first compaction. Raises StoreError."""
    path = folder / INDEX
    try:
        index = msgspec.json.decode(path.read_bytes(), type=Index)
    except FileNotFoundError:
        return Index()
    except msgspec.DecodeError as error:
        raise StoreError(f"the index of the prediction log is damaged: {error}", where=str(path)) from error
    if index.format != FORMAT:
        raise StoreError(f"the prediction log was compacted by a later Noria (format {index.format})", where=str(path))
    return index


def write(folder: Path, index: Index) -> None:
    """Replace the index, to last. Raises DiskFullError."""
    write_whole(folder / INDEX, msgspec.json.encode(index))


def due(folder: Path, older_s: float = DAY_S, size_bytes: int = BATCH_BYTES) -> bool:
    """Whether there is enough to compact: a finished segment of that age, or so many bytes of them."""
    sizes, now = 0, time.time()
    for path in finished_segments(folder, read(folder).damaged):
        stat = path.stat()
        sizes += stat.st_size
        if sizes >= size_bytes or now - stat.st_mtime >= older_s:
            return True
    return False


def last_day(keep_s: float, now: float | None = None) -> str:
    """The last day, as 2026-11-21, that ended longer than ``keep_s`` ago."""
    moment = datetime.fromtimestamp((time.time() if now is None else now) - keep_s, UTC)
    return (moment.date() - timedelta(days=1)).isoformat()


def has_expired(folder: Path, keep_s: float) -> bool:
    """Whether there are days that ended longer than ``keep_s`` ago, or damaged segments that were last written before. Raises
    StoreError."""
    last, index = last_day(keep_s), read(folder)
    return any(file.date <= last for batch in index.batches for file in batch.files) or bool(
        expired_segments(folder, index, last)
    )


def expired_segments(folder: Path, index: Index, last: str) -> list[str]:
    """The damaged segments all of whose records are of ``last`` or of days before: none was made after the last write."""
    found = []
    for name in index.damaged:
        with contextlib.suppress(FileNotFoundError):
            written = (folder / f"{name}.plog").stat().st_mtime
            if datetime.fromtimestamp(written, UTC).date().isoformat() <= last:
                found.append(name)
    return found


def moments(folder: Path) -> list[float]:
    """When things were written to the log, as far as its files tell: last writes of segments, and the days of what was
    compacted. Raises StoreError for a damaged index."""
    found = []
    for path in folder.glob("*.plog"):
        with contextlib.suppress(FileNotFoundError):  # compacted meanwhile
            found.append(path.stat().st_mtime)
    days = {file.date for batch in read(folder).batches for file in batch.files}
    return found + [datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp() for day in days]


def finished_segments(folder: Path, damaged: list[str]) -> list[Path]:
    """Segments that nobody writes any more, by name, but for those known as damaged."""
    found: list[Path] = []
    for path in sorted(folder.glob("*.plog")):
        try:
            if path.stem not in damaged and not path.stat().st_mode & WRITABLE:
                found.append(path)
        except FileNotFoundError:
            continue  # compacted by another process meanwhile
    return found


class IndexView:
    """The index as a reader keeps it: read again only when it was replaced."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._mark: tuple[int, int] | None = None
        self.batches: dict[str, CompactedBatch] = {}  # by segment

    def again(self) -> bool:
        """Whether there is news. Raises StoreError."""
        try:
            stat = (self._folder / INDEX).stat()
        except FileNotFoundError:
            return False
        mark = (stat.st_ino, stat.st_mtime_ns)
        if mark == self._mark:
            return False
        self.batches = {name: batch for batch in read(self._folder).batches for name in batch.segments}
        self._mark = mark
        return True


def records(
    folder: Path, batch: CompactedBatch, segment: str, first_row: int, rows: int, project: str | None = None
) -> list[Record]:
    """The records of a segment, or those of one project, from ``first_row`` on, in their order, as far as they are kept: at most
    ``rows``.

    Raises FileNotFoundError when a file is gone (retention deleted it: look at the index again), StoreError for damage.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from noria.predictions import tabular  # Arrow is loaded where something was compacted

    wanted = [("segment", "==", segment), ("row", ">=", first_row), ("row", "<", first_row + rows)]
    found: list[tuple[int, Record]] = []
    for file in batch.files:
        if project is not None and file.project != project:
            continue
        path = folder / file.path
        try:
            table = pq.read_table(path, filters=wanted, partitioning=None, page_checksum_verification=True, use_threads=False)
            found += tabular.records_of(table)
        except FileNotFoundError:
            raise
        except (OSError, pa.ArrowInvalid, KeyError, ValueError) as error:
            raise StoreError(f"a part of the prediction log cannot be read: {error}", where=str(path)) from error
    return [record for _, record in sorted(found, key=lambda f: f[0])]
