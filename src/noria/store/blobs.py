"""Content-addressed files: hashed while they are copied, written whole or not at all, verified before a use.

A blob is on disk before its name appears: each file with an fsync of its own, a batch of small ones with one barrier for all.
What a disk lost or changed all the same is found by the verification before the first use in each process.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from blake3 import blake3

from noria import names
from noria.errors import CorruptBlobError, NotFoundError, StoreError
from noria.store.disk import full_disk, make_folder, sync_all, sync_file, sync_folder

CHUNK = 256 << 10  # bytes in hand while copying: what fits into the processor's cache is hashed and written fastest
FLUSH = 8 << 20  # bytes after which the system is told to begin writing, so that the fsync at the end finds little left
WARM = 128 << 20  # bytes of a copy that stay in memory for whoever reads it next; of a larger one the rest makes room for itself
SMALL = 1 << 20  # bytes; a file up to this size is read at once and may share its barrier with others
BATCH_FILES = 10_000  # small files that one barrier covers at most ...
BATCH_BYTES = 256 << 20  # ... and their bytes
SINGLY = 8  # below this many files, fsync of each is cheaper than a barrier over everything that others wrote too
FICLONE = 0x40049409  # ioctl of Linux: share the blocks until one side is written
ABANDONED_S = 3600.0  # a file that nobody wrote to for this long was left by a process that died
LOCK = "lock"  # beside the folders
YOUNG_S = 600.0  # a blob that was put this recently need not be made young again
SPARED_S = 3600.0  # a sweep spares what was put later: much longer than YOUNG_S, so that whoever relies on a blob has time
VERIFIED_MOST = 65_536  # verifications that a process remembers
NO_SHARING = {errno.EOPNOTSUPP, errno.ENOTTY, errno.EXDEV, errno.EINVAL, errno.EPERM, errno.ENOSYS, errno.EBADF, errno.EISDIR}


class Stored(NamedTuple):
    """A blob from outside."""

    digest: str
    size_bytes: int
    mtime: float  # seconds since 1970 when its bytes were last put


@dataclass(slots=True)
class _Batch:
    """Small files that are written and wait for the barrier before they get their names."""

    begins: str  # how the names of its files begin
    yields: list[tuple[Path, str]] = field(default_factory=list)  # in the order of the sources
    written: dict[str, str] = field(default_factory=dict)  # digest -> the file that becomes the blob
    size_bytes: int = 0


class BlobStore:
    """Blobs under ``root/ab/abcdef...``, read-only. Safe for many processes: a blob appears by rename.

    To put bytes that are kept already makes their blob young again: a sweep spares what is younger than its cutoff, and the two
    exclude each other by a lock, so that what was put is there however old its first copy is.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._verified: dict[str, tuple[int, int, int]] = {}  # digest -> mtime_ns, size, inode when it was last verified
        self._folders: set[Path] = set()
        self._swept = False

    def put_bytes(self, data: bytes, *, lasting: bool = True) -> str:
        """Keep ``data``; its digest. See ``put_files`` for ``lasting``."""
        digest = names.digest_bytes(data)
        if not self._renewed(digest):
            with self._fresh() as path:
                path.write_bytes(data)
                self._adopt(path, digest, lasting)
        return digest

    def put_file(self, source: Path, *, lasting: bool = True) -> str:
        """Keep a copy of a file; its digest is of the bytes that were copied, whatever happens to the source meanwhile.

        The copy shares the source's blocks where the file system can; a write to the source never reaches it. Raises OSError when
        the source cannot be read, DiskFullError.
        """
        with self._fresh() as path:
            with source.open("rb", buffering=0) as reader, path.open("r+b", buffering=0) as writer:
                digest = names.digest_file(path) if _shared(reader.fileno(), writer.fileno()) else _copied(reader, writer)
            if not self._renewed(digest):
                self._adopt(path, digest, lasting)
        return digest

    def put_stream(self, reader: io.BufferedIOBase) -> str:
        """Keep what is read to the end of a stream; its digest."""
        with self._fresh() as path:
            with path.open("r+b", buffering=0) as writer:
                digest = _copied(reader, writer)
            if not self._renewed(digest):
                self._adopt(path, digest)
        return digest

    def put_files(self, sources: Iterable[Path], *, lasting: bool = True) -> Iterator[tuple[Path, str]]:
        """Keep copies of many files; each with its digest, in order, once it is on disk under its name.

        Without ``lasting`` the disk is not waited for: what can be made again may be lost when the power fails, and is then
        found missing or damaged, as ever before a use.

        Small files share a durability barrier, so that the answers come in batches; memory is bounded by one batch's names. A
        source that is gone is passed over: it has not arrived. One that cannot be read raises OSError as in `put_file`; what was
        answered before is kept, what was not may or may not be.
        """
        rest = iter(sources)
        while True:
            batch = _Batch(str(self._incoming() / f"{os.getpid():x}-{os.urandom(8).hex()}"))
            try:
                with full_disk(self.root):
                    more = self._fill(batch, rest, lasting)
                    self._settle(batch, lasting)
            finally:
                for path in batch.written.values():
                    Path(path).unlink(missing_ok=True)
            yield from batch.yields
            if not more:
                return

    def _fill(self, batch: _Batch, sources: Iterator[Path], lasting: bool) -> bool:
        """Take sources in until the batch is full; whether there may be more."""
        for source in sources:
            try:
                data = _small(source)
            except FileNotFoundError:
                continue
            try:
                digest = self.put_file(source, lasting=lasting) if data is None else self._write(batch, data)
            except FileNotFoundError:
                if source.exists():
                    raise  # it is the store that is gone
                continue
            batch.yields.append((source, digest))
            if len(batch.yields) >= BATCH_FILES or batch.size_bytes >= BATCH_BYTES:
                return True
        return False

    def _write(self, batch: _Batch, data: bytes) -> str:
        digest = names.digest_bytes(data)
        if digest in batch.written or self._renewed(digest):
            return digest
        path = f"{batch.begins}-{len(batch.written):x}"
        batch.written[digest] = path
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444)
        try:
            _write_all(handle, data)
        finally:
            os.close(handle)
        batch.size_bytes += len(data)
        return digest

    def _settle(self, batch: _Batch, lasting: bool) -> None:
        """One barrier for the bytes, then the names, then one for the names."""
        if not batch.written:
            return
        firsts = {digest[:2]: digest for digest in batch.written}
        folders = {shelf: self._folder(digest) for shelf, digest in firsts.items()}
        if lasting and (len(batch.written) < SINGLY or not sync_all(self.root)):
            for path in batch.written.values():
                sync_file(Path(path))
        for digest in list(batch.written):
            os.rename(batch.written[digest], f"{folders[digest[:2]]}/{digest}")
            del batch.written[digest]
        if lasting and (len(folders) < SINGLY or not sync_all(self.root)):
            for folder in folders.values():
                sync_folder(folder)

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
            if names.digest_file(place) != digest:
                raise _corrupt(digest, place)
            self._remember(digest, mark)
        return place

    def unverified(self, digest: str) -> Path:
        """The file of a blob, for who verifies the bytes while reading them. Raises NotFoundError."""
        place = self._place(digest)
        if not place.is_file():
            raise _missing(digest, place)
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

    def link(self, digest: str, target: Path) -> None:
        """A hard link to a blob: read-only, no space of its own. For a person who asked for one and knows not to edit it.

        Raises NotFoundError, CorruptBlobError, StoreError when ``target`` lies on another file system.
        """
        source = self.path(digest)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source, target)
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK):
                raise
            raise StoreError(
                f"no hard link can be made there: {error.strerror}", where=str(target), hint="Copy, with `--link copy`."
            ) from error

    def each(self) -> Iterator[Stored]:
        """Every blob, in the order of digests, as it lies on disk: not verified."""
        for shelf in sorted(self.root.glob("[0-9a-f][0-9a-f]")):
            with os.scandir(shelf) as entries:
                found = sorted(entry.name for entry in entries if names.DIGEST.fullmatch(entry.name))
            for digest in found:
                with contextlib.suppress(FileNotFoundError):  # swept meanwhile
                    facts = (shelf / digest).stat()
                    yield Stored(digest, facts.st_size, facts.st_mtime)

    def sweep(self, digests: Iterable[str], before: float) -> Iterator[str]:
        """Delete blobs that were last put before this time, and not in the last hour; those that are gone.

        Whoever puts the same bytes meanwhile either makes the blob young again first, and it stays, or writes it anew.
        """
        before = min(before, time.time() - SPARED_S)
        for digest in digests:
            place = self._place(digest)
            with self._locked(fcntl.LOCK_EX):
                try:
                    if place.stat().st_mtime >= before:
                        continue
                    place.unlink()
                except FileNotFoundError:
                    continue
            self._verified.pop(digest, None)
            yield digest

    def discard(self, digest: str) -> None:
        """Delete one blob, whatever its age: it is damaged, or a person erases it."""
        with self._locked(fcntl.LOCK_EX):
            self._place(digest).unlink(missing_ok=True)
        self._verified.pop(digest, None)

    def sound(self, digest: str) -> bool:
        """Whether the blob is kept and undamaged."""
        try:
            self.path(digest)
        except (NotFoundError, CorruptBlobError):
            return False
        return True

    def _place(self, digest: str) -> Path:
        if names.DIGEST.fullmatch(digest) is None:
            raise StoreError(f"{digest!r} is not a digest")
        return self.root / digest[:2] / digest

    def _renewed(self, digest: str) -> bool:
        """Whether the blob is kept and undamaged, and from now on young; a damaged one is written anew."""
        if not os.path.exists(f"{self.root}/{digest[:2]}/{digest}"):  # asked of every file that arrives: no Path
            return False
        place = self._place(digest)
        with self._locked(fcntl.LOCK_SH):
            if not self.sound(digest):
                return False
            if place.stat().st_mtime < time.time() - YOUNG_S:
                os.utime(place)
                facts = place.stat()
                self._remember(digest, (facts.st_mtime_ns, facts.st_size, facts.st_ino))
        return True

    def _remember(self, digest: str, mark: tuple[int, int, int]) -> None:
        if len(self._verified) >= VERIFIED_MOST:
            self._verified.pop(next(iter(self._verified)), None)
        self._verified[digest] = mark

    @contextmanager
    def _locked(self, how: int) -> Iterator[None]:
        """Keep sweeps and those who rely on an old blob apart; the system lets go when a process dies."""
        handle = os.open(self.root / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, how)
            yield
        finally:
            os.close(handle)

    def _incoming(self) -> Path:
        """The folder of files that are not blobs yet, in the store's own file system."""
        incoming = self.root / "incoming"
        if not self._swept:
            make_folder(incoming)
            self._sweep(incoming)
        return incoming

    def _folder(self, digest: str) -> Path:
        """The folder of a blob, made when it is not there."""
        folder = self._place(digest).parent
        if folder not in self._folders:
            make_folder(folder)
            self._folders.add(folder)
        return folder

    @contextmanager
    def _fresh(self) -> Iterator[Path]:
        """An empty file in the store's own file system; gone afterwards unless it was adopted."""
        with full_disk(self.root):
            path = self._incoming() / f"{os.getpid():x}-{os.urandom(8).hex()}"
            path.touch(mode=0o600, exist_ok=False)
            try:
                yield path
            finally:
                path.unlink(missing_ok=True)

    def _sweep(self, incoming: Path) -> None:
        """Once in a process: remove what writers that were killed left behind."""
        self._swept = True
        for path in incoming.iterdir():
            with contextlib.suppress(FileNotFoundError):  # its writer was faster
                if path.stat().st_mtime < time.time() - ABANDONED_S:
                    path.unlink()

    def _adopt(self, path: Path, digest: str, lasting: bool = True) -> None:
        """Make a written file the blob: on disk when it is to last, then renamed into place."""
        folder = self._folder(digest)
        if lasting:
            sync_file(path)
        path.chmod(0o444)
        path.rename(folder / digest)
        if lasting:
            sync_folder(folder)


