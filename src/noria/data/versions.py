"""Versions of datasets in people's hands: which one is meant, what they are used by, a copy of one in a folder."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path, PurePosixPath

import msgspec

from noria.data.holding_store import HoldingStore
from noria.data.kept_versions import erased_files
from noria.data.snapshot import ErasedFile, FilePin, SnapshotFacts
from noria.data.store import DataStore
from noria.kernel import names
from noria.kernel.errors import NotFoundError, RefusedError, UsageError
from noria.storage.blobs import BlobStore
from noria.storage.context import StoreContext
from noria.storage.disk import full_disk, whole_path
from noria.storage.ledger import Ledger

BEGINNING = re.compile(r"[0-9a-f]{4,64}")  # of a digest
NAMED = 3  # files that a refusal names; the rest is counted
BLOBS = "blobs"  # the lock that keeps a collection away from those who copy or run


class LinkKind(StrEnum):
    """How files of a version come into a folder."""

    REFLINK = "reflink"  # blocks are shared until one side is written, where the file system can; else a copy
    HARDLINK = "hardlink"  # the store's own files, read-only
    COPY = "copy"


def newest(ledger: Ledger, project: str, dataset: str) -> SnapshotFacts:
    """The version that the accepted files make; of a dataset without files of its own (a log's) the last one taken."""
    head = DataStore(ledger, project).head(dataset)
    if head.files:
        return head
    found = DataStore(ledger, project).history(dataset, limit=1)
    if not found:
        raise NotFoundError(f"{dataset} has no file yet", hint="`noria run` takes in what its source holds.")
    return found[0]


def demand_pin_name(context: StoreContext, name: str) -> None:
    """Raise UsageError for a name that would be taken for something else."""
    if not names.is_name(name) or BEGINNING.fullmatch(name) or names.VERSION.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot be a pin's name",
            hint="Lower-case letters, digits, - and _, beginning with a letter; nothing that looks like a digest or a release.",
        )
    if name in HoldingStore.of(context).datasets():
        raise UsageError(f"{name} is a dataset's name", hint="Choose another name for the pin.")


def whole(context: StoreContext, facts: SnapshotFacts, *, here: bool = True) -> None:
    """Raise RefusedError unless every file of a version is in the store; what was erased is named as such.

    Objects that are pinned by their version may stay at their origin; with ``here`` they are fetched again, which may raise
    DataError.
    """
    absent = [pin for pin in DataStore.of(context).files_of(facts.digest) if not context.blobs.exists(pin.digest)]
    if not absent:
        return
    erased = erased_files(context.ledger)
    lost = [pin for pin in absent if pin.origin is None or pin.digest in erased]
    if lost:
        first = next((pin for pin in lost if pin.digest in erased), lost[0])
        why = "was erased" if first.digest in erased else "is no longer in the store"
        more = f" (and {len(lost) - 1:,} more)" if len(lost) > 1 else ""
        hint = None if first.digest in erased else "`noria data verify` restores what its source still has."
        raise RefusedError(f"{facts.dataset} {names.short(facts.digest)} is incomplete: {first.name} {why}{more}", hint=hint)
    if here:
        from noria import config  # only where something is to be fetched
        from noria.data import refetch

        refetch.bring(context, config.load(context.home), [facts.digest])


# --- a version in a folder


class CheckedOut(msgspec.Struct, frozen=True):
    """What a checkout did."""

    facts: SnapshotFacts
    folder: str
    written: int  # files
    same: int  # files that were there already
    size_bytes: int  # of what was written


def checkout(context: StoreContext, facts: SnapshotFacts, into: Path, how: LinkKind, *, force: bool = False) -> CheckedOut:
    """Write the files of a version under their names into a folder. What is there and differs is refused, or with ``force``
    replaced; what is there besides stays.

    Raises RefusedError before anything is written.
    """
    root = outside(context, into)
    with context.locks.hold_shared(BLOBS):
        whole(context, facts)
        wanted = list(_file_targets(context, facts, root))
        if len({target for _, target, _ in wanted}) < len(wanted):
            raise RefusedError("two of its files would have the same name in a folder")
        differ = [pin.name for pin, target, there in wanted if there is False]
        if differ and not force:
            more = f" and {len(differ) - NAMED:,} more" if len(differ) > NAMED else ""
            raise RefusedError(
                f"these exist and differ: {', '.join(differ[:NAMED])}{more}", where=str(root), hint="--force replaces them."
            )
        fresh = [(pin, target) for pin, target, there in wanted if not there]
        with full_disk(root):
            for pin, target in fresh:
                _write(context.blobs, pin.digest, target, how)
    return CheckedOut(facts, str(root), len(fresh), len(wanted) - len(fresh), sum(pin.size_bytes for pin, _ in fresh))


