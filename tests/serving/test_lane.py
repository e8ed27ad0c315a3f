"""The short way answers and records what the long way does, row for row; and a value outside the training range is marked."""

from __future__ import annotations

import asyncio
import json
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from serving_bundles import BINARY, PROJECT, RECORD, Seal, compiled
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from noria.kernel.policy import LogPolicy
from noria.kernel.task import Task
from noria.models.signature import MATRIX, Input, Kind, Signature
from noria.predictions.writer import LogReader, LogWriter, Prediction
from noria.releases.bundle import open_bundle
from noria.releases.signing import known_keys
from noria.serving import counts as counting
from noria.serving import protocol
from noria.serving.app import App, Settings
from noria.serving.counts import SharedCounters, counts_path
from noria.serving.recorder import Recorder
from noria.serving.route import Route, tally_key
from noria.serving.router import Router, table_of
from noria.serving.runtime import load

RANGED = replace(BINARY, inputs=(BINARY.inputs[0], replace(BINARY.inputs[1], low=0.0, high=6.0)))
PLAIN = Signature(RANGED.inputs, Task.BINARY, ("0", "1"))
HEADERS = [(b"host", b"127.0.0.1:1"), (b"content-type", b"application/json")]
OWN = ("id", "at", "latency_ms")  # what differs from answer to answer


Header = tuple[bytes, bytes]
Found = tuple[int, bytes, list[dict[str, Any]]]


@dataclass
class Both:
    """An application, asked the short way and the long way."""

    app: App
    log: LogReader
    counts: SharedCounters

    def short(self, body: bytes, path: str = "/predict", *more: Header) -> Found:
        reply = self.app.try_fast(path.encode(), [*HEADERS, *more], body)
        assert reply is not None
        return reply.status, reply.body, self.logged()

    def long(self, body: bytes, path: str = "/predict", *more: Header) -> Found:
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        head = [*HEADERS, *more, (b"content-length", b"%d" % len(body))]
        scope = {"type": "http", "method": "POST", "path": path, "headers": head, "client": ("127.0.0.1", 1)}
        asyncio.run(self.app(scope, receive, send))
        return sent[0]["status"], sent[1]["body"], self.logged()

    def logged(self) -> list[dict[str, Any]]:
        found = self.log.poll()
        assert all(isinstance(record, Prediction) for record in found)
        return [msgspec.structs.asdict(record) for record in found]


Make = Callable[..., Both]


