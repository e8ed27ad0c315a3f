"""The Open Inference Protocol on a real server: by hand, and by clients that know nothing of Noria."""

from __future__ import annotations

import gzip
import itertools
import json
import re
import struct
import subprocess
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serving_bundles import BINARY, PROJECT, Seal, compiled, hosted, logged, pipeline
from serving_world import World

from noria.kernel.task import Task
from noria.models.signature import Input, Kind, Signature
from noria.serving.tallies import Tally

ROOT = Path(__file__).resolve().parents[2]
CLIENTS = ROOT / ".clients" / "bin" / "python"
ROWS = [["AA", 0.5], ["UA", 3.0], ["never seen", 7.25]]
HEAD = "inference-header-content-length"


def inputs(rows: list[list[Any]] = ROWS) -> list[dict[str, Any]]:
    carriers, distances = [r[0] for r in rows], [r[1] for r in rows]
    return [
        {"name": "carrier", "shape": [len(rows)], "datatype": "BYTES", "data": carriers},
        {"name": "distance", "shape": [len(rows), 1], "datatype": "FP64", "data": [[d] for d in distances]},
    ]


def binary_request(**more: Any) -> tuple[bytes, dict[str, str]]:
    texts = b"".join(struct.pack("<I", len(c)) + c.encode() for c, _ in ROWS)
    numbers = np.array([d for _, d in ROWS], dtype="<f4").tobytes()
    entries = [
        {"name": "carrier", "shape": [3], "datatype": "BYTES", "parameters": {"binary_data_size": len(texts)}},
        {"name": "distance", "shape": [3], "datatype": "FP32", "parameters": {"binary_data_size": len(numbers)}},
    ]
    head = json.dumps({"inputs": entries} | more).encode()
    return head + texts + numbers, {HEAD: str(len(head))}


WHOLE = binary_request()[0]


