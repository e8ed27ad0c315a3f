"""Erasure: the contents of files are taken away for good, with all that steps made of them; what that touches is said before.

A version that held such a file stays listed, without it. A release that was made of it stays, with its bundle and its model, and
cannot be made again; files of its code that are the erased ones, or that steps left there, go from the bundle, which says so and
stays whole. What lies outside of the store is not Noria's to erase: it is named.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Set
from pathlib import Path, PurePosixPath

import msgspec
from msgspec.structs import replace

from noria.data import versions
from noria.data.holding_store import HoldingStore
from noria.data.kept_versions import note_erased
from noria.data.quarantine_store import QuarantineStore
from noria.data.snapshot import ErasedFile, FilePin
from noria.data.store import DataStore
from noria.delivery.context import DeliveryContext
from noria.evaluation.look_store import LookStore
from noria.kernel import names
from noria.kernel.errors import NoriaError, NotFoundError, StoreError, UsageError
from noria.pipeline import git
from noria.pipeline.pin import origin
from noria.pipeline.run import Run, StepRecord, StepState
from noria.releases import bundle, dataset_versions
from noria.releases.bundle import CODE, Manifest, read_manifest
from noria.releases.store import ReleaseStore
from noria.storage.stat_index import StatIndex
from noria.trust.gc import NAMED, exclusive
from noria.trust.judge_retention import BlobKind, Holder, RetentionSet, descended_results
from noria.trust.keep_store import KeepStore, RememberedResult
from noria.trust.references import contents, expand, gather, holders
from noria.trust.verification import DAMAGED_FOLDER


class ErasedContent(msgspec.Struct, frozen=True):
    """One content of a file."""

    dataset: str
    name: str
    digest: str
    size_bytes: int


class AffectedUses(msgspec.Struct, frozen=True):
    """Who used what goes, in every project of this ledger: blobs belong to all of them. By project where names may be equal."""

    snapshots: dict[str, frozenset[str]]
    releases: tuple[str, ...]
    runs: tuple[str, ...]
    pins: tuple[str, ...]
    steps: tuple[str, ...]
    results: dict[str, frozenset[str]]  # project -> keys

    @property
    def count(self) -> int:
        """How many results."""
        return sum(len(keys) for keys in self.results.values())


class SealedFiles(msgspec.Struct, frozen=True):
    """Files in the code of a release that go: the erased contents themselves, and what steps left there before bundles held the
    commit's files only."""

    project: str
    version: str
    digest: str
    files: tuple[str, ...]  # paths in the bundle


class ErasurePlan(msgspec.Struct, frozen=True):
    """What goes, and what that touches."""

    files: tuple[ErasedContent, ...]
    touched: AffectedUses
    samples: frozenset[str]  # of failing rows
    left: frozenset[str]  # what steps left, without the manifests of their results
    manifests: frozenset[str]
    size_bytes: int  # of all of them
    standing: tuple[tuple[str, str, str], ...]  # project, dataset, name: what the dataset holds now
    in_source: tuple[str, ...]  # files of the project that are still there: they would come in again
    beside: tuple[str, ...]  # what steps left in the project's folder
    sealed: tuple[SealedFiles, ...]  # files of bundles
    trees: tuple[str, ...]  # checkouts: they go whole, and are made again from Git
    in_git: tuple[str, ...]  # files of bundles that their commits hold: Git keeps them
    unknown: tuple[str, ...]  # releases made of the data whose commit Git does not know any more: only equal bytes go from them

    @property
    def roots(self) -> frozenset[str]:
        return frozenset(file.digest for file in self.files)


