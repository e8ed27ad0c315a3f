"""The prediction log: what was answered, and what came back, in append-only segments (see segments.py), one writer each.

A record is handed to the operating system before `append` returns, so it survives the death of any process; it is synced to
the disk in groups (every 50 ms) or, with ``sync="each"``, before `append` returns.
"""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import msgspec

from noria import names
from noria.errors import StoreError
from noria.store.disk import FULL, disk_full, full_disk, make_folder, sync_folder
from noria.store.segments import FRAME, MAGIC, first_needs, frame_end, pack, recover, torn

__all__ = ["Feedback", "LogReader", "LogWriter", "Prediction", "Record", "frame", "read_all", "recover"]

GROUP_S = 0.05


class Prediction(msgspec.Struct, tag="prediction", tag_field="record", frozen=True):
    """One answered row. ``outputs`` holds ``prediction`` and ``probability`` or ``probabilities``."""

    id: str
    at: float  # wall time
    project: str
    release: str
    variant: str  # champion, candidate, or fallback: the champion answered for the candidate
    rollout: str | None
    inputs: dict[str, Any]
    outputs: dict[str, Any]
    key: str | None
    event_time: str | None  # ISO 8601, as the client sent it
    latency_ms: float
    error: str | None = None


class Feedback(msgspec.Struct, tag="feedback", tag_field="record", frozen=True):
    """A label for a prediction, by its id or by the entity's key."""

    at: float
    project: str
    label: float | str | bool
    id: str | None = None
    key: str | None = None
    kind: str = "label"


Record = Prediction | Feedback
_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Prediction | Feedback] = msgspec.msgpack.Decoder(Prediction | Feedback)


def frame(record: Record) -> bytes:
    """A record as it stands in a segment."""
    return pack(_encoder.encode(record))


class LogWriter:
    """The one writer of its segments; threads may share it."""

    def __init__(
        self,
        folder: Path,
        environment: str,
        *,
        sync: Literal["group", "each"] = "group",
        segment_bytes: int = 64 << 20,
    ) -> None:
        self._folder = folder
        self._name = names.new_id(environment)
        self._each = sync == "each"
        self._limit = segment_bytes
        self._number = 0
        self._lock = threading.Lock()
        self._dirty = threading.Event()
        self._stop = threading.Event()
        self._spoilt = False  # a part of a record could not be cut off again: nothing may follow it
        self._unsynced: OSError | None = None
        with full_disk(folder):
            make_folder(folder)
        recover(folder)
        self._fd, self._size = self._open()
        self._syncer = threading.Thread(target=self._sync_in_groups, name="log-sync", daemon=True)
        self._syncer.start()

    def append(self, *records: Record) -> None:
        """Write all records at once, in one call of the operating system.

        Raises DiskFullError, and StoreError after a group sync failed (once for each failure); then none of them is in the log.
        """
        data = b"".join([frame(record) for record in records])
        with self._lock:
            self._ready(len(data))
            self._write(data)
        if not self._dirty.is_set():
            self._dirty.set()

    def _ready(self, size: int) -> None:
        """An open segment with room for ``size`` bytes."""
        if self._stop.is_set():
            raise StoreError("the prediction log is closed", where=str(self._folder))
        if self._unsynced is not None:
            failed, self._unsynced = self._unsynced, None
            raise StoreError("the disk did not keep records that were already written", where=str(self._folder)) from failed
        if self._spoilt or (self._size + size > self._limit and self._size > len(MAGIC)):
            self._rotate()

    def _write(self, data: bytes) -> None:
        try:
            if os.write(self._fd, data) != len(data):
                raise OSError(errno.ENOSPC, "short write")
            if self._each:
                os.fdatasync(self._fd)
        except OSError as error:
            self._undo(error)
        self._size += len(data)

    def _undo(self, error: OSError) -> None:
        """Cut off what was written of records that do not fit, and say so."""
        try:
            os.ftruncate(self._fd, self._size)
        except OSError:
            self._spoilt = True
        if error.errno in FULL:
            raise disk_full("the record was not written", self._folder) from error
        raise error

    def _open(self) -> tuple[int, int]:
        """A new segment, locked; its handle and size. Nothing is left behind when the disk is full."""
        path = self._folder / f"{self._name}-{self._number:04d}.plog"
        with full_disk(self._folder):
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX)
                if os.write(handle, MAGIC) != len(MAGIC):
                    raise OSError(errno.ENOSPC, "short write")
                sync_folder(self._folder)
            except OSError:
                os.close(handle)
                path.unlink()
                raise
        return handle, len(MAGIC)

    def _rotate(self) -> None:
        """Go on in a new segment; the old one stays in use when the new one cannot be made."""
        self._number += 1
        made = self._open()
        self._finish()
        self._fd, self._size = made
        self._spoilt = False

    def _finish(self) -> None:
        """Sync and close the segment; it is finished, and read-only, when it holds exactly what was written."""
        try:
            os.fdatasync(self._fd)
            if os.fstat(self._fd).st_size == self._size:
                os.fchmod(self._fd, 0o400)
        except OSError as error:
            self._unsynced = error
        finally:
            os.close(self._fd)

    def _sync_in_groups(self) -> None:
        while not self._stop.is_set():
            self._dirty.wait()
            self._dirty.clear()
            with self._lock:
                if self._stop.is_set():
                    return
                handle = os.dup(self._fd)  # synced outside the lock: appending goes on meanwhile
            try:
                os.fdatasync(handle)
            except OSError as error:
                self._unsynced = error  # the next append says so
            finally:
                os.close(handle)
            self._stop.wait(GROUP_S)

    def close(self) -> None:
        """Sync and close; a second call does nothing."""
        with self._lock:
            if self._stop.is_set():
                return
            self._stop.set()
            self._finish()
        self._dirty.set()
        self._syncer.join(timeout=5)


