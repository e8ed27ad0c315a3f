"""The short way through routing, model, log and counters, for the state that lasts: a champion alone, compiled, recorded in full.

It does what `Router`, `Recorder` and `App` do together, in a third of the calls, or nothing at all: what is unusual or fails is
left to them, who know what to say. What it answers and records is what they would have; a test holds it to that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import msgspec
import numpy as np

from noria.kernel.errors import SignatureError
from noria.models.signature import Kind
from noria.predictions.writer import Prediction, Predictions
from noria.serving import protocol, v2_messages
from noria.serving.counts import SharedCounters
from noria.serving.http import JSON, Reply
from noria.serving.protocol import SINGLE_MAX
from noria.serving.recorder import Recorder, moment
from noria.serving.router import RouteTable
from noria.serving.runtime import INLINE_ROWS, OnnxRuntime, ReleaseFailed

_encode = msgspec.json.Encoder().encode
_monotonic = time.monotonic


def fast_path(table: RouteTable, recorder: Recorder, counts: SharedCounters) -> FastPath | None:
    """The lane of a route; None where each request needs a closer look."""
    champion = table.champion
    if table.route is None or champion is None or table.candidate is not None or table.reader is None or not recorder.plain:
        return None
    if not isinstance(champion.runtime, OnnxRuntime):
        return None
    numbers = champion.runtime.matrix and all(i.kind is Kind.NUMBER for i in champion.signature.inputs)
    return MatrixFastPath(table, recorder, counts) if numbers else FastPath(table, recorder, counts)


class FastPath:
    """Bytes of a body in, the reply out."""

    def __init__(self, table: RouteTable, recorder: Recorder, counts: SharedCounters) -> None:
        assert table.route is not None
        assert table.champion is not None
        assert table.reader is not None
        assert isinstance(table.champion.runtime, OnnxRuntime)
        route, signature = table.route, table.champion.signature
        self._rows, self._answer = table.reader.rows, table.champion.runtime.rows
        self._run = table.champion.runtime.matrix_rows
        self._put, self._take = recorder.put, recorder.ids.take
        self._counts = counts
        self._route, self._version, self._tally_key = route, route.champion_version, route.tally_key
        self._names = [i.name for i in signature.inputs]
        self._outputs = protocol.answerer(signature)
        self._key = table.reader.place(signature.key)
        self._event_time = table.reader.place(signature.event_time)
        more = table.also - {i.name for i in signature.inputs}  # columns that are accepted and not read
        self._more = self._key is not None or self._event_time is not None or bool(more)
        self._judged = table.probation  # its requests are the candidate's arm
        self._end = b'],"release":%s,"variant":"champion"}' % _encode(route.champion_version)

    def infer(self, body: bytes, admit: Callable[[], None] | None = None) -> Reply | None:
        """The same for an infer request of the Open Inference Protocol: not here."""
        return None

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
            text = self._one(rows[0], {name: values[0] for name, values in outputs.items()}, seconds, keys, times)
        else:
            text = self._several(rows, outputs, seconds, keys, times)
        self._count(len(rows), seconds)
        return Reply(200, text, JSON, (), (len(rows), self._version, "champion"))

    def _count(self, rows: int, seconds: float) -> None:
        counts, route = self._counts, self._route
        counts.tally(self._tally_key, self._judged, False, seconds * 1000 > route.slow_ms)
        counts.predicted("champion", rows, seconds)

    def _one(self, row: Any, output: dict[str, Any], seconds: float, keys: Any, times: Any) -> bytes:
        at, route = moment(), self._route
        (name,) = self._take(at, 1)
        record = Prediction(
            name,
            at,
            route.project,
            self._version,
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

    def _several(self, rows: list[Any], outputs: dict[str, list[Any]], seconds: float, keys: Any, times: Any) -> bytes:
        columns = dict(zip(self._names, zip(*rows, strict=True), strict=True))
        ids = self._recorded(columns, outputs, seconds, keys, times)
        names = ("id", *outputs)
        named = [dict(zip(names, row, strict=True)) for row in zip(ids, *outputs.values(), strict=True)]
        return b'{"predictions":' + _encode(named)[:-1] + self._end

    def _recorded(
        self,
        columns: Mapping[str, Sequence[Any]],
        outputs: dict[str, list[Any]],
        seconds: float,
        keys: Any = None,
        times: Any = None,
    ) -> list[str]:
        at, route = moment(), self._route
        ids = self._take(at, len(outputs["prediction"]))
        record = Predictions(
            ids[0],
            len(ids),
            at,
            route.project,
            self._version,
            "champion",
            route.rollout_id,
            columns,
            outputs,
            seconds * 1000,
            keys,
            times,
        )
        self._put(record, len(ids))
        return ids

    def _keys(self, rows: list[Any]) -> list[str | None] | None:
        return None if self._key is None else [protocol.key_text(_unset_to_none(row[self._key]), "key") for row in rows]

    def _times(self, rows: list[Any]) -> list[str | None] | None:
        at = self._event_time
        return None if at is None else [protocol.time_text(_unset_to_none(row[at]), "event time") for row in rows]


class _Matrix(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    name: str
    shape: tuple[int, int]
    datatype: Literal["FP32", "FP64"]
    data: list[float]


class _WantedColumns(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    name: str


class _Infer(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """An inference request of one matrix of numbers, flat, in JSON: what clients of other servers send most."""

    inputs: tuple[_Matrix]
    id: str | None = None
    outputs: list[_WantedColumns] | None = None


_infer = msgspec.json.Decoder(_Infer).decode


class MatrixFastPath(FastPath):
    """The same for the Open Inference Protocol, where all inputs are numbers."""

    def __init__(self, table: RouteTable, recorder: Recorder, counts: SharedCounters) -> None:
        super().__init__(table, recorder, counts)
        assert table.champion is not None
        signature = table.champion.signature
        self._taken = {n for n in (*self._names, signature.key, signature.event_time) if n}
        self._tensors = {output.name: output for output in v2_messages.outputs_of(signature)}
        bounds = [(-SINGLE_MAX if i.low is None else i.low, SINGLE_MAX if i.high is None else i.high) for i in signature.inputs]
        self._low = np.array([max(low, -SINGLE_MAX) for low, _ in bounds])
        self._high = np.array([min(high, SINGLE_MAX) for _, high in bounds])

    def infer(self, body: bytes, admit: Callable[[], None] | None = None) -> Reply | None:
        """As `answer`."""
        request = self._read(body)
        if request is None:
            return None
        (given,), (rows, width) = request.inputs, request.inputs[0].shape
        wide = np.array(given.data, dtype=np.float64).reshape(rows, width)
        if self._beyond(wide):
            return None  # to be marked, or refused
        values, table = given.data, wide.astype(np.float32)
        if given.datatype == "FP32":  # JSON has more digits than it keeps
            wide = table.astype(np.float64)
            values = wide.ravel().tolist()
            if self._beyond(wide):
                return None
        if admit is not None:
            admit()
        started = _monotonic()
        try:
            answers = self._run(table)
        except ReleaseFailed:
            return None
        seconds = _monotonic() - started
        outputs = self._outputs(answers)
        ids = self._recorded({name: values[i::width] for i, name in enumerate(self._names)}, outputs, seconds)
        self._count(rows, seconds)
        return Reply(200, self._written(request, ids, outputs, answers), JSON, (), (rows, self._version, "champion"))

    def _beyond(self, wide: Any) -> bool:
        """Whether a number lies outside what training saw, or beyond float32."""
        return bool((wide < self._low).any() or (wide > self._high).any())

    def _read(self, body: bytes) -> _Infer | None:
        if b"\\" in body:
            return None
        try:
            request = _infer(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        (given,) = request.inputs
        rows, width = given.shape
        colons = 5 + given.name.count(":")
        if request.id is not None:
            colons += 1 + request.id.count(":")
        if request.outputs is not None:
            names = {output.name for output in request.outputs}
            if not names or len(names) != len(request.outputs) or not names <= self._tensors.keys():
                return None
            colons += 1 + len(names)
        sound = 0 < rows <= INLINE_ROWS and width == len(self._names) and len(given.data) == rows * width
        return request if sound and given.name not in self._taken and body.count(b":") == colons else None

    def _written(self, request: _Infer, ids: list[str], found: dict[str, list[Any]], answers: list[Any]) -> bytes:
        wanted = self._tensors if request.outputs is None else {output.name for output in request.outputs}
        outputs = [v2_messages.tensor(output, found, answers) for name, output in self._tensors.items() if name in wanted]
        return v2_messages.message(self._route.project, self._version, "champion", request.id, ids, outputs)


def _unset_to_none(value: Any) -> Any:
    return None if value is msgspec.UNSET else value