def matrix(seal: Seal, scratch: Path, signature: Signature) -> str:
    """A release that takes its inputs as one matrix."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, len(signature.inputs)))
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(x, x[:, 0] + x[:, 1] > 0)
    types = [(MATRIX, FloatTensorType([None, len(signature.inputs)]))]
    proto = to_onnx(model, initial_types=types, options={id(model[-1]): {"zipmap": False}}, target_opset=18)
    scratch.mkdir(parents=True)
    folder = scratch / "matrix"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(proto.SerializeToString())
    facts = {"form": "compiled", "signature": signature, "model": {"file": "model.onnx", "runtime": "onnx"}}
    return seal.seal(folder, facts)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Make]:
    writers = []

    def make(signature: Signature, policy: LogPolicy | None = None, release: Callable[..., str] = compiled) -> Both:
        state = tmp_path_factory.mktemp("state")
        seal = Seal(state)
        digest = release(seal, state / "scratch", signature=signature)
        loaded = asyncio.run(load(open_bundle(state / "releases" / digest, known_keys(state), digest), None))
        path = counts_path(state, "production")
        counting.create(path)
        counts = SharedCounters(path, 0)
        writer = LogWriter(state / "log", "production")
        writers.append(writer)
        recorder = Recorder(writer, policy, counts, b"secret") if policy else Recorder(writer)
        app = App(Settings("production"), Router(counts, lambda digest, text: None), recorder, counts)
        app.table = table_of(Route(PROJECT, "production", 1, digest, "v1"), {digest: loaded})
        return Both(app, LogReader(state / "log"), counts)

    yield make
    for writer in writers:
        writer.close()


ROW = st.fixed_dictionaries(
    {"carrier": st.sampled_from(["AA", "UA", "a:b", "Zürich", "", None]), "distance": st.floats(0, 6) | st.integers(-2, 9)},
    optional={"flight_id": st.sampled_from([None, "f1", 7]), "time_hour": st.sampled_from([None, "2026-11-21T08:00:00+00:00"])},
)


def test_both_ways_answer_and_record_alike(both: Make) -> None:
    asked = {signature: both(signature) for signature in (RANGED, PLAIN)}

    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(ROW | st.lists(ROW, min_size=1, max_size=9), st.booleans())
    def agree(value: Any, keyed: bool) -> None:
        rows = value if isinstance(value, list) else [value]
        if not keyed:
            for row in rows:
                row.pop("flight_id", None), row.pop("time_hour", None)
        body = json.dumps(value, ensure_ascii=False).encode()
        short, long = asked[RANGED if keyed else PLAIN].short(body), asked[RANGED if keyed else PLAIN].long(body)
        assert [name for name, *_ in map(list, short[2])]
        for status, text, records in (short, long):
            said = json.loads(text)
            assert status == 200
            assert [p["id"] for p in said["predictions"]] == [r["id"] for r in records]
            assert [r["inputs"] for r in records] == [{"carrier": row["carrier"], "distance": row["distance"]} for row in rows]
            assert [r["key"] for r in records] == [None if (k := row.get("flight_id")) is None else str(k) for row in rows]
            outside = [["distance"] if not 0 <= row["distance"] <= 6 else None for row in rows]
            assert [p.get("outside") for p in said["predictions"]] == outside
        assert bare(short) == bare(long)

    agree()


def bare(found: Found) -> Any:
    said, records = json.loads(found[1]), found[2]
    answers = [{k: v for k, v in row.items() if k != "id"} for row in said["predictions"]]
    return answers, said["release"], said["variant"], [{k: v for k, v in r.items() if k not in OWN} for r in records]


def test_both_ways_count_alike(both: Make) -> None:
    found = both(RANGED)
    body = json.dumps([RECORD, {**RECORD, "distance": 99.0}]).encode()
    calls: tuple[Callable[[bytes], Found], ...] = (found.short, found.long)
    for call in calls:
        call(json.dumps([RECORD] * 3).encode())
        call(body)
    counts = found.counts
    assert (counts.codes()[200], counts.rows(), counts.variants()["champion"], counts.rows_outside()) == (4, 10, 4, 2)
    assert counts.tallies()[tally_key(PROJECT, 1)][0].requests == 4


@pytest.mark.parametrize("policy", [LogPolicy(redact=("carrier",)), LogPolicy(sample=0.5)], ids=["redacted", "sampled"])
def test_a_policy_of_the_log_holds_the_short_way_too(both: Make, policy: LogPolicy) -> None:
    found = both(PLAIN, policy)
    _, text, records = found.short(json.dumps([RECORD] * 60).encode())
    assert len(json.loads(text)["predictions"]) == 60
    if policy.redact:
        assert {tuple(r["inputs"]) for r in records} == {("distance",)}
    else:
        assert 5 < len(records) < 55


@pytest.mark.parametrize("body", [b"", b"{", b'{"carrier": "AA"}', b'{"carrier": "AA", "distance": 1e300}', b'[{"carrier": 1}]'])
def test_what_is_wrong_is_said_in_the_same_words(both: Make, body: bytes) -> None:
    found = both(BINARY)
    quick = found.app.try_fast(b"/predict", HEADERS, body)
    status, text, _ = found.long(body)
    assert quick is None or (quick.status, quick.body) == (status, text)
    assert status in (400, 422)


def v2(rows: list[Any], binary: bool, **more: Any) -> tuple[bytes, list[Header]]:
    """An infer request; in binary form the numbers follow the JSON."""
    carriers, distances = [row["carrier"] or "" for row in rows], [float(row["distance"]) for row in rows]
    inputs: list[dict[str, Any]] = [
        {"name": "carrier", "shape": [len(rows)], "datatype": "BYTES", "data": carriers},
        {"name": "distance", "shape": [len(rows)], "datatype": "FP64", "data": distances},
    ]
    raw = b"".join(struct.pack("<d", value) for value in distances)
    if binary:
        inputs[1] = {k: v for k, v in inputs[1].items() if k != "data"} | {"parameters": {"binary_data_size": len(raw)}}
        more |= {"outputs": [{"name": "probability", "parameters": {"binary_data": True}}, {"name": "prediction"}]}
    text = json.dumps({"inputs": inputs, **more}).encode()
    return (text + raw, [(b"inference-header-content-length", b"%d" % len(text))]) if binary else (text, [])


def test_the_inference_protocol_has_a_short_way_too(both: Make) -> None:
    asked = both(RANGED)

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(ROW, min_size=1, max_size=5), st.booleans())
    def agree(rows: list[Any], binary: bool) -> None:
        body, headers = v2(rows, binary, id="mine")
        path = f"/v2/models/{PROJECT}/infer"
        (status, short, records), (other, long, wanted) = asked.short(body, path, *headers), asked.long(body, path, *headers)
        assert (status, other) == (200, 200)
        assert records[0]["id"].encode() in short
        assert re.sub(rb"p-[-0-9a-f]+", b"", short) == re.sub(rb"p-[-0-9a-f]+", b"", long)
        assert [{k: v for k, v in r.items() if k not in OWN} for r in records] == [
            {k: v for k, v in r.items() if k not in OWN} for r in wanted
        ]
        outside = [f"{i}:distance" for i, row in enumerate(rows) if not 0 <= row["distance"] <= 6]
        head, _ = json.JSONDecoder().raw_decode(short.decode("latin-1"))
        assert head["parameters"].get("outside", "") == ",".join(outside)

    agree()
    for body in (b"{", b"{}", v2([RECORD], False)[0].replace(b"FP64", b"FP65")):
        assert asked.short(body, f"/v2/models/{PROJECT}/infer")[:2] == asked.long(body, f"/v2/models/{PROJECT}/infer")[:2]


MATRIX_SIGNATURE = Signature(
    (Input("a", Kind.NUMBER, True, -5.0, 5.0), Input("b", Kind.NUMBER)), Task.BINARY, ("no", "yes"), "key"
)
CELL = st.floats(-6, 0) | st.integers(-5, 1) | st.sampled_from([-1.0, -0.3, 0.1]) | st.sampled_from([-2, 6.5, 1e300, 3.4e38])


def test_a_matrix_of_numbers_has_its_own_lane(both: Make) -> None:
    asked = both(MATRIX_SIGNATURE, release=matrix)
    path = f"/v2/models/{PROJECT}/infer"
    took: list[int] = []
    own = asked.app._fast_path.read_infer  # type: ignore[union-attr]  # the short way inside the short way

    def noted(body: bytes) -> Any:
        found = own(body)
        took.append(found is not None)
        return found

    asked.app._fast_path.read_infer = noted  # type: ignore[union-attr, method-assign]

    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(
        st.lists(st.tuples(CELL, CELL), min_size=1, max_size=5),
        st.sampled_from(["FP64", "FP32"]),
        st.fixed_dictionaries({}, optional={"id": st.text(max_size=3), "outputs": st.sampled_from([
            [], [{"name": "probability"}], [{"name": "probability"}, {"name": "prediction"}], [{"name": "?"}],
        ])}),
        st.sampled_from(["x", "x", "x", "a:b", "a", "key"]),
        st.sampled_from([0, 0, 0, 0, -1, 1]),
    )  # fmt: skip
    def agree(rows: list[tuple[float, float]], datatype: str, more: dict[str, Any], name: str, off: int) -> None:
        data = [value for row in rows for value in row]
        tensor = {"name": name, "shape": [len(rows) + off, 2], "datatype": datatype, "data": data}
        body = json.dumps({"inputs": [tensor], **more}, ensure_ascii=False).encode("utf-8", "surrogatepass")
        short, long = asked.short(body, path), asked.long(body, path)
        assert short[0] == long[0]
        assert re.sub(rb"p-[-0-9a-f]+", b"", short[1]) == re.sub(rb"p-[-0-9a-f]+", b"", long[1])
        assert [{k: v for k, v in r.items() if k not in OWN} for r in short[2]] == [
            {k: v for k, v in r.items() if k not in OWN} for r in long[2]
        ]

    agree()
    assert 20 < sum(took) < len(took)  # both ways were gone


@given(
    st.lists(st.none() | st.integers(-5, 5) | st.floats(-5, 5), min_size=1, max_size=8),
    st.floats(-3, 0),
    st.floats(0, 3),
)
def test_a_row_is_marked_when_a_value_lies_outside(values: list[Any], low: float, high: float) -> None:
    signature = Signature((Input("x", Kind.NUMBER, True, low, high), Input("y", Kind.NUMBER)), Task.REGRESSION)
    wanted = {i: ["x"] for i, v in enumerate(values) if v is not None and (v < low or v > high)}
    assert protocol.outside(signature, {"x": values, "y": [1e9] * len(values)}) == wanted
