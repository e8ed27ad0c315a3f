"""What both releases of one rollout made of the same requests, with the labels that came for them; and how long requests took.

Pairs stand in the shadow log, keys and labels in the prediction log. A label belongs to a prediction as everywhere: by
its id, or by the entity's key to the newest prediction of that key before the label; the last label wins. Both logs are read as
they grow, in any order, and nothing is kept but numbers: what is kept is bounded by the pairs, and by RECENT.
"""

from __future__ import annotations

import math
import time
from array import array
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from noria.models.signature import class_text
from noria.predictions.reader import LogReader
from noria.predictions.records import Damage, Feedback, Prediction, Shadow, ids_from

MOST_PAIRS = 1_000_000  # evidence decides long before: more are passed over
MOST_TIMES = 1_000_000  # of each release, the newest
RECENT = 100_000  # predictions, keys and labels that are remembered while their pair may still come
KEPT = 4  # the last labels of a pair, and predictions of a key: records of several workers are not read in their order
WORK_S = 0.2  # of one poll
PART_BYTES = 1 << 20  # that are read at a time
NEVER = (math.inf, "")
Floats = NDArray[np.float64]
Place = tuple[float, str]  # when a prediction was made, and its id: rows of one request share the moment


class LabelledPairs(msgspec.Struct, frozen=True):
    """The pairs that have a label, in no order.

    ``y`` [n]; ``new`` and ``old`` [n] are probabilities of the second class (``y`` is 0 or 1) or numbers, or [n, k]
    probabilities of k classes (``y`` is a class's place; k - 1 stands for all classes that neither release knows).
    """

    y: Floats
    new: Floats
    old: Floats
    pairs: int  # with or without a label

    @property
    def labelled(self) -> int:
        return len(self.y)


class _Said(msgspec.Struct):
    """A label, and the order in which it counts."""

    at: float
    number: int  # in which it was read
    label: Any
    by_key: bool

    @property
    def order(self) -> tuple[float, int]:
        return self.at, self.number


class _LabelledPair(msgspec.Struct):
    """Where a pair's numbers stand, what was said of it, and until when a label by key is its own."""

    slot: int
    place: Place = NEVER
    until: Place = NEVER
    said: list[_Said] = []

    def hear(self, said: _Said) -> bool:
        """Whether it belongs to it; ``until`` never grows, so that what does not will not."""
        if said.by_key and said.at >= self.until[0]:
            return False
        self.said = sorted([*self.said, said], key=lambda s: s.order)[-KEPT:]
        return True

    def end(self, place: Place) -> list[_Said]:
        """Another prediction of its key was made then; what does not belong to it any more."""
        self.until = place
        gone = [s for s in self.said if s.by_key and s.at >= place[0]]
        self.said = [s for s in self.said if not s.by_key or s.at < place[0]]
        return gone

    def label(self) -> Any:
        """The last one, or None."""
        return self.said[-1].label if self.said else None


class _Remembered:
    """Lists by name: at most RECENT names, the last ``KEPT`` of each; the name that is longest unheard of goes first."""

    def __init__(self) -> None:
        self._lists: OrderedDict[Any, list[Any]] = OrderedDict()

    def add(self, name: Any, value: Any) -> None:
        known = self._lists.setdefault(name, [])
        known.append(value)
        del known[:-KEPT]
        self._lists.move_to_end(name)
        if len(self._lists) > RECENT:
            self._lists.popitem(last=False)

    def of(self, name: Any) -> list[Any]:
        return self._lists.get(name, [])

    def take(self, name: Any) -> list[Any]:
        return self._lists.pop(name, [])


class _Times:
    """The newest MOST_TIMES numbers."""

    def __init__(self) -> None:
        self._values = array("d")
        self._next = 0

    def add(self, value: float) -> None:
        if len(self._values) < MOST_TIMES:
            self._values.append(value)
        else:
            self._values[self._next] = value
            self._next = (self._next + 1) % MOST_TIMES

    def array(self) -> Floats:
        return np.array(self._values, dtype=np.float64)


