"""Which label belongs to which prediction: the one rule of the prediction log, and the join for those who read it as it grows.

1. Labels and predictions of one project belong together, never those of two.
2. A label with an id belongs to the prediction of that id, whenever it came.
3. A label with a key alone belongs to the newest prediction of that key that was made before it, or at its moment, whichever
   release answered: an outcome cannot be known before its question, and the next prediction of the key asks anew. Of several
   predictions of one moment the one with the last id is the newest: the rows of a request count on.
4. Of several labels of a prediction the newest counts; of those of one moment the one that stands further on in the log (by the
   name of its segment, then by row).
5. Moments are whole microseconds, as compacted files hold them.

`log_query.labelled_predictions` is the same rule over whole tables, for questions and for training. Pure: no clock, no file, no
database.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import msgspec

from noria.predictions.records import Feedback

NEVER = math.inf
KEPT = 8  # labels of one prediction on the average, and predictions of a key that are remembered
RECENT = 100_000  # names that are remembered while their prediction may still come
EARLY_S = 2 * 86_400.0  # labels that came so long before any other, and found no prediction, are let go
Place = tuple[float, str]  # when a prediction was made, and its id


def moment_of(at: float) -> float:
    """A wall time in whole microseconds."""
    return round(at * 1e6) / 1e6


class AwaitedPrediction(msgspec.Struct, kw_only=True):
    """A prediction whose labels are wanted. A label by key is its own from ``at`` until ``until``."""

    at: float = NEVER  # when it was made; NEVER: not known yet
    key: str | None = None
    until: float = NEVER


class KnownLabel(msgspec.Struct, frozen=True):
    """A label, and where it stands: the later in ``order`` counts."""

    at: float
    number: int  # its row; of a state of an earlier Noria the order in which it was read
    label: Any
    segment: str = ""

    @property
    def order(self) -> tuple[float, str, int]:
        return self.at, self.segment, self.number


class _RecentPlaces:
    """Predictions by key: at most ``most`` keys, of each the last ``KEPT``; the key that is longest unheard of goes first."""

    def __init__(self, most: int) -> None:
        self._lists: OrderedDict[str, list[Place]] = OrderedDict()
        self._most = most

    def add(self, key: str, place: Place) -> None:
        known = self._lists.setdefault(key, [])
        known.append(place)
        del known[:-KEPT]
        self._lists.move_to_end(key)
        if len(self._lists) > self._most:
            self._lists.popitem(last=False)

    def of(self, key: str) -> list[Place]:
        return self._lists.get(key, [])


class LabelJoin:
    """The labels of the predictions of one project that are tracked, from records in any order, in bounded memory.

    ``see`` every prediction, ``track`` those whose labels are wanted, ``hear`` every label: each returns the ids of tracked
    predictions whose labels may be others now. ``tracked``, ``heard`` and ``early`` may be written down and gone on with.
    """

    def __init__(
        self,
        tracked: Mapping[str, AwaitedPrediction] | None = None,
        heard: dict[str, list[KnownLabel]] | None = None,
        early: dict[str, list[KnownLabel]] | None = None,
        recent: int = RECENT,
    ) -> None:
        self.tracked: dict[str, Any] = {}
        self.heard = {} if heard is None else heard  # "i" and the id, or "k" and the key -> labels, by order
        self.early = {} if early is None else early  # the same of what is not tracked, or not yet
        self._recent = recent
        self._keyed: dict[str, list[Place]] = {}  # key -> the tracked ones, the oldest first
        self._others = _RecentPlaces(recent)  # key -> predictions that are not tracked, or not any more
        for labels in (*self.heard.values(), *self.early.values()):
            labels.sort(key=lambda said: said.order)
        for name, one in (tracked or {}).items():
            self.tracked[name] = one
            if one.key is not None:
                insort(self._keyed.setdefault(one.key, []), (one.at, name))

    def see(self, name: str, at: float, key: str | None) -> list[str]:
        """A prediction was made: it ends what its key asked before."""
        if key is None:
            return []
        place = (moment_of(at), name)
        one = self.tracked.get(name)
        if one is not None and one.key is None:
            return self._place(one, place, key)
        if one is not None and (one.at, one.key) == (place[0], key):
            return []
        self._others.add(key, place)
        return self._end_before(place, key)

    def track(self, name: str, one: AwaitedPrediction) -> list[str]:
        """Keep its labels from now on; those that came early are among them. ``see`` may tell its place later."""
        if name in self.tracked:
            self.release(name)
        self.tracked[name] = one
        self._admit(f"i{name}")
        return [name] if one.key is None else self._place(one, (moment_of(one.at), name), one.key)

    def hear(self, said: Feedback, segment: str, row: int) -> list[str]:
        """A label came."""
        found = KnownLabel(moment_of(said.at), row, said.label, segment)
        if said.id is not None:
            if said.id not in self.tracked:
                self._keep_early(f"i{said.id}", found)
                return []
            pool = self.heard.setdefault(f"i{said.id}", [])
            insort(pool, found, key=lambda known: known.order)
            del pool[:-KEPT]
            return [said.id]
        if said.key is None:
            return []
        if said.key not in self._keyed:
            self._keep_early(f"k{said.key}", found)
            return []
        insort(self.heard.setdefault(f"k{said.key}", []), found, key=lambda known: known.order)
        return self._trim(said.key, found.at)

    def labels(self, name: str) -> list[Any]:
        """What was said of a tracked prediction, the label that counts last."""
        one = self.tracked[name]
        found = list(self.heard.get(f"i{name}", ()))
        if one.key is not None:
            pool = self.heard.get(f"k{one.key}", [])
            found += pool[slice(*_between(pool, one.at, one.until))]
            found.sort(key=lambda said: said.order)
        return [said.label for said in found]

    def release(self, name: str) -> None:
        """Its labels are not wanted any more; it still ends what its key asked before."""
        one = self.tracked.pop(name)
        self.heard.pop(f"i{name}", None)
        if one.key is None:
            return
        places, pool = self._keyed[one.key], self.heard.get(f"k{one.key}", [])
        del pool[slice(*_between(pool, one.at, one.until))]
        del places[bisect_left(places, (one.at, name))]
        self._others.add(one.key, (one.at, name))
        if places:
            self._trim(one.key, one.at)
            return
        del self._keyed[one.key]
        for said in self.heard.pop(f"k{one.key}", ())[-KEPT:]:  # of a prediction that may still come
            self._keep_early(f"k{one.key}", said)

    def forget_early(self) -> None:
        """Let go of labels that came long ago and belong to nothing that was read."""
        newest = max((said[-1].at for said in self.early.values()), default=0.0)
        for name in [name for name, said in self.early.items() if said[-1].at < newest - EARLY_S]:
            del self.early[name]

    def _place(self, one: AwaitedPrediction, place: Place, key: str) -> list[str]:
        """A tracked prediction takes its place among those of its key."""
        one.at, one.key = place[0], key
        places = self._keyed.setdefault(key, [])
        index = bisect_left(places, place)
        later = places[index : index + 1] + [other for other in self._others.of(key) if other > place]
        one.until = min([one.until, *(at for at, _ in later)])
        changed = self._end_before(place, key)
        places.insert(index, place)
        self._admit(f"k{key}")
        return [place[1], *changed]

    def _end_before(self, place: Place, key: str) -> list[str]:
        """What the key asked before a place ends there."""
        places = self._keyed.get(key, [])
        index = bisect_left(places, place)
        if not index:
            return []
        before = self.tracked[places[index - 1][1]]
        if before.until <= place[0]:
            return []
        before.until = place[0]
        return [places[index - 1][1]]

    def _trim(self, key: str, at: float) -> list[str]:
        """Where a key has too many labels, keep the last of the prediction to which one of that moment belongs, or of the gap;
        whose they are."""
        places, pool = self._keyed[key], self.heard.get(f"k{key}", [])
        index = bisect_right(places, at, key=lambda place: place[0])
        low, high, owner = -NEVER, places[index][0] if index < len(places) else NEVER, list[str]()
        if index:
            begin, name = places[index - 1]
            until = self.tracked[name].until
            low, high, owner = (begin, min(high, until), [name]) if at < until else (until, high, owner)
        first, end = _between(pool, low, high)
        if len(pool) > 2 * KEPT * (len(places) + 1):  # they may be of many predictions that are not read yet
            del pool[first : max(first, end - KEPT)]
        return owner

    def _admit(self, name: str) -> None:
        """What was said early of what is tracked now counts."""
        if (said := self.early.pop(name, None)) is not None:
            known = self.heard.setdefault(name, [])
            known += said
            known.sort(key=lambda one: one.order)

    def _keep_early(self, name: str, said: KnownLabel) -> None:
        known = self.early.pop(name, [])
        insort(known, said, key=lambda one: one.order)
        self.early[name] = known[-KEPT:]  # the name is the newest now
        if len(self.early) > self._recent:
            del self.early[next(iter(self.early))]


def _between(pool: list[KnownLabel], low: float, high: float) -> tuple[int, int]:
    """Where the labels of a span of time stand, its end left out."""
    return bisect_left(pool, low, key=lambda said: said.at), bisect_left(pool, high, key=lambda said: said.at)