def expected(seed: int) -> Any:
    return pipeline(seed).predict_proba(ROWS)[:, 1]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A champion, the release before it, and no candidate."""
    folder = tmp_path_factory.mktemp("v2")
    world = World(Seal(folder / "state"), folder / "scratch")
    world.server.start({"production": ("127.0.0.1", 0)}, workers=1)
    try:
        before = compiled(world.seal, world.scratch, seed=2)
        world.serve(before, "v2")
        world.serve(compiled(world.seal, world.scratch, seed=3), "v3", previous=before, previous_version="v2")
        yield world
    finally:
        world.close()


@pytest.fixture
def client(shared: World) -> httpx.Client:
    return shared.client()


# -- who is there


def test_before_the_first_release_every_model_is_not_ready(world: World) -> None:
    client = world.client()
    assert client.get("/v2").json()["name"] == "noria"
    assert client.get("/v2/health/live").status_code == 200
    assert client.get("/v2/health/ready").json() == {"ready": False}
    for answer in (client.get("/v2/models/delays"), client.post("/v2/models/delays/infer", json={"inputs": inputs()})):
        assert answer.status_code == 503
        assert answer.json()["error"].startswith("no release yet")
        assert answer.headers["retry-after"] == "1"


def test_server_and_model_say_what_they_are(client: httpx.Client) -> None:
    assert client.get("/v2").json().keys() == {"name", "version", "extensions"}
    assert client.get("/v2/").json()["extensions"] == ["binary_tensor_data"]
    about = client.get(f"/v2/models/{PROJECT}").json()
    assert about == {
        "name": PROJECT,
        "versions": ["v3", "v2"],
        "platform": "onnx_onnxv1",
        "inputs": [
            {"name": "carrier", "datatype": "BYTES", "shape": [-1]},
            {"name": "distance", "datatype": "FP64", "shape": [-1]},
        ],
        "outputs": [
            {"name": "prediction", "datatype": "INT64", "shape": [-1]},
            {"name": "probability", "datatype": "FP64", "shape": [-1]},
        ],
        "parameters": {"task": "binary", "classes": "0,1", "nullable": "carrier", "optional": "flight_id,time_hour"},
    }
    for path in ("/versions/v3", "/versions/3", "/versions/v2/"):
        assert client.get(f"/v2/models/{PROJECT}{path}").json() == about
    for path in ("/ready", "/versions/v2/ready", "/versions/3/ready"):
        answer = client.get(f"/v2/models/{PROJECT}{path}")
        assert (answer.status_code, answer.json()) == (200, {"name": PROJECT, "ready": True})


@pytest.mark.parametrize(
    ("method", "path", "code", "words"),
    [
        ("GET", "/v2/models/other", 404, "there is no model 'other' here; there is 'delays'"),
        ("GET", "/v2/models/other/ready", 404, "no model 'other'"),
        ("POST", "/v2/models/other/infer", 404, "no model 'other'"),
        ("GET", "/v2/models/delays/versions/v9", 404, "version 'v9' of 'delays' is not resident; v3, v2 can be asked"),
        ("GET", "/v2/models/delays/versions/9/ready", 404, "version '9'"),
        ("POST", "/v2/models/delays/versions/9/infer", 404, "version '9'"),
        ("POST", "/v2/models/delays/versions/%F0%9F%92%A5/infer", 404, "is not resident"),
        ("GET", "/v2/models", 404, "no such path"),
        ("GET", "/v2/models/delays/config", 404, "no such path"),
        ("GET", "/v2/models/delays/versions", 404, "no such path"),
        ("GET", "/v2/models/delays/versions/v3/infer/x", 404, "no such path"),
        ("GET", "/v2x", 404, "no such path"),
        ("GET", "/v2/models/delays/infer", 405, "this path takes POST"),
        ("POST", "/v2/models/delays", 405, "this path takes GET, HEAD"),
        ("DELETE", "/v2", 405, "this path takes GET, HEAD"),
    ],
)
def test_what_is_not_there_is_said_in_the_protocols_form(
    client: httpx.Client, method: str, path: str, code: int, words: str
) -> None:
    answer = client.request(method, path)
    assert answer.status_code == code
    assert answer.json().keys() == {"error"}
    assert words in answer.json()["error"]


# -- inference


def test_an_answer_carries_what_the_pipeline_says_and_is_in_the_log(shared: World, client: httpx.Client) -> None:
    extra = [
        {"name": "flight_id", "shape": [3], "datatype": "INT64", "data": [7, 8, 9]},
        {"name": "time_hour", "shape": [3], "datatype": "BYTES", "data": ["2013-04-01T05:00:00Z"] * 3},
    ]
    answer = client.post(f"/v2/models/{PROJECT}/infer", json={"id": "q 1", "inputs": inputs() + extra}).json()
    prediction, probability = answer["outputs"]
    assert probability["data"] == pytest.approx(list(expected(3)), abs=1e-5)
    assert (probability["datatype"], probability["shape"]) == ("FP64", [3])
    assert prediction == {
        "name": "prediction",
        "datatype": "INT64",
        "shape": [3],
        "data": [int(p >= 0.5) for p in expected(3)],
    }
    assert (answer["model_name"], answer["model_version"], answer["id"]) == (PROJECT, "v3", "q 1")
    parameters = answer["parameters"]
    assert (parameters["release"], parameters["variant"]) == ("v3", "champion")
    ids = parameters["prediction_ids"].split(",")
    written = {r["id"]: r for r in logged(shared.state, "production")}
    assert len(ids) == 3
    for name, (carrier, distance), key, row in zip(ids, ROWS, "789", probability["data"], strict=True):
        record = written[name]
        assert record["inputs"] == {"carrier": carrier, "distance": distance}
        assert (record["key"], record["event_time"]) == (key, "2013-04-01T05:00:00Z")
        assert (record["release"], record["variant"]) == ("v3", "champion")
        assert record["outputs"]["probability"] == row


def test_a_version_is_answered_by_that_release(shared: World, client: httpx.Client) -> None:
    tallies = shared.tallies(2)
    for version, seed in (("v2", 2), ("2", 2), ("v3", 3)):
        answer = client.post(f"/v2/models/{PROJECT}/versions/{version}/infer", json={"inputs": inputs()}).json()
        assert answer["outputs"][1]["data"] == pytest.approx(list(expected(seed)), abs=1e-5)
        assert answer["model_version"] == f"v{seed}"
        assert answer["parameters"]["variant"] == "pinned"
        assert "id" not in answer
        (*_, last) = logged(shared.state, "production")
        assert (last["id"], last["release"]) == (answer["parameters"]["prediction_ids"].split(",")[-1], f"v{seed}")
    assert shared.tallies(2) == tallies  # evidence for nobody


def test_binary_data_both_ways(client: httpx.Client) -> None:
    body, headers = binary_request(parameters={"binary_data_output": True})
    answer = client.post(f"/v2/models/{PROJECT}/infer", content=body, headers=headers)
    assert answer.headers["content-type"] == "application/octet-stream"
    split = int(answer.headers[HEAD])
    head, raw = json.loads(answer.content[:split]), answer.content[split:]
    assert [o["parameters"] for o in head["outputs"]] == [{"binary_data_size": 24}] * 2
    assert "data" not in head["outputs"][0]
    assert np.frombuffer(raw[:24], "<i8").tolist() == [int(p >= 0.5) for p in expected(3)]
    assert np.frombuffer(raw[24:], "<f8").tolist() == pytest.approx(list(expected(3)), abs=1e-5)


def test_only_the_outputs_that_are_asked_for(client: httpx.Client) -> None:
    path = f"/v2/models/{PROJECT}/infer"
    wanted = [{"name": "probability", "parameters": {"binary_data": False}}]
    body = {"inputs": inputs(), "outputs": wanted, "parameters": {"binary_data_output": True}}
    (only,) = client.post(path, json=body).json()["outputs"]
    assert only["data"] == pytest.approx(list(expected(3)), abs=1e-5)
    answer = client.post(
        path, json={"inputs": inputs(), "outputs": [{"name": "probability", "parameters": {"binary_data": True}}]}
    )
    assert np.frombuffer(answer.content[int(answer.headers[HEAD]) :], "<f8").tolist() == only["data"]


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress), ("identity", bytes)])
def test_a_packed_body_is_unpacked(client: httpx.Client, encoding: str, pack: Any) -> None:
    body, headers = binary_request()
    answer = client.post(f"/v2/models/{PROJECT}/infer", content=pack(body), headers=headers | {"content-encoding": encoding})
    assert answer.status_code == 200


# -- bad input


@pytest.mark.parametrize(
    ("content", "headers", "code", "words"),
    [
        (b"", {}, 400, "the body is empty"),
        (b"{", {}, 400, "the body is not JSON"),
        (b"[]", {}, 400, "the request must be an object with inputs"),
        (b"[" * 100_000, {}, 400, "nested too deeply"),
        (b'{"inputs":[{"name":"a","name":"b"}]}', {}, 400, "'name' twice"),
        (b'{"inputs":[{"name":"distance","shape":[1],"datatype":"FP64","data":[NaN]}]}', {}, 400, "not JSON"),
        (b'{"inputs":[{"name":"distance","shape":[1],"datatype":"FP64","data":[%s]}]}' % (b"9" * 100_000), {}, 400, "not JSON"),
        (b'{"inputs":[{"name":"distance","shape":[1001],"datatype":"FP64","data":[]}]}', {}, 413, "1001 rows are more than 1000"),
        (b'{"inputs":[{"name":"distance","shape":[1],"datatype":"FP64","data":[1]}]}', {}, 400, "input 'carrier' is missing"),
        (b" " * 1_048_577, {}, 413, "exceeds 1048576 bytes"),
        (b"{}", {HEAD: "3"}, 400, "says 3 bytes; the body has 2"),
        (b"{}", {HEAD: "-1"}, 400, "must be a whole number"),
        (b"{}", {HEAD: "9" * 5000}, 400, "must be a whole number"),
        (b"{}x", {HEAD: "2"}, 400, "no inputs"),
        (b"{}", {"content-encoding": "br"}, 415, "Content-Encoding may be gzip"),
        (b"{}", {"content-encoding": "gzip"}, 400, "not what its Content-Encoding says"),
        (gzip.compress(b"{}")[:-4], {"content-encoding": "gzip"}, 400, "cut short"),
        (gzip.compress(b"{}") * 2, {"content-encoding": "gzip"}, 400, "something follows it"),
        (gzip.compress(b" " * 10_000_000), {"content-encoding": "gzip"}, 413, "unpacked body exceeds 1048576 bytes"),
    ],
    ids=itertools.count(),  # not the bodies: gzip writes the time into its own
)
def test_bad_requests_are_refused_in_the_protocols_form(
    client: httpx.Client, content: bytes, headers: dict[str, str], code: int, words: str
) -> None:
    answer = client.post(f"/v2/models/{PROJECT}/infer", content=content, headers=headers)
    assert answer.status_code == code, answer.text
    assert answer.json().keys() == {"error"}
    assert words in answer.json()["error"]


def test_several_wrong_tensors_are_named_at_once(client: httpx.Client) -> None:
    wrong = [*inputs([["AA", 1.0]]), {"name": "distence", "shape": [1], "datatype": "FP64", "data": [1]}]
    wrong[1] |= {"data": [None]}
    text = client.post(f"/v2/models/{PROJECT}/infer", json={"inputs": wrong}).json()["error"]
    assert "input 'distance', row 0, must not be null" in text
    assert "'distence' is not an input; did you mean 'distance'?" in text
    assert "carrier (string), distance (number)" in text


def test_foreign_hosts_hear_it_in_the_protocols_form(client: httpx.Client) -> None:
    answer = client.get("/v2", headers={"host": "evil.example"})
    assert answer.status_code == 403
    assert "another server" in answer.json()["error"]


PIECE = st.sampled_from(
    [
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b'"inputs":',
        b'"name":"distance"',
        b'"shape":[1]',
        b'"datatype":"FP64"',
        b'"data":[1]',
        b"null",
    ]
)
FIELD = st.binary(max_size=30) | st.integers(-5, 300).map(lambda n: str(n).encode())


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    body=st.binary(max_size=100)
    | st.lists(PIECE, max_size=12).map(b"".join)
    | st.integers(0, 400).map(lambda n: WHOLE[:n] + WHOLE),
    length=st.none() | FIELD,
    encoding=st.none() | st.sampled_from(["gzip", "deflate", "identity", "br", ""]),
)
def test_no_body_of_any_kind_is_an_error_of_ours(
    client: httpx.Client, body: bytes, length: bytes | None, encoding: str | None
) -> None:
    headers = [(k, v) for k, v in ((HEAD, length), ("content-encoding", encoding)) if v is not None]
    try:
        answer = client.post(f"/v2/models/{PROJECT}/infer", content=body, headers=headers)
    except httpx.LocalProtocolError:
        return  # a header that the client itself does not send
    assert answer.status_code in (200, 400, 413, 415), answer.text
    if answer.status_code != 200 and answer.headers["content-type"] == "application/json":
        assert isinstance(answer.json()["error"], str)


# -- routing, tasks, forms


def test_a_candidate_gets_its_share_and_the_champion_stands_behind_it(world: World) -> None:
    champion = compiled(world.seal, world.scratch)
    broken = hosted(world.seal, world.scratch)  # raises for carriers that it does not know
    revision = world.serve(champion, candidate=broken, candidate_version="v2", share=1.0).applied["production"]
    path, client = f"/v2/models/{PROJECT}/infer", world.client()
    good, bad = inputs([["AA", 3.5]]), inputs([["XX", 3.5]])
    for entries, release, variant in ((good, "v2", "candidate"), (bad, "v1", "fallback")):
        answer = client.post(path, json={"inputs": entries}).json()
        assert (answer["model_version"], answer["parameters"]["variant"]) == (release, variant)
    pinned = client.post(f"/v2/models/{PROJECT}/versions/2/infer", json={"inputs": bad})
    assert (pinned.status_code, pinned.json()["error"]) == (503, "release v2 could not answer this request")
    tally = world.tallies(revision).candidate
    assert (tally.requests, tally.errors) == (2, 1)
    assert world.tallies(revision).champion == Tally()


def test_a_candidate_may_take_more_than_the_champion(world: World) -> None:
    wider = Signature((*BINARY.inputs, Input("wind", Kind.NUMBER)), Task.BINARY, ("0", "1"))
    champion = compiled(world.seal, world.scratch)
    candidate = compiled(world.seal, world.scratch, seed=5, signature=wider)
    world.serve(champion, candidate=candidate, candidate_version="v2", share=1.0)
    path, client = f"/v2/models/{PROJECT}", world.client()
    wind = {"name": "wind", "shape": [3], "datatype": "FP32", "data": [3, None, 4.5]}
    for entries, variant in ((inputs(), "fallback"), ([*inputs(), wind], "candidate")):
        assert client.post(f"{path}/infer", json={"inputs": entries}).json()["parameters"]["variant"] == variant
    assert "'wind' is not an input" in client.post(f"{path}/versions/1/infer", json={"inputs": [*inputs(), wind]}).json()["error"]
    assert client.post(f"{path}/versions/2/infer", json={"inputs": [*inputs(), wind]}).status_code == 200
    assert len(client.get(f"{path}/versions/2").json()["inputs"]) == 3


def test_regression_answers_one_tensor(world: World) -> None:
    world.serve(compiled(world.seal, world.scratch, seed=4, signature=Signature(BINARY.inputs, Task.REGRESSION)))
    (output,) = world.client().post(f"/v2/models/{PROJECT}/infer", json={"inputs": inputs()}).json()["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("prediction", "FP64", [3])
    assert output["data"] == pytest.approx(pipeline(4, regression=True).predict(ROWS).tolist(), abs=1e-4)


def test_openapi_lists_the_paths(client: httpx.Client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    model = "/v2/models/{model}"
    assert {"/v2", "/v2/health/live", "/v2/health/ready", model, f"{model}/ready", f"{model}/infer"} <= paths.keys()
    assert f"{model}/versions/{{version}}/infer" in paths


def test_the_examples_of_the_docs_are_answered(client: httpx.Client) -> None:
    page = (ROOT / "docs" / "serving.md").read_text()
    examples = re.findall(r"curl -s http://127.0.0.1:8000(\S+) -d '(.*?)'", page, re.S)
    assert len(examples) == 7
    for path, body in examples:
        answer = client.post(path, content=body.encode())
        assert answer.status_code == (202 if path == "/feedback" else 200), answer.text


# -- clients that know nothing of Noria


@pytest.mark.parametrize("name", ["tritonclient", "kserve"])
def test_unmodified_clients_work(shared: World, name: str) -> None:
    if not CLIENTS.exists():
        pytest.skip("the protocol's clients are not installed: `make clients`")
    script = Path(__file__).parent / "protocol_clients.py"
    ran = subprocess.run([CLIENTS, script, name, shared.url], capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert found["metadata"] == ["carrier", "distance"]
    assert found["probability"] == pytest.approx(list(expected(3)), abs=1e-5)
    assert found["prediction"] == [int(p >= 0.5) for p in expected(3)]
    assert found["before"] == pytest.approx(list(expected(2)), abs=1e-5)
    assert all(way == pytest.approx(found["probability"], abs=1e-6) for way in found["ways"].values()), found["ways"]
    assert "distance" in found["error"]