@dataclass(slots=True)
class _Segment:
    offset: int = 0
    damaged: bool = False
    mark: tuple[int, int] | None = None  # size and mtime_ns when nothing more could be read


class LogReader:
    """Reads all segments of a folder as they grow; each record once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._segments: dict[Path, _Segment] = {}

    @property
    def damaged(self) -> int:
        """Segments whose rest cannot be read."""
        return sum(s.damaged for s in self._segments.values())

    def poll(self, limit_bytes: int = 64 << 20) -> list[Record]:
        """What was appended since the last poll, ``limit_bytes`` and at most one record more; empty: nothing new."""
        found: list[Record] = []
        left = limit_bytes
        for path in sorted(self._folder.glob("*.plog")):
            segment = self._segments.setdefault(path, _Segment())
            before = segment.offset
            if not segment.damaged and not self._read(path, segment, left, found):
                break
            left -= segment.offset - before
            if left <= 0:
                break
        return found

    def _read(self, path: Path, segment: _Segment, limit: int, found: list[Record]) -> bool:
        """Add the whole records behind the segment's offset to ``found``; whether there is no more of them by now."""
        try:
            stat = path.stat()
            mark = (stat.st_size, stat.st_mtime_ns)
            if mark == segment.mark:
                return True
            with path.open("rb") as file:
                if not _begun(file, segment):
                    return True
                data = _part(file, segment.offset, stat.st_size, limit)
        except FileNotFoundError:
            return True  # removed meanwhile
        at_end = segment.offset + len(data) >= stat.st_size
        read = _decode(data, found)
        segment.offset += read
        if at_end:
            segment.mark = mark
        if read < len(data) and (at_end or read == 0):
            segment.damaged = not (at_end and torn(data[read:]))
        return at_end or segment.damaged


def _begun(file: BinaryIO, segment: _Segment) -> bool:
    """Whether the segment's magic number stands."""
    if segment.offset == 0:
        head = file.read(len(MAGIC))
        segment.damaged = len(head) == len(MAGIC) and head != MAGIC
        segment.offset = len(MAGIC) if head == MAGIC else 0
    return segment.offset > 0


def _part(file: BinaryIO, offset: int, size: int, limit: int) -> bytes:
    """At most ``limit`` bytes from ``offset``, or one whole frame if that is longer; nothing beyond ``size``."""
    left = size - offset
    file.seek(offset)
    data = file.read(min(max(limit, FRAME.size), left))
    missing = min(first_needs(data), left) - len(data)
    return data + file.read(missing) if missing > 0 else data


def _decode(data: bytes, found: list[Record]) -> int:
    """Add the records of whole frames to ``found``; where the first unreadable one begins."""
    at = 0
    while (end := frame_end(data, at)) is not None:
        try:
            found.append(_decoder.decode(data[at + FRAME.size : end]))
        except msgspec.DecodeError:
            return at  # whole, and not a record that this Noria knows
        at = end
    return at


def read_all(folder: Path) -> list[Record]:
    """Every record in a folder of segments."""
    reader, found = LogReader(folder), list[Record]()
    while part := reader.poll():
        found += part
    return found
