"""Which version of a dataset is meant: by its name, as a release used it, as it is pinned; and who uses which."""

from __future__ import annotations

import msgspec

from noria.config.document import nearest
from noria.data import versions as data_versions
from noria.data.holding_store import HoldingStore
from noria.data.kept_versions import PinStore
from noria.data.quarantine_store import QuarantineStore
from noria.data.snapshot import SnapshotFacts
from noria.data.store import DataStore
from noria.kernel import names
from noria.kernel.errors import NotFoundError
from noria.kernel.words import plural
from noria.releases.store import ReleaseStore
from noria.storage.blobs import BlobStore
from noria.storage.context import StoreContext
from noria.storage.ledger import Ledger


class IrregularFile(msgspec.Struct, frozen=True):
    """A file of a version that did not meet its contract as it arrived: a person released it, or rows of it were dropped."""

    name: str
    delivery: str
    dropped_rows: int = 0
    by: str = ""  # who released it
    why: str = ""


class Version(msgspec.Struct, frozen=True):
    """A version of a dataset, and who has a name for it."""

    facts: SnapshotFacts
    current: bool  # its files are the accepted ones as of now
    releases: tuple[str, ...]
    pinned: tuple[str, ...]
    erased: bool  # a file of it was, so that it is not whole
    irregular: tuple[IrregularFile, ...] = ()


def find(ledger: Ledger, project: str, reference: str) -> SnapshotFacts:
    """``flights`` (its newest version), ``flights@v3`` (as release v3 used it), a pin's name, or the beginning of a digest.

    Raises NotFoundError.
    """
    dataset, at, release = reference.partition("@")
    datasets = HoldingStore(ledger, project).datasets()
    if at:
        return _as_released(ledger, project, dataset, release)
    if reference in datasets:
        return data_versions.newest(ledger, project, reference)
    pinned = {one.name: one.digest for one in PinStore(ledger, project).pins()}
    if reference in pinned:
        return DataStore(ledger, project).facts(pinned[reference])
    if data_versions.BEGINNING.fullmatch(reference):
        return DataStore(ledger, project).find_snapshot(reference)
    known = nearest(reference, [*datasets, *pinned])
    raise NotFoundError(f"there is no snapshot {reference!r}", hint=known or "`noria data log` lists them.")


def _as_released(ledger: Ledger, project: str, dataset: str, version: str) -> SnapshotFacts:
    release = ReleaseStore(ledger, project).get(version)
    used = ReleaseStore(ledger, project).snapshots_used().get(release.version, {})
    if dataset not in used:
        raise NotFoundError(f"{release.version} used no dataset {dataset!r}", hint=f"It used: {', '.join(used) or 'none'}.")
    return DataStore(ledger, project).facts(used[dataset])


def known_versions(ledger: Ledger, blobs: BlobStore, project: str, dataset: str | None, limit: int) -> list[Version]:
    """Newest first. Raises NotFoundError for a dataset that never had a file."""
    datasets = HoldingStore(ledger, project).datasets()
    if dataset is not None and dataset not in datasets:
        raise NotFoundError(f"there is no dataset {dataset!r}", hint=nearest(dataset, datasets))
    heads = {DataStore(ledger, project).head(name).digest for name in ([dataset] if dataset else datasets)}
    releases: dict[str, list[str]] = {}
    for version, used in ReleaseStore(ledger, project).snapshots_used().items():
        for digest in used.values():
            releases.setdefault(digest, []).append(version)
    pinned: dict[str, list[str]] = {}
    for one in PinStore(ledger, project).pins():
        pinned.setdefault(one.digest, []).append(one.name)
    absent = data_versions.gone_files(ledger, blobs)
    broken = HoldingStore(ledger, project).snapshots_holding(absent.keys()) if absent else set()
    irregular = _irregular_files(ledger, project)
    return [
        Version(
            facts,
            facts.digest in heads,
            tuple(releases.get(facts.digest, ())),
            tuple(pinned.get(facts.digest, ())),
            facts.digest in broken,
            irregular.get(facts.digest, ()),
        )
        for facts in DataStore(ledger, project).history(dataset, limit)
    ]


def _irregular_files(ledger: Ledger, project: str) -> dict[str, tuple[IrregularFile, ...]]:
    """Of each version that holds some, the files that a person released, and those of which rows were dropped."""
    known: dict[tuple[str, str], IrregularFile] = {}
    for delivery, decision in QuarantineStore(ledger, project).irregular_files():
        by, why = (decision.actor, decision.why) if decision is not None else ("", "")
        made = IrregularFile(delivery.name, delivery.id, delivery.rows_quarantined, by, why)
        known[delivery.name, delivery.file_digest] = made
    if not known:
        return {}
    held = HoldingStore(ledger, project).pins_in_snapshots({digest for _, digest in known})
    return {
        snapshot: tuple(known[pin.name, pin.digest] for pin in pins if (pin.name, pin.digest) in known)
        for snapshot, pins in held.items()
    }


def pin(context: StoreContext, reference: str, name: str) -> SnapshotFacts:
    """Keep a version for ever, under a name. Raises UsageError for a name that would be taken for something else."""
    facts = find(context.ledger, context.name, reference)
    data_versions.demand_pin_name(context, name)
    data_versions.whole(context, facts, here=False)
    with context.ledger.transaction():
        if PinStore.of(context).pin(name, facts.digest, context.actor):
            text = f"{facts.dataset} {names.short(facts.digest)} is pinned as {name}: {plural(facts.files, 'file')}"
            context.event("data.pinned", name, text, snapshot=facts.digest)
    return facts


def unpin(context: StoreContext, name: str) -> str:
    """Let a pinned version go; its digest. It stays as long as something else needs it."""
    with context.ledger.transaction():
        digest = PinStore.of(context).unpin(name)
        context.event("data.unpinned", name, f"{names.short(digest)} is no longer pinned as {name}", snapshot=digest)
    return digest
