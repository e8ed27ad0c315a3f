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
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

import msgspec
from blake3 import blake3

from noria.kernel import names
from noria.kernel.errors import CorruptBlobError, NotFoundError, StoreError
from noria.storage.disk import full_disk, make_folder, sync_all, sync_path
from noria.storage.small_blobs import SmallBlobs

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

CHUNK = 256 << 10  # bytes in hand while copying: what fits into the processor's cache is hashed and written fastest
FLUSH = 8 << 20  # bytes after which the system is told to begin writing, so that the fsync at the end finds little left
WARM = 128 << 20  # bytes of a copy that stay in memory for whoever reads it next; of a larger one the rest makes room for itself
SMALL = 1 << 20  # bytes; a file up to this size is read at once and may share its barrier with others
TINY = 64 << 10  # bytes; blobs up to this size, when many come together, share a file
MANY = 64  # so many
HELD_BYTES = 8 << 20  # of them in memory
BATCH_FILES = 10_000  # small files that one barrier covers at most ...
BATCH_BYTES = 256 << 20  # ... and their bytes
SINGLY = 8  # below this many files, fsync of each is cheaper than a barrier over everything that others wrote too
FICLONE = 0x40049409  # ioctl of Linux: share the blocks until one side is written
ABANDONED_S = 3600.0  # a file that nobody wrote to for this long was left by a process that died
LOCK = "lock"  # beside the folders
YOUNG_S = 600.0  # a blob that was put this recently need not be made young again
SPARED_S = 3600.0  # a sweep spares what was put later: much longer than YOUNG_S, so that whoever relies on a blob has time
VERIFIED_MOST = 65_536  # verifications that a process remembers
P = TypeVar("P", bound=Path | str)
NO_SHARING = {errno.EOPNOTSUPP, errno.ENOTTY, errno.EXDEV, errno.EINVAL, errno.EPERM, errno.ENOSYS, errno.EBADF, errno.EISDIR}


class Stored(NamedTuple):
    """A blob from outside."""

    digest: str
    size_bytes: int
    mtime: float  # seconds since 1970 when its bytes were last put


class _Batch(msgspec.Struct, Generic[P]):
    """Small files that wait for the barrier before they get their names."""

    begins: str  # how the names of its files begin
    yields: list[tuple[P, str]] = []  # in the order of the sources
    written: dict[str, str] = {}  # digest -> the file that becomes the blob
    held: dict[str, bytes] = {}  # digest -> what is not written yet
    held_bytes: int = 0
    packed: set[str] = set()
    packer: ThreadPoolExecutor | None = None  # writes what is packed while the next is read
    packing: Future[None] | None = None
    size_bytes: int = 0

    def __enter__(self) -> _Batch[P]:
        return self

    def __exit__(self, *_: object) -> None:
        if self.packer is not None:
            self.packer.shutdown()
        for path in self.written.values():
            Path(path).unlink(missing_ok=True)


