"""The one reader of the prediction log: what stands in segments and what was compacted to Parquet, of one project or of all.

`LogReader` follows a log that grows; `segment_parts` reads one segment from its beginning, for those who read the compacted
files as tables. Both tell apart what belongs to a project and count what cannot be read, so that nobody else has to.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import msgspec

from noria.kernel.errors import StoreError
from noria.predictions import compacted
from noria.predictions.records import Damage, Record, decode, decode_past
from noria.predictions.segments import FRAME, MAGIC, WRITABLE, first_needs

CLOCK_S = 1.0  # by which a file's clock may lag behind that of its writer
PART_BYTES = 4 << 20  # of a segment that are held as Python objects at a time


class LogPart(msgspec.Struct, frozen=True):
    """Records that stand together in one segment, in their order; the first is its row ``first_row`` or a later one.

    Segment and row say where a record stood when it was written: of two records of one moment the later one stands further on.
    """

    segment: str
    first_row: int
    records: list[Record]


class SegmentPosition(msgspec.Struct, frozen=True):
    """How far a segment was read, and what of it could not be."""

    offset: int
    rows: int
    damage: Damage
    given_up: bool = False


class _Segment(msgspec.Struct):
    """How far a segment was read: ``offset`` in bytes of its `.plog`, ``rows`` in either form."""

    offset: int = 0
    rows: int = 0
    damage: Damage = msgspec.field(default_factory=Damage)
    given_up: bool = False  # nothing more of it can be read
    mark: tuple[int, int, bool] | None = None  # size, mtime_ns and whether it was finished, when nothing more could be read


class LogReader:
    """Reads all segments of a folder as they grow; each record once, also when its segment is compacted meanwhile.

    ``since`` (wall time): what was written to the end before is passed over; older records beside newer ones are not.
    ``places``: how far an earlier reader came. ``project``: whose records are given; all by default. What cannot be read is
    passed over and counted: see ``damage``.
    """

    def __init__(
        self,
        folder: Path,
        since: float = 0.0,
        places: Mapping[str, SegmentPosition] | None = None,
        project: str | None = None,
    ) -> None:
        self._folder = folder
        self._project = project
        self._since = since
        self._segments = {n: _Segment(p.offset, p.rows, p.damage, p.given_up) for n, p in (places or {}).items()}
        self._look = compacted.IndexView(folder)
        self._waiting: set[str] = set()  # compacted, and not yet read to the end
        self.behind = False  # whether the last poll ended before all was read

    @property
    def damaged(self) -> int:
        """Segments of which not all could be read."""
        return len(self.damage())

    def damage(self) -> dict[str, Damage]:
        """What could not be read, by segment."""
        return {name: s.damage for name, s in self._segments.items() if s.damage.places}

    def places(self) -> dict[str, SegmentPosition]:
        """How far each segment was read that is still there: whoever begins with it goes on from here."""
        here = {path.stem for path in self._folder.glob("*.plog")} | self._look.batches.keys()
        return {
            name: SegmentPosition(s.offset, s.rows, s.damage, s.given_up)
            for name, s in self._segments.items()
            if name in here and s.offset
        }

    def poll(self, limit_bytes: int = 64 << 20) -> list[Record]:
        """The records of ``poll_parts``. Empty: nothing new, unless the reader is ``behind``."""
        return [record for part in self.poll_parts(limit_bytes) for record in part.records]

    def poll_parts(self, limit_bytes: int = 64 << 20) -> list[LogPart]:
        """What was appended since the last poll, ``limit_bytes`` and at most one frame more.

        Of a compacted segment it is as many records as had that size on the average. Raises StoreError for a damaged index.
        """
        parts: list[LogPart] = []
        left, self.behind = limit_bytes, False
        paths = {path.stem: path for path in self._folder.glob("*.plog")}  # first: what goes from here is in the index then
        self._look_again()
        for name in sorted(paths.keys() | self._waiting):
            segment = self._segments.setdefault(name, _Segment())
            if segment.given_up:
                continue
            found: list[Record] = []
            first_row = segment.rows
            read, done = self._advance(name, paths.get(name), segment, left, found)
            if own := _of_project(found, self._project):
                parts.append(LogPart(name, first_row, own))
            left -= read
            if left <= 0 or not done:
                self.behind = True
                break
        return parts

    def _look_again(self) -> None:
        if self._look.again():
            first_day = datetime.fromtimestamp(self._since, UTC).date().isoformat()
            sizes = {
                name: batch.segments[name]
                for name, batch in self._look.batches.items()
                if any(file.date >= first_day for file in batch.files)
            }
            self._waiting = {name for name, size in sizes.items() if self._segments.get(name, _Segment()).rows < size.rows}

    def _advance(self, name: str, path: Path | None, segment: _Segment, limit: int, found: list[Record]) -> tuple[int, bool]:
        """Add what is new in a segment to ``found``; its bytes, and whether there is no more of it by now."""
        if path is not None and name not in self._look.batches:
            before = segment.offset
            try:
                done = _read(path, segment, limit, found, self._since)
                return segment.offset - before, done
            except FileNotFoundError:  # compacted since, or removed
                self._look_again()
        return self._compacted(name, segment, limit, found) if name in self._waiting else (0, True)

    def _compacted(self, name: str, segment: _Segment, limit: int, found: list[Record]) -> tuple[int, bool]:
        """The same of a segment in Parquet; rows that retention took are passed over."""
        size = self._look.batches[name].segments[name]
        share = max(1, limit * size.rows // max(1, size.size_bytes))
        before, kept = segment.rows, list[Record]()
        segment.offset = segment.offset or len(MAGIC)  # begun
        while not kept and not segment.given_up and segment.rows < size.rows:
            try:
                kept = self._kept(name, segment.rows, share)
            except StoreError:
                segment.given_up = True
                segment.damage.add((size.rows - segment.rows) * size.size_bytes // max(1, size.rows))
            segment.rows = min(size.rows, segment.rows + share)
        found += kept
        done = segment.given_up or segment.rows >= size.rows
        if done:
            self._waiting.discard(name)
        return (segment.rows - before) * size.size_bytes // max(1, size.rows), done

    def _kept(self, name: str, first_row: int, rows: int) -> list[Record]:
        """Of the records that stand in Parquet those that retention has left."""
        while (batch := self._look.batches.get(name)) is not None:
            try:
                return compacted.records(self._folder, batch, name, first_row, rows, self._project)
            except FileNotFoundError as error:
                if not self._look.again():
                    raise StoreError(f"a file of the prediction log is missing: {error}", where=str(self._folder)) from error
        return []


def _read(path: Path, segment: _Segment, limit: int, found: list[Record], since: float) -> bool:
    """Add the whole records behind the segment's offset to ``found``; whether there is no more of them by now.

    Raises FileNotFoundError when the file is gone.
    """
    stat = path.stat()
    finished = not stat.st_mode & WRITABLE
    mark = (stat.st_size, stat.st_mtime_ns, finished)
    if mark == segment.mark or stat.st_mtime < since - CLOCK_S:
        return True
    before = len(found)
    with path.open("rb") as file:
        if not _read_magic(file, segment):
            return True
        data = _part(file, segment.offset, stat.st_size, limit)
        read = decode(data, found)
        if read < len(data) and (read == 0 or segment.offset + len(data) >= stat.st_size):
            del found[before:]  # unreadable, or not yet whole: what stands behind it tells
            data = _part(file, segment.offset, stat.st_size, stat.st_size)
            read = decode_past(data, found, segment.damage, finished=finished)
    at_end = segment.offset + len(data) >= stat.st_size
    segment.offset += read
    segment.rows += len(found) - before
    if at_end:
        segment.mark = mark
    return at_end


def _read_magic(file: BinaryIO, segment: _Segment) -> bool:
    """Whether the segment's magic number stands."""
    if segment.offset == 0:
        head = file.read(len(MAGIC))
        segment.given_up = len(head) == len(MAGIC) and head != MAGIC
        if segment.given_up:
            segment.damage.add(file.seek(0, os.SEEK_END))
        segment.offset = len(MAGIC) if head == MAGIC else 0
    return segment.offset > 0