def _small(source: Path) -> bytes | None:
    """The bytes of a small file; None for a larger one."""
    handle = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size_bytes = os.fstat(handle).st_size
        if size_bytes > SMALL:
            return None
        data = os.read(handle, size_bytes + 1)
        while len(data) != size_bytes and (more := os.read(handle, SMALL)):  # a read may end early; a file may have grown
            data += more
        return data
    finally:
        os.close(handle)


def _write_all(handle: int, data: bytes | memoryview) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(handle, rest) :]


def _copied(reader: io.RawIOBase | io.BufferedIOBase, writer: io.FileIO) -> str:
    """Copy to the end; the digest of what was copied. The system begins to write while the rest is read.

    Pages of a large copy that are on disk are given back as it goes on: new ones cost more than the copying.
    """
    hasher, buffer = blake3(), bytearray(CHUNK)
    view, at, flushed = memoryview(buffer), 0, 0
    while count := reader.readinto(view):
        hasher.update(view[:count])
        _write_all(writer.fileno(), view[:count])
        at += count
        if at - flushed >= FLUSH:
            os.posix_fadvise(writer.fileno(), flushed, at - flushed, os.POSIX_FADV_DONTNEED)  # unwritten pages: begin to write
            if flushed > WARM:
                os.posix_fadvise(writer.fileno(), WARM, flushed - WARM, os.POSIX_FADV_DONTNEED)  # written ones: let go
            flushed = at
    return hasher.hexdigest()


def _shared(source: int, target: int) -> bool:
    """Make ``target`` share the blocks of ``source``; False where the file system cannot."""
    try:
        fcntl.ioctl(target, FICLONE, source)
    except OSError as error:
        if error.errno in NO_SHARING:
            return False
        raise
    return True


def _copy(source: Path, target: Path) -> None:
    with source.open("rb", buffering=0) as reader, target.open("xb", buffering=0) as writer:
        if not _shared(reader.fileno(), writer.fileno()):
            shutil.copyfileobj(reader, writer, CHUNK)


def _missing(digest: str, place: Path) -> NotFoundError:
    return NotFoundError(f"blob {names.short(digest)} is not there", where=str(place), hint="It was erased, or never kept here.")


def _corrupt(digest: str, place: Path) -> CorruptBlobError:
    return CorruptBlobError(
        f"blob {names.short(digest)} is damaged: its bytes do not match its digest",
        where=str(place),
        hint="Remove that file; `noria run` makes it again from what it was made of, or put it back from a backup.",
    )