class BlobStore:
    """Blobs under ``root/ab/abcdef...``, read-only. Safe for many processes: a blob appears by rename.

    Of many small ones that come together the bytes stand in one file (``small.db``) until somebody asks for a path.

    To put bytes that are kept already makes their blob young again: a sweep spares what is younger than its cutoff, and the two
    exclude each other by a lock, so that what was put is there however old its first copy is.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._verified: dict[str, tuple[int, int, int]] = {}  # digest -> mtime_ns, size, inode when it was last verified
        self._swept = False
        self._small = SmallBlobs(root / "small.db")

    def put_bytes(self, data: bytes, *, lasting: bool = True) -> str:
        """Keep ``data``; its digest. See ``put_files`` for ``lasting``."""
        digest = names.digest_bytes(data)
        with full_disk(self.root), self._batch() as batch:
            if not self._renew(digest):
                self._write_out(batch, digest, data)
                self._settle(batch, lasting)
        return digest

    def put_file(self, source: Path, *, lasting: bool = True) -> str:
        """Keep a copy of a file; its digest is of the bytes that were copied, whatever happens to the source meanwhile.

        The copy shares the source's blocks where the file system can; a write to the source never reaches it. Raises OSError when
        the source cannot be read, DiskFullError.
        """
        with self._fresh() as path:
            with source.open("rb", buffering=0) as reader, path.open("r+b", buffering=0) as writer:
                digest = (
                    names.digest_file(path)
                    if _share_blocks(reader.fileno(), writer.fileno())
                    else _copy_and_digest(reader, writer)
                )
            if not self._renew(digest):
                self._adopt(path, digest, lasting)
        return digest

    def put_stream(self, reader: io.BufferedIOBase) -> str:
        """Keep what is read to the end of a stream; its digest."""
        with self._fresh() as path:
            with path.open("r+b", buffering=0) as writer:
                digest = _copy_and_digest(reader, writer)
            if not self._renew(digest):
                self._adopt(path, digest)
        return digest

    def put_files(self, sources: Iterable[P], *, lasting: bool = True) -> Iterator[tuple[P, str]]:
        """Keep copies of many files; each with its digest, in order, once it is on disk under its name.

        Without ``lasting`` the disk is not waited for: what can be made again may be lost when the power fails, and is then
        found missing or damaged, as ever before a use.

        Small files share a durability barrier, so that the answers come in batches; memory is bounded by one batch's names. A
        source that is gone is passed over: it has not arrived. One that cannot be read raises OSError as in `put_file`; what was
        answered before is kept, what was not may or may not be.
        """
        rest = iter(sources)
        while True:
            with full_disk(self.root), self._batch() as batch:
                more = self._fill(batch, rest, lasting)
                self._settle(batch, lasting)
            yield from batch.yields
            if not more:
                return

    def _batch(self) -> _Batch[Any]:
        return _Batch(str(self._incoming() / f"{os.getpid():x}-{os.urandom(8).hex()}"))

    def _fill(self, batch: _Batch[P], sources: Iterator[P], lasting: bool) -> bool:
        """Take sources in until the batch is full; whether there may be more."""
        for source in sources:
            try:
                data = _small(source)
            except FileNotFoundError:
                continue
            try:
                digest = self.put_file(Path(source), lasting=lasting) if data is None else self._write(batch, data)
            except FileNotFoundError:
                if os.path.exists(source):
                    raise  # it is the store that is gone
                continue
            batch.yields.append((source, digest))
            if len(batch.yields) >= BATCH_FILES or batch.size_bytes >= BATCH_BYTES:
                return True
        return False

    def _write(self, batch: _Batch[P], data: bytes) -> str:
        digest = names.digest_bytes(data)
        tiny = len(data) <= TINY  # whether it is packed already is not asked of each, but of all together
        if digest in batch.written or digest in batch.held or digest in batch.packed or self._renew(digest, packed=not tiny):
            return digest
        batch.size_bytes += len(data)
        if not tiny:
            self._write_out(batch, digest, data)
            return digest
        batch.held[digest] = data
        batch.held_bytes += len(data)
        if batch.held_bytes > HELD_BYTES and len(batch.held) >= MANY:
            self._pack(batch)
        return digest

    def _write_out(self, batch: _Batch[P], digest: str, data: bytes) -> None:
        batch.written[digest] = f"{batch.begins}-{len(batch.written):x}"
        _write_new(Path(batch.written[digest]), data, 0o444)

    def _pack(self, batch: _Batch[P]) -> None:
        """Write what is held, once what was held before it is written."""
        from concurrent.futures import ThreadPoolExecutor  # only for many files

        if batch.packing is not None:
            batch.packing.result()
        batch.packer = batch.packer or ThreadPoolExecutor(1, "pack")
        batch.packing = batch.packer.submit(self._small.put, batch.held)
        batch.packed.update(batch.held)
        batch.held, batch.held_bytes = {}, 0

    def _settle(self, batch: _Batch[P], lasting: bool) -> None:
        """One barrier for the bytes, then the names, then one for the names. Many tiny ones go into one file."""
        if len(batch.held) >= MANY or (batch.held and batch.packed):
            self._pack(batch)
        if batch.packing is not None:
            batch.packing.result()
        for digest, data in batch.held.items():
            if not self._renew(digest):
                self._write_out(batch, digest, data)
        if not batch.written:
            return
        firsts = {digest[:2]: digest for digest in batch.written}
        folders = {shelf: self._folder(digest) for shelf, digest in firsts.items()}
        if lasting and (len(batch.written) < SINGLY or not sync_all(self.root)):
            for path in batch.written.values():
                sync_path(Path(path))
        for digest in list(batch.written):
            os.rename(batch.written[digest], f"{folders[digest[:2]]}/{digest}")
            del batch.written[digest]
        if lasting and (len(folders) < SINGLY or not sync_all(self.root)):
            for folder in folders.values():
                sync_path(folder)

    def exists(self, digest: str) -> bool:
        return self._place(digest).is_file() or self._small.has(digest)

    def path(self, digest: str) -> Path:
        """The file of a blob, verified unless this process did so and it has not changed since.

        Raises NotFoundError, CorruptBlobError.
        """
        place = self._place(digest)
        try:
            stat = place.stat()
        except FileNotFoundError:
            self._write_place(digest, self._read_packed(digest, place))
            stat = place.stat()
        mark = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        if self._verified.get(digest) != mark:
            if names.digest_file(place) != digest:
                raise _corrupt(digest, place)
            self._remember(digest, mark)
        return place

    def unverified_path(self, digest: str) -> Path:
        """The file of a blob, for who verifies the bytes while reading them. Raises NotFoundError."""
        place = self._place(digest)
        return place if place.is_file() else self.path(digest)

    def read(self, digest: str) -> bytes:
        """A blob's bytes, verified. Raises NotFoundError, CorruptBlobError."""
        place = self._place(digest)
        try:
            data = place.read_bytes()
        except FileNotFoundError:
            return self._read_packed(digest, place)
        if names.digest_bytes(data) != digest:
            raise _corrupt(digest, place)
        return data

    def verified_size(self, digest: str) -> int:
        """Bytes of a blob, all of which were read and found whole. Raises NotFoundError, CorruptBlobError."""
        place = self._place(digest)
        return self.path(digest).stat().st_size if place.is_file() else len(self._read_packed(digest, place))

    def lend(self, digest: str, target: Path) -> None:
        """A read-only file with a blob's bytes, for as long as the blob is kept: a link, or a small file of its own.

        Raises NotFoundError, CorruptBlobError.
        """
        place = self._place(digest)
        if place.is_file():
            target.symlink_to(self.path(digest))
        else:
            _write_new(target, self._read_packed(digest, place), 0o444)

    def _read_packed(self, digest: str, place: Path) -> bytes:
        """A packed blob's bytes, verified."""
        data = self._small.get(digest)
        if data is None:
            raise _missing(digest, place)
        if names.digest_bytes(data) != digest:
            raise _corrupt(digest, place)
        return data

    def _write_place(self, digest: str, data: bytes) -> None:
        """Make a packed blob a file of its own as well. When the power fails it may be damaged: the packed one is not."""
        with full_disk(self.root), self._batch() as batch:
            self._write_out(batch, digest, data)
            self._settle(batch, False)

    def materialise(self, digest: str, target: Path) -> None:
        """A writable copy of a blob: a reflink where the file system can, never a hard link. Whole, or not there.

        Raises NotFoundError, CorruptBlobError, DiskFullError.
        """
        place = self._place(digest)
        source = self.path(digest) if place.is_file() else self._read_packed(digest, place)
        with full_disk(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            part = target.with_name(f"{target.name}.{os.urandom(4).hex()}.part")
            try:
                if isinstance(source, bytes):
                    _write_new(part, source, 0o666)
                else:
                    _copy(source, part)
                part.replace(target)
            except BaseException:  # whatever it was, nothing half written stays
                part.unlink(missing_ok=True)
                raise

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
        """Every blob, as it lies on disk: not verified. Of one that is packed and has a file too, both are counted."""
        packed = {small.digest: small for small in self._small.each()}
        for shelf in sorted(self.root.glob("[0-9a-f][0-9a-f]")):
            with os.scandir(shelf) as entries:
                found = sorted(entry.name for entry in entries if names.DIGEST.fullmatch(entry.name))
            for digest in found:
                with contextlib.suppress(FileNotFoundError):  # swept meanwhile
                    facts = (shelf / digest).stat()
                    small = packed.pop(digest, None)
                    size_bytes = facts.st_size + (small.size_bytes if small else 0)
                    yield Stored(digest, size_bytes, max(facts.st_mtime, small.at if small else 0.0))
        yield from (Stored(*small) for small in packed.values())

    def sweep(self, digests: Iterable[str], before: float) -> Iterator[str]:
        """Delete blobs that were last put before this time, and not in the last hour; those that are gone.

        Whoever puts the same bytes meanwhile either makes the blob young again first, and it stays, or writes it anew.
        """
        before = min(before, time.time() - SPARED_S)
        wanted = list(digests)
        packed = self._small.drop(wanted, before)
        for digest in wanted:
            place = self._place(digest)
            with self._lock(fcntl.LOCK_EX):
                try:
                    if place.stat().st_mtime >= before:
                        continue
                    place.unlink()
                except FileNotFoundError:
                    if digest not in packed:
                        continue
            self._verified.pop(digest, None)
            yield digest

    def discard(self, digest: str) -> None:
        """Delete one blob, whatever its age: it is damaged, or a person erases it."""
        with self._lock(fcntl.LOCK_EX):
            self._place(digest).unlink(missing_ok=True)
        self._small.drop([digest])
        self._verified.pop(digest, None)

    def put_aside(self, digest: str, target: Path) -> None:
        """Move what is kept under a digest, which it may not match, to a file; nothing when nothing is kept."""
        try:
            self._place(digest).rename(target)
        except FileNotFoundError:
            data = self._small.get(digest)
            if data is not None:
                _write_new(target, data, 0o444)
        self.discard(digest)

    def is_sound(self, digest: str) -> bool:
        """Whether the blob is kept and undamaged."""
        try:
            self.verified_size(digest)
        except (NotFoundError, CorruptBlobError):
            return False
        return True

    def _place(self, digest: str) -> Path:
        if names.DIGEST.fullmatch(digest) is None:
            raise StoreError(f"{digest!r} is not a digest")
        return self.root / digest[:2] / digest

    def _renew(self, digest: str, *, packed: bool = True) -> bool:
        """Whether the blob is kept (in a file of its own, or else ``packed``) and undamaged, and from now on young; a damaged one
        is written anew.
        """
        if not os.path.exists(f"{self.root}/{digest[:2]}/{digest}"):  # asked of every file that arrives: no Path
            return packed and self._small.renew(digest, time.time() - YOUNG_S) and self.is_sound(digest)
        place = self._place(digest)
        with self._lock(fcntl.LOCK_SH):
            if not self.is_sound(digest):
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
    def _lock(self, how: int) -> Iterator[None]:
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
        make_folder(incoming)  # each time: somebody may have tidied up
        if not self._swept:
            self._sweep(incoming)
        return incoming

    def _folder(self, digest: str) -> Path:
        """The folder of a blob, made when it is not there."""
        folder = self._place(digest).parent
        make_folder(folder)
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
            sync_path(path)
        path.chmod(0o444)
        path.rename(folder / digest)
        if lasting:
            sync_path(folder)


def _small(source: Path | str) -> bytes | None:
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


def _copy_and_digest(reader: io.RawIOBase | io.BufferedIOBase, writer: io.FileIO) -> str:
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


def _share_blocks(source: int, target: int) -> bool:
    """Make ``target`` share the blocks of ``source``; False where the file system cannot."""
    try:
        fcntl.ioctl(target, FICLONE, source)
    except OSError as error:
        if error.errno in NO_SHARING:
            return False
        raise
    return True


def _write_new(path: Path, data: bytes, mode: int) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        _write_all(handle, data)
    finally:
        os.close(handle)


def _copy(source: Path, target: Path) -> None:
    with source.open("rb", buffering=0) as reader, target.open("xb", buffering=0) as writer:
        if not _share_blocks(reader.fileno(), writer.fileno()):
            shutil.copyfileobj(reader, writer, CHUNK)


def _missing(digest: str, place: Path) -> NotFoundError:
    return NotFoundError(f"blob {names.short(digest)} is not there", where=str(place), hint="It was erased, or never kept here.")


def _corrupt(digest: str, place: Path) -> CorruptBlobError:
    return CorruptBlobError(
        f"blob {names.short(digest)} is damaged: its bytes do not match its digest",
        where=str(place),
        hint="`noria data verify` says what needs it, and restores it if its bytes still exist elsewhere.",
    )