def outside(context: StoreContext, into: Path) -> Path:
    """The folder, without links. Raises UsageError when it lies in Noria's own."""
    root = into.resolve()
    if root.is_relative_to(context.state):
        raise UsageError(f"{into} is inside Noria's own folder", hint="Choose another: --into FOLDER")
    return root


def _file_targets(context: StoreContext, facts: SnapshotFacts, root: Path) -> Iterator[tuple[FilePin, Path, bool | None]]:
    """Each file, where it belongs, and whether it is there: None when nothing is, False when something else is."""
    parents: set[Path] = set()
    for pin in DataStore.of(context).files_of(facts.digest):
        target = root / below(pin.name)
        if target.parent not in parents:
            _demand_inside(target.parent, root)
            parents.add(target.parent)
        yield pin, target, _there(target, pin)


def _demand_inside(folder: Path, root: Path) -> None:
    """A link on the way must not lead out of the folder, and a file must not stand where a folder belongs."""
    if not folder.resolve().is_relative_to(root):
        raise RefusedError("a link there leads out of the folder", where=str(folder), hint="Remove it, or use another folder.")
    standing = next(place for place in (folder, *folder.parents) if place.exists())
    if not standing.is_dir():
        raise RefusedError("there is a file where a folder is needed", where=str(standing), hint="Use another folder.")


def _there(target: Path, pin: FilePin) -> bool | None:
    if target.is_dir() and not target.is_symlink():
        raise RefusedError("there is a folder where a file is needed", where=str(target), hint="Use another folder.")
    if not os.path.lexists(target):
        return None
    if target.is_symlink() or not target.is_file() or target.stat().st_size != pin.size_bytes:
        return False
    return names.digest_file(target) == pin.digest


def below(name: str) -> PurePosixPath:
    """The name of a file of a dataset as a path below a folder; an address or an absolute path keeps all its parts.

    Raises RefusedError for one that would leave the folder.
    """
    path = PurePosixPath(name.partition("://")[2] or name)
    parts = [part for part in path.parts if part != "/"]
    if not parts or "\0" in name or any(part in ("..", ".") for part in parts):
        raise RefusedError(f"the file name {name!r} would leave the folder")
    return PurePosixPath(*parts)


def _write(blobs: BlobStore, digest: str, target: Path, how: LinkKind) -> None:
    """One file, whole or not at all."""
    if how is LinkKind.REFLINK:
        blobs.materialise(digest, target)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with whole_path(target) as part:
        if how is LinkKind.HARDLINK:
            blobs.link(digest, part)
        else:
            shutil.copyfile(blobs.path(digest), part)


# --- releases


def gone_files(ledger: Ledger, blobs: BlobStore) -> dict[str, ErasedFile]:
    """Digest -> what was erased and did not arrive again."""
    return {digest: one for digest, one in erased_files(ledger).items() if not blobs.exists(digest)}


def erasure_words(ledger: Ledger, blobs: BlobStore, project: str, snapshots: Mapping[str, str]) -> str:
    """What of these versions (by dataset) was erased, in words; empty when nothing was."""
    absent = gone_files(ledger, blobs)
    hit = HoldingStore(ledger, project).snapshots_holding(absent.keys()) if absent else set()
    found = []
    for dataset, digest in snapshots.items():
        if digest in hit:
            found += [f"{pin.name} of {dataset}" for pin in DataStore(ledger, project).files_of(digest) if pin.digest in absent]
    more = f" and {len(found) - NAMED:,} more" if len(found) > NAMED else ""
    return f"erased: {', '.join(found[:NAMED])}{more}" if found else ""
