"""Export: a release in one signed file that needs neither the store nor the machine where it was made; and the way back.

The file is a tar with equal bytes for equal releases. Its first member, release.json, names every other with its digest and
size; the second is the signature of the first, with the key that sealed the bundle. So nothing is believed before it is verified:

    release.json  release.sig
    bundle/       the sealed bundle: model, code (the commit's tree), evidence (environment record, parameters, measurements)
    snapshots/    the manifest of each dataset, by its digest
    blobs/        the files of those datasets, and what each step left in digests, by their digests
"""

from __future__ import annotations

import io
import os
import re
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import msgspec
from msgspec.structs import replace

from noria import __version__, config
from noria.data import refetch
from noria.data.snapshot import FilePin, Snapshot
from noria.kernel import names
from noria.kernel.errors import CorruptBlobError, DataError, DiskFullError, NotFoundError, RefusedError, StoreError
from noria.kernel.pins import Pins
from noria.pipeline import interpreters
from noria.pipeline.context import PipelineContext
from noria.pipeline.run import StepRecord
from noria.releases import signing
from noria.releases.bundle import OWN, Bundle, make_links, open_release
from noria.releases.release import Release
from noria.storage import archive
from noria.storage.archive import ArchiveMember, Content
from noria.storage.blobs import BlobStore
from noria.storage.context import Progress, silent
from noria.storage.disk import full_disk, sync_path

FORMAT = 1
FACTS, SEAL = "release.json", "release.sig"
FACTS_MOST = 256 << 20  # bytes: about a million files
SEAL_BYTES = 64
SMALL_MOST = 256 << 20  # bytes of a snapshot's manifest
TOLD_S = 5.0  # between two words about how far it is
KINDS = ("bundle", "snapshots", "blobs")  # in this order: what is small and tells most comes first
COMMIT = re.compile(r"[0-9a-f]{7,64}")

Take = Callable[[str, "ExportFile", Content], str]


class ExportFile(msgspec.Struct, frozen=True):
    """A file of an export."""

    digest: str
    size_bytes: int
    executable: bool = False


class LeftOutDataset(msgspec.Struct, frozen=True):
    """A dataset that was left out."""

    snapshot: str
    files: int
    size_bytes: int


class ExportFacts(msgspec.Struct, frozen=True):
    """release.json."""

    format: int
    noria: str  # the version that wrote it
    key: str  # the public key it is signed with, as hex
    release: Release
    pieces: dict[str, ExportFile]  # every other file, by its path
    snapshots: dict[str, str]  # dataset -> digest of its manifest; empty without data
    left_out: dict[str, LeftOutDataset] = {}
    lock: str = ""  # the commit's lock file, within bundle/code; empty where it has none
    sealed_with: str = ""  # the key of the bundle's own signature, where it is an older one of the same installation

    @property
    def sealed_by(self) -> str:
        """The public key that the bundle is sealed with, as hex."""
        return self.sealed_with or self.key

    @property
    def size_bytes(self) -> int:
        return sum(piece.size_bytes for piece in self.pieces.values())


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
            self._progress(f"{self._what}: {self._done / 1e6:,.0f} of {self._total / 1e6:,.0f} MB")


def export(context: PipelineContext, release: Release, target: Path, *, with_data: bool = True) -> ExportFacts:
    """Write a release to ``target``: wholly or not at all.

    Raises RefusedError when ``target`` exists or data was erased, CorruptBlobError when it is damaged; both name the file.
    """
    demand_new(target)
    facts, sources = _gathered(context, release, with_data)
    content = msgspec.json.format(msgspec.json.encode(facts, order="sorted"), indent=1)
    ahead = {FACTS: content, SEAL: signing.sign(context.state, content)}
    write(target, ahead, sources, ExportMeter("writing", facts.size_bytes, context.progress))
    return facts


def demand_new(target: Path) -> None:
    """Raise RefusedError when there is such a file, NotFoundError when there is no folder for it."""
    if target.exists():
        raise RefusedError(f"{target} exists already", hint="Name another file, or remove it.")
    if not target.parent.is_dir():
        raise NotFoundError(f"there is no folder {target.parent}", where=str(target))


def write(target: Path, ahead: Mapping[str, bytes], sources: Mapping[str, ByteSource], meter: ExportMeter) -> None:
    """An archive of small members, then of files in the order of their kinds and names: wholly on disk, or not there.

    Raises CorruptBlobError, which names the file, when one is not what its piece says.
    """
    fresh = target.with_name(f".{target.name}.{names.new_id('x')}")
    try:
        with full_disk(target.parent):
            with open(fresh, "xb", opener=_private) as file:
                _write(file, ahead, sources, meter)
            fresh.rename(target)
            sync_path(target.parent)
    finally:
        fresh.unlink(missing_ok=True)


