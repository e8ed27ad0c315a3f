"""Content-addressed files: written whole or not at all, verified right after the write and before a use."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from blake3 import blake3

from noria import names
from noria.errors import CorruptBlobError, DiskFullError, NotFoundError, StoreError

CHUNK = 1 << 20
FICLONE = 0x40049409  # ioctl of Linux: share the blocks until one side is written
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class BlobStore:
    """Blobs under ``root/ab/abcdef...``, read-only. Safe for many processes: a blob appears by rename."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._verified: dict[str, tuple[int, int, int]] = {}  # digest -> mtime_ns, size, inode when it was last verified

    def put_bytes(self, data: bytes) -> str:
        """Keep ``data``; its digest."""
        digest = names.digest_bytes(data)
        if not self.exists(digest):
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
            if not self.exists(digest):
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
            raise NotFoundError(
                f"blob {names.short(digest)} is not there", where=str(place), hint="It was erased, or never kept here."
            ) from None
        mark = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        if self._verified.get(digest) != mark:
            self._verify(place, digest)
            self._verified[digest] = mark
        return place

    def read(self, digest: str) -> bytes:
        """A blob's bytes, verified. Raises NotFoundError, CorruptBlobError."""
        data = self.path(digest).read_bytes()
        if names.digest_bytes(data) != digest:
            raise _corrupt(digest, self._place(digest))
        return data

    def materialise(self, digest: str, target: Path) -> None:
        """A writable copy of a blob: a reflink where the file system can, never a hard link."""
        source = self.path(digest)
        target.parent.mkdir(parents=True, exist_ok=True)
        with source.open("rb") as reader, target.open("wb") as writer:
            try:
                fcntl.ioctl(writer, FICLONE, reader.fileno())
            except OSError:
                with full_disk(target):
                    shutil.copyfileobj(reader, writer, CHUNK)

    def _place(self, digest: str) -> Path:
        if names.DIGEST.fullmatch(digest) is None:
            raise StoreError(f"{digest!r} is not a digest")
        return self.root / digest[:2] / digest

    def _verify(self, place: Path, digest: str) -> None:
        if names.digest_file(place) != digest:
            raise _corrupt(digest, place)

    @contextmanager
    def _fresh(self) -> Iterator[Path]:
        """A temporary file in the store's own file system; gone afterwards unless it was adopted."""
        incoming = self.root / "incoming"
        with full_disk(self.root):
            incoming.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=incoming)
            os.close(handle)
            try:
                yield Path(name)
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name)

    def _adopt(self, path: Path, digest: str) -> None:
        """Make a written file the blob: on disk, verified, then renamed into place."""
        place = self._place(digest)
        place.parent.mkdir(parents=True, exist_ok=True)
        with path.open("rb") as file:
            os.fsync(file.fileno())
        self._verify(path, digest)
        path.chmod(0o444)
        path.rename(place)
        sync_folder(place.parent)


def sync_folder(folder: Path) -> None:
    """Make renames in a folder last through a loss of power."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def full_disk(where: Path) -> Iterator[None]:
    """A full disk in words."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise DiskFullError(
                "the disk is full: nothing was kept", where=str(where), hint="Free some space and try again."
            ) from error
        raise


def _corrupt(digest: str, place: Path) -> CorruptBlobError:
    return CorruptBlobError(
        f"blob {names.short(digest)} is damaged: its bytes do not match its digest",
        where=str(place),
        hint="Remove that file; `noria run` makes it again from what it was made of, or put it back from a backup.",
    )
