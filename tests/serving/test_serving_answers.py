"""Real processes, real HTTP: what clients get."""

from __future__ import annotations

import socket
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from serving_bundles import BINARY, FEATURES, PROJECT, RECORD, Seal, compiled, hosted, logged, pipeline, wait_for
from serving_world import Load, World

from noria.kernel.errors import PortInUseError
from noria.kernel.task import Task
from noria.models.signature import Input, Kind, Signature
from noria.serving.client import Server
from noria.serving.tallies import Tally

REGRESSION = Signature(inputs=BINARY.inputs, task=Task.REGRESSION)


def test_without_a_release_the_server_lives_and_is_not_ready(world: World) -> None:
    client = world.client()
    answer = client.post("/predict", json=RECORD)
    assert answer.status_code == 503
    assert answer.json()["error"]["message"] == "no release yet"
    assert answer.headers["retry-after"] == "1"
    assert client.get("/health/live").status_code == 200
    assert client.get("/v2/health/ready").status_code == 503


def test_a_compiled_release_answers_like_the_pipeline_it_was_made_from(world: World) -> None:
    world.serve(compiled(world.seal, world.scratch, seed=3))
    records = [{"carrier": c, "distance": d} for c in ("AA", "UA", "never seen") for d in (0.5, 3, 7.25)]
    answer = world.client().post("/predict", json=records).json()
    expected = pipeline(3).predict_proba([[r["carrier"], r["distance"]] for r in records])[:, 1]
    assert [p["probability"] for p in answer["predictions"]] == pytest.approx(list(expected), abs=1e-5)
    assert [p["prediction"] for p in answer["predictions"]] == [int(p >= 0.5) for p in expected]
    assert (answer["release"], answer["variant"]) == ("v1", "champion")


def test_regression_answers_numbers(world: World) -> None:
    world.serve(compiled(world.seal, world.scratch, seed=4, signature=REGRESSION))
    (row,) = world.client().post("/predict", json={"records": [RECORD]}).json()["predictions"]
    assert row["prediction"] == pytest.approx(float(pipeline(4, regression=True).predict([["AA", 3.5]])[0]), abs=1e-5)
    assert "probability" not in row


def test_what_was_answered_is_in_the_log_with_its_inputs(world: World) -> None:
    world.serve(compiled(world.seal, world.scratch))
    record = RECORD | {"flight_id": 1234, "time_hour": "2013-04-01T05:00:00Z"}
    answer = world.client().post("/predict", json=record).json()
    (written,) = logged(world.state, "production")
    assert written["id"] == answer["predictions"][0]["id"]
    assert written["inputs"] == RECORD
    assert written["key"] == "1234"
    assert written["event_time"] == "2013-04-01T05:00:00Z"
    assert (written["release"], written["variant"], written["project"]) == ("v1", "champion", PROJECT)


def test_feedback_is_in_the_log_before_it_is_acknowledged(world: World) -> None:
    world.serve(compiled(world.seal, world.scratch))
    client = world.client()
    for body, count in (
        ({"id": "p-1", "label": 1}, 1),
        ([{"key": "f1", "label": 0}] * 2, 2),
        ({"feedback": [{"key": 5, "label": True}]}, 1),
    ):
        answer = client.post("/feedback", json=body)
        assert (answer.status_code, answer.json()) == (202, {"recorded": count})
    assert [(r["id"], r["key"], r["label"]) for r in logged(world.state, "production")] == [
        ("p-1", None, 1),
        (None, "f1", 0),
        (None, "f1", 0),
        (None, "5", True),
    ]


def test_metrics_are_right_over_all_workers(world: World) -> None:
    revision = world.serve(compiled(world.seal, world.scratch)).applied["production"]
    for _ in range(12):  # new connections, so that both workers get some
        assert httpx.post(f"{world.url}/predict", json=[RECORD, RECORD]).status_code == 200
    httpx.post(f"{world.url}/predict", content=b"{")
    samples = {
        (s.name, s.labels.get("code") or s.labels.get("variant") or s.labels.get("outcome")): s.value
        for family in text_string_to_metric_families(httpx.get(f"{world.url}/metrics").text)
        for s in family.samples
    }
    assert samples["noria_http_answers_total", "200"] == 12
    assert samples["noria_http_answers_total", "400"] == 1
    assert samples["noria_predictions_total", "champion"] == 12
    assert samples["noria_prediction_rows_total", None] == 24
    assert samples["noria_prediction_seconds_count", None] == 12
    assert samples["noria_route_requests_total", "assigned"] == 12
    assert world.tallies(revision).champion == Tally(requests=12)


