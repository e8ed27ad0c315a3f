"""Finished segments of the prediction log become Parquet, exactly once; days that are old enough go.

In this order, so that a process may die at any point: the files are written beside, moved to their places, named in the index
(from here on they count, and the segments do not), and the segments are deleted. Whoever comes next sweeps what was left.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from noria.kernel import names
from noria.kernel.errors import StoreError
from noria.kernel.words import plural
from noria.predictions import compacted, tabular
from noria.predictions.compacted import CompactedBatch, File, Index, SegmentSize
from noria.predictions.reader import segment_parts
from noria.predictions.records import Damage
from noria.predictions.segments import MAGIC, recover
from noria.predictions.tabular import GroupPart, RecordGroup
from noria.storage.disk import clear_unfinished, full_disk, make_folder, sync_path

LOCK = "compacting.lock"
INCOMING = "incoming"
PLACES = {"prediction": "parquet", "feedback": "feedback"}  # folders of the records, inside the log's
ROW_GROUP = 65_536


class CompactionResult(msgspec.Struct):
    """What a compaction did; ``damaged``: segments that it met and left as they are, because not all of them can be read."""

    segments: int = 0
    records: int = 0
    files: int = 0
    size_bytes: int = 0  # of the Parquet files
    damaged: list[str] = []


class RetentionResult(msgspec.Struct, frozen=True):
    """What retention deleted."""

    dates: tuple[str, ...]
    predictions: int
    labels: int
    damaged: int = 0  # segments of which not all could be read: nobody knows how many records they held


def compact(folder: Path, *, again: bool = False) -> CompactionResult:
    """Bring every finished segment of an environment's log into Parquet; ``again``: try those too that were found damaged.

    Raises StoreError when another process is at it, DiskFullError; then every record still stands where it stood.
    """
    done = CompactionResult()
    if not folder.is_dir():
        return done
    with _alone(folder):
        recover(folder)
        _sweep(folder)
        known = [] if again else compacted.read(folder).damaged
        for paths in _batches(compacted.finished_segments(folder, known)):
            _compact(folder, paths, done)
        damaged = sorted({*known, *done.damaged})
        index = compacted.read(folder)
        if damaged != index.damaged:
            compacted.write(folder, Index(index.batches, damaged))
    return done


def expire(folder: Path, keep_s: float, now: float | None = None) -> RetentionResult:
    """Delete the days of an environment's log that ended longer than ``keep_s`` ago, and damaged segments that were last written
    before; what else is not compacted stays.

    Raises StoreError when another process compacts.
    """
    last = compacted.last_day(keep_s, now)
    if not (folder / compacted.INDEX).is_file():
        return RetentionResult((), 0, 0)
    with _alone(folder):
        index = compacted.read(folder)
        old = {f.path: f for batch in index.batches for f in batch.files if f.date <= last}
        gone = compacted.expired_segments(folder, index, last)
        if old or gone:
            kept = [_without(batch, old) for batch in index.batches]
            for name in gone:
                (folder / f"{name}.plog").unlink(missing_ok=True)
            compacted.write(folder, Index([batch for batch in kept if batch.files], sorted({*index.damaged} - {*gone})))
            _sweep(folder)
    rows = {record: sum(f.rows for f in old.values() if f.record == record) for record in PLACES}
    return RetentionResult(tuple(sorted({f.date for f in old.values()})), rows["prediction"], rows["feedback"], len(gone))


def _without(batch: CompactedBatch, old: dict[str, File]) -> CompactedBatch:
    return msgspec.structs.replace(batch, files=[file for file in batch.files if file.path not in old])


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other compactions of the folder out. Raises StoreError when there is one."""
    with full_disk(folder), (folder / LOCK).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreError(
                "another process compacts this log", where=str(folder), hint="Try again when it is done; nothing is lost."
            ) from None
        yield


def _sweep(folder: Path) -> None:
    """Delete what a process left behind that died: segments that are in the index, and files that are not."""
    clear_unfinished(folder)
    index = compacted.read(folder)
    for batch in index.batches:
        for name in batch.segments:
            (folder / f"{name}.plog").unlink(missing_ok=True)
    known = {file.path for batch in index.batches for file in batch.files}
    for place in (*PLACES.values(), INCOMING):
        for path in sorted((folder / place).rglob("*.parquet")):
            if path.relative_to(folder).as_posix() not in known:
                path.unlink()
    for place in PLACES.values():
        for day in sorted((folder / place).glob("project=*/date=*")):
            for empty in (day, day.parent):
                if not any(empty.iterdir()):
                    empty.rmdir()


