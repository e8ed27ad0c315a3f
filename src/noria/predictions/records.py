"""What the logs hold: predictions, what came back for them, what another release would have said; each one MessagePack map."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from noria.kernel.words import plural
from noria.predictions.segments import FRAME, LONGEST, frame_end, pack


class Prediction(msgspec.Struct, tag="prediction", tag_field="record", frozen=True, omit_defaults=True):
    """One answered row. ``outputs`` holds ``prediction`` and ``probability`` or ``probabilities``."""

    id: str
    at: float  # wall time
    project: str
    release: str
    variant: str  # champion, candidate, fallback (the champion answered for the candidate), pinned (the client named it)
    rollout: str | None
    inputs: dict[str, Any]
    outputs: dict[str, Any]
    key: str | None
    event_time: str | None  # ISO 8601, as the client sent it
    latency_ms: float
    error: str | None = None
    sample: float = 1.0  # the chance that it was recorded at all: it stands for 1/sample predictions


class Predictions(msgspec.Struct, tag="predictions", tag_field="record", frozen=True, omit_defaults=True):
    """The rows of one request, column by column: one frame in place of many. ``decode`` makes a `Prediction` of each."""

    id: str  # of the first row; the others count on, see `ids_from`
    rows: int
    at: float
    project: str
    release: str
    variant: str
    rollout: str | None
    inputs: Mapping[str, Sequence[Any]]
    outputs: Mapping[str, Sequence[Any]]
    latency_ms: float
    keys: Sequence[str | None] | None = None  # None: there are none
    event_times: Sequence[str | None] | None = None
    error: str | None = None


class Feedback(msgspec.Struct, tag="feedback", tag_field="record", frozen=True):
    """A label for a prediction, by its id or by the entity's key."""

    at: float
    project: str
    label: float | str | bool
    id: str | None = None
    key: str | None = None
    kind: str = "label"


class Shadow(msgspec.Struct, tag="shadow", tag_field="record", frozen=True, omit_defaults=True):
    """What another release made of the rows of one request, after it was answered. It stands in a log of its own."""

    id: str  # of the first row's prediction; the others count on, see `ids_from`
    rows: int
    at: float  # wall time
    project: str
    rollout: str | None
    release: str  # that answered
    other: str  # that scored
    answered: Mapping[str, Sequence[Any]]  # outputs of the one that answered, column by column
    outputs: Mapping[str, Sequence[Any]]  # of the other; empty when it failed
    latency_ms: float
    other_ms: float
    error: str | None = None  # why the other failed


Record = Prediction | Feedback
Written = Prediction | Predictions | Feedback | Shadow
MARK = b"\xa6record"  # with this each record's map goes on, behind its first byte (or three, of a large one)
_TWO = [f"{n:02x}" for n in range(256)]
_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Written] = msgspec.msgpack.Decoder(Written)


def frame(record: Written) -> bytes:
    """A record as it stands in a segment."""
    return pack(_encoder.encode(record))


def decode(data: bytes, found: list[Any], *, at: int = 0, most: int | None = None) -> int:
    """Add the records of whole frames from ``at`` on to ``found``, until there are ``most`` or a frame's rows more; where the
    first frame begins that was not read. A prediction log holds each `Record`, a shadow log each `Shadow`."""
    full = sys.maxsize if most is None else len(found) + most
    while len(found) < full and (end := frame_end(data, at)) is not None:
        try:
            record = _decoder.decode(data[at + FRAME.size : end])
            if isinstance(record, Predictions):
                found.extend(list(_rows_of(record)))  # all of them or none
            else:
                found.append(record)
        except (msgspec.DecodeError, ValueError):
            return at  # whole, and not a record that this Noria knows
        at = end
    return at


class Damage(msgspec.Struct):
    """What of a log could not be read: how many stretches of bytes, and how many bytes they have."""

    places: int = 0
    size_bytes: int = 0

    def add(self, size_bytes: int, places: int = 1) -> None:
        self.places += places
        self.size_bytes += size_bytes

    @property
    def words(self) -> str:
        """``3 damaged places (412 bytes)``; empty where all could be read."""
        return f"{plural(self.places, 'damaged place')} ({self.size_bytes:,} bytes)" if self.places else ""


def decode_past(data: bytes, found: list[Any], damage: Damage, *, finished: bool, at: int = 0, most: int | None = None) -> int:
    """As ``decode``, and on behind what cannot be read, which is counted. ``finished``: nobody writes it any more, so that an
    unreadable end is damage as well, not a record that is still on its way."""
    full = sys.maxsize if most is None else len(found) + most
    while True:
        at = decode(data, found, at=at, most=full - len(found))
        if at >= len(data) or len(found) >= full:
            return at
        onward = resume(data, at)
        if onward is None and not finished:
            return at
        onward = len(data) if onward is None else onward
        damage.add(onward - at)
        at = onward


def resume(data: bytes, at: int) -> int | None:
    """Where the next whole frame begins behind the one at ``at``, which cannot be read; None when there is none."""
    end = frame_end(data, at)
    if end is None and at + FRAME.size <= len(data):
        length, _ = FRAME.unpack_from(data, at)  # mostly the payload was hit, and the length is right
        if 0 < length <= LONGEST and frame_end(data, at + FRAME.size + length) is not None:
            end = at + FRAME.size + length
    if end is not None:
        return end
    place = data.find(MARK, at + 1)
    while place >= 0:
        for head in (1, 3):
            begin = place - head - FRAME.size
            if begin > at and frame_end(data, begin) is not None:
                return begin
        place = data.find(MARK, place + 1)
    return None


def ids_from(first: str, rows: int) -> list[str]:
    """Ids that count on from the hexadecimal number, of two digits at least, that ends ``first``. Raises ValueError."""
    head, dash, number = first.rpartition("-")
    at, width = int(number, 16), len(number)
    end, found = at + rows, list[str]()
    while at < end:  # 256 at a time share all but the last two digits
        low = at & 255
        high = min(256, low + end - at)
        stem = f"{head}{dash}{at >> 8:0{max(0, width - 2)}x}" if width > 2 or at > 255 else f"{head}{dash}"
        found += [stem + two for two in _TWO[low:high]]
        at += high - low
    return found


def _rows_of(batch: Predictions) -> Iterator[Prediction]:
    """Raises ValueError when its columns are not of one length."""
    none = [None] * batch.rows
    ids, keys, times = ids_from(batch.id, batch.rows), batch.keys or none, batch.event_times or none
    inputs, outputs = _rows_from_columns(batch.inputs, batch.rows), _rows_from_columns(batch.outputs, batch.rows)
    for name, given, answered, key, when in zip(ids, inputs, outputs, keys, times, strict=True):
        yield Prediction(
            id=name,
            at=batch.at,
            project=batch.project,
            release=batch.release,
            variant=batch.variant,
            rollout=batch.rollout,
            inputs=given,
            outputs=answered,
            key=key,
            event_time=when,
            latency_ms=batch.latency_ms,
            error=batch.error,
        )


def _rows_from_columns(columns: Mapping[str, Sequence[Any]], rows: int) -> list[dict[str, Any]]:
    if not columns:
        return [{} for _ in range(rows)]
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