def _private(path: str, flags: int) -> int:
    """Only its owner may read what holds rows of data."""
    return os.open(path, flags, 0o600)


def data_of(context: PipelineContext, release: Release, pins: Pins) -> Iterator[tuple[Snapshot, list[tuple[FilePin, Path]]]]:
    """Each dataset of a release with its files, to be verified while they are copied. Raises RefusedError for what was erased."""
    for dataset, digest in sorted(pins.snapshots.items()):
        try:
            snapshot = context.ledger.data.snapshot(digest)
        except NotFoundError as error:
            raise _erased(release, f"the manifest of {dataset}") from error
        if any(pin.origin for pin in snapshot.files):
            refetch.bring(context, config.load(context.home), [digest])
        yield snapshot, [(pin, _kept(context, release, dataset, pin)) for pin in snapshot.files]


def damaged(what: str, where: Path | None = None) -> CorruptBlobError:
    """For bytes that were copied and do not match their digest."""
    hint = "Put it back from a backup, or let the same data arrive again."
    return CorruptBlobError(f"{what} is damaged in the store", where=str(where) if where else None, hint=hint)


def _kept(context: PipelineContext, release: Release, dataset: str, pin: FilePin) -> Path:
    try:
        return context.blobs.unverified(pin.digest)
    except NotFoundError as error:
        if pin.origin is not None and pin.digest not in context.ledger.keep.erased():
            what = f"{pin.name} of {dataset} stayed at its origin, and the project does not say any more how to fetch it"
            raise RefusedError(
                what, where=pin.origin, hint=f"Put {dataset} back into noria.yaml, with `pin: version`."
            ) from error
        raise _erased(release, f"{pin.name} of {dataset}") from error


def _erased(release: Release, what: str) -> RefusedError:
    return RefusedError(
        f"{release.version} is not reproducible: {what} was erased",
        hint="Without its data it can still be exported to be served: --without-data.",
    )


def _gathered(context: PipelineContext, release: Release, with_data: bool) -> tuple[ExportFacts, dict[str, ByteSource]]:
    bundle = context.bundle(release.digest)
    sealed = open_release(bundle, release, signing.known_keys(context.state))
    pins = sealed.pins
    sources = {f"bundle/{name}": _file(bundle / name, digest) for name, digest in sealed.files.items()}
    for name in sorted(OWN):
        if (bundle / name).exists():
            sources[f"bundle/{name}"] = _file(bundle / name, names.digest_file(bundle / name))
    snapshots, left_out = {}, {}
    if with_data:
        for snapshot, files in data_of(context, release, pins):
            content = msgspec.json.encode(snapshot)
            digest = names.digest_bytes(content)
            snapshots[snapshot.dataset] = snapshot.digest
            sources[f"snapshots/{snapshot.digest}.json"] = ByteSource(ExportFile(digest, len(content)), content)
            told = f"of {snapshot.dataset}"
            sources |= {f"blobs/{pin.digest}": _file(path, pin.digest, f"{pin.name} {told}") for pin, path in files}
        sources |= {f"blobs/{digest}": _file(context.blobs.path(digest), digest) for digest in _outputs(context, bundle)}
    else:
        left_out = {dataset: _absent(context, digest) for dataset, digest in pins.snapshots.items()}
    lock = interpreters.lock_of(bundle / "code")
    key = signing.public_key(context.state)
    facts = ExportFacts(
        FORMAT,
        __version__,
        key,
        replace(release, barred=None),  # said of it later: no part of what it is
        {name: sources[name].piece for name in sorted(sources)},
        snapshots,
        left_out,
        lock.name if lock else "",
        "" if sealed.key == key else sealed.key,
    )
    return facts, sources


def _file(path: Path, digest: str, called: str = "") -> ByteSource:
    facts = path.stat()
    return ByteSource(ExportFile(digest, facts.st_size, bool(facts.st_mode & 0o100)), path, called or path.name)


def _outputs(context: PipelineContext, bundle: Path) -> Iterator[str]:
    """What the steps of the release left, in digests, as far as it is still kept: to be compared with."""
    for record in recorded_steps(bundle):
        if record.output is not None and context.blobs.sound(record.output):
            yield record.output


def recorded_steps(bundle: Path) -> list[StepRecord]:
    """The steps of the run that made a release."""
    return msgspec.json.decode((bundle / "evidence" / "steps.json").read_bytes(), type=list[StepRecord])


