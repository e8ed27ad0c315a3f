"""The way back of an export: read to its end, or laid out as a store of the release alone."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

import msgspec

from noria.data.snapshot import Snapshot
from noria.kernel import names
from noria.kernel.errors import DataError, StoreError
from noria.kernel.pins import Pins
from noria.releases.bundle import Bundle, make_links, open_release
from noria.releases.export_facts import FACTS, ExportFacts, facts_of
from noria.storage import archive
from noria.storage.archive import Content
from noria.storage.blobs import BlobStore
from noria.storage.context import Progress, silent
from noria.storage.disk import full_disk
from noria.storage.listed_archive import ExportFile, ExportMeter, Take, demand_room, digest_member, open_archive, take_all


class UnpackedExport(msgspec.Struct, frozen=True):
    """An export in a folder of its own."""

    facts: ExportFacts
    bundle: Bundle
    snapshots: tuple[Snapshot, ...]
    blobs: BlobStore


def inspect(path: Path, keys: Collection[str] = (), progress: Progress = silent) -> ExportFacts:
    """Read an export to its end, and keep nothing. Raises as ``unpack`` does."""
    return _read(path, keys, lambda facts: facts, digest_member, progress)


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
    with open_archive(path) as file:
        members = archive.members(file)
        facts = begin(facts_of(members, keys))
        take_all(members, facts.pieces, FACTS, take, ExportMeter("reading", facts.size_bytes, progress))
    return facts


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