def test_the_root_says_what_is_served_and_its_example_is_accepted(world: World) -> None:
    world.serve(compiled(world.seal, world.scratch), "v7")
    client = world.client()
    about = client.get("/").json()
    assert (about["project"], about["release"], about["environment"]) == (PROJECT, "v7", "production")
    assert client.post("/predict", json=about["example"]).status_code == 200
    schema = client.get("/openapi.json").json()
    assert schema["components"]["schemas"]["Record"]["required"] == ["carrier", "distance"]
    assert set(schema["paths"]) >= {"/predict", "/feedback", "/metrics"}


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        (b"", 400, "empty"),
        (b"{", 400, "not JSON"),
        (b"\xff\xfe", 400, "not JSON"),
        (b'"text"', 400, "a string"),
        (b"[[]]", 400, "records[0] must be an object"),
        (b"[" * 50_000, 400, "deep"),
        (b'{"carrier":"AA","distance":NaN}', 400, "not JSON"),
        (b'{"carrier":"AA","carrier":"UA","distance":1}', 400, "'carrier' twice"),
        (b"[]", 422, "no records"),
        (b'{"carrier":"AA"}', 422, "records[0].distance is missing"),
        (b'[{"carrier":"AA","distance":1},{"carrier":"AA","distance":"far"}]', 422, 'records[1].distance must be a number'),
        (b'{"carrier":"AA","distance":true}', 422, "not true"),
        (b'{"carrier":7,"distance":1}', 422, "records[0].carrier must be a string"),
        (b'{"carrier":"AA","distance":null}', 422, "must not be null"),
        (b'{"carrier":"AA","distence":1}', 422, "did you mean 'distance'?"),
        (b'{"carrier":"AA","distance":1,"time_hour":"noon"}', 422, "ISO 8601"),
        (b"[" + b'{"carrier":"AA","distance":1},' * 1000 + b'{"carrier":"AA","distance":1}]', 413, "1001 records"),
        (b" " * 1_048_577, 413, "1048576 bytes"),
    ],
)  # fmt: skip
def test_bad_bodies_are_refused_with_what_is_wrong(shared: httpx.Client, body: bytes, code: int, words: str) -> None:
    answer = shared.post("/predict", content=body)
    assert answer.status_code == code
    assert words in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        ({"label": 1}, 422, "either id or key"),
        ({"id": "a", "key": "b", "label": 1}, 422, "either id or key"),
        ({"id": "a"}, 422, "label"),
        ({"id": "a", "label": [1]}, 422, "label"),
        ({"id": "a", "label": "yes"}, 422, "one of 0, 1"),
        ({"id": "a", "label": 1, "note": "x"}, 422, "note"),
        ({"id": "a" * 201, "label": 1}, 422, "200"),
        ([], 422, "no records"),
    ],
)  # fmt: skip
def test_bad_feedback_is_refused(shared: httpx.Client, body: object, code: int, words: str) -> None:
    answer = shared.post("/feedback", json=body)
    assert answer.status_code == code
    assert words in answer.json()["error"]["message"]


def test_methods_paths_and_foreign_sites(shared: httpx.Client) -> None:
    wrong = shared.get("/predict")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")
    assert shared.get("/nothing").status_code == 404
    assert shared.get("/", headers={"host": "evil.example"}).status_code == 403
    assert shared.get("/", headers={"origin": "http://evil.example"}).status_code == 403
    assert shared.get("/", headers={"origin": "null"}).status_code == 403
    own = str(shared.base_url).rstrip("/")
    assert shared.get("/", headers={"origin": own}).status_code == 200


def test_a_chunked_body_has_the_same_limit(shared: httpx.Client) -> None:
    answer = shared.post("/predict", content=(b" " * 100_000 for _ in range(11)))
    assert answer.status_code == 413


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory):
    """One server for the requests that change nothing."""
    folder = tmp_path_factory.mktemp("shared")
    world = World(Seal(folder / "state"), folder / "scratch")
    world.server.start({"production": ("127.0.0.1", 0)}, workers=1)
    try:
        world.serve(compiled(world.seal, world.scratch))
        yield world.client()
    finally:
        world.close()


def test_a_port_in_use_is_said_plainly(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PortInUseError, match=f"production: 127.0.0.1:{port} cannot be listened on"):
            Server(tmp_path / "state").start({"production": ("127.0.0.1", port)})
    assert f"127.0.0.1:{port} cannot be listened on" in (tmp_path / "state" / "server.log").read_text()


def test_hosted_features_run_apart_and_their_errors_name_the_line(world: World) -> None:
    world.serve(hosted(world.seal, world.scratch))
    client = world.client()
    assert client.post("/predict", json=RECORD).status_code == 200
    broken = client.post("/predict", json=RECORD | {"carrier": "XX"})
    assert broken.status_code == 503
    line = 1 + next(i for i, text in enumerate(FEATURES.splitlines()) if "CARRIERS[c]" in text)
    complaints = wait_for(lambda: world.server.status()["environments"]["production"]["complaints"])
    assert list(complaints.values()) == [[f"KeyError: 'XX' in delays/features.py:{line}"]]
    assert client.post("/predict", json=RECORD).status_code == 200


def test_a_candidate_may_ask_for_more_than_the_champion(world: World) -> None:
    """A request that lacks the new column is the champion's; one that has it is not refused."""
    wider = Signature(inputs=(*BINARY.inputs, Input("wind", Kind.NUMBER)), task=Task.BINARY, classes=("0", "1"))
    champion = compiled(world.seal, world.scratch)
    candidate = compiled(world.seal, world.scratch, seed=5, signature=wider)
    world.serve(champion, candidate=candidate, candidate_version="v2", share=1.0)
    client = world.client()
    assert client.post("/predict", json=RECORD).json()["variant"] == "fallback"
    assert client.post("/predict", json=RECORD | {"wind": 3}).json()["variant"] == "candidate"


def test_load_goes_to_both_arms_by_share(world: World) -> None:
    champion, candidate = compiled(world.seal, world.scratch), compiled(world.seal, world.scratch, seed=1)
    world.serve(champion, candidate=candidate, candidate_version="v2", share=0.3)
    with Load(world.url, threads=2) as load:
        wait_for(lambda: len(load.answers) > 600)
    assert not load.failures
    tallies = world.tallies(1)
    n = tallies.champion.requests + tallies.candidate.requests
    assert n == len(load.answers)
    assert tallies.candidate.requests == sum(a["variant"] == "candidate" for a in load.answers)
    assert abs(tallies.candidate.requests / n - 0.3) < 5 * (0.3 * 0.7 / n) ** 0.5