def _absent(context: PipelineContext, digest: str) -> LeftOutDataset:
    try:
        files = context.ledger.data.snapshot(digest).files
    except NotFoundError:
        files = ()
    return LeftOutDataset(digest, len(files), sum(pin.size_bytes for pin in files))


def _write(file: BinaryIO, ahead: Mapping[str, bytes], sources: Mapping[str, ByteSource], meter: ExportMeter) -> None:
    writer = archive.Writer(file)
    for name, content in ahead.items():
        writer.add(name, io.BytesIO(content), len(content))
    for name in sorted(sources, key=_place):
        source = sources[name]
        with source.open() as reader:
            digest = writer.add(name, reader, source.piece.size_bytes, source.piece.executable)
        if digest != source.piece.digest:
            raise damaged(source.called, source.content if isinstance(source.content, Path) else None)
        meter.add(source.piece.size_bytes)
    writer.end()
    file.flush()
    os.fsync(file.fileno())


def _place(name: str) -> tuple[int, str]:
    return KINDS.index(name.partition("/")[0]), name


# --- the way back


class UnpackedExport(msgspec.Struct, frozen=True):
    """An export in a folder of its own."""

    facts: ExportFacts
    bundle: Bundle
    snapshots: tuple[Snapshot, ...]
    blobs: BlobStore


def demand_room(folder: Path, size_bytes: int, hint: str) -> None:
    """Raise DiskFullError when so many bytes do not fit."""
    room = shutil.disk_usage(folder).free
    if size_bytes > room:
        text = f"it takes {size_bytes / 1e6:,.0f} MB, and {room / 1e6:,.0f} MB are free"
        raise DiskFullError(text, where=str(folder), hint=hint)


def inspect(path: Path, keys: Collection[str] = (), progress: Progress = silent) -> ExportFacts:
    """Read an export to its end, and keep nothing. Raises as ``unpack`` does."""
    return _read(path, keys, lambda facts: facts, digested, progress)


def unpack(path: Path, state: Path, keys: Collection[str] = (), progress: Progress = silent) -> UnpackedExport:
    """Lay an export out under ``state``, which is new, as the store of the release alone.

    Raises DataError when it is damaged, incomplete or holds what an export does not hold, RefusedError when it is not signed, or
    not with ``key`` (a public key as hex), DiskFullError before anything is written. Then ``state`` is gone again.
    """
    state.mkdir(parents=True, mode=0o700)
    try:
        return _unpack(path, state, keys, progress)
    except BaseException:  # Ctrl-C too: nothing half unpacked stays
        shutil.rmtree(state, ignore_errors=True)
        raise


def _unpack(path: Path, state: Path, keys: Collection[str], progress: Progress) -> UnpackedExport:
    blobs, snapshots = BlobStore(state / "blobs"), {}
    laid = state / "releases" / "incoming"

    def begin(facts: ExportFacts) -> ExportFacts:
        demand_room(state, facts.size_bytes, "Name a folder on another disk: --into FOLDER")
        return facts

    def take(name: str, piece: ExportFile, content: Content) -> str:
        kind, _, rest = name.partition("/")
        if kind == "blobs":
            return blobs.put_stream(content)
        if kind == "snapshots":
            data = content.read()
            snapshots[rest] = _snapshot(data)
            return names.digest_bytes(data)
        return lay(laid / rest, piece, content)

    with full_disk(state):
        facts = _read(path, keys, begin, take, progress)
    folder = state / "releases" / facts.release.digest
    laid.rename(folder)
    try:
        make_links(folder)
        bundle = open_release(folder, facts.release, [facts.sealed_by])
        datasets = tuple(_datasets(path, facts, bundle.pins, snapshots))
    except StoreError as error:
        raise DataError(error.message, where=path.name) from error
    return UnpackedExport(facts, bundle, datasets, blobs)


def _read(
    path: Path, keys: Collection[str], begin: Callable[[ExportFacts], ExportFacts], take: Take, progress: Progress
) -> ExportFacts:
    """Every member once, in any order, each with the size and the digest that release.json tells."""
    with opened(path) as file:
        members = archive.members(file)
        facts = begin(facts_of(members, keys))
        take_all(members, facts.pieces, FACTS, take, ExportMeter("reading", facts.size_bytes, progress))
    return facts


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
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


