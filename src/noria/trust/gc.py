"""Garbage collection: what no release, run within retention, person or next run needs goes; what goes is said before it does.

What stays is judged in ``trust.judge_retention``. The ledger forgets first, then the files go: a collection that is interrupted
leaves files that the next one finds, and never a row whose file is gone.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from enum import StrEnum
from pathlib import Path

import msgspec
from msgspec.structs import replace

from noria.data.holding_store import HoldingStore
from noria.data.store import DataStore
from noria.data.versions import BLOBS
from noria.delivery.context import DeliveryContext
from noria.kernel.errors import RefusedError
from noria.kernel.judge_clock import SETTLED_S, jump
from noria.kernel.words import lasting, plural
from noria.pipeline.run import StepRecord
from noria.predictions import compacted
from noria.releases.store import ReleaseStore
from noria.storage.jobs import JobStore
from noria.storage.lease import HeldJob
from noria.storage.stat_index import StatIndex
from noria.trust.judge_retention import YOUNG_S, BlobKind, unneeded_blobs
from noria.trust.keep_store import KeepStore, RememberedResult
from noria.trust.references import References, contents, gather

PATIENCE_S = 5.0  # for those who are about to let go
NAMED = "named"  # the folder of links to blobs


class Garbage(StrEnum):
    """What may go."""

    DATA = "data"  # files of versions that nothing needs
    CACHED = "cached copies"  # of objects that stay at their origin
    RESULTS = "results"  # what steps left, with logs and artifacts
    BLOBS = "other blobs"  # refused files, and what nobody knows
    WORK = "scratch"  # folders of runs that ended
    TREES = "checkouts"  # of commits that no release or recent run uses
    SEARCHES = "searches"  # journals
    INCOMING = "incoming"  # what killed processes left half written
    BUNDLES = "bundles"  # that never became releases
    DAMAGED = "damaged"  # what a verification put aside


class GarbageItem(msgspec.Struct, frozen=True):
    """One thing that goes: a blob by its digest, else a file or folder by its path."""

    waste: Garbage
    name: str  # as people know it
    size_bytes: int
    digest: str = ""
    path: str = ""


class GarbagePlan(msgspec.Struct, frozen=True):
    """What goes, and what the ledger forgets."""

    items: tuple[GarbageItem, ...]
    results: dict[str, list[str]]  # project -> keys of steps
    snapshots: dict[str, list[str]]  # project -> digests
    before: float  # runs that ended earlier are not kept for themselves
    needs: References
    doubt: str = ""  # why the clock, by which things are old, is not believed

    @property
    def empty(self) -> bool:
        return not (self.items or any(self.results.values()) or any(self.snapshots.values()))

    @property
    def size_bytes(self) -> int:
        return sum(item.size_bytes for item in self.items)

    def of(self, waste: Garbage) -> list[GarbageItem]:
        return [item for item in self.items if item.waste is waste]

    def largest(self, count: int) -> list[GarbageItem]:
        return sorted(self.items, key=lambda item: (-item.size_bytes, item.name))[:count]


def plan(context: DeliveryContext, keep_s: float) -> GarbagePlan:
    """What would go now. Changes nothing."""
    now = time.time()
    before = now - max(keep_s, YOUNG_S)
    projects = [row.name for row in context.ledger.projects.list()]
    needs = gather(context, dict.fromkeys(projects, before))
    results = {project: list(_stale(context, project, needs)) for project in projects}
    snapshots = {
        project: [
            facts.digest
            for facts in HoldingStore(context.ledger, project).snapshots()
            if facts.digest not in needs.kept.snapshots
        ]
        for project in projects
    }
    names = _cached_objects(context, projects, needs) | _names(context, results, snapshots)
    items = [*_blobs(context, needs, names, now), *_folders(context, projects, needs, now, before)]
    keys = {project: [result.key for result in found] for project, found in results.items()}
    doubted = jump([*context.ledger.events.moments(now), *_log_write_times(context)], now)
    return GarbagePlan(tuple(items), keys, snapshots, before, needs, doubted.text if doubted is not None else "")


def _log_write_times(context: DeliveryContext) -> Iterator[float]:
    """When logs of environments were written, too: a model server goes on while nothing else happens."""
    for folder in (context.state / "log").glob("*"):
        if folder.is_dir():
            yield from compacted.moments(folder)


def collect(context: DeliveryContext, keep_s: float, *, trust_clock: bool = False) -> GarbagePlan:
    """Delete what nothing needs; what that was.

    Raises RefusedError, which says who is at work, while a turn or an experiment runs or files are taken in; and while the clock
    stands beyond a gap in its own history, unless a person says that it is right (``trust_clock``).
    """
    with exclusive(context) as leases:
        found = plan(context, keep_s)
        if found.doubt and not found.empty and not trust_clock:
            hint = f"It is trusted {lasting(SETTLED_S)} after that; if it is right, `noria gc --yes --trust-clock` deletes now."
            raise RefusedError(f"nothing was deleted by age, because {found.doubt}", hint=hint)
        with context.ledger.transaction():
            for project, keys in found.results.items():
                KeepStore(context.ledger, project).forget_results(keys)
            for project, digests in found.snapshots.items():
                DataStore(context.ledger, project).forget(digests)
                KeepStore(context.ledger, project).note_collection(found.before)
        gone = _delete(context, found, leases)
        _forget_marks(context, found)
        done = replace(found, items=tuple(gone))
        if not done.empty:
            text = f"{plural(len(gone), 'thing')} no longer needed were deleted ({done.size_bytes:,} bytes)"
            facts = {
                "size_bytes": done.size_bytes,
                "before": found.before,
                **{str(w): len(done.of(w)) for w in Garbage if done.of(w)},
            }
            context.ledger.events.append(context.name, "gc.collected", context.name, text, facts, actor=context.actor)
    return done


@contextmanager
def exclusive(context: DeliveryContext) -> Iterator[list[HeldJob]]:
    """Nobody runs, takes in or copies meanwhile, in any project of the ledger. Raises RefusedError, which says who does."""
    with ExitStack() as stack:
        busy = "an experiment, or a command that copies data, is using this store"
        stack.enter_context(context.locks.hold_exclusive(BLOBS, _patience(busy)))
        leases = []
        for project in context.ledger.projects.list():
            stack.enter_context(
                context.locks.hold("intake", project.name, _patience(f"files of {project.name} are being taken in"))
            )
            held = HeldJob.claim(context.ledger, project.name, "turn", project.name)
            if held is None:
                owner = JobStore(context.ledger, project.name).holder("turn", project.name) or "an engine that is starting"
                raise _busy(f"a turn of {project.name} is running ({owner})")
            leases.append(stack.enter_context(held))
        yield leases
        for held in leases:
            held.finish("collected")


def _patience(busy: str) -> Callable[[], None]:
    until = time.monotonic() + PATIENCE_S

    def waiting() -> None:
        if time.monotonic() > until:
            raise _busy(busy)

    return waiting


def _busy(text: str) -> RefusedError:
    return RefusedError(f"{text}: nothing was deleted", hint="Try again when it has ended; `noria status` shows what runs.")


# --- what goes


def _stale(context: DeliveryContext, project: str, needs: References) -> Iterator[RememberedResult]:
    """Remembered results of which something goes."""
    for result in KeepStore(context.ledger, project).results():
        output = result.record.output
        left = _side_outputs(result.record) - {result.record.log}  # a result is one without what was printed on the way
        if output not in needs.kept.results or output in needs.broken or not left <= needs.blobs:
            yield result


def _side_outputs(record: StepRecord) -> set[str]:
    """What a step left besides its result."""
    return set(filter(None, [record.log, record.tracked, *record.artifacts.values()]))


def _names(
    context: DeliveryContext, results: dict[str, list[RememberedResult]], snapshots: dict[str, list[str]]
) -> dict[str, tuple[Garbage, str]]:
    """Digest -> what it is, as far as the ledger knows."""
    found: dict[str, tuple[Garbage, str]] = {}
    for result in (result for several in results.values() for result in several):
        output = result.record.output or ""
        made = contents(context, output) if output else None
        files = {digest: f"{result.name}: {name}" for name, digest in made.files.items()} if made else {}
        own = dict.fromkeys([*filter(None, [output]), *_side_outputs(result.record)], result.name)
        found |= {digest: (Garbage.RESULTS, name) for digest, name in (own | files).items()}
    for project, digests in snapshots.items():
        found |= {pin.digest: (Garbage.DATA, pin.name) for pin in HoldingStore(context.ledger, project).contents(digests)}
    return found


def _cached_objects(context: DeliveryContext, projects: Iterable[str], needs: References) -> dict[str, tuple[Garbage, str]]:
    """Digest -> the object of which the store has a copy."""
    pins = (pin for project in projects for pin in HoldingStore(context.ledger, project).contents(needs.kept.snapshots))
    return {pin.digest: (Garbage.CACHED, pin.name) for pin in pins if pin.origin is not None}


def _blobs(
    context: DeliveryContext, needs: References, names: dict[str, tuple[Garbage, str]], now: float
) -> Iterator[GarbageItem]:
    sizes = {}

    def stored() -> Iterator[tuple[str, float]]:
        for blob in context.blobs.each():
            sizes[blob.digest] = blob.size_bytes
            yield blob.digest, blob.mtime

    for digest in unneeded_blobs(stored(), needs.blobs, now):
        waste, name = names.get(digest, (Garbage.BLOBS, digest[:12]))
        yield GarbageItem(waste, name, sizes[digest], digest=digest)


def _folders(
    context: DeliveryContext, projects: Iterable[str], needs: References, now: float, before: float
) -> Iterator[GarbageItem]:
    """What lies in the state folder besides blobs. What changed in the last hour stays."""
    young = now - YOUNG_S
    under_way = {holder.name for holder in needs.kept.holders if holder.kind is BlobKind.TURN}
    releases = {release.digest for project in projects for release in ReleaseStore(context.ledger, project).list()}
    yield from _in(Garbage.WORK, context.state / "work", young, under_way | {NAMED})
    yield from _in(Garbage.TREES, context.state / "worktrees", young, needs.kept.commits)
    yield from _in(Garbage.SEARCHES, context.state / "search", before)
    yield from _in(Garbage.INCOMING, context.blobs.root / "incoming", young)
    yield from _in(Garbage.BUNDLES, context.state / "releases", young, releases)
    yield from _in(Garbage.DAMAGED, context.state / "damaged", before)


def _in(waste: Garbage, folder: Path, before: float, kept: Iterable[str] = ()) -> Iterator[GarbageItem]:
    """What lies in a folder, did not change since then and is not to be kept."""
    spared = set(kept)
    if not folder.is_dir():
        return
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.name not in spared and (newest := _newest(entry)) is not None and newest < before:
                yield GarbageItem(waste, entry.name, _size(entry), path=entry.path)


def _newest(entry: os.DirEntry[str]) -> float | None:
    """When it last changed, or anything directly in it did; None when it is gone."""
    try:
        times = [entry.stat(follow_symlinks=False).st_mtime]
        if entry.is_dir(follow_symlinks=False):
            with os.scandir(entry.path) as inner:
                times += [one.stat(follow_symlinks=False).st_mtime for one in inner]
    except FileNotFoundError:
        return None
    return max(times)


def _size(entry: os.DirEntry[str]) -> int:
    """Bytes of all files in it."""
    if not entry.is_dir(follow_symlinks=False):
        return entry.stat(follow_symlinks=False).st_size
    return sum(os.lstat(os.path.join(folder, name)).st_size for folder, _, names in os.walk(entry.path) for name in names)


# --- its going


def _delete(context: DeliveryContext, found: GarbagePlan, leases: list[HeldJob]) -> list[GarbageItem]:
    by_digest = {item.digest: item for item in found.items if item.digest}
    gone = []
    for count, digest in enumerate(context.blobs.sweep(by_digest, time.time())):
        gone.append(by_digest[digest])
        if count % 1000 == 0:
            for held in leases:
                held.check()
    for item in found.items:
        if item.path:
            _remove(Path(item.path))
            gone.append(item)
    _unlink_dangling(context.state / "work" / NAMED)
    return gone


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _unlink_dangling(folder: Path) -> None:
    """Links to blobs that are gone."""
    if folder.is_dir():
        for link in folder.iterdir():
            if link.is_symlink() and not link.exists():
                link.unlink(missing_ok=True)


def _forget_marks(context: DeliveryContext, found: GarbagePlan) -> None:
    """The stat index forgets trees that are gone, and files that are gone from those that are not."""
    for project in found.results:
        for tree in KeepStore(context.ledger, project).trees():
            if not Path(tree).is_dir():
                KeepStore(context.ledger, project).forget_tree(tree)
                continue
            known = StatIndex(context.ledger, project).all(f"tree:{tree}")
            gone = [name for name in known if not os.path.lexists(os.path.join(tree, name))]
            StatIndex(context.ledger, project).drop(f"tree:{tree}", gone)
