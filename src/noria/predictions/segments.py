"""Segments of an append-only log: frames with length and checksum behind a magic number.

A segment is `NAME.plog`: eight bytes of magic and version, then frames of length (u32), CRC-32 (u32) and payload,
little-endian. Its one writer holds an exclusive flock on it. A segment that is finished, or was recovered, is read-only (0400),
so that nobody looks at it again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import zlib
from pathlib import Path

from noria.kernel.errors import StoreError

MAGIC = b"noriaP\x00\x01"
FRAME = struct.Struct("<II")
LONGEST = 16 << 20  # bytes of one payload: longer is damage
SCAN = 1 << 20  # bytes behind an unreadable frame that are searched for whole ones
WRITABLE = 0o200


def pack(payload: bytes) -> bytes:
    """A payload as it stands in a segment. Raises StoreError when no reader would take it."""
    if not 0 < len(payload) <= LONGEST:
        raise StoreError(f"a record of {len(payload):,} bytes does not fit the log", hint=f"At most {LONGEST:,} bytes.")
    return FRAME.pack(len(payload), zlib.crc32(payload)) + payload


def frame_end(data: bytes, at: int) -> int | None:
    """Where the frame at ``at`` ends; None when it is unfinished or damaged."""
    if at + FRAME.size > len(data):
        return None
    length, crc = FRAME.unpack_from(data, at)
    start = at + FRAME.size
    end = int(start + length)
    if not 0 < length <= LONGEST or end > len(data) or zlib.crc32(data[start:end]) != crc:
        return None
    return end


def first_needs(data: bytes) -> int:
    """How many bytes the frame that begins ``data`` takes, as far as its header is sound."""
    if len(data) < FRAME.size:
        return FRAME.size
    length, _ = FRAME.unpack_from(data)
    return FRAME.size + length if length <= LONGEST else FRAME.size


def whole(data: bytes) -> int:
    """Where the last frame of an unbroken row of whole frames ends; ``data`` begins with the magic number."""
    at = len(MAGIC)
    while (after := frame_end(data, at)) is not None:
        at = after
    return at


def torn(rest: bytes) -> bool:
    """Whether ``rest``, which begins with an unreadable frame, is a torn tail: nothing whole stands behind it.

    A damaged length field must not make good records behind it look like the rest of one unfinished frame.
    """
    return all(frame_end(rest, at) is None for at in range(1, min(len(rest), SCAN)))


def recover(folder: Path) -> int:
    """Cut the torn tails of segments whose writers are gone; the number of bytes that were cut.

    Damage with whole records behind it is left as it is: a reader counts it.
    """
    return sum(_recover(path) for path in sorted(folder.glob("*.plog")))


def _recover(path: Path) -> int:
    with contextlib.suppress(OSError):  # vanished, or not ours to write: nothing to recover here
        if not path.stat().st_mode & WRITABLE:
            return 0
        with path.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises while its writer lives
            if file.read(len(MAGIC)) != MAGIC:
                return 0  # not ours, or its writer is only beginning
            file.seek(0)
            data = file.read()
            end = whole(data)
            cut = len(data) - end if end < len(data) and torn(data[end:]) else 0
            if cut:
                file.truncate(end)
                os.fsync(file.fileno())
            os.fchmod(file.fileno(), 0o400)
            return cut
    return 0
