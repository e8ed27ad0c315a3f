"""Exchange: a version of a dataset as one tar, and the way back into a store.

The tar has equal bytes for equal versions. It is not signed: a version is its names and contents, and its digest proves both.

    snapshot.json  what it is: dataset, digest, counts, and the digest of the next member
    files.json     its files, in the order of names
    blobs/         their contents, each once, by digest

A tar is read twice: to its end, so that nothing of a bad one is ever kept, then into the store.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
from msgspec.structs import replace

from noria import __version__, config
from noria.data import served_predictions, versions
from noria.data.kept_versions import PinStore, erased_files
from noria.data.snapshot import FilePin, Snapshot, SnapshotFacts
from noria.data.store import DataStore, manifest_digest
from noria.data.versions import BLOBS
from noria.kernel import names
from noria.kernel.errors import DataError, NotFoundError, RefusedError
from noria.kernel.words import plural
from noria.storage import archive
from noria.storage.archive import ArchiveMember, Content
from noria.storage.context import StoreContext
from noria.storage.disk import full_disk
from noria.storage.listed_archive import (
    DATASET_HEAD,
    LIST_MOST,
    RELEASE_HEAD,
    ByteSource,
    ExportFile,
    ExportMeter,
    demand_new,
    demand_room,
    digest_member,
    open_archive,
    small,
    take_all,
    write,
)

FORMAT = 1
HEAD, FILES = DATASET_HEAD, "files.json"
HEAD_MOST = 64 << 10  # bytes
SMALL = 1 << 20  # bytes; contents up to this size are kept many at a time ...
TOGETHER = 5_000  # ... so many ...
TOGETHER_BYTES = 64 << 20  # ... and so many bytes at most


class SnapshotHead(msgspec.Struct, frozen=True):
    """snapshot.json. ``manifest`` is the digest of files.json."""

    format: int
    dataset: str
    digest: str
    files: int
    rows: int
    size_bytes: int
    manifest: str


class SnapshotImport(msgspec.Struct, frozen=True):
    """What an import did. ``known``: the version was in the ledger already; ``added``: contents that were not in the store."""

    facts: SnapshotFacts
    name: str  # of the pin
    known: bool
    added: int
    folder: str | None = None


def export(context: StoreContext, facts: SnapshotFacts, target: Path) -> None:
    """Write a version to ``target``: wholly or not at all.

    Raises RefusedError when ``target`` exists or a file of the version is gone, CorruptBlobError when one is damaged.
    """
    demand_new(target)
    with context.locks.hold_shared(BLOBS):
        versions.whole(context, facts)
        pins = [
            replace(pin, origin=None) for pin in sorted(DataStore.of(context).files_of(facts.digest), key=lambda pin: pin.name)
        ]
        sources = {f"blobs/{pin.digest}": _source(context, facts, pin) for pin in pins}
        files = msgspec.json.encode(pins)
        rows, size_bytes = sum(pin.rows for pin in pins), sum(pin.size_bytes for pin in pins)
        head = SnapshotHead(FORMAT, facts.dataset, facts.digest, len(pins), rows, size_bytes, names.digest_bytes(files))
        ahead = {HEAD: msgspec.json.format(msgspec.json.encode(head), indent=1), FILES: files}
        write(target, ahead, dict(sorted(sources.items())), ExportMeter("writing", size_bytes, context.progress))
    text = f"{facts.dataset} {names.short(facts.digest)} exported: {plural(len(pins), 'file')}, {size_bytes:,} bytes"
    context.event("data.exported", facts.dataset, text, snapshot=facts.digest)


def _source(context: StoreContext, facts: SnapshotFacts, pin: FilePin) -> ByteSource:
    called = f"{pin.name} of {facts.dataset}"
    small = pin.size_bytes <= SMALL  # it may share a file with others: it is asked for when it is its turn
    content = functools.partial(context.blobs.read, pin.digest) if small else context.blobs.unverified_path(pin.digest)
    return ByteSource(ExportFile(pin.digest, pin.size_bytes), content, called)


# --- the way back


def take_in(
    context: StoreContext, path: Path, name: str | None = None, into: Path | None = None, *, erased: bool = False
) -> SnapshotImport:
    """Put the contents of a tar into the store, record its version and pin it, as ``imported-DIGEST`` unless it is named; then
    copy its files into a folder, if one is named. The files that are accepted in the dataset now stay as they are.

    Raises DataError when the tar is damaged, incomplete or holds what no such tar holds; RefusedError when the name is another
    one's, when ``into`` is not empty, or when something of it was erased here, unless ``erased`` allows it back;
    DiskFullError. Then nothing was kept.
    """
    with context.locks.hold_shared(BLOBS):
        with open_archive(path) as file:
            members = archive.members(file)
            head, pins = _read_listing(members)
            name = name or f"imported-{names.short(head.digest)}"
            _demand_welcome(context, head, pins, name, into, erased)
            take_all(members, _pieces(pins), FILES, digest_member, ExportMeter("verifying", head.size_bytes, context.progress))
        absent = {pin.digest: pin.size_bytes for pin in pins if not context.blobs.exists(pin.digest)}
        demand_room(context.state, sum(absent.values()), "Free some space; `noria gc` lists what is no longer needed.")
        _store_contents(context, path, head)
        facts, known = _record_snapshot(context, head, pins, name)
        if into is not None:
            versions.checkout(context, facts, into, versions.LinkKind.REFLINK)
    return SnapshotImport(facts, name, known, len(absent), str(into.resolve()) if into is not None else None)


def _read_listing(members: Iterator[ArchiveMember]) -> tuple[SnapshotHead, tuple[FilePin, ...]]:
    """What the tar says that it holds, checked as far as it can be before its contents are read."""
    first = next(members, None)
    if first is not None and first.name == RELEASE_HEAD:
        raise DataError("is an export of a release, not of a dataset", hint="`noria reproduce FILE` reads it.")
    otherwise = f"is not an export of a dataset: it does not begin with {HEAD} and {FILES}"
    if first is None or first.name != HEAD or first.size_bytes > HEAD_MOST:
        raise DataError(otherwise)
    head = _head(first.content.read())
    content = small(members, FILES, LIST_MOST, otherwise)
    if names.digest_bytes(content) != head.manifest:
        raise DataError(f"{FILES} was changed: its bytes do not match its digest")
    try:
        pins = msgspec.json.decode(content, type=tuple[FilePin, ...])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{FILES} is not a list of files: {error}") from error
    _check(head, pins)
    return head, pins


def _head(content: bytes) -> SnapshotHead:
    try:
        head = msgspec.json.decode(content, type=SnapshotHead)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{HEAD} is not what an export of a dataset begins with: {error}") from error
    if head.format != FORMAT:
        raise DataError(f"is of format {head.format}, this Noria ({__version__}) reads {FORMAT}", hint="Use a newer Noria.")
    if not names.is_name(head.dataset) or names.DIGEST.fullmatch(head.digest) is None:
        raise DataError(f"{HEAD} does not describe a dataset")
    return head


def _check(head: SnapshotHead, pins: Sequence[FilePin]) -> None:
    """Names are names, in order and each once; contents are digests; and together they are the version that the head names."""
    for pin in pins:
        try:
            versions.below(pin.name)
        except RefusedError as error:
            raise DataError(f"names a file that would leave its folder: {pin.name[:200]!r}") from error
        if names.DIGEST.fullmatch(pin.digest) is None or pin.size_bytes < 0 or pin.rows < 0 or pin.origin is not None:
            raise DataError(f"the entry of {pin.name[:200]!r} in {FILES} is invalid")
    if any(a.name >= b.name for a, b in itertools.pairwise(pins)):
        raise DataError(f"{FILES} is out of order, or names a file twice")
    counts = (len(pins), sum(pin.rows for pin in pins), sum(pin.size_bytes for pin in pins))
    if counts != (head.files, head.rows, head.size_bytes) or not pins or head.digest not in _identities(head.dataset, pins):
        raise DataError(f"{HEAD} does not describe the files that {FILES} lists")


def _identities(dataset: str, pins: tuple[FilePin, ...] | Sequence[FilePin]) -> Iterator[str]:
    """What the digest of these files may be: as of a version now, as before lists had chunks, as of a log."""
    yield manifest_digest(dataset, tuple(pins))
    yield names.digest_bytes(msgspec.json.encode([dataset, [(pin.name, pin.digest) for pin in pins]]))
    if len(pins) == 1:
        yield served_predictions.log_digest(dataset, pins[0])


def _pieces(pins: Sequence[FilePin]) -> dict[str, ExportFile]:
    pieces: dict[str, ExportFile] = {}
    for pin in pins:
        piece = ExportFile(pin.digest, pin.size_bytes)
        if pieces.setdefault(f"blobs/{pin.digest}", piece) != piece:
            raise DataError(f"{FILES} gives two sizes for the same content, of {pin.name[:200]!r}")
    return pieces


def _demand_welcome(
    context: StoreContext, head: SnapshotHead, pins: Sequence[FilePin], name: str, into: Path | None, erased: bool
) -> None:
    """Raise for what would be refused at the end, before anything is read."""
    versions.demand_pin_name(context, name)
    if name == head.dataset:
        raise RefusedError(f"{name} is the dataset's own name", hint="Choose another name for the pin: --as NAME")
    if any(one.name == name and one.digest != head.digest for one in PinStore.of(context).pins()):
        raise RefusedError(f"{name} is pinned to another snapshot", hint="Choose another name: --as NAME")
    source = config.load(context.home).data.get(head.dataset)
    if source is not None and served_predictions.is_log(source.source):
        raise RefusedError(
            f"{head.dataset} is what {source.source.removeprefix('log:')} answered here: its versions come only from there",
            hint="Import it into a project that has no log dataset of that name.",
        )
    if into is not None:
        root = versions.outside(context, into)
        if root.exists() and (not root.is_dir() or any(root.iterdir())):
            raise RefusedError(f"{into} is not empty", hint="Name a new folder: --into FOLDER")
        if len({versions.below(pin.name) for pin in pins}) < len(pins):
            raise RefusedError("two of its files would have the same name in a folder", hint="Import it without --into.")
    gone = erased_files(context.ledger)
    back = [pin.name for pin in pins if pin.digest in gone and not context.blobs.exists(pin.digest)]
    if back and not erased:
        more = f" and {len(back) - versions.NAMED:,} more" if len(back) > versions.NAMED else ""
        raise RefusedError(
            f"it holds what was erased here: {', '.join(back[: versions.NAMED])}{more}",
            hint="--even-erased imports it anyway.",
        )


def _store_contents(context: StoreContext, path: Path, head: SnapshotHead) -> None:
    """Read the tar once more, into the store. What was verified a moment ago is verified again: a file can change."""

    (context.state / "work").mkdir(exist_ok=True)
    with (
        full_disk(context.state),
        open_archive(path) as file,
        TemporaryDirectory(dir=context.state / "work", prefix="import-") as folder,
    ):
        members = archive.members(file)
        again, pins = _read_listing(members)
        if again != head:
            raise DataError("changed while it was read")
        keeping = _Keeping(context, Path(folder))
        take_all(members, _pieces(pins), FILES, keeping.take, ExportMeter("taking in", head.size_bytes, context.progress))
        keeping.settle()


class _Keeping(msgspec.Struct):
    """Contents on their way into the store; small ones wait in a folder until there are many."""

    context: StoreContext
    folder: Path
    waiting: list[Path] = []
    size_bytes: int = 0

    def take(self, _: str, piece: ExportFile, content: Content) -> str:
        if piece.size_bytes > SMALL:
            return self.context.blobs.put_stream(content)
        path = self.folder / piece.digest
        path.write_bytes(data := content.read())
        self.waiting.append(path)
        self.size_bytes += len(data)
        if len(self.waiting) >= TOGETHER or self.size_bytes >= TOGETHER_BYTES:
            self.settle()
        return names.digest_bytes(data)

    def settle(self) -> None:
        for path, _ in self.context.blobs.put_files(self.waiting):
            path.unlink()
        self.waiting, self.size_bytes = [], 0


def _record_snapshot(
    context: StoreContext, head: SnapshotHead, pins: tuple[FilePin, ...], name: str
) -> tuple[SnapshotFacts, bool]:
    """The version as the ledger knows it now, and whether it knew it before: then what it says of it stands."""
    with context.ledger.transaction():
        known = True
        try:
            DataStore.of(context).find_snapshot(head.digest)
        except NotFoundError:
            known = False
            DataStore.of(context).put_snapshot(Snapshot(head.dataset, head.digest, pins))
        PinStore.of(context).pin(name, head.digest, context.actor)
        text = f"{head.dataset} {names.short(head.digest)} imported: {plural(head.files, 'file')}, pinned as {name}"
        context.event("data.imported", name, text, snapshot=head.digest, known=known)
        return DataStore.of(context).find_snapshot(head.digest), known
