"""Content-addressed files: written whole or not at all, verified right after the write and before a use."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from blake3 import blake3

from noria import names
from noria.errors import CorruptBlobError, NotFoundError, StoreError
from noria.store.disk import full_disk, make_folder, sync_folder

CHUNK = 1 << 20
FICLONE = 0x40049409  # ioctl of Linux: share the blocks until one side is written
ABANDONED_S = 3600.0  # a file that nobody wrote to for this long was left by a process that died


class BlobStore:
    """Blobs under ``root/ab/abcdef...``, read-only. Safe for many processes: a blob appears by rename."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._verified: dict[str, tuple[int, int, int]] = {}  # digest -> mtime_ns, size, inode when it was last verified
        self._swept = False

    def put_bytes(self, data: bytes) -> str:
        """Keep ``data``; its digest."""
        digest = names.digest_bytes(data)
        if not self._sound(digest):
            with self._fresh() as path:
                path.write_bytes(data)
                self._adopt(path, digest)
        return digest

    def put_file(self, source: Path) -> str:
        """Keep a copy of a file; its digest is of the bytes that were copied, whatever happens to the source meanwhile."""
        with self._fresh() as path:
            hasher = blake3()
            with source.open("rb") as reader, path.open("wb") as writer:
                while part := reader.read(CHUNK):
                    hasher.update(part)
                    writer.write(part)
            digest = hasher.hexdigest()
            if not self._sound(digest):
                self._adopt(path, digest)
        return digest

    def exists(self, digest: str) -> bool:
        return self._place(digest).is_file()

    def path(self, digest: str) -> Path:
        """The file of a blob, verified unless this process did so and it has not changed since.

        Raises NotFoundError, CorruptBlobError.
        """
        place = self._place(digest)
        try:
            stat = place.stat()
        except FileNotFoundError:
            raise _missing(digest, place) from None
        mark = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        if self._verified.get(digest) != mark:
            self._verify(place, digest)
            self._verified[digest] = mark
        return place

    def read(self, digest: str) -> bytes:
        """A blob's bytes, verified. Raises NotFoundError, CorruptBlobError."""
        place = self._place(digest)
        try:
            data = place.read_bytes()
        except FileNotFoundError:
            raise _missing(digest, place) from None
        if names.digest_bytes(data) != digest:
            raise _corrupt(digest, place)
        return data

    def materialise(self, digest: str, target: Path) -> None:
        """A writable copy of a blob: a reflink where the file system can, never a hard link. Whole, or not there.

        Raises NotFoundError, CorruptBlobError, DiskFullError.
        """
        source = self.path(digest)
        with full_disk(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            part = target.with_name(f"{target.name}.{os.urandom(4).hex()}.part")
            try:
                _copy(source, part)
                part.replace(target)
            finally:
                part.unlink(missing_ok=True)

    def _place(self, digest: str) -> Path:
        if names.DIGEST.fullmatch(digest) is None:
            raise StoreError(f"{digest!r} is not a digest")
        return self.root / digest[:2] / digest

    def _sound(self, digest: str) -> bool:
        """Whether the blob is kept and undamaged; a damaged one is written anew."""
        try:
            self.path(digest)
        except (NotFoundError, CorruptBlobError):
            return False
        return True

    def _verify(self, place: Path, digest: str) -> None:
        if names.digest_file(place) != digest:
            raise _corrupt(digest, place)

    @contextmanager
    def _fresh(self) -> Iterator[Path]:
        """A temporary file in the store's own file system; gone afterwards unless it was adopted."""
        incoming = self.root / "incoming"
        with full_disk(self.root):
            make_folder(incoming)
            self._sweep(incoming)
            handle, name = tempfile.mkstemp(dir=incoming)
            os.close(handle)
            try:
                yield Path(name)
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name)

    def _sweep(self, incoming: Path) -> None:
        """Once in a process: remove what writers that were killed left behind."""
        if self._swept:
            return
        self._swept = True
        for path in incoming.iterdir():
            with contextlib.suppress(FileNotFoundError):  # its writer was faster
                if path.stat().st_mtime < time.time() - ABANDONED_S:
                    path.unlink()

    def _adopt(self, path: Path, digest: str) -> None:
        """Make a written file the blob: on disk, verified, then renamed into place."""
        place = self._place(digest)
        make_folder(place.parent)
        with path.open("rb") as file:
            os.fsync(file.fileno())
        self._verify(path, digest)
        path.chmod(0o444)
        path.rename(place)
        sync_folder(place.parent)


def _copy(source: Path, target: Path) -> None:
    with source.open("rb") as reader, target.open("xb") as writer:
        try:
            fcntl.ioctl(writer, FICLONE, reader.fileno())
        except OSError:  # another file system, or one that shares no blocks
            shutil.copyfileobj(reader, writer, CHUNK)


def _missing(digest: str, place: Path) -> NotFoundError:
    return NotFoundError(f"blob {names.short(digest)} is not there", where=str(place), hint="It was erased, or never kept here.")


def _corrupt(digest: str, place: Path) -> CorruptBlobError:
    return CorruptBlobError(
        f"blob {names.short(digest)} is damaged: its bytes do not match its digest",
        where=str(place),
        hint="Remove that file; `noria run` makes it again from what it was made of, or put it back from a backup.",
    )
