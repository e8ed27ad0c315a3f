"""The prediction log: append-only segments of framed records, one writer each.

A segment is `WRITER-N.plog`: eight bytes of magic and version, then frames of length (u32), CRC-32 (u32) and a MessagePack
payload, little-endian. A record is handed to the operating system before `append` returns, so it survives the death of any
process; it is synced to the disk in groups (every 50 ms) or, with ``sync="each"``, before `append` returns.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from noria import names
from noria.errors import DiskFullError

MAGIC = b"noriaP\x00\x01"
FRAME = struct.Struct("<II")
LONGEST = 16 << 20  # bytes of one payload: longer is damage
GROUP_S = 0.05
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class Prediction(msgspec.Struct, tag="p", array_like=True, frozen=True):
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


class Feedback(msgspec.Struct, tag="f", array_like=True, frozen=True):
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
    payload = _encoder.encode(record)
    return FRAME.pack(len(payload), zlib.crc32(payload)) + payload


class LogWriter:
    """The one writer of its segments."""

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
        self._closed = False
        folder.mkdir(parents=True, exist_ok=True)
        recover(folder)
        self._fd, self._size = self._open()
        self._syncer = threading.Thread(target=self._sync_in_groups, name="log-sync", daemon=True)
        self._syncer.start()

    def append(self, *records: Record) -> None:
        """Write all records at once. Raises DiskFullError, and then none of them is in the log."""
        data = b"".join([frame(record) for record in records])
        with self._lock:
            if self._size + len(data) > self._limit and self._size > len(MAGIC):
                self._rotate()
            self._write(data)
            if self._each:
                os.fdatasync(self._fd)
        self._dirty.set()

    def _write(self, data: bytes) -> None:
        try:
            written = os.write(self._fd, data)
        except OSError as error:
            self._undo(error)
        else:
            if written != len(data):
                self._undo(OSError(errno.ENOSPC, "short write"))
        self._size += len(data)

    def _undo(self, error: OSError) -> None:
        """Cut off what was written of a record that does not fit."""
        with contextlib.suppress(OSError):
            os.ftruncate(self._fd, self._size)
        if error.errno in FULL:
            raise DiskFullError("the disk is full: the prediction was not recorded", where=str(self._folder)) from error
        raise error

    def _open(self) -> tuple[int, int]:
        path = self._folder / f"{self._name}-{self._number:04d}.plog"
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        fcntl.flock(handle, fcntl.LOCK_EX)
        os.write(handle, MAGIC)
        return handle, len(MAGIC)

    def _rotate(self) -> None:
        os.fdatasync(self._fd)
        os.close(self._fd)
        self._number += 1
        self._fd, self._size = self._open()

    def _sync_in_groups(self) -> None:
        pause = threading.Event()
        while True:
            self._dirty.wait()
            if self._closed:
                return
            self._dirty.clear()
            with self._lock:
                handle = os.dup(self._fd)  # synced outside the lock: appending goes on meanwhile
            try:
                with contextlib.suppress(OSError):
                    os.fdatasync(handle)
            finally:
                os.close(handle)
            pause.wait(GROUP_S)

    def close(self) -> None:
        """Sync and close."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            with contextlib.suppress(OSError):
                os.fdatasync(self._fd)
            os.close(self._fd)
        self._dirty.set()
        self._syncer.join(timeout=5)


def recover(folder: Path) -> int:
    """Cut the torn tails of segments whose writers are gone; the number of bytes that were cut."""
    cut = 0
    for path in sorted(folder.glob("*.plog")):
        with contextlib.suppress(OSError), path.open("r+b") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue  # its writer lives
            data = file.read()
            whole = _whole(data)
            if whole < len(data) and _torn(data, whole):
                file.truncate(whole)
                cut += len(data) - whole
    return cut


def _whole(data: bytes) -> int:
    """Where the last whole frame ends."""
    if not data.startswith(MAGIC):
        return len(data)  # not ours, or never begun: leave it
    at = len(MAGIC)
    while (after := _frame_end(data, at)) is not None:
        at = after
    return at


def _frame_end(data: bytes, at: int) -> int | None:
    """Where the frame at ``at`` ends; None when it is torn or damaged."""
    if at + FRAME.size > len(data):
        return None
    length, crc = FRAME.unpack_from(data, at)
    end = at + FRAME.size + length
    if length > LONGEST or end > len(data) or zlib.crc32(data[at + FRAME.size : end]) != crc:
        return None
    return int(end)


def _torn(data: bytes, at: int) -> bool:
    """Whether the frame at ``at`` is the unfinished last one, rather than damage with more records behind it."""
    if at + FRAME.size > len(data):
        return True
    length, _ = FRAME.unpack_from(data, at)
    return at + FRAME.size + length >= len(data)


@dataclass(slots=True)
class _Segment:
    offset: int = 0
    damaged: bool = False


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
        """What was appended since the last poll, at most about ``limit_bytes`` of each segment."""
        found: list[Record] = []
        for path in sorted(self._folder.glob("*.plog")):
            segment = self._segments.setdefault(path, _Segment())
            if not segment.damaged:
                found += self._read(path, segment, limit_bytes)
        return found

    def _read(self, path: Path, segment: _Segment, limit_bytes: int) -> Iterator[Record]:
        try:
            with path.open("rb") as file:
                file.seek(segment.offset)
                data = file.read(limit_bytes)
        except FileNotFoundError:
            return
        at = 0
        if segment.offset == 0:
            if not data.startswith(MAGIC):
                segment.damaged = len(data) >= len(MAGIC)
                return
            at = len(MAGIC)
        while (end := _frame_end(data, at)) is not None:
            yield _decoder.decode(data[at + FRAME.size : end])
            at = end
        segment.offset += at
        segment.damaged = at < len(data) and len(data) < limit_bytes and not _torn(data, at)


def read_all(folder: Path) -> list[Record]:
    """Every record in a folder of segments."""
    reader, found = LogReader(folder), list[Record]()
    while part := reader.poll():
        found += part
    return found
