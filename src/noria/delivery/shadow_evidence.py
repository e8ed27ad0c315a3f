"""The evidence of a rollout from the logs: pairs of answers of both releases with their labels, and latencies.

Pairs stand in the shadow log, keys and labels in the prediction log; which label belongs to which prediction says
`predictions.label_join`. Both logs are read as they grow, in any order, and nothing is kept but numbers: what is kept is bounded
by the pairs, and by RECENT.
"""

from __future__ import annotations

import math
import time
from array import array
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from noria.models.signature import class_text
from noria.predictions.label_join import NEVER, AwaitedPrediction, LabelJoin
from noria.predictions.reader import LogReader
from noria.predictions.records import Damage, Feedback, Prediction, Shadow, ids_from

MOST_PAIRS = 1_000_000  # evidence decides long before that; more are ignored
MOST_TIMES = 1_000_000  # of each release, the newest
RECENT = 100_000  # predictions whose key is remembered while their pair may still come
WORK_S = 0.2  # of one poll
PART_BYTES = 1 << 20  # that are read at a time
Floats = NDArray[np.float64]


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
    def count(self) -> int:
        return len(self.y)


class _ShadowPair(AwaitedPrediction, kw_only=True):
    """The prediction of a pair, and where the pair's numbers stand."""

    slot: int


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

    def labelled_pairs(self) -> LabelledPairs:
        y = np.array(self._y, dtype=np.float64)
        there = np.isfinite(y)
        shape = (len(y),) if self._classes is None else (len(y), len(self._classes) + 1)
        new, old = (np.array(v, dtype=np.float64).reshape(shape)[there] for v in (self._new, self._old))
        return LabelledPairs(y[there], new, old, len(y))


class ShadowEvidence:
    """The evidence of one rollout in the logs, gathered incrementally."""

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
        begun = _rollout_start(rollout_id) if since is None else since
        self._log, self._shadow = (LogReader(folder, begun, project=project) for folder in (log_folder, shadow_folder))
        self._rollout, self._version = rollout_id, version
        self._numbers = _Numbers(classes, certain)
        self._join = LabelJoin()
        self._keys: OrderedDict[str, tuple[str, float]] = OrderedDict()  # id -> key and moment, while no pair is known of it
        self.told: list[str] = []  # damaged segments that were told of
        self._old_ms, self._new_ms = _Times(), _Times()
        self._request: tuple[float, float, str] | None = None  # the last row's: rows of one request stand together

    def poll(self, work_s: float = WORK_S) -> bool:
        """Reads what is new for about ``work_s`` seconds; returns whether everything has been read. Raises StoreError for a
        damaged
        index."""
        until = time.monotonic() + work_s
        for reader in (self._shadow, self._log):  # pairs first: then most labels find theirs at once
            while (parts := reader.poll_parts(PART_BYTES)) or reader.behind:
                for part in parts:
                    for row, record in enumerate(part.records, part.first_row):
                        self._take(record, part.segment, row)
                if time.monotonic() > until:
                    return False
        return True

    def damage(self) -> tuple[dict[str, Damage], dict[str, Damage]]:
        """Damage in the prediction log and the shadow log, by segment."""
        return self._log.damage(), self._shadow.damage()

    def labelled_pairs(self) -> LabelledPairs:
        return self._numbers.labelled_pairs()

    def latencies(self) -> tuple[Floats, Floats]:
        """Milliseconds of each request of the rollout that the champion answered, and of each that was given to the candidate,
        also where the champion stood in for it."""
        return self._old_ms.array(), self._new_ms.array()

    def _take(self, record: Any, segment: str, row: int) -> None:
        if isinstance(record, Shadow):
            self._take_pairs(record)
        elif isinstance(record, Prediction):
            self._take_prediction(record)
        elif isinstance(record, Feedback) and record.kind == "label":
            self._label(self._join.hear(record, segment, row))

    def _take_pairs(self, record: Shadow) -> None:
        if record.rollout != self._rollout or record.error is not None or self._version not in (record.release, record.other):
            return
        ours, theirs = record.answered, record.outputs
        if record.release != self._version:
            ours, theirs = theirs, ours
        ids = [record.id] if record.rows == 1 else ids_from(record.id, record.rows)
        for row, name in enumerate(ids):
            known = name in self._join.tracked or len(self._numbers) >= MOST_PAIRS
            if not known and self._numbers.add(_row(ours, row), _row(theirs, row)):
                key, at = self._keys.pop(name, (None, NEVER))
                self._label(self._join.track(name, _ShadowPair(slot=len(self._numbers) - 1, key=key, at=at)))

    def _take_prediction(self, record: Prediction) -> None:
        if record.rollout == self._rollout:
            self._take_time(record)
            if record.key is not None and record.id not in self._join.tracked:
                self._keys[record.id] = (record.key, record.at)
                if len(self._keys) > RECENT:
                    self._keys.popitem(last=False)
        self._label(self._join.see(record.id, record.at, record.key))

    def _label(self, changed: Sequence[str]) -> None:
        """Updates the labels of these pairs."""
        for name in changed:
            said = self._join.labels(name)
            self._numbers.label(self._join.tracked[name].slot, said[-1] if said else None)

    def _take_time(self, record: Prediction) -> None:
        request = (record.at, record.latency_ms, record.variant)
        if request == self._request:
            return  # another row of it
        self._request = request
        if record.variant in ("candidate", "fallback"):
            self._new_ms.add(record.latency_ms)
        elif record.variant == "champion" and record.release != self._version:  # on probation nobody answers beside it
            self._old_ms.add(record.latency_ms)


def _rollout_start(rollout_id: str) -> float:
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
