"""The fast path through routing, model, log and counters, for the usual state: a compiled champion alone, recorded in full.

It does what `Router`, `Recorder` and `App` do together, in a third of the calls, or nothing at all: unusual or failing requests
are left to them. What it answers and records is what they would have; a test holds it to that. Several requests go step by step:
all are computed before the first is recorded.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Sequence
from operator import le
from typing import Any, Literal

import msgspec
import numpy as np

from noria.kernel.errors import NoriaError, SignatureError
from noria.models.signature import Kind
from noria.predictions.records import ids_from
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
    """Returns the fast path of a route; None when its requests need the normal path."""
    champion = table.champion
    if table.route is None or champion is None or table.candidate is not None or table.reader is None or not recorder.records_all:
        return None
    if not isinstance(champion.runtime, OnnxRuntime):
        return None
    numbers = champion.runtime.matrix and all(i.kind is Kind.NUMBER for i in champion.signature.inputs)
    return MatrixFastPath(table, recorder, counts) if numbers else FastPath(table, recorder, counts)


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


class Asked(msgspec.Struct, gc=False):
    """A request that the fast path read, and what became of it."""

    rows: int
    table: Any  # what the model is asked
    columns: dict[str, Any]  # for the log: of one row its values, of several lists of them
    keys: list[str | None] | None = None
    times: list[str | None] | None = None
    infer: _Infer | None = None  # of the Open Inference Protocol
    answers: list[Any] = []
    seconds: float = 0.0
    outputs: dict[str, list[Any]] = {}
    id: str = ""  # of its first row


Outcome = Reply | NoriaError | None  # None: not here; an error: it could not be recorded


class FastPath:
    """Turns the bytes of a request body into the reply."""

    def __init__(self, table: RouteTable, recorder: Recorder, counts: SharedCounters) -> None:
        assert table.route is not None
        assert table.champion is not None
        assert table.reader is not None
        assert isinstance(table.champion.runtime, OnnxRuntime)
        route, signature = table.route, table.champion.signature
        self._rows, self._answer = table.reader.rows, table.champion.runtime.rows
        self._put, self._take = recorder.record_each, recorder.ids.take_one
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

    def read(self, body: bytes) -> Asked | None:
        """A request of `/predict`; None: not here."""
        rows = self._rows(body)
        if rows is None or len(rows) > INLINE_ROWS:
            return None
        keys = times = None
        if self._more:
            try:
                keys, times = self._keys(rows), self._times(rows)
            except SignatureError:
                return None
            width = len(self._names)
            rows = [row[:width] for row in rows]
        values = rows[0] if len(rows) == 1 else zip(*rows, strict=True)
        return Asked(len(rows), rows, dict(zip(self._names, values, strict=True)), keys, times)

    def read_infer(self, body: bytes) -> Asked | None:
        """A request of the Open Inference Protocol: not here."""
        return None

    def answer(self, asked: Asked) -> Reply | None:
        """None: not here. Raises DiskFullError, StoreError when it cannot be recorded."""
        (found,) = self.answer_all([asked])
        if isinstance(found, NoriaError):
            raise found
        return found

    def answer_all(self, several: Sequence[Asked]) -> list[Outcome]:
        """All are computed, then all recorded in one write, and counted: the next of the same is quicker than the first."""
        ran = [asked for asked in several if self._ran(asked)]
        errors = self._put([(self._record(asked), asked.rows) for asked in ran])
        for asked, error in zip(ran, errors, strict=True):
            if error is None:
                self._count(asked.rows, asked.seconds)
        done = iter([error or self._reply(asked) for asked, error in zip(ran, errors, strict=True)])
        return [next(done) if asked.outputs else None for asked in several]

    def _reply(self, asked: Asked) -> Outcome:
        return Reply(200, self._write_reply(asked), JSON, (), (asked.rows, self._version, "champion"))

    def _ran(self, asked: Asked) -> bool:
        started = _monotonic()
        try:
            answers = self._run(asked)
        except ReleaseFailed:
            return False
        asked.seconds = _monotonic() - started
        asked.answers, asked.outputs = answers, self._outputs(answers)
        return True

    def _run(self, asked: Asked) -> list[Any]:
        return self._answer(asked.table)

    def _count(self, rows: int, seconds: float) -> None:
        counts, route = self._counts, self._route
        counts.count_arm(self._tally_key, self._judged, False, seconds * 1000 > route.slow_ms)
        counts.count_prediction("champion", rows, seconds)

    def _record(self, asked: Asked) -> Prediction | Predictions:
        at, route = moment(), self._route
        asked.id = self._take(at)
        if asked.rows > 1:
            return Predictions(
                asked.id,
                asked.rows,
                at,
                route.project,
                self._version,
                "champion",
                route.rollout_id,
                asked.columns,
                asked.outputs,
                asked.seconds * 1000,
                asked.keys,
                asked.times,
            )
        return Prediction(
            asked.id,
            at,
            route.project,
            self._version,
            "champion",
            route.rollout_id,
            asked.columns,
            {name: values[0] for name, values in asked.outputs.items()},
            None if asked.keys is None else asked.keys[0],
            None if asked.times is None else asked.times[0],
            asked.seconds * 1000,
        )

    def _write_reply(self, asked: Asked) -> bytes:
        names, ids = ("id", *asked.outputs), [asked.id] if asked.rows == 1 else ids_from(asked.id, asked.rows)
        named = [dict(zip(names, row, strict=True)) for row in zip(ids, *asked.outputs.values(), strict=True)]
        return b'{"predictions":' + _encode(named)[:-1] + self._end

    def _keys(self, rows: list[Any]) -> list[str | None] | None:
        return None if self._key is None else [protocol.key_text(_unset_to_none(row[self._key]), "key") for row in rows]

    def _times(self, rows: list[Any]) -> list[str | None] | None:
        at = self._event_time
        return None if at is None else [protocol.time_text(_unset_to_none(row[at]), "event time") for row in rows]


class MatrixFastPath(FastPath):
    """The same for the Open Inference Protocol, where all inputs are numbers."""

    def __init__(self, table: RouteTable, recorder: Recorder, counts: SharedCounters) -> None:
        super().__init__(table, recorder, counts)
        assert table.champion is not None
        assert isinstance(table.champion.runtime, OnnxRuntime)
        signature = table.champion.signature
        self._taken = {n for n in (*self._names, signature.key, signature.event_time) if n}
        self._tensors = {output.name: output for output in v2_messages.outputs_of(signature)}
        bounds = [(-SINGLE_MAX if i.low is None else i.low, SINGLE_MAX if i.high is None else i.high) for i in signature.inputs]
        self._lows, self._highs = [max(low, -SINGLE_MAX) for low, _ in bounds], [min(high, SINGLE_MAX) for _, high in bounds]
        self._low, self._high = np.array(self._lows), np.array(self._highs)
        self._compute = table.champion.runtime.matrix_rows

    def read_infer(self, body: bytes) -> Asked | None:
        request = self._read(body)
        if request is None:
            return None
        (given,), (rows, width) = request.inputs, request.inputs[0].shape
        values = given.data
        if rows == 1 and given.datatype == "FP64":
            if not (all(map(le, self._lows, values)) and all(map(le, values, self._highs))):
                return None  # to be marked, or refused
            return Asked(1, np.array([values], dtype=np.float32), dict(zip(self._names, values, strict=True)), infer=request)
        wide = np.frombuffer(struct.pack(f"{len(values)}d", *values)).reshape(rows, width)  # a third of what np.array takes
        if self._is_outside(wide):
            return None
        table = wide.astype(np.float32)
        if given.datatype == "FP32":  # JSON has more digits than it keeps
            wide = table.astype(np.float64)
            values = wide.ravel().tolist()
            if self._is_outside(wide):
                return None
        if rows == 1:
            return Asked(1, table, dict(zip(self._names, values, strict=True)), infer=request)
        return Asked(rows, table, {name: values[i::width] for i, name in enumerate(self._names)}, infer=request)

    def _run(self, asked: Asked) -> list[Any]:
        return self._answer(asked.table) if asked.infer is None else self._compute(asked.table)

    def _is_outside(self, wide: Any) -> bool:
        """Whether a number lies outside what training saw, or beyond float32."""
        return bool(((wide < self._low) | (wide > self._high)).any())

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

    def _write_reply(self, asked: Asked) -> bytes:
        request = asked.infer
        if request is None:
            return super()._write_reply(asked)
        wanted = self._tensors if request.outputs is None else {output.name for output in request.outputs}
        found = [
            v2_messages.tensor(output, asked.outputs, asked.answers) for name, output in self._tensors.items() if name in wanted
        ]
        ids = [asked.id] if asked.rows == 1 else ids_from(asked.id, asked.rows)
        return v2_messages.message(self._route.project, self._version, "champion", request.id, ids, found)


def _unset_to_none(value: Any) -> Any:
    return None if value is msgspec.UNSET else value
