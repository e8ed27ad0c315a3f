"""Accumulates what the monitor needs from the prediction log, in bounded memory whatever the traffic.

Counts of a window's inputs grow as its rows are read; answers wait for their label until their window is judged. When more wait
than there is room for, a share of the keys goes on waiting, chosen by a hash: of a key all or none. Which label belongs to which
prediction says `predictions.label_join`. Its state can be saved together with the position in the log, so that a new daemon reads
only what is new.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from typing import Any

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from noria.data.served_predictions import moment
from noria.evaluation.measure import DAY_S
from noria.kernel.task_definition import Output
from noria.models.signature import Signature, class_code
from noria.predictions.label_join import AwaitedPrediction, KnownLabel, LabelJoin
from noria.predictions.reader import LogPart, SegmentPosition
from noria.predictions.records import Feedback, Prediction
from noria.releases.evidence import Reference
from noria.stats import calendar, metrics, profile
from noria.stats.profile_records import ColumnProfile, Profile

FORMAT = 1
MOST_WAITING = 50_000  # answers that wait for a label ...
MOST_NUMBERS = 1_000_000  # ... and the numbers that they consist of
RECENT = 50_000  # labels read before their prediction, and keys of predictions that do not wait
MOST_WINDOWS = 400  # of all releases; more are those of clients that send any event time
REMEMBERED_S = 35 * DAY_S  # judged windows are kept this long behind the newest, so that late labels still count
CLOSE = 1e-6  # by which a probability may miss [0, 1], as for the metrics
CALENDAR_ROWS = 400  # of a window

Floats = NDArray[np.float64]


class Gauge(msgspec.Struct, frozen=True):
    """How the quality of a release is measured."""

    signature: Signature
    reference: Reference
    profile: Profile | None  # of its training, without the columns that are not recorded

    @property
    def is_by_day(self) -> bool:
        """Whether days are the independent units, not rows."""
        return self.signature.event_time is not None

    def answer(self, outputs: dict[str, Any]) -> list[float] | None:
        """The numbers to compare a label with; None when there are none."""
        classes = self.signature.classes
        said = outputs.get("prediction")
        *_, (column, output) = self.signature.task.definition.outputs.items()
        if output is Output.EACH:
            shares = outputs.get(column)
            if not isinstance(shares, dict):
                code = class_code(said, classes)
                return None if code is None else [float(i == code) for i in range(len(classes))]
            return _chances([shares.get(name, 0.0) for name in classes])
        if output is Output.SECOND:
            return _chances([outputs.get(column, class_code(said, classes))])
        return _finite([said])

    def truth(self, label: Any) -> float | None:
        """A label as a number; an unknown class gets the index after the last."""
        definition = self.signature.task.definition
        if not definition.has_classes:
            found = _finite([label])
            return found[0] if found else None
        code = class_code(label, self.signature.classes)
        if code is None and definition.takes_new_classes:
            return float(len(self.signature.classes))
        return None if code is None else float(code)

    def losses(self, truths: Sequence[float], answers: Sequence[list[float]]) -> Floats:
        """The loss of each row, computed as for the holdout."""
        y, said = np.array(truths, dtype=np.float64), np.array(answers, dtype=np.float64)
        several = self.signature.task.definition.answers_rows  # and a class that the release does not know
        said = np.hstack([said, np.zeros((len(said), 1))]) if several else said[:, 0]
        return np.asarray(metrics.row_losses(self.reference.metric, self.signature.task, y, said), dtype=np.float64)


def _chances(values: list[Any]) -> list[float] | None:
    found = _finite(values)
    return found if found is not None and all(-CLOSE <= v <= 1 + CLOSE for v in found) else None


def _finite(values: list[Any]) -> list[float] | None:
    if all(isinstance(v, int | float) and math.isfinite(v) for v in values):
        return [float(v) for v in values]
    return None


class RunningMoments(msgspec.Struct):
    """Count, mean and squared deviations of numbers, added to as they come (Chan, Golub and LeVeque 1979)."""

    n: int = 0
    mean: float = 0.0
    squares: float = 0.0

    def add(self, other: RunningMoments) -> None:
        total = self.n + other.n
        if other.n:
            apart = other.mean - self.mean
            self.squares += other.squares + apart * apart * self.n * other.n / total
            self.mean += apart * other.n / total
            self.n = total

    @classmethod
    def of(cls, values: Floats) -> RunningMoments:
        mean = float(values.mean()) if len(values) else 0.0
        return cls(len(values), mean, float(((values - mean) ** 2).sum()))

    @property
    def sd(self) -> float:
        return math.sqrt(self.squares / (self.n - 1)) if self.n > 1 else 0.0


class Span(msgspec.Struct):
    """One window of a release. ``opened``: project time when the first row came that is not yet judged."""

    start: float
    end: float
    opened: float
    fresh: bool = True  # rows came since it was judged
    judged: bool = False
    rows: int = 0
    estimated: float = 0.0  # of how many predictions: of a sample each row stands for several
    inputs: Profile = msgspec.field(default_factory=lambda: Profile(0))
    looked: int = 0  # rows whose calendar was looked at
    units: dict[float, RunningMoments] = {}  # losses by day, or all under 0
    conflicts: int = 0  # predictions that got labels which differ
    raised: list[str] = []  # kinds of alerts

    def due(self, delay_s: float) -> float:
        """When its labels are in. Rows that come after its end get their labels as long after them."""
        return max(self.end, self.opened) + delay_s

    @property
    def labelled(self) -> int:
        return sum(unit.n for unit in self.units.values())


class ReleaseWindows(msgspec.Struct):
    """What is kept of one release. Windows begin at ``anchor`` and every so often before and after it; of those up to
    ``judged_until`` that are not here any more nothing is known: they were judged."""

    anchor: float
    judged_until: float = -math.inf
    spans: dict[float, Span] = {}
    looked: int = 0
    agreements: dict[str, list[list[int]]] = {}  # see `stats.calendar`


class Waiting(AwaitedPrediction, kw_only=True):
    """An answer that waits for its label."""

    release: str
    start: float  # of its window
    unit: float
    answer: list[float]
    ahead: bool = False  # its window had not begun when it was made


class AccumulatorState(msgspec.Struct):
    """Everything that is saved."""

    project: str
    every_s: float
    format: int = FORMAT
    places: dict[str, SegmentPosition] = {}
    releases: dict[str, ReleaseWindows] = {}
    waiting: dict[str, Waiting] = {}
    heard: dict[str, list[KnownLabel]] = {}  # "i" and the id, or "k" and the key -> labels of what waits
    early: dict[str, list[KnownLabel]] = {}  # the same of what was not read yet
    share: float = 1.0  # of keys that wait
    number: int = 0
    passed_over: int = 0  # rows whose window is one too many, or was judged and forgotten
    caught_up: bool = False
    told: list[str] = []  # segments whose damage was told


class WindowAccumulator:
    """Takes records of one project in any order; ``gauge`` tells what a release is measured by, None: not at all."""

    def __init__(
        self,
        notes: AccumulatorState,
        gauge: Callable[[str], Gauge | None],
        arrived: Callable[[float, float], float] = lambda at, _: at,
    ) -> None:
        """``arrived``: the project time at a wall time, of a row whose own time is the second number."""
        self.notes = notes
        self._gauge = gauge
        self._arrived = arrived
        self._join = LabelJoin(notes.waiting, notes.heard, notes.early, RECENT)
        self._placed: dict[tuple[str, float], set[str]] = {}  # release and start of a window -> ids of what waits
        self._numbers = self._ahead = 0
        for name, one in notes.waiting.items():
            self._index(name, one)

    def take(self, parts: Iterable[LogPart], now: float) -> int:
        """How many records there were; ``now``: project time."""
        answered: dict[str, list[Prediction]] = {}
        said: list[tuple[Feedback, str, int]] = []
        count = 0
        for part in parts:
            count += len(part.records)
            for row, record in enumerate(part.records, part.first_row):
                if isinstance(record, Prediction):
                    answered.setdefault(record.release, []).append(record)
                elif record.kind == "label":
                    said.append((record, part.segment, row))
        for release, rows in answered.items():
            gauge = self._gauge(release)
            if gauge is not None:
                self._take(release, gauge, rows, now)
        for one in (row for rows in answered.values() for row in rows if row.id not in self.notes.waiting):
            self._join.see(one.id, one.at, one.key)  # what does not wait ends what its key asked before all the same
        for feedback, segment, row in said:  # last: most find their prediction at once
            self._join.hear(feedback, segment, row)
        self._halve_waiting()
        return count

    # -- predictions

    def _take(self, release: str, gauge: Gauge, rows: list[Prediction], now: float) -> None:
        times = [moment(row.event_time, row.at) for row in rows]
        held = self.notes.releases.get(release)
        if held is None:
            held = self.notes.releases[release] = ReleaseWindows(times[0] // DAY_S * DAY_S)
        places: dict[float, list[int]] = {}
        for place, time in enumerate(times):
            start = held.anchor + (time - held.anchor) // self.notes.every_s * self.notes.every_s
            places.setdefault(start, []).append(place)
        for start, several in places.items():
            came = self._arrived(rows[several[0]].at, times[several[0]])
            span = self._span(held, start, came, now)
            if span is None:
                self.notes.passed_over += len(several)
                continue
            some, some_times = [rows[i] for i in several], np.array([times[i] for i in several])
            span.rows += len(some)
            span.estimated += sum(1 / row.sample for row in some)
            if gauge.profile is not None:
                self._count(held, span, gauge.profile, some, some_times)
            for row, time in zip(some, some_times, strict=True):
                answer = gauge.answer(row.outputs)
                if answer is not None:
                    unit = float(time // DAY_S) if gauge.is_by_day else 0.0
                    wait = Waiting(
                        at=row.at, key=row.key, release=release, start=start, unit=unit, answer=answer, ahead=start > now
                    )
                    self._wait(row, wait)

    def _span(self, held: ReleaseWindows, start: float, came: float, now: float) -> Span | None:
        """The window, opened if it is not; None when there are too many that are nearer."""
        span = held.spans.get(start)
        if span is None:
            if start < held.judged_until:
                return None  # what it held is not known any more: a part of it alone would be judged in its name
            if sum(len(h.spans) for h in self.notes.releases.values()) >= MOST_WINDOWS and not self._make_room(start, now):
                return None
            span = held.spans[start] = Span(start, start + self.notes.every_s, came)
        elif not span.fresh:
            span.fresh, span.opened = True, came
        return span

    def _make_room(self, start: float, now: float) -> bool:
        """Forget a window: the oldest that was judged, else the one that is farthest from now, if that is not the new one."""
        every = [(release, begun, span) for release, held in self.notes.releases.items() for begun, span in held.spans.items()]
        done = [one for one in every if not one[2].fresh]
        gone = min(done, key=lambda one: one[1]) if done else max(every, key=lambda one: abs(one[1] - now))
        if not done and abs(gone[1] - now) <= abs(start - now):
            return False
        release, begun, span = gone
        self.notes.passed_over += span.rows if span.fresh else 0
        for name in list(self._placed.get((release, begun), ())):
            self._release(name)
        del self.notes.releases[release].spans[begun]
        if not span.fresh:
            self.notes.releases[release].judged_until = max(self.notes.releases[release].judged_until, span.end)
        return True

    def _count(self, held: ReleaseWindows, span: Span, reference: Profile, rows: list[Prediction], times: Floats) -> None:
        named = [name for name in reference.columns if any(name in row.inputs for row in rows)]
        table = pl.DataFrame([_series(name, reference.columns[name], rows) for name in named])
        if not named:
            return
        span.inputs = profile.add_profiles(span.inputs, profile.summarise(table, reference))
        if span.looked < CALENDAR_ROWS and not reference.wander:
            looked = min(len(rows), calendar.ROWS)
            for name, agree in calendar.agreements(table, times).items():
                before = held.agreements.get(name)
                held.agreements[name] = (agree if before is None else np.array(before) + agree).tolist()
            span.looked += looked
            held.looked += looked

    def _wait(self, row: Prediction, one: Waiting) -> None:
        if self.notes.share < 1 and _chance(row.key or row.id) >= self.notes.share:
            return
        if one.ahead and self._ahead >= MOST_WAITING // 2:
            return  # what lies ahead waits for long: it may not take the room of what is judged next
        if row.id in self.notes.waiting:
            self._release(row.id)
        self.notes.waiting[row.id] = one
        self._index(row.id, one)
        self._join.track(row.id, one)

    def _index(self, name: str, one: Waiting) -> None:
        self._numbers += len(one.answer)
        self._ahead += one.ahead
        self._placed.setdefault((one.release, one.start), set()).add(name)

    def _halve_waiting(self) -> None:
        """Halve the share of keys that wait until there is room."""
        waiting = self.notes.waiting
        while len(waiting) > MOST_WAITING or self._numbers > MOST_NUMBERS:
            self.notes.share /= 2
            gone = [name for name, one in waiting.items() if _chance(one.key or name) >= self.notes.share]
            for name in gone:
                self._release(name)

    def _release(self, name: str) -> None:
        one = self.notes.waiting.pop(name)
        self._numbers -= len(one.answer)
        self._ahead -= one.ahead
        self._placed[one.release, one.start].discard(name)
        self._join.release(name)

    def forget_early(self) -> None:
        """Drops old labels that match no prediction read so far."""
        self._join.forget_early()

    # -- judgement

    def due(self, delay_s: float, now: float) -> list[tuple[str, Span]]:
        """The windows whose labels are due, oldest first."""
        found = [
            (release, span)
            for release, held in self.notes.releases.items()
            for span in held.spans.values()
            if span.fresh and span.due(delay_s) <= now
        ]
        return sorted(found, key=lambda one: (one[1].start, one[0]))

    def close(self, release: str, span: Span, gauge: Gauge) -> None:
        """Adds the losses of labelled predictions to the window, and drops the predictions that waited for a label in it."""
        waited = {name: self.notes.waiting[name] for name in sorted(self._placed.get((release, span.start), ()))}
        by_unit: dict[float, tuple[list[float], list[list[float]]]] = {}
        for name, one in waited.items():
            truths = [gauge.truth(label) for label in self._join.labels(name)]
            span.conflicts += len(set(truths)) > 1
            last = truths[-1] if truths else None  # the last one counts, also where it says what nothing can be compared with
            if last is not None:
                rows = by_unit.setdefault(one.unit, ([], []))
                rows[0].append(last)
                rows[1].append(one.answer)
        for unit, (said, answers) in by_unit.items():
            span.units.setdefault(unit, RunningMoments()).add(RunningMoments.of(gauge.losses(said, answers)))
        self.drop_waiting(release, span)
        span.judged = True
        held = self.notes.releases[release]
        newest = max(one.end for one in held.spans.values() if one.judged)
        oldest = newest - max(REMEMBERED_S, span.end - span.start)
        for start in [s for s, one in held.spans.items() if not one.fresh and one.end < oldest and one is not span]:
            held.judged_until = max(held.judged_until, held.spans.pop(start).end)

    def drop_waiting(self, release: str, span: Span) -> None:
        """Drops every prediction that waits for a label in this window."""
        for name in list(self._placed.get((release, span.start), ())):
            self._release(name)
        self._placed.pop((release, span.start), None)
        span.fresh = False
        if len(self.notes.waiting) < MOST_WAITING / 4 and self._numbers < MOST_NUMBERS / 4:
            self.notes.share = min(1.0, self.notes.share * 2)


def _series(name: str, column: ColumnProfile, rows: list[Prediction]) -> pl.Series:
    """A column of the log in the type that the training had."""
    values = [row.inputs.get(name) for row in rows]
    if column.edges:
        return pl.Series(name, [float(v) if isinstance(v, int | float) else None for v in values], dtype=pl.Float64)
    return pl.Series(name, [_text(v) for v in values], dtype=pl.String)


def _text(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    return None if value is None else str(value)


def _chance(name: str) -> float:
    """A number in [0, 1) that is the same for the same name."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8, person=b"watch").digest()) / 2.0**64