def plan(context: DeliveryContext, reference: str) -> ErasurePlan:
    """What an erasure of a version's files, or of every content that a file ever had, would take. Changes nothing.

    What was erased before is no part of it. Raises NotFoundError when it is neither.
    """
    absent = versions.gone_files(context.ledger, context.blobs)
    asked = set(_files(context, reference))
    named = {file for file in asked | _same_rows(context, asked) if file.digest not in absent}
    files = tuple(sorted(named, key=lambda file: (file.dataset, file.name, file.digest)))
    roots = frozenset(file.digest for file in files)
    projects = [row.name for row in context.ledger.projects.list()]
    held = {project: frozenset(HoldingStore(context.ledger, project).snapshots_holding(roots)) for project in projects}
    results = {project: _descended_results(context, project, roots | held[project]) for project in projects}
    runs = [run for project in projects for run in KeepStore(context.ledger, project).runs(0.0) if _has_used(run, held[project])]
    manifests, left, outs = _made_contents(context, results, runs)
    touched = _affected_uses(context, projects, held, results, runs)
    samples = frozenset(QuarantineStore.of(context).failing_rows_of(roots))
    needed = _needed_blobs(context, projects, manifests | left | samples)
    manifests, left = manifests - needed, left - needed
    standing = [
        (project, of, pin.name)
        for project in projects
        for of, pin in HoldingStore(context.ledger, project).accepted_files()
        if pin.digest in roots
    ]
    return ErasurePlan(
        files,
        touched,
        samples,
        left - roots,
        manifests - roots,
        sum(_size(context, digest) for digest in roots | samples | left | manifests),
        tuple(standing),
        tuple(sorted({name for project, _, name in standing if project == context.name and (context.home / name).is_file()})),
        tuple(sorted({path for path, digest in outs if digest in left and _is(context.home / path, digest)})),
        *_code(context, projects, held, roots | samples | left | manifests),
    )


def erase(context: DeliveryContext, reference: str) -> ErasurePlan:
    """Do it; what went. Interrupted, it is done by doing it again.

    Raises RefusedError, which says who is at work, while a turn or an experiment runs or files are taken in.
    """
    with exclusive(context) as leases:
        found = plan(context, reference)
        if not found.files:
            return found
        for held in leases:
            held.check()
        _unseal(context, found)
        for digest in sorted(found.roots | found.samples | found.left):
            context.blobs.discard(digest)
        _record(context, found)
        for digest in sorted(found.manifests):  # last: they say what belonged to a result
            context.blobs.discard(digest)
        _clean(context, found)
    return found


# --- what goes


def _files(context: DeliveryContext, reference: str) -> Iterator[ErasedContent]:
    """The files of a version; else every content of the file of that name, refused ones included."""
    with contextlib.suppress(NotFoundError, UsageError):
        facts = dataset_versions.find(context.ledger, context.name, reference)
        yield from (_content_to_erase(facts.dataset, pin) for pin in DataStore.of(context).files_of(facts.digest))
        return
    name = reference.removeprefix("./")
    found = HoldingStore.of(context).contents_of(name)
    if not found:
        raise NotFoundError(
            f"there is no snapshot and no file {reference!r}",
            hint="`noria data log` lists snapshots; a file is named as `noria data diff` shows it, like data/a.csv.",
        )
    for dataset, pin in found:
        yield _content_to_erase(dataset, pin if pin.size_bytes else replace(pin, size_bytes=_size(context, pin.digest)))


def _same_rows(context: DeliveryContext, asked: Set[ErasedContent]) -> set[ErasedContent]:
    """Files that hold rows of those: as they arrived, or without the rows that were dropped."""
    digests = {file.digest for file in asked if file.digest}
    more = QuarantineStore.of(context).made_of_each_other(digests)
    return {ErasedContent(dataset, name, digest, _size(context, digest)) for dataset, name, digest in more}


def _content_to_erase(dataset: str, pin: FilePin) -> ErasedContent:
    return ErasedContent(dataset, pin.name, pin.digest, pin.size_bytes)


def _descended_results(context: DeliveryContext, project: str, roots: Set[str]) -> list[RememberedResult]:
    """Remembered results that came from these contents or versions, directly or through others or a file of theirs."""
    results = list(KeepStore(context.ledger, project).results())
    facts: list[tuple[str, Set[str], str]] = []
    for result in results:
        output = result.record.output or ""
        made = contents(context, output) if output else None
        inputs = frozenset(result.inputs.values())
        facts.extend((result.key, inputs, digest) for digest in {output, *(made.files.values() if made else ())})
    keys = descended_results(facts, roots)
    return [result for result in results if result.key in keys]


def _has_used(run: Run, snapshots: Set[str]) -> bool:
    return not snapshots.isdisjoint(run.pins.snapshots.values())


