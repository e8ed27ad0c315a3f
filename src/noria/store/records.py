"""What the prediction log holds: predictions and what came back for them, each one MessagePack map."""

from __future__ import annotations

from typing import Any

import msgspec

from noria.store.segments import FRAME, frame_end, pack


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


class Feedback(msgspec.Struct, tag="feedback", tag_field="record", frozen=True):
    """A label for a prediction, by its id or by the entity's key."""

    at: float
    project: str
    label: float | str | bool
    id: str | None = None
    key: str | None = None
    kind: str = "label"


Record = Prediction | Feedback
_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Prediction | Feedback] = msgspec.msgpack.Decoder(Prediction | Feedback)


def frame(record: Record) -> bytes:
    """A record as it stands in a segment."""
    return pack(_encoder.encode(record))


def decode(data: bytes, found: list[Record], *, at: int = 0, most: int | None = None) -> int:
    """Add the records of whole frames from ``at`` on to ``found``, at most ``most``; where the first one begins that was not
    read."""
    left = len(data) if most is None else most
    while left and (end := frame_end(data, at)) is not None:
        try:
            found.append(_decoder.decode(data[at + FRAME.size : end]))
        except msgspec.DecodeError:
            return at  # whole, and not a record that this Noria knows
        at, left = end, left - 1
    return at