class _Numbers:
    """The outputs of all pairs as numbers, and their labels; NaN: none yet."""

    def __init__(self, classes: Sequence[str] = (), certain: bool = False) -> None:
        """``classes``: of the release, where they are known. ``certain``: only the class matters that each was called, by its
        own rule."""
        self._y, self._new, self._old = array("d"), array("d"), array("d")
        self._classes: tuple[str, ...] | None = None  # of several, in their order
        self._known = len(classes) == 2
        self._certain = certain
        # Of two: whether it is the second -> its text, told or once it was answered.
        self._halves: dict[bool, str] = {False: classes[0], True: classes[1]} if self._known else {}

    def __len__(self) -> int:
        return len(self._y)

    def add(self, new: Mapping[str, Any], old: Mapping[str, Any]) -> bool:
        """A pair's outputs; False when they cannot be compared."""
        if "probabilities" in new and "probabilities" in old:
            return self._add_classes(*(self._of_classes(said) for said in (new, old)))
        if "probability" in new and "probability" in old:
            if not self._known:
                for said in (new, old):
                    self._halves[said["probability"] >= 0.5] = _text(said["prediction"])
            elif self._certain:
                self._append(*([float(_text(said["prediction"]) == self._halves[True])] for said in (new, old)))
                return True
        name = "probability" if "probability" in new else "prediction"
        numbers = new.get(name), old.get(name)
        if self._classes is not None or not all(isinstance(n, int | float) for n in numbers):
            return False
        self._append(numbers[:1], numbers[1:])
        return True

    def _of_classes(self, said: Mapping[str, Any]) -> Mapping[str, float]:
        found: Mapping[str, float] = said["probabilities"]
        return {name: float(name == _text(said["prediction"])) for name in found} if self._certain else found

    def _add_classes(self, new: Mapping[str, float], old: Mapping[str, float]) -> bool:
        if self._classes is None:
            if len(self):
                return False
            self._classes = tuple(dict.fromkeys((*old, *new)))
        if not new.keys() | old.keys() <= set(self._classes):
            return False
        self._append(*([said.get(name, 0.0) for name in self._classes] + [0.0] for said in (new, old)))
        return True

    def _append(self, new: Sequence[Any], old: Sequence[Any]) -> None:
        self._y.append(math.nan)
        self._new.extend(new)
        self._old.extend(old)

    def label(self, slot: int, label: Any) -> None:
        self._y[slot] = math.nan if label is None else self._number(label)

    def _number(self, label: Any) -> float:
        """What a label is compared as; NaN when it cannot be."""
        text = _text(label)
        if self._classes is not None:
            return float(self._classes.index(text) if text in self._classes else len(self._classes))
        for second, known in self._halves.items():  # either tells: the server takes labels of the two classes only
            return float(second if text == known else not second)
        return float(label) if isinstance(label, int | float) else math.nan

    def labelled(self) -> LabelledPairs:
        y = np.array(self._y, dtype=np.float64)
        there = np.isfinite(y)
        shape = (len(y),) if self._classes is None else (len(y), len(self._classes) + 1)
        new, old = (np.array(v, dtype=np.float64).reshape(shape)[there] for v in (self._new, self._old))
        return LabelledPairs(y[there], new, old, len(y))