def _made_contents(
    context: DeliveryContext, results: dict[str, list[RememberedResult]], runs: Iterable[Run]
) -> tuple[frozenset[str], frozenset[str], frozenset[tuple[str, str]]]:
    """Manifests of results, all that their steps left besides, and of that what has a path in a tree.

    Of the runs that used the data, what their own records of these steps tell counts too, and what failed.
    """
    steps = {result.name for found in results.values() for result in found}
    keys = {result.key for found in results.values() for result in found}
    records = [result.record for found in results.values() for result in found]
    left: set[str] = set()
    for run in runs:
        records += [r for r in run.steps if r.key in keys or r.name in steps or r.state is StepState.FAILED]
        left.update(d for path, d in {**run.artifacts, **run.plots}.items() if path.partition("/")[0] in steps)
    manifests = frozenset(filter(None, (record.output for record in records)))
    outs: set[tuple[str, str]] = set()
    for manifest in manifests:
        made = contents(context, manifest)
        outs.update(made.files.items() if made else ())
    left.update(digest for _, digest in outs)
    left.update(digest for record in records for digest in _besides(record))
    return manifests, frozenset(left), frozenset(outs)


def _besides(record: StepRecord) -> Iterator[str]:
    yield from filter(None, (record.log, record.tracked, *record.artifacts.values()))


def _needed_blobs(context: DeliveryContext, projects: Iterable[str], gone: Set[str]) -> frozenset[str]:
    """What others need all the same: equal bytes that came from elsewhere."""
    rest = [_without(holder, gone) for holder in gather(context).kept.holders if holder.kind is not BlobKind.QUARANTINE]
    return expand(context, projects, RetentionSet(tuple(rest))).blobs


def _without(holder: Holder, gone: Set[str]) -> Holder:
    return replace(holder, results=holder.results - gone, blobs=holder.blobs - gone)


def _affected_uses(
    context: DeliveryContext,
    projects: Iterable[str],
    held: dict[str, frozenset[str]],
    results: dict[str, list[RememberedResult]],
    runs: Iterable[Run],
) -> AffectedUses:
    by: dict[BlobKind, list[str]] = {BlobKind.RELEASE: [], BlobKind.PINNED: []}
    for project in projects:
        for holder in holders(context, project, 0.0):
            if holder.kind in by and not holder.snapshots.isdisjoint(held[project]):
                by[holder.kind].append(holder.name if project == context.name else f"{project}:{holder.name}")
    return AffectedUses(
        snapshots={project: digests for project, digests in held.items() if digests},
        releases=tuple(by[BlobKind.RELEASE]),
        runs=tuple(run.id for run in runs),
        pins=tuple(by[BlobKind.PINNED]),
        steps=tuple(sorted({result.name for found in results.values() for result in found})),
        results={project: frozenset(result.key for result in found) for project, found in results.items() if found},
    )


def _size(context: DeliveryContext, digest: str) -> int:
    try:
        return context.blobs.unverified_path(digest).stat().st_size
    except NotFoundError:
        return 0


def _is(path: Path, digest: str) -> bool:
    try:
        return path.is_file() and names.digest_file(path) == digest
    except OSError:
        return False


