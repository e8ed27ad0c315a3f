"""Retention: what is kept, because a release, a run within retention, a person or the next run needs it. All else may go.

A *holder* is something that needs things: snapshots of datasets, results of steps, single blobs, the checkout of a commit.
Whether its needs are kept is decided here, from kind and age alone; what a snapshot or a result consists of is for the caller
to look up.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set
from enum import StrEnum

import msgspec

YOUNG_S = 3600.0  # what was written this recently stays, whoever needs it: its owner may not have said so yet


class BlobKind(StrEnum):
    RELEASE = "release"  # all that it was made of, as long as it can be made again
    RUN = "run"  # until it is older than the retention
    TURN = "turn"  # under way, or left by a crash: it goes on
    STEP = "step"  # the newest result of each
    PINNED = "pinned"  # by a person
    CURRENT = "current"  # the accepted files of a dataset, and its newest version
    QUARANTINE = "quarantine"  # samples of what was refused, until they are older than the retention


class Holder(msgspec.Struct, frozen=True):
    """``name`` is what people call it; ``at`` (seconds since 1970) is when it was last of use."""

    kind: BlobKind
    project: str
    name: str
    at: float
    snapshots: frozenset[str] = frozenset()
    results: frozenset[str] = frozenset()  # digests of the manifests of steps' outputs
    blobs: frozenset[str] = frozenset()
    commit: str | None = None
    erased: bool = False  # a release: a part of it was erased, so that it cannot be made again


class RetentionSet(msgspec.Struct, frozen=True):
    """What all holders together need."""

    holders: tuple[Holder, ...]

    @property
    def snapshots(self) -> frozenset[str]:
        return frozenset().union(*(h.snapshots for h in self.holders))

    @property
    def results(self) -> frozenset[str]:
        return frozenset().union(*(h.results for h in self.holders))

    @property
    def blobs(self) -> frozenset[str]:
        return frozenset().union(*(h.blobs for h in self.holders))

    @property
    def commits(self) -> frozenset[str]:
        return frozenset(h.commit for h in self.holders if h.commit is not None)


def keep(holders: Iterable[Holder], before: Mapping[str, float]) -> RetentionSet:
    """Those whose needs are kept. ``before``: project -> the time before which runs and quarantine are too old."""
    found = tuple(holders)
    newest: dict[tuple[str, str], Holder] = {}
    for holder in found:
        if holder.kind is BlobKind.STEP:
            known = newest.get((holder.project, holder.name))
            if known is None or (holder.at, sorted(holder.results)) > (known.at, sorted(known.results)):
                newest[holder.project, holder.name] = holder
    return RetentionSet(tuple(h for h in found if _stays(h, before.get(h.project, 0.0), newest)))


def _stays(holder: Holder, before: float, newest: Mapping[tuple[str, str], Holder]) -> bool:
    match holder.kind:
        case BlobKind.STEP:
            return newest[holder.project, holder.name] is holder
        case BlobKind.RUN | BlobKind.QUARANTINE:
            return holder.at >= before
        case BlobKind.RELEASE:
            return not holder.erased
        case _:
            return True


def unneeded_blobs(stored: Iterable[tuple[str, float]], needed: Set[str], now: float) -> Iterator[str]:
    """Blobs that nothing needs, of those (digest, time of its last putting) that are stored; young ones are left alone."""
    return (digest for digest, at in stored if digest not in needed and at < now - YOUNG_S)


def descended_results(results: Iterable[tuple[str, Set[str], str]], roots: Set[str]) -> set[str]:
    """Which results came from ``roots``, directly or through others.

    Each result is its key, the digests of what it was made of, and its own digest.
    """
    waiting = list(results)
    known, found = set(roots), set[str]()
    while fresh := [(key, made) for key, inputs, made in waiting if not known.isdisjoint(inputs)]:
        waiting = [result for result in waiting if known.isdisjoint(result[1])]
        found.update(key for key, _ in fresh)
        known.update(made for _, made in fresh)
    return found
