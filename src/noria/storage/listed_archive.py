"""Archives whose first members list all others, each with its digest and size: what releases and datasets travel in.

Nothing of one is believed before its list was, and nothing is kept that the list does not name.
"""

from __future__ import annotations

import io
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import msgspec

from noria.kernel.errors import CorruptBlobError, DataError, DiskFullError, NotFoundError, RefusedError
from noria.kernel.words import size
from noria.storage import archive
from noria.storage.archive import ArchiveMember, Content
from noria.storage.context import Progress
from noria.storage.disk import whole_file

RELEASE_HEAD, DATASET_HEAD = "release.json", "snapshot.json"  # the first member says what kind of export it is
LIST_MOST = 256 << 20  # bytes of the list: about a million files
TOLD_S = 5.0  # between two words about how far it is


Take = Callable[[str, "ExportFile", Content], str]


class ExportFile(msgspec.Struct, frozen=True):
    """A file of an export."""

    digest: str
    size_bytes: int
    executable: bool = False


class ByteSource(msgspec.Struct, frozen=True):
    """Where the bytes of a piece are: in a file, in hand, or read once they are needed."""

    piece: ExportFile
    content: Path | bytes | Callable[[], bytes]
    called: str = ""

    def open(self) -> BinaryIO:
        if isinstance(self.content, Path):
            return self.content.open("rb")
        return io.BytesIO(self.content if isinstance(self.content, bytes) else self.content())


class ExportMeter:
    """Tells every few seconds how many bytes are done."""

    def __init__(self, what: str, total: int, progress: Progress) -> None:
        self._what, self._total, self._progress = what, total, progress
        self._done, self._told = 0, time.monotonic()

    def add(self, size_bytes: int) -> None:
        self._done += size_bytes
        if time.monotonic() - self._told >= TOLD_S:
            self._told = time.monotonic()
            self._progress(f"{self._what}: {size(self._done)} of {size(self._total)}")


# --- writing


def demand_new(target: Path) -> None:
    """Raise RefusedError when there is such a file, NotFoundError when there is no folder for it."""
    if target.exists():
        raise RefusedError(f"{target} exists already", hint="Name another file, or remove it.")
    if not target.parent.is_dir():
        raise NotFoundError(f"there is no folder {target.parent}", where=str(target))


def write(target: Path, ahead: Mapping[str, bytes], sources: Mapping[str, ByteSource], meter: ExportMeter) -> None:
    """An archive of small members, then of files in the order of ``sources``: wholly on disk, or not there.

    Only its owner may read it: it holds rows of data.

    Raises CorruptBlobError, which names the file, when one is not what its piece says.
    """
    with whole_file(target, 0o600) as file:
        _write(file, ahead, sources, meter)


def _write(file: BinaryIO, ahead: Mapping[str, bytes], sources: Mapping[str, ByteSource], meter: ExportMeter) -> None:
    writer = archive.Writer(file)
    for name, content in ahead.items():
        writer.add(name, io.BytesIO(content), len(content))
    for name, source in sources.items():
        with source.open() as reader:
            digest = writer.add(name, reader, source.piece.size_bytes, source.piece.executable)
        if digest != source.piece.digest:
            raise damage_error(source.called, source.content if isinstance(source.content, Path) else None)
        meter.add(source.piece.size_bytes)
    writer.end()


def damage_error(what: str, where: Path | None = None) -> CorruptBlobError:
    """For bytes that were copied and do not match their digest."""
    hint = "Restore it from a backup, or let the same data arrive again."
    return CorruptBlobError(f"{what} is damaged in the store", where=str(where) if where else None, hint=hint)


# --- reading


@contextmanager
def open_archive(path: Path) -> Iterator[BinaryIO]:
    """An archive to be read; what is wrong with it is said with its name. Raises NotFoundError when it cannot be read."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise NotFoundError(f"cannot be read: {error.strerror}", where=str(path)) from error
    with file:
        try:
            yield file
        except (DataError, RefusedError) as error:
            hint = error.hint or "It was damaged on the way, or changed: get it again from where it was exported."
            raise type(error)(error.message, where=error.where or path.name, hint=hint) from error


def small(members: Iterator[ArchiveMember], name: str, most: int, otherwise: str) -> bytes:
    """The next member whole, of at most so many bytes. Raises DataError, which says ``otherwise``, when it is another one."""
    member = next(members, None)
    if member is None or member.name != name or member.size_bytes > most:
        raise DataError(otherwise)
    return member.content.read()


def take_all(
    members: Iterable[ArchiveMember], pieces: Mapping[str, ExportFile], listed: str, take: Take, meter: ExportMeter
) -> None:
    """Take every member, each of which ``listed`` names, in any order. ``take`` gives the digest of what it read.

    Raises DataError for one that is missing, is not named, comes twice, or is another one.
    """
    waiting = dict(pieces)
    for member in members:
        piece = waiting.pop(member.name, None)
        if piece is None:
            again = member.name in pieces
            raise DataError(f"holds {member.name} {'twice' if again else f'which {listed} does not name'}")
        if member.size_bytes != piece.size_bytes:
            raise DataError(f"{member.name} has {member.size_bytes:,} bytes, not the {piece.size_bytes:,} that were exported")
        if take(member.name, piece, member.content) != piece.digest:
            raise DataError(f"{member.name} was changed: its bytes do not match its digest")
        meter.add(piece.size_bytes)
    if waiting:
        raise DataError(f"{next(iter(waiting))} is missing{f', and {len(waiting) - 1:,} more' if len(waiting) > 1 else ''}")


def digest_member(_: str, __: ExportFile, content: Content) -> str:
    """Read a member, and keep nothing."""
    from blake3 import blake3

    hasher = blake3()
    while data := content.read(archive.CHUNK):
        hasher.update(data)
    return str(hasher.hexdigest())


def demand_room(folder: Path, size_bytes: int, hint: str) -> None:
    """Raise DiskFullError when so many bytes do not fit."""
    room = shutil.disk_usage(folder).free
    if size_bytes > room:
        text = f"it takes {size(size_bytes)}, and {size(room)} are free"
        raise DiskFullError(text, where=str(folder), hint=hint)