def _code(
    context: DeliveryContext, projects: Iterable[str], held: dict[str, frozenset[str]], gone: Set[str]
) -> tuple[tuple[SealedFiles, ...], tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Files of bundles, checkouts, which of the files Git holds too, and which releases it does not know. What a step leaves
    unasked is known to nobody: so a checkout goes whole, and of a release that used the data each file that is not its commit's.
    """
    if not gone:
        return (), (), (), ()
    sealed: list[SealedFiles] = []
    in_git: set[str] = set()
    unknown: list[str] = []
    homes = {row.name: Path(row.home) for row in context.ledger.projects.list()} | {context.name: origin(context)}
    for project in projects:
        for release in ReleaseStore(context.ledger, project).list():
            manifest, erased = _bundle(context, release.digest)
            used = _is_made_of(manifest, held[project])
            known = _committed_files(homes[project], release.commit)
            if used and known is None and not release.imported:
                unknown.append(f"{project} {release.version}")
            files = {
                name
                for name, digest in (manifest.files.items() if manifest is not None else ())
                if name.startswith(f"{CODE}/") and (digest in gone or (used and known is not None and _extra(name, known)))
            }
            in_git.update(name for name in files if known is not None and not _extra(name, known))
            if files - erased:
                sealed.append(SealedFiles(project, release.version, release.digest, tuple(sorted(files - erased))))
    trees = tuple(sorted(path.name for path in _entries(context.state / "worktrees") if path.is_dir()))
    return tuple(sealed), trees, tuple(sorted(name.removeprefix(f"{CODE}/") for name in in_git)), tuple(unknown)


def _committed_files(home: Path, commit: str | None) -> Set[str] | None:
    """The files of a commit; None where Git does not tell."""
    try:
        return git.committed_files(home, commit) if commit else None
    except NoriaError:
        return None


def _bundle(context: DeliveryContext, digest: str) -> tuple[Manifest | None, frozenset[str]]:
    """What a bundle holds, whole or not, and what was erased of it before; nothing where its manifest cannot be read."""
    folder = context.bundle(digest)
    try:
        manifest = read_manifest(folder)
    except StoreError:
        return None, frozenset()
    return manifest, frozenset(name for name in manifest.files if not os.path.lexists(folder / name))


def _is_made_of(manifest: Manifest | None, snapshots: Set[str]) -> bool:
    pins = manifest.pins if manifest is not None else None
    return pins is not None and not snapshots.isdisjoint(pins.snapshots.values())


def _extra(name: str, known: Set[str]) -> bool:
    """Whether a file of the code is none of the commit's, nor of a submodule's."""
    path = PurePosixPath(name.removeprefix(f"{CODE}/"))
    return str(path) not in known and not any(str(parent) in known for parent in path.parents)


# --- its going


def _unseal(context: DeliveryContext, found: ErasurePlan) -> None:
    for sealed in found.sealed:
        bundle.erase(context.bundle(sealed.digest), context.state, sealed.files)
    for tree in found.trees:
        shutil.rmtree(context.state / "worktrees" / tree)


def _record(context: DeliveryContext, found: ErasurePlan) -> None:
    """The ledger forgets results and what the datasets hold; what was erased is written down, and said in one event."""
    now = time.time()
    gone = {file.digest: (file.dataset, file.name) for file in found.files}
    gone |= dict.fromkeys(found.samples - gone.keys(), ("", "a sample of failing rows"))
    gone |= dict.fromkeys((found.left | found.manifests) - gone.keys(), ("", "left by a step"))
    with context.ledger.transaction():
        note_erased(context.ledger, [ErasedFile(context.name, d, of, name, context.actor, now) for d, (of, name) in gone.items()])
        for project, keys in found.touched.results.items():
            KeepStore(context.ledger, project).forget_results(keys)
        for project, dataset, name in found.standing:
            DataStore(context.ledger, project).withdraw(dataset, name)
            StatIndex(context.ledger, project).drop(f"data:{dataset}", [name])
        for project in found.touched.snapshots:
            LookStore(context.ledger, project).forget_unkeyed()  # of earlier versions: an erased key could be found in them
        files = sorted({file.digest for file in found.files})
        text = f"{len(files):,} contents were erased ({found.size_bytes:,} bytes with what was made of them)"
        facts = {
            "files": files,
            "releases": list(found.touched.releases),
            "results": sum(map(len, found.touched.results.values())),
        }
        context.ledger.events.append(context.name, "data.erased", context.name, text, facts, actor=context.actor)


def _clean(context: DeliveryContext, found: ErasurePlan) -> None:
    """Copies that Noria itself made elsewhere: what was put aside as damaged, scratch folders, links."""
    everything = found.roots | found.samples | found.left | found.manifests
    for path in _entries(context.state / DAMAGED_FOLDER):
        if path.name[:64] in everything:
            path.unlink(missing_ok=True)
    for run in found.touched.runs:
        shutil.rmtree(context.state / "work" / run, ignore_errors=True)
    for link in _entries(context.state / "work" / NAMED):
        if link.name[:32] in {digest[:32] for digest in everything} or (link.is_symlink() and not link.exists()):
            link.unlink(missing_ok=True)


def _entries(folder: Path) -> list[Path]:
    return [folder / name for name in os.listdir(folder)] if folder.is_dir() else []
