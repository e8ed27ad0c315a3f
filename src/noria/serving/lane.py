"""The short way through routing, model, log and counters, for the state that lasts: a champion alone, compiled, recorded in full.

It does what `Router`, `Recorder` and `App` do together, in a third of the calls, or nothing at all: what is unusual or fails is
left to them, who know what to say. What it answers and records is what they would have; a test holds it to that.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec

from noria.errors import SignatureError
from noria.serving import protocol
from noria.serving.counts import Counts
from noria.serving.http import JSON, Reply
from noria.serving.recorder import Recorder, moment
from noria.serving.router import RouteTable
from noria.serving.runtime import INLINE_ROWS, OnnxRuntime, ReleaseFailed
from noria.store.predictions import Prediction, Predictions

_encode = msgspec.json.Encoder().encode
_monotonic = time.monotonic


def lane(table: RouteTable, recorder: Recorder, counts: Counts) -> Lane | None:
    """The lane of a route; None where each request needs a closer look."""
    champion = table.champion
    if table.route is None or champion is None or table.candidate is not None or table.reader is None or not recorder.plain:
        return None
    return Lane(table, recorder, counts) if isinstance(champion.runtime, OnnxRuntime) else None


class Lane:
    """Bytes of a body in, the reply out."""

    def __init__(self, table: RouteTable, recorder: Recorder, counts: Counts) -> None:
        assert table.route is not None
        assert table.champion is not None
        assert table.reader is not None
        assert isinstance(table.champion.runtime, OnnxRuntime)
        route, signature = table.route, table.champion.signature
        self._rows, self._answer = table.reader.rows, table.champion.runtime.rows
        self._put, self._take = recorder.put, recorder.ids.take
        self._counts = counts
        self._route = route
        self._names = [i.name for i in signature.inputs]
        self._outputs = protocol.answerer(signature)
        self._key = table.reader.place(signature.key)
        self._event_time = table.reader.place(signature.event_time)
        self._more = self._key is not None or self._event_time is not None
        self._end = b'],"release":%s,"variant":"champion"}' % _encode(route.champion_version)

    def answer(self, body: bytes, admit: Callable[[], None] | None = None) -> Reply | None:
        """None: not here. ``admit`` is called once it is clear that it is. Raises DiskFullError, StoreError when it cannot be
        recorded, and what ``admit`` raises."""
        rows = self._rows(body)
        if rows is None or len(rows) > INLINE_ROWS:
            return None
        keys = times = None
        try:
            if self._more:
                keys, times = self._keys(rows), self._times(rows)
                width = len(self._names)
                rows = [row[:width] for row in rows]
            if admit is not None:
                admit()
            started = _monotonic()
            answers = self._answer(rows)
        except (ReleaseFailed, SignatureError):
            return None
        seconds = _monotonic() - started
        outputs = self._outputs(answers)
        if len(rows) == 1:
            text = self._one(rows[0], outputs[0], seconds, keys, times)
        else:
            text = self._several(rows, outputs, seconds, keys, times)
        counts, route = self._counts, self._route
        counts.tally(route.revision, False, False, seconds * 1000 > route.slow_ms)
        counts.predicted("champion", len(rows), seconds)
        return Reply(200, text, JSON, (), (len(rows), route.champion_version, "champion"))

    def _one(self, row: Any, output: dict[str, Any], seconds: float, keys: Any, times: Any) -> bytes:
        at, route = moment(), self._route
        (name,) = self._take(at, 1)
        record = Prediction(
            name,
            at,
            route.project,
            route.champion_version,
            "champion",
            route.rollout_id,
            dict(zip(self._names, row, strict=True)),
            output,
            None if keys is None else keys[0],
            None if times is None else times[0],
            seconds * 1000,
        )
        self._put(record, 1)
        return b'{"predictions":[' + _encode({"id": name, **output}) + self._end

    def _several(self, rows: list[Any], outputs: list[dict[str, Any]], seconds: float, keys: Any, times: Any) -> bytes:
        at, route = moment(), self._route
        ids = self._take(at, len(rows))
        record = Predictions(
            ids[0],
            len(rows),
            at,
            route.project,
            route.champion_version,
            "champion",
            route.rollout_id,
            dict(zip(self._names, zip(*rows, strict=True), strict=True)),
            {name: [output[name] for output in outputs] for name in outputs[0]},
            seconds * 1000,
            keys,
            times,
        )
        self._put(record, len(rows))
        named = [{"id": name, **output} for name, output in zip(ids, outputs, strict=True)]
        return b'{"predictions":' + _encode(named)[:-1] + self._end

    def _keys(self, rows: list[Any]) -> list[str | None] | None:
        return None if self._key is None else [protocol.key_text(_given(row[self._key]), "key") for row in rows]

    def _times(self, rows: list[Any]) -> list[str | None] | None:
        at = self._event_time
        return None if at is None else [protocol.time_text(_given(row[at]), "event time") for row in rows]


def _given(value: Any) -> Any:
    return None if value is msgspec.UNSET else value
