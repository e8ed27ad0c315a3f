"""What arrived: one walk over each source beside the stat index, so that only what changed is ever read."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import msgspec

from noria.config import DataSource, Project, referenced_first
from noria.data import files, personal_columns, personal_key, served_predictions, sources, table_types
from noria.data.arrival import Arrival
from noria.data.sources import FoundFile, SourceListing
from noria.data.store import DataStore
from noria.data.table_store import Settled, TableStore
from noria.kernel import names
from noria.kernel.errors import DataError
from noria.kernel.words import plural
from noria.storage.context import StoreContext
from noria.storage.disk import full_disk
from noria.storage.stat_index import StatEntry, StatIndex

FETCHERS = 8  # files that are fetched side by side
FETCHED = 64  # files that stand on disk before they are kept
SEVERAL = 50  # files from which on the ledger is asked once for all names, not for each
P = TypeVar("P", bound=Path | str)
MANY = 1000  # files whose taking in is announced
LOOK_AGAIN_S = 0.05


def take_in(context: StoreContext, project: Project, *, patient: bool = False) -> list[Arrival]:
    """Keep every file that no delivery has judged as it is now in the blob store.

    ``patient``: a person waits: files that were written a moment ago are waited for, and a source that cannot be read is an
    error. Otherwise it is noted, and what was accepted before stands.
    """
    arrivals: dict[str, list[Arrival]] = {}
    for name in referenced_first(project.data):
        dataset = project.data[name]
        if not served_predictions.is_log(dataset.source):
            moving = any(arrivals.get(one.dataset) for one in dataset.references)
            arrivals[name] = _take_in(context, dataset, patient, moving)
    return [arrival for name in project.data for arrival in arrivals.get(name, ())]


def news(context: StoreContext, dataset: DataSource, source: SourceListing, moving: bool = False) -> Iterator[FoundFile]:
    """What is new since it was judged, or may be, by name. ``moving``: files wait for a dataset that this one refers to.

    A file that has another mark and the same size is read, since it may only have been touched or copied to where it is:
    then its new mark is written down. Every other change is told by the mark alone.
    """
    marks, judges = {}, judges_of(context, dataset, moving)
    for found, before in _changes(context, dataset, source, judges):
        touched = _find_stat_entry(context, dataset, source, found, before, judges)
        if touched is None:
            yield found
        else:
            marks[found.name] = touched
    StatIndex.of(context).put(place(dataset), marks)


def _changes(
    context: StoreContext, dataset: DataSource, source: SourceListing, judges: Sequence[str]
) -> Iterator[tuple[FoundFile, str]]:
    """What has another mark than before, with that one: the source's files and the known marks, side by side."""
    known = StatIndex.of(context).each(place(dataset))
    name, seen, digest = next(known, _NONE)
    for found in source.list_files():
        while name and name < found.name:
            name, seen, digest = next(known, _NONE)
        judged = seen == found.mark or any(seen == refusal(found.mark, judge) for judge in judges)
        if name == found.name and judged and found.digest in ("", digest):
            continue
        yield found, seen if name == found.name else ""


def _find_stat_entry(
    context: StoreContext, dataset: DataSource, source: SourceListing, found: FoundFile, before: str, judges: Sequence[str]
) -> StatEntry | None:
    """The mark to be kept of a file whose bytes were judged before; None when they may be new."""
    if found.path is None or found.problem or not before.startswith(f"{found.size_bytes}:"):
        return None
    try:
        digest = files.digest(Path(found.path)) if has_arrived(source, found, dataset.settle_s) else ""
    except (FileNotFoundError, DataError):  # gone, or not to be read: whoever takes it in says so
        return None
    mark = _find_mark(context, dataset, found, digest, judges) if digest and source.is_unchanged(found) else None
    return None if mark is None else StatEntry(mark, digest)


def connect(context: StoreContext, dataset: DataSource) -> SourceListing:
    """A look at the source of a dataset, which may go on from where the last one stood."""
    return sources.connect(
        dataset, context.home, lambda: ((name, seen) for name, seen, _ in StatIndex.of(context).each(place(dataset)))
    )


def place(dataset: DataSource) -> str:
    """Where the stat index keeps a dataset's marks."""
    return f"data:{dataset.name}"


def judge_digest(dataset: DataSource) -> str:
    """The digest of all that decides over a dataset's files: its contract, and what noria.yaml says of where and how they are.

    Values from the environment count by the names of their variables: they stand in no digest that could be guessed from.
    """
    options = sorted((key, dataset.masked(str(value))) for key, value in dataset.options.items())
    contract = dataset.contract.digest if dataset.contract else ""
    said = [contract, dataset.format, dataset.pin, dataset.shown, options, msgspec.to_builtins(dataset.csv)]
    return names.digest_bytes(msgspec.json.encode(said))[:32]