def facts_of(members: Iterator[ArchiveMember], keys: Collection[str]) -> ExportFacts:
    """What an export says of itself, once its signature verified: with one of ``keys`` where any are named.

    Raises DataError, RefusedError.
    """
    otherwise = f"is no export of a release: it does not begin with {FACTS} and {SEAL}"
    content, seal = small(members, FACTS, FACTS_MOST, otherwise), small(members, SEAL, SEAL_BYTES, otherwise)
    try:
        facts = msgspec.json.decode(content, type=ExportFacts)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{FACTS} is not what an export begins with: {error}") from error
    if not signing.verify(facts.key, content, seal):
        raise RefusedError(f"its signature is not of its {FACTS}: it was changed, or never signed")
    if keys and facts.key not in keys:
        raise RefusedError(
            f"it is signed with the key {facts.key}, not with {' or '.join(keys)}",
            hint="Ask whoever gave it to you for their public key (.noria/signing.pub).",
        )
    _check(facts)
    return facts


def small(members: Iterator[ArchiveMember], name: str, most: int, otherwise: str) -> bytes:
    """The next member whole, of at most so many bytes. Raises DataError, which says ``otherwise``, when it is another one."""
    member = next(members, None)
    if member is None or member.name != name or member.size_bytes > most:
        raise DataError(otherwise)
    return member.content.read()


def _check(facts: ExportFacts) -> None:
    """What becomes a path or a name is one."""
    if facts.format != FORMAT:
        raise DataError(f"is of format {facts.format}, this Noria ({__version__}) reads {FORMAT}", hint="Use a newer Noria.")
    release = facts.release
    sealed = facts.pieces.get("bundle/manifest.json")
    wrong = [
        not names.is_name(release.project),
        names.VERSION.fullmatch(release.version) is None,
        names.DIGEST.fullmatch(release.digest) is None,
        not (release.imported and release.commit is None) and COMMIT.fullmatch(release.commit or "") is None,
        sealed is None or sealed.digest != release.digest,
    ]
    if any(wrong):
        raise DataError(f"{FACTS} does not describe a release")
    folders = {str(parent) for name in facts.pieces for parent in PurePosixPath(name).parents}
    for name, piece in facts.pieces.items():
        kind, _, rest = archive.safe(name).partition("/")
        misnamed = kind == "blobs" and rest != piece.digest
        if kind not in KINDS or not rest or piece.size_bytes < 0 or misnamed or name in folders:
            raise DataError(f"names a file that no export holds: {name!r}")


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
        if member.size_bytes != piece.size_bytes or (member.name.startswith("snapshots/") and piece.size_bytes > SMALL_MOST):
            raise DataError(f"{member.name} has {member.size_bytes:,} bytes, not the {piece.size_bytes:,} that were exported")
        if take(member.name, piece, member.content) != piece.digest:
            raise DataError(f"{member.name} was changed: its bytes do not match its digest")
        meter.add(piece.size_bytes)
    if waiting:
        raise DataError(f"{next(iter(waiting))} is missing{f', and {len(waiting) - 1:,} more' if len(waiting) > 1 else ''}")


def digested(_: str, __: ExportFile, content: Content) -> str:
    """Read a member, and keep nothing."""
    from blake3 import blake3

    hasher = blake3()
    while data := content.read(archive.CHUNK):
        hasher.update(data)
    return str(hasher.hexdigest())


def lay(target: Path, piece: ExportFile, content: Content) -> str:
    """Write a file of the bundle; its digest. It is new, so that no link can stand in its way."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("xb") as file:
        shutil.copyfileobj(content, file, archive.CHUNK)
    target.chmod(0o755 if piece.executable else 0o644)
    return names.digest_file(target)


def _snapshot(data: bytes) -> Snapshot:
    try:
        made = msgspec.json.decode(data, type=Snapshot)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataError(f"a manifest of a dataset cannot be read: {error}") from error
    for pin in made.files:
        if ".." in pin.name.split("/") or "\0" in pin.name or names.DIGEST.fullmatch(pin.digest) is None:
            raise DataError(f"a file of {made.dataset} has a name that leaves its folder: {pin.name[:200]!r}")
    return made


def _datasets(path: Path, facts: ExportFacts, pins: Pins, found: Mapping[str, Snapshot]) -> Iterator[Snapshot]:
    """The snapshots that the sealed manifest pins, each with all its files."""
    for dataset, digest in pins.snapshots.items():
        snapshot = found.get(f"{digest}.json")
        if dataset in facts.left_out and snapshot is None:
            continue
        if snapshot is None or snapshot.digest != digest or snapshot.dataset != dataset:
            raise DataError(f"the manifest of {dataset} is missing", where=path.name)
        missing = next((pin for pin in snapshot.files if f"blobs/{pin.digest}" not in facts.pieces), None)
        if missing is not None:
            raise DataError(f"{missing.name} of {dataset} is missing", where=path.name)
        yield snapshot
