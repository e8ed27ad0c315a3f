"""Tar archives with equal bytes for equal content, and a reader that believes nothing: a stranger may have written what it reads.

Regular files only; no owner, no time. Whoever reads gets one file after the other, as a stream of exactly the size that its
header tells, and decides what to do with it: no path is ever opened here.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from typing import Any, BinaryIO

import msgspec
from blake3 import blake3

from noria.kernel.errors import DataError
from noria.storage.file_names import PATH_MOST, safe_path

CHUNK = 1 << 20
BLOCK = tarfile.BLOCKSIZE
CHECKSUM = slice(148, 156)  # of a header
LONG_NAME = tarfile.GNUTYPE_LONGNAME


class Writer:
    """Files are added in the order in which they are read again."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def add(self, name: str, source: BinaryIO, size_bytes: int, executable: bool = False) -> str:
        """Copy ``size_bytes`` bytes; the digest of what was copied. Raises DataError when the source has another size."""
        info = tarfile.TarInfo(name)
        info.size, info.mode = size_bytes, 0o755 if executable else 0o644
        self._file.write(info.tobuf(tarfile.GNU_FORMAT, "utf-8", "strict"))
        hasher, left = blake3(), size_bytes
        while left and (data := source.read(min(CHUNK, left))):
            hasher.update(data)
            self._file.write(data)
            left -= len(data)
        if left or source.read(1):
            raise DataError("changed its size while it was copied", where=name)
        self._file.write(bytes(-size_bytes % BLOCK))
        return hasher.hexdigest()

    def end(self) -> None:
        """Two empty blocks."""
        self._file.write(bytes(2 * BLOCK))


class ArchiveMember(msgspec.Struct, frozen=True):
    """A file of an archive. ``content`` ends after ``size_bytes``, and is read before the next member is asked for."""

    name: str
    size_bytes: int
    executable: bool
    content: Content


class Content(io.BufferedIOBase):
    """The bytes of one member. Raises DataError when the archive ends before them."""

    def __init__(self, file: BinaryIO, size_bytes: int) -> None:
        self._file, self.left = file, size_bytes

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        wanted = self.left if size is None or size < 0 else min(size, self.left)
        data = self._file.read(wanted)
        if len(data) < wanted:
            raise _cut()
        self.left -= wanted
        return data

    def readinto(self, buffer: Any, /) -> int:
        view = memoryview(buffer).cast("B")
        data = self.read(min(len(view), CHUNK))
        view[: len(data)] = data
        return len(data)


def members(file: BinaryIO) -> Iterator[ArchiveMember]:
    """The files of an archive, in order. Raises DataError for anything that is not one of ours: a link, a device, a path that
    leaves the folder, a damaged header, an end too early or bytes after it."""
    long_name: str | None = None
    while True:
        block = _exactly(file, BLOCK)
        if block == bytes(BLOCK):
            break
        info = _header(block)
        if info.type == LONG_NAME and long_name is None and info.size <= PATH_MOST:
            long_name = _exactly(file, info.size).removesuffix(b"\0").decode("utf-8", "surrogateescape")
            _skip(file, info.size)
            continue
        if info.type != tarfile.REGTYPE:
            raise DataError(f"holds what is not a regular file: {info.name[:200]!r}")
        name = safe_path(long_name if long_name is not None else info.name)
        long_name = None
        content = Content(file, info.size)
        yield ArchiveMember(name, info.size, bool(info.mode & 0o100), content)
        while content.left:
            content.read(min(CHUNK, content.left))
        _skip(file, info.size)
    if any(_exactly(file, BLOCK)) or file.read(1):
        raise DataError("goes on after its end")


def _skip(file: BinaryIO, size_bytes: int) -> None:
    """What fills the last block up."""
    if any(_exactly(file, -size_bytes % BLOCK)):
        raise DataError("is damaged between two files")


def _header(block: bytes) -> tarfile.TarInfo:
    try:
        info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")  # a long name is cut here, in a letter perhaps
    except (tarfile.HeaderError, ValueError) as error:
        raise DataError("is damaged, or no archive of Noria") from error
    if block[CHECKSUM] != b"%06o\0 " % info.chksum:  # which covers all but itself, and may be written in several ways
        raise DataError("is damaged: the checksum of a file's name and size")
    if info.size < 0:
        raise DataError("is damaged: a file of negative size")
    return info


def _exactly(file: BinaryIO, size: int) -> bytes:
    data = file.read(size)
    if len(data) < size:
        raise _cut()
    return data


def _cut() -> DataError:
    return DataError("ends too early: it was not copied to its end")