def reference_digest(context: StoreContext, dataset: DataSource) -> str:
    """The digest of what decides over a file that was refused for its references: that, and the datasets it refers to as they
    are now. So it is judged again when they have other files."""
    heads = [DataStore.of(context).head(name).digest for name in dict.fromkeys(one.dataset for one in dataset.references)]
    return names.digest_bytes(msgspec.json.encode([judge_digest(dataset), heads]))[:32]


def judges_of(context: StoreContext, dataset: DataSource, moving: bool = False) -> tuple[str, ...]:
    """The digests of what may have refused a file so that it would do so now. ``moving``: what it refers to may change before."""
    by_references = (reference_digest(context, dataset),) if dataset.references and not moving else ()
    return (judge_digest(dataset), *by_references)


def judge_of_change(context: StoreContext, dataset: DataSource, name: str) -> str:
    """The digest of what is to judge a file that is new or was refused: where its references were to blame, of them too."""
    before = StatIndex.of(context).get(place(dataset), name) if dataset.references else None
    plain = judge_digest(dataset)
    waits = before is not None and before.seen != judged_mark(before.seen) and not before.seen.endswith(plain)
    return reference_digest(context, dataset) if waits else plain


def refusal(mark: str, contract: str) -> str:
    """The mark of a file in quarantine: under another contract, format or source it is judged again."""
    return f"{mark} refused {contract}"


def judged_mark(mark: str) -> str:
    """The mark of a file without what ``refusal`` added."""
    return mark.rpartition(" refused ")[0] or mark


_NONE = ("", "", "")


def _take_in(context: StoreContext, dataset: DataSource, patient: bool, moving: bool) -> list[Arrival]:
    source = connect(context, dataset)
    try:
        if personal_columns.rule_of(dataset).hash:
            personal_key.demand(context)
        _leave_behind(context, dataset, source)
        found = list(_whole(context, dataset, source, patient, moving))
        if len(found) >= MANY:
            context.progress(f"{dataset.name}: taking in {plural(len(found), 'file')}")
        return _select_unjudged(context, dataset, list(_store_files(context, dataset, source, found)), moving)
    except DataError as error:
        if patient or not DataStore.of(context).head(dataset.name).files:
            raise
        context.event("data.unreadable", dataset.name, f"{dataset.name}: {error.message}; files accepted before remain accepted")
        return []


def _leave_behind(context: StoreContext, dataset: DataSource, source: SourceListing) -> None:
    """Where noria.yaml names another source than before, the files of the old one are no part of the dataset any more.

    What the new one holds too stays, unless it is read in another way: then it arrives again.
    """
    before, now = TableStore.of(context).get(dataset.name), table_types.identity(dataset, context.state)
    if before is not None and before.source == now:
        return
    gone = []
    if before is not None:
        gone = list(DataStore.of(context).accepted_files(dataset.name))
        if before.source.partition(" ")[0] == table_types.how_read(dataset, context.state) and dataset.sql is None:
            there = {found.name for found in source.list_files()}
            gone = [name for name in gone if name not in there]
    with context.ledger.transaction():
        context.check_lease()
        for name in gone:
            DataStore.of(context).withdraw(dataset.name, name)
        StatIndex.of(context).drop(place(dataset), gone)
        stays = before is not None and bool(DataStore.of(context).accepted_files(dataset.name))
        kept = before if before is not None and stays else Settled(now)  # without files, nothing is decided
        TableStore.of(context).put(dataset.name, Settled(now, kept.basis, kept.type))
        if gone:
            text = f"{dataset.name}: {plural(len(gone), 'file')} of the former source left the dataset"
            context.event("data.source_changed", dataset.name, text, dataset=dataset.name, files=len(gone))


def _whole(context: StoreContext, dataset: DataSource, source: SourceListing, patient: bool, moving: bool) -> Iterator[FoundFile]:
    """News that arrived whole; a patient look is repeated until everything has, or keeps changing."""
    told: set[str] = set()
    deadline = time.monotonic() + 2 * dataset.settle_s + LOOK_AGAIN_S
    while True:
        unsettled = False
        for found in news(context, dataset, source, moving):
            if found.name in told:
                continue
            if has_arrived(source, found, dataset.settle_s):
                told.add(found.name)
                yield found._replace(problem=source.problem(found))
            else:
                unsettled = True
        if not (patient and unsettled) or time.monotonic() > deadline:
            return
        time.sleep(LOOK_AGAIN_S)