class ShadowEvidence:
    """The evidence of one rollout that stands in the logs, gathered look by look."""

    def __init__(
        self,
        log_folder: Path,
        shadow_folder: Path,
        rollout_id: str,
        project: str,
        version: str,
        since: float | None = None,
        classes: Sequence[str] = (),
        certain: bool = False,
    ) -> None:
        """``version``: the release that the rollout delivers. ``since``: when it began; what its id says when not told.
        ``classes``, ``certain``: see ``_Numbers``."""
        begun = _begun(rollout_id) if since is None else since
        self._log, self._shadow = LogReader(log_folder, begun), LogReader(shadow_folder, begun)
        self._rollout, self._project, self._version = rollout_id, project, version
        self._numbers = _Numbers(classes, certain)
        self._pairs: dict[str, _LabelledPair] = {}  # by prediction id
        self._keyed: dict[str, list[_LabelledPair]] = {}  # in the order of their places
        self._keys = _Remembered()  # prediction id -> its key and place, while no pair is known of it
        self._places = _Remembered()  # key -> places of its predictions
        self._early = _Remembered()  # id or key of a label -> what was said, while no pair is known that it belongs to
        self._heard = 0
        self.told: list[str] = []  # damaged segments that were told of
        self._old_ms, self._new_ms = _Times(), _Times()
        self._request: tuple[float, float, str] | None = None  # the last row's: rows of one request stand together

    def poll(self, work_s: float = WORK_S) -> bool:
        """Read what is new, for about ``work_s`` seconds; whether there is no more by now. Raises StoreError for a damaged
        index."""
        until = time.monotonic() + work_s
        for reader in (self._shadow, self._log):  # pairs first: then most labels find theirs at once
            while records := reader.poll(PART_BYTES):
                for record in records:
                    self._take(record)
                if time.monotonic() > until:
                    return False
        return True

    def damage(self) -> tuple[dict[str, Damage], dict[str, Damage]]:
        """What could not be read of the prediction log and of the shadow log, by segment."""
        return self._log.damage(), self._shadow.damage()

    def labelled(self) -> LabelledPairs:
        return self._numbers.labelled()

    def latencies(self) -> tuple[Floats, Floats]:
        """Milliseconds of each request of the rollout that the champion answered, and of each that was given to the candidate,
        also where the champion stood in for it."""
        return self._old_ms.array(), self._new_ms.array()

    def _take(self, record: Any) -> None:
        if record.project != self._project:
            return
        if isinstance(record, Shadow):
            self._take_pairs(record)
        elif isinstance(record, Prediction):
            self._take_prediction(record)
        elif isinstance(record, Feedback) and record.kind == "label":
            self._heard += 1
            self._take_label(record, _Said(record.at, self._heard, record.label, record.id is None))

    # -- pairs

    def _take_pairs(self, record: Shadow) -> None:
        if record.rollout != self._rollout or record.error is not None or self._version not in (record.release, record.other):
            return
        ours, theirs = record.answered, record.outputs
        if record.release != self._version:
            ours, theirs = theirs, ours
        ids = [record.id] if record.rows == 1 else ids_from(record.id, record.rows)
        for row, name in enumerate(ids):
            if (
                name not in self._pairs
                and len(self._numbers) < MOST_PAIRS
                and self._numbers.add(_row(ours, row), _row(theirs, row))
            ):
                self._add(name, _LabelledPair(len(self._numbers) - 1))

    def _add(self, name: str, pair: _LabelledPair) -> None:
        self._pairs[name] = pair
        for said in self._early.take(("id", name)):
            pair.hear(said)
        for key, place in self._keys.take(name):
            self._place(pair, key, place)
        self._label(pair)

    def _place(self, pair: _LabelledPair, key: str, place: Place) -> None:
        """The pair is one of that key: it ends what was the newest before, and the next prediction ends it."""
        row = self._keyed.setdefault(key, [])
        index = bisect_right(row, place, key=lambda p: p.place)
        pair.place = place
        pair.until = min(
            [p for p in self._places.of(key) if p > place] + [p.place for p in row[index : index + 1]], default=NEVER
        )
        row.insert(index, pair)
        if index:
            self._end(row[index - 1], place, key)
        for said in self._early.take(("key", key)):
            if said.at < place[0] or not pair.hear(said):
                self._early.add(("key", key), said)  # of an older pair, perhaps, or of a newer one

    def _end(self, pair: _LabelledPair, place: Place, key: str) -> None:
        if place < pair.until:
            for said in pair.end(place):
                self._early.add(("key", key), said)
            self._label(pair)

    def _label(self, pair: _LabelledPair) -> None:
        self._numbers.label(pair.slot, pair.label())

    # -- predictions

    def _take_prediction(self, record: Prediction) -> None:
        if record.rollout == self._rollout:
            self._take_time(record)
        if record.key is None:
            return
        place = (record.at, record.id)
        pair = self._pairs.get(record.id)
        if pair is not None:
            self._place(pair, record.key, place)
            self._label(pair)
        elif record.rollout == self._rollout:
            self._keys.add(record.id, (record.key, place))
        if row := self._keyed.get(record.key):
            index = bisect_right(row, place, key=lambda p: p.place)
            if index and row[index - 1] is not pair:
                self._end(row[index - 1], place, record.key)
        self._places.add(record.key, place)

    def _take_time(self, record: Prediction) -> None:
        request = (record.at, record.latency_ms, record.variant)
        if request == self._request:
            return  # another row of it
        self._request = request
        if record.variant in ("candidate", "fallback"):
            self._new_ms.add(record.latency_ms)
        elif record.variant == "champion" and record.release != self._version:  # on probation nobody answers beside it
            self._old_ms.add(record.latency_ms)

    # -- labels

    def _take_label(self, record: Feedback, said: _Said) -> None:
        name = ("key", record.key) if record.id is None else ("id", record.id)
        if record.id is not None:
            pair = self._pairs.get(record.id)
        else:
            row = self._keyed.get(record.key or "", [])
            index = bisect_right(row, record.at, key=lambda p: p.place[0])
            pair = row[index - 1] if index else None
        if pair is None or not pair.hear(said):
            self._early.add(name, said)
        else:
            self._label(pair)


def _begun(rollout_id: str) -> float:
    """When an id was given (`names.new_id`), in seconds since 1970; 0 when it does not say."""
    try:
        return int(rollout_id.split("-")[-2], 16) / 1000
    except (IndexError, ValueError):
        return 0.0


def _row(outputs: Mapping[str, Sequence[Any]], row: int) -> dict[str, Any]:
    return {name: values[row] for name, values in outputs.items() if row < len(values)}


def _text(label: Any) -> str:
    """A class as text; true and 1 mean the same, false and 0 too."""
    text = class_text(label)
    return {"true": "1", "false": "0"}.get(text.lower(), text)
