"""Who needs which blobs: the holders of every project in the ledger, and what their snapshots and results consist of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set
from pathlib import Path

import msgspec
from msgspec.structs import replace

from noria.data import versions
from noria.data.holding_store import HoldingStore
from noria.data.kept_versions import PinStore
from noria.data.quarantine_store import QuarantineStore
from noria.data.snapshot import FilePin, SnapshotFacts
from noria.data.store import DataStore
from noria.delivery.context import DeliveryContext
from noria.kernel.errors import CorruptBlobError, NotFoundError
from noria.pipeline.run import Run, StepRecord
from noria.pipeline.steps import StepOutput
from noria.pipeline.turn_store import TurnStore
from noria.releases.bundle import read_manifest
from noria.releases.release import Release
from noria.releases.store import ReleaseStore
from noria.trust.judge_retention import BlobKind, Holder, RetentionSet, keep
from noria.trust.keep_store import KeepStore


class References(msgspec.Struct, frozen=True):
    """What is kept, and all blobs of it. ``broken``: manifests of results that are damaged or gone; nobody knows their files."""

    kept: RetentionSet
    blobs: frozenset[str]
    broken: frozenset[str]


class Uses(msgspec.Struct):
    """Who needs one blob."""

    data: set[tuple[str, str]] = set()  # dataset, name of a file
    snapshots: set[str] = set()
    results: set[str] = set()  # digests of the manifests that name it, or its own
    outs: set[str] = set()  # its names there
    by: dict[BlobKind, set[str]] = {}  # kind of holder -> their names

    def of(self, kind: BlobKind) -> list[str]:
        """The holders of a kind that need it, by name."""
        return sorted(self.by.get(kind, ()))


def gather(context: DeliveryContext, before: Mapping[str, float] | None = None) -> References:
    """What must be there. ``before``: project -> the time before which runs are too old; else that of the last collection.

    Blobs belong to all projects of the ledger, and so all are asked.
    """
    projects = [row.name for row in context.ledger.projects.list()]
    ends = before or {name: KeepStore(context.ledger, name).collection_time() for name in projects}
    kept = keep((holder for name in projects for holder in holders(context, name, ends[name])), ends)
    return expand(context, projects, kept)


def expand(context: DeliveryContext, projects: Iterable[str], kept: RetentionSet) -> References:
    """Look up what snapshots and results consist of. What was erased is not needed."""
    found = set(kept.blobs | kept.results)
    for project in projects:
        found.update(pin.digest for pin in HoldingStore(context.ledger, project).contents(kept.snapshots) if pin.origin is None)
    broken = set()
    for digest in kept.results:
        made = contents(context, digest)
        if made is None:
            broken.add(digest)
        else:
            found.update(made.files.values())
    return References(kept, frozenset(found - versions.gone_files(context.ledger, context.blobs).keys()), frozenset(broken))


def contents(context: DeliveryContext, result: str) -> StepOutput | None:
    """The manifest of a result; None when it is damaged or gone."""
    try:
        return msgspec.json.decode(context.blobs.read(result), type=StepOutput)
    except (CorruptBlobError, NotFoundError, msgspec.DecodeError):
        return None


def holders(context: DeliveryContext, project: str, since: float) -> Iterator[Holder]:
    """Everything of a project that may need something; of runs those that ended since then, and those of releases."""
    runs = {run.id: run for run in KeepStore(context.ledger, project).runs(since)}
    yield from (_of_run(run, since) for run in runs.values())
    yield from _of_releases(context, project, runs, since)
    for result in KeepStore(context.ledger, project).results():
        left = _of_records([result.record], logs=result.at >= since)
        yield Holder(BlobKind.STEP, project, result.name, result.at, results=left.results, blobs=left.blobs)
    for turn in TurnStore(context.ledger, project).unfinished():
        recorded = TurnStore.of(context).recorded(turn.id, "pin") or {}
        yield Holder(BlobKind.TURN, project, str(recorded.get("run_id", "")), turn.started_at, commit=recorded.get("commit"))
    for pinned in PinStore(context.ledger, project).pins():
        yield Holder(BlobKind.PINNED, project, pinned.name, pinned.at, snapshots=frozenset({pinned.digest}))
    yield from _of_datasets(context, project)
    for delivery in QuarantineStore(context.ledger, project).kept(since):
        blobs = frozenset(filter(None, (delivery.sample_digest, delivery.digest)))
        yield Holder(BlobKind.QUARANTINE, project, delivery.id, delivery.at, blobs=blobs)


def _of_run(run: Run, since: float) -> Holder:
    parts = _of_records(run.steps, logs=(run.ended_at or run.started_at) >= since)
    own = {*run.artifacts.values(), *run.plots.values(), run.pins.environment}
    return Holder(
        BlobKind.RUN,
        run.project,
        run.id,
        run.ended_at or run.started_at,
        snapshots=frozenset(run.pins.snapshots.values()),
        results=parts.results,
        blobs=parts.blobs | own,
        commit=run.pins.commit,
    )


class _Left(msgspec.Struct, frozen=True):
    """What steps left: results, and besides logs, what they logged, artifacts."""

    results: frozenset[str]
    blobs: frozenset[str]


def _of_records(records: Iterable[StepRecord], *, logs: bool) -> _Left:
    """What steps printed is kept as long as runs are, also where a release or a result is kept for longer."""
    results: set[str] = set()
    blobs: set[str] = set()
    for record in records:
        results.update(filter(None, [record.output]))
        blobs.update(filter(None, [record.log if logs else None, record.tracked, *record.artifacts.values()]))
    return _Left(frozenset(results), frozenset(blobs))


def _of_releases(context: DeliveryContext, project: str, runs: Mapping[str, Run], since: float) -> Iterator[Holder]:
    erased = versions.gone_files(context.ledger, context.blobs)
    hit = HoldingStore(context.ledger, project).snapshots_holding(erased.keys()) if erased else set()
    for release in ReleaseStore(context.ledger, project).list():
        run = runs.get(release.run_id)
        made = _of_run(run, since) if run is not None else _of_bundle(context, release, since)
        yield replace(
            made,
            kind=BlobKind.RELEASE,
            name=release.version,
            at=release.created_at,
            commit=release.commit,
            erased=not hit.isdisjoint(made.snapshots),
        )


def _of_bundle(context: DeliveryContext, release: Release, since: float) -> Holder:
    """A release whose run is not written down yet: its turn was interrupted after the sealing."""
    bundle = context.bundle(release.digest)
    pins = read_manifest(bundle, release.digest).pins if bundle.is_dir() else None
    steps = msgspec.json.decode(_read(bundle / "evidence" / "steps.json", b"[]"), type=list[StepRecord])
    parts = _of_records(steps, logs=release.created_at >= since)
    return Holder(
        BlobKind.RELEASE,
        release.project,
        release.version,
        release.created_at,
        snapshots=frozenset(pins.snapshots.values()) if pins else frozenset(),
        results=parts.results,
        blobs=parts.blobs | (frozenset({pins.environment}) if pins else frozenset()),
    )


def _json(path: Path) -> dict[str, object]:
    found: dict[str, object] = msgspec.json.decode(_read(path, b"{}"), type=dict[str, object])
    return found


def _read(path: Path, otherwise: bytes) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return otherwise


def _of_datasets(context: DeliveryContext, project: str) -> Iterator[Holder]:
    standing: dict[str, set[str]] = {}
    for dataset, pin in HoldingStore(context.ledger, project).accepted_files():
        if pin.origin is None:
            standing.setdefault(dataset, set()).add(pin.digest)
    newest: dict[str, SnapshotFacts] = {}
    for facts in HoldingStore(context.ledger, project).snapshots():
        newest.setdefault(facts.dataset, facts)
    for dataset in standing.keys() | newest.keys():
        snapshots = {newest[dataset].digest} if dataset in newest else set()
        if dataset in standing:  # which may be an older version again
            snapshots.add(DataStore(context.ledger, project).head(dataset).digest)
        blobs = frozenset(standing.get(dataset, ()))
        yield Holder(BlobKind.CURRENT, project, dataset, 0.0, snapshots=frozenset(snapshots), blobs=blobs)


def uses(context: DeliveryContext, needs: References, wanted: Set[str]) -> dict[str, Uses]:
    """Who needs each of these blobs."""
    found = {digest: Uses() for digest in wanted}
    of_snapshot = {digest: pins for digest in needs.kept.snapshots if (pins := _pins_among(context, digest, wanted))}
    of_result = {digest: files for digest in needs.kept.results if (files := _files_among(context, digest, wanted))}
    for holder in needs.kept.holders:
        for snapshot in holder.snapshots & of_snapshot.keys():
            for dataset, pin in of_snapshot[snapshot]:
                found[pin.digest].data.add((dataset, pin.name))
                found[pin.digest].snapshots.add(snapshot)
                _note(found[pin.digest], holder)
        for result in holder.results & of_result.keys():
            for name, digest in of_result[result]:
                found[digest].results.add(result)
                found[digest].outs.update(filter(None, [name]))
                _note(found[digest], holder)
        for digest in holder.blobs & wanted:
            _note(found[digest], holder)
    for project in {holder.project for holder in needs.kept.holders}:
        for dataset, pin in HoldingStore(context.ledger, project).accepted_files():
            if pin.digest in wanted:
                found[pin.digest].data.add((dataset, pin.name))
    return found


def _pins_among(context: DeliveryContext, snapshot: str, wanted: Set[str]) -> list[tuple[str, FilePin]]:
    try:
        dataset = DataStore.of(context).facts(snapshot).dataset
    except NotFoundError:
        return []
    return [(dataset, pin) for pin in DataStore.of(context).files_of(snapshot) if pin.digest in wanted]


def _files_among(context: DeliveryContext, result: str, wanted: Set[str]) -> list[tuple[str, str]]:
    """Those of a result's files, and the result itself, under no name."""
    made = contents(context, result)
    files = list(made.files.items()) if made is not None else []
    return [(name, digest) for name, digest in [*files, ("", result)] if digest in wanted]


def _note(uses: Uses, holder: Holder) -> None:
    uses.by.setdefault(holder.kind, set()).add(holder.name)