def has_arrived(source: SourceListing, found: FoundFile, settle_s: float) -> bool:
    """Whether it can be judged: it is there whole, or never will be."""
    try:
        return bool(found.problem) or source.has_settled(found, settle_s)
    except FileNotFoundError:  # vanished between the walk and now
        return False


def _store_files(
    context: StoreContext, dataset: DataSource, source: SourceListing, found: Sequence[FoundFile]
) -> Iterator[tuple[FoundFile, str]]:
    """Each with the digest of its bytes, which are blobs now; none for what cannot be read.

    What vanished or changed while it was read is left to the next look.
    """
    yield from ((each, "") for each in found if each.problem)
    if personal_columns.rule_of(dataset).treated:
        yield from _store_treated(context, dataset, source, [each for each in found if not each.problem])
        return
    here = {each.path: each for each in found if each.path is not None and not each.problem}
    for path, digest in _put(context, here):
        if source.is_unchanged(here[path]):
            yield here[path], digest
    yield from _fetch_files(context, source, [each for each in found if each.path is None and not each.problem])


def _store_treated(
    context: StoreContext, dataset: DataSource, source: SourceListing, found: Iterable[FoundFile]
) -> Iterator[tuple[FoundFile, str]]:
    """Files whose personal columns are hashed or dropped: what is stored, and its digest and size, is never the file itself.

    One that cannot be treated is not stored at all.
    """
    key = personal_key.demand(context) if personal_columns.rule_of(dataset).hash else b""
    folder = context.state / "work"
    folder.mkdir(parents=True, exist_ok=True)
    for each in found:
        with full_disk(folder), tempfile.TemporaryDirectory(dir=folder, prefix="fetch-") as temporary:
            raw, target = personal_columns.places(Path(temporary), each)
            if each.path is None and not _fetch(source, each, raw):
                continue
            problem = personal_columns.try_treat(dataset, raw, each.name, key, target)
            if not source.is_unchanged(each):
                continue
            if problem is not None:
                yield each._replace(problem=problem.message), ""
                continue
            size_bytes = target.stat().st_size
            for _, digest in _put(context, [target]):
                yield each._replace(size_bytes=size_bytes), digest


def _put(context: StoreContext, paths: Iterable[P]) -> Iterator[tuple[P, str]]:
    try:
        yield from context.blobs.put_files(paths)
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=str(error.filename or "")) from error


def _fetch_files(context: StoreContext, source: SourceListing, found: Sequence[FoundFile]) -> Iterator[tuple[FoundFile, str]]:
    """Files from elsewhere, a few at a time side by side."""
    if not found:
        return
    folder = context.state / "work"
    folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(FETCHERS) as pool:
        for first in range(0, len(found), FETCHED):
            with tempfile.TemporaryDirectory(dir=folder, prefix="fetch-") as temporary:
                group = [(each, Path(temporary) / str(at)) for at, each in enumerate(found[first : first + FETCHED])]
                whole = dict(
                    zip((target for _, target in group), pool.map(lambda pair: _fetch(source, *pair), group), strict=True)
                )
                names = {target: each for each, target in group}
                for target, digest in _put(context, [target for target, ok in whole.items() if ok]):
                    yield names[target], digest


def _fetch(source: SourceListing, found: FoundFile, target: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):  # it is gone: it has not arrived
        source.fetch(found, target)
        return source.is_unchanged(found)
    return False


def _select_unjudged(
    context: StoreContext, dataset: DataSource, kept: Sequence[tuple[FoundFile, str]], moving: bool
) -> list[Arrival]:
    """Those that no delivery has judged; the marks of the others are written down."""
    judges = judges_of(context, dataset, moving)
    arrivals, marks = [], {}
    ever = DataStore.of(context).delivered_names(dataset.name) if len(kept) > SEVERAL else None
    for found, digest in kept:
        asked = bool(digest) and (ever is None or found.name in ever)
        mark = _find_mark(context, dataset, found, digest, judges) if asked else None
        if mark is None:
            origin = found.name if dataset.pin == "version" else None
            arrivals.append(Arrival(dataset.name, found.name, digest, found.size_bytes, found.mark, found.problem, origin))
        else:
            marks[found.name] = StatEntry(mark, digest)
    StatIndex.of(context).put(place(dataset), marks)
    return arrivals


def _find_mark(context: StoreContext, dataset: DataSource, found: FoundFile, digest: str, judges: Sequence[str]) -> str | None:
    """The mark of bytes that were judged before; None when they are new."""
    delivery = DataStore.of(context).find_judgement(dataset.name, found.name, digest, judges)
    if delivery is None:
        return None
    refused_by = delivery.contract if delivery.contract in judges else judges[0]  # a person may have discarded it
    return found.mark if delivery.accepted else refusal(found.mark, refused_by)