def _batches(paths: list[Path]) -> Iterator[list[Path]]:
    batch: list[Path] = []
    size = 0
    for path in paths:
        length = path.stat().st_size
        if batch and size + length > compacted.BATCH_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(path)
        size += length
    if batch:
        yield batch


def _compact(folder: Path, paths: list[Path], done: CompactionResult) -> None:
    """One batch: read, write, name, delete."""
    parts: dict[RecordGroup, list[GroupPart]] = {}
    segments: dict[str, SegmentSize] = {}
    for path in paths:
        found = _tabulate_segment(path)
        if found is None:
            done.damaged.append(path.stem)
            continue
        tables, rows = found
        segments[path.stem] = SegmentSize(rows, path.stat().st_size)
        for group, several in tables.items():
            parts.setdefault(group, []).extend(several)
    if parts:
        batch = CompactedBatch(names.new_id("batch"), segments, [])
        _write(folder, batch, parts)
        index = compacted.read(folder)
        compacted.write(folder, Index([*index.batches, batch], index.damaged))
        done.files += len(batch.files)
        done.size_bytes += sum(file.size_bytes for file in batch.files)
    for name in segments:  # from here on the index says where their records are; empty ones held none
        (folder / f"{name}.plog").unlink()
    done.segments += len(segments)
    done.records += sum(size.rows for size in segments.values())


def _tabulate_segment(path: Path) -> tuple[dict[RecordGroup, list[GroupPart]], int] | None:
    """A segment's records by group, and their number; None when not all of it can be read."""
    if path.stat().st_size < len(MAGIC):
        return None
    rows, damage = 0, Damage()
    tables: dict[RecordGroup, list[GroupPart]] = {}
    for segment_part in segment_parts(path, damage):
        for group, part in tabular.tabulate(path.stem, segment_part.first_row, segment_part.records).items():
            tables.setdefault(group, []).append(part)
        rows += len(segment_part.records)
    return None if damage.places else (tables, rows)


def _write(folder: Path, batch: CompactedBatch, parts: dict[RecordGroup, list[GroupPart]]) -> None:
    """Each group's file: written beside, read back, moved to its place; added to the batch's files."""
    with full_disk(folder):
        make_folder(folder / INCOMING)
        for number, group in enumerate(list(parts)):
            part = tabular.unite_parts(parts.pop(group))
            fresh = folder / INCOMING / f"{batch.id}-{number:04d}.parquet"
            try:
                _write_file(fresh, tabular.finish_table(group, part))
                place = folder / PLACES[group.record] / f"project={quote(group.project, safe='')}" / f"date={group.date}"
                _make_folders(place)
                size, path = fresh.stat().st_size, fresh.rename(place / fresh.name)
            finally:
                fresh.unlink(missing_ok=True)  # a full disk needs the room
            sync_path(place)
            shown = path.relative_to(folder).as_posix()
            batch.files.append(File(shown, group.record, group.project, group.date, part.table.num_rows, size, part.kinds))


def _write_file(path: Path, table: pa.Table) -> None:
    """A Parquet file that lasts, read back with the checksums of its pages. Raises StoreError when it is not what was written."""
    pq.write_table(table, path, compression="zstd", row_group_size=ROW_GROUP, write_page_checksum=True)
    path.chmod(0o400)
    sync_path(path)
    try:
        rows = pq.read_table(path, partitioning=None, page_checksum_verification=True, use_threads=False).num_rows
    except OSError as error:
        raise StoreError(f"a file cannot be read back right after it was written: {error}", where=str(path)) from error
    if rows != table.num_rows:
        raise StoreError(f"a file holds {plural(rows, 'row')} right after {table.num_rows:,} were written", where=str(path))


def _make_folders(place: Path) -> None:
    """Make a folder with those above it, to last."""
    missing = [p for p in (place, *place.parents) if not p.is_dir()]
    for path in reversed(missing):
        path.mkdir(exist_ok=True)
        sync_path(path.parent)