def _part(file: BinaryIO, offset: int, size: int, limit: int) -> bytes:
    """At most ``limit`` bytes from ``offset``, or one whole frame if that is longer; nothing beyond ``size``."""
    left = size - offset
    file.seek(offset)
    data = file.read(min(max(limit, FRAME.size), left))
    missing = min(first_needs(data), left) - len(data)
    return data + file.read(missing) if missing > 0 else data


def segment_parts(path: Path, damage: Damage, project: str | None = None) -> Iterator[LogPart]:
    """What a segment holds by now, part by part; what cannot be read is counted in ``damage``.

    Raises FileNotFoundError when it was compacted or removed.
    """
    size, segment, done = path.stat().st_size, _Segment(damage=damage), False
    while not done and not segment.given_up and segment.offset < size:
        found: list[Record] = []
        first_row = segment.rows
        done = _read(path, segment, PART_BYTES, found, 0.0)
        if own := _of_project(found, project):
            yield LogPart(path.stem, first_row, own)


def _of_project(records: list[Record], project: str | None) -> list[Record]:
    """The one place where the records of projects that share a log are told apart."""
    return records if project is None else [record for record in records if record.project == project]


def read_all(folder: Path, project: str | None = None) -> list[Record]:
    """Every record of an environment's log, whatever form it stands in; of one project, or of all."""
    reader, found = LogReader(folder, project=project), list[Record]()
    while (part := reader.poll()) or reader.behind:
        found += part
    return found
