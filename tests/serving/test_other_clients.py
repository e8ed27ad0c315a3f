"""Requests as other clients send them: packed, in MLflow's forms, with MLServer's names; and what describes all that."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from served_in_process import InProcess, in_process, one_project
from serving_bundles import BINARY, PROJECT, RECORD, Seal, compiled, logged

from noria.kernel.access import Access, RateLimit
from noria.kernel.task import Task
from noria.models.signature import Input, Kind, Signature
from noria.serving import counts as counting
from noria.serving.counts import SharedCounters, counts_path
from noria.serving.tallies import Tally


@pytest.fixture(scope="module")
def digest_of(tmp_path_factory: pytest.TempPathFactory) -> tuple[Seal, str]:
    seal = Seal(tmp_path_factory.mktemp("clients") / "state")
    return seal, compiled(seal, tmp_path_factory.mktemp("scratch"))


@pytest.fixture
def served(digest_of: tuple[Seal, str]) -> Iterator[InProcess]:
    with one_project(*digest_of) as made:
        yield made


# -- packed bodies

PACKED = [("gzip", gzip.compress), ("x-gzip", gzip.compress), ("deflate", zlib.compress), ("identity", lambda body: body)]


@pytest.mark.parametrize(("encoding", "pack"), PACKED, ids=[name for name, _ in PACKED])
@pytest.mark.parametrize("path", ["/predict", "/invocations", "/feedback", f"/{PROJECT}/predict"])
def test_a_packed_body_is_taken_everywhere(served: InProcess, path: str, encoding: str, pack: Any) -> None:
    """Number 59: gzip bodies worked on /v2 and not on /predict."""
    body = {"/feedback": {"key": "k", "label": 1}, "/invocations": {"instances": [RECORD]}}.get(path, RECORD)
    packed = pack(json.dumps(body).encode())
    if encoding != "identity":
        assert served.try_fast(path, packed, (b"content-encoding", encoding.encode())) is None
    assert served.post(path, packed, headers={"content-encoding": encoding}).status_code in (200, 202)


@pytest.mark.parametrize("path", ["/predict", f"/v2/models/{PROJECT}/infer"])
def test_packing_hides_nothing(served: InProcess, path: str) -> None:
    bomb = gzip.compress(b" " * 50_000_000)
    assert served.post(path, bomb, headers={"content-encoding": "gzip"}).status_code == 413
    assert served.post(path, bomb[:-5], headers={"content-encoding": "gzip"}).status_code == 413
    cut = gzip.compress(json.dumps(RECORD).encode())[:-3]
    assert served.post(path, cut, headers={"content-encoding": "gzip"}).status_code == 400
    assert served.post(path, b"{}", headers={"content-encoding": "gzip"}).status_code == 400
    assert served.post(path, b"{}", headers={"content-encoding": "br"}).status_code == 415


# -- MLflow's scoring protocol

FORMS: list[tuple[str, Any]] = [
    ("split", {"dataframe_split": {"columns": ["distance", "carrier"], "index": [0, 1], "data": [[3.5, "AA"], [1, "UA"]]}}),
    ("split without columns", {"dataframe_split": {"data": [["AA", 3.5], ["UA", 1]]}}),
    ("records", {"dataframe_records": [RECORD, {"carrier": "UA", "distance": 1}]}),
    ("instances", {"instances": [RECORD, {"carrier": "UA", "distance": 1}], "signature_name": "serving_default"}),
    ("rows", {"instances": [["AA", 3.5], ["UA", 1]], "params": {}}),
    ("columns", {"inputs": {"carrier": ["AA", "UA"], "distance": [3.5, 1]}}),
    ("inputs", {"inputs": [["AA", 3.5], ["UA", 1]], "params": None}),
]


@pytest.mark.parametrize("body", [body for _, body in FORMS], ids=[name for name, _ in FORMS])
def test_mlflows_forms_are_read_and_answered_in_its_shape(served: InProcess, digest_of: tuple[Seal, str], body: Any) -> None:
    """Number 18: requests of MLflow's scoring server."""
    many = served.post("/predict", [RECORD, {"carrier": "UA", "distance": 1}]).json()["predictions"]
    before = len(logged(digest_of[0].state, "production"))
    for path in ("/invocations", f"/{PROJECT}/invocations"):
        answer = served.post(path, body)
        assert (answer.status_code, answer.json()) == (200, {"predictions": [row["prediction"] for row in many]})
    assert len(logged(digest_of[0].state, "production")) > before
    assert served.ask("GET", "/ping").status_code == 200


def test_one_row_as_columns_and_one_input_as_values(tmp_path: Path) -> None:
    from noria.serving import invocations

    signature = Signature((Input("a", Kind.NUMBER),), Task.REGRESSION, ())
    assert invocations.read({"inputs": {"a": 1.5}}, signature, frozenset(), 9).columns == {"a": [1.5]}
    assert invocations.read({"instances": [1, 2.5, None]}, signature, frozenset(), 9).columns == {"a": [1, 2.5, None]}


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ([], 400, "an object with one of dataframe_split"),
        ({}, 400, "an object with one of"),
        ({"instances": [], "inputs": []}, 400, "an object with one of"),
        ({"instances": []}, 422, "instances has no rows"),
        ({"instances": [[1]]}, 422, r"instances[0] must be a list of 2 values"),
        ({"instances": [1, 2]}, 400, "must be a list of objects, or of lists"),
        ({"instances": [RECORD, [1, 2]]}, 400, "must be a list of objects"),
        ({"instances": [RECORD], "params": {"x": 1}}, 400, "params are not offered"),
        ({"instances": [RECORD], "other": 1}, 400, "'other' is not allowed beside instances"),
        ({"dataframe_records": {"carrier": ["AA"]}}, 400, "dataframe_records must be a list"),
        ({"dataframe_split": {"columns": ["carrier", "carrier"], "data": []}}, 422, "'carrier' twice"),
        ({"dataframe_split": {"columns": ["carrier"], "data": [["AA"]]}}, 422, "distance is missing"),
        ({"dataframe_split": {"columns": 3, "data": [["AA"]]}}, 400, "must be a list of names"),
        ({"dataframe_split": [1]}, 400, "columns and data"),
        ({"inputs": {"carrier": ["AA"], "distance": [1, 2]}}, 422, "inputs.distance has 2 values, inputs.carrier has 1"),
        ({"inputs": {"carrier": "AA", "distance": [1]}}, 422, "columns of one length"),
        ({"inputs": {}}, 422, "columns of one length"),
        ({"instances": [RECORD] * 1001}, 413, "1001 records"),
        ({"instances": [{"carrier": 1, "distance": 1}]}, 422, "must be a string"),
    ],
)
def test_what_is_none_of_these_forms_is_told(served: InProcess, body: Any, status: int, words: str) -> None:
    answer = served.post("/invocations", body)
    assert (answer.status_code, words in answer.text) == (status, True), answer.text


def test_outputs_are_answered_by_mlservers_names_too(served: InProcess) -> None:
    """Number 18: the outputs' aliases `predict` and `predict_proba`."""
    tensors = [{"name": "carrier", "shape": [2], "datatype": "BYTES", "data": ["AA", "UA"]}]
    tensors.append({"name": "distance", "shape": [2], "datatype": "FP64", "data": [3.5, 1]})
    ask = {"inputs": tensors, "outputs": [{"name": "predict_proba"}, {"name": "predict"}, {"name": "probability"}]}
    outputs = {o["name"]: o for o in served.post(f"/v2/models/{PROJECT}/infer", ask).json()["outputs"]}
    usual = {o["name"]: o for o in served.post(f"/v2/models/{PROJECT}/infer", {"inputs": tensors}).json()["outputs"]}
    assert outputs["predict"] == usual["prediction"] | {"name": "predict"}
    assert outputs["predict_proba"]["shape"] == [2, 2]
    second = outputs["predict_proba"]["data"][1::2]
    assert second == usual["probability"]["data"] == outputs["probability"]["data"]
    assert set(usual) == {"prediction", "probability"}


# -- the description


def paths_of(served: InProcess, place: str) -> dict[str, Any]:
    return dict(served.ask("GET", place).json()["paths"])


@pytest.mark.parametrize("prefix", ["", f"/{PROJECT}"])
def test_every_path_that_is_described_exists(served: InProcess, prefix: str) -> None:
    """Number 16: `/NAME/openapi.json` named paths that there are not, and any text was a model."""
    paths = paths_of(served, f"{prefix}/openapi.json")
    for path, operations in paths.items():
        for method in operations.keys() & {"get", "post"}:
            answer = served.ask(method.upper(), path.format(model=PROJECT, version="v1"), content=b"{}")
            assert answer.status_code not in (404, 405), path
    assert f"{prefix}/predict" in paths
    assert (f"{prefix}/openapi.json" in paths, f"{prefix}/invocations" in paths) == (True, True)
    (model,) = [p for p in paths["/v2/models/{model}/infer"]["parameters"] if p["name"] == "model"]
    assert model["schema"] == {"enum": [PROJECT]}


def test_each_of_several_projects_describes_its_own_paths(tmp_path: Path) -> None:
    """Number 16: where several are served, the plain paths are nobody's."""
    seal = Seal(tmp_path / "state")
    digests = {p: compiled(seal, tmp_path, n, project=p) for n, p in enumerate(("fraud", "churn"))}
    with in_process(seal, digests) as served:
        paths = paths_of(served, "/churn/openapi.json")
        assert "/churn/predict" in paths
        assert "/predict" not in paths
        for path, operations in paths.items():
            for method in operations.keys() & {"get", "post"}:
                answer = served.ask(method.upper(), path.format(model="churn", version="v1"), content=b"{}")
                assert answer.status_code not in (404, 405), path


def test_the_description_tells_of_keys_where_they_are_asked_for(digest_of: tuple[Seal, str], tmp_path: Path) -> None:
    """Number 16: `securitySchemes` where keys are asked."""
    (tmp_path / "keys").write_text("me:" + "k" * 20)
    with one_project(*digest_of) as served:
        document = served.ask("GET", "/openapi.json").json()
        assert "security" not in document
        assert "401" not in document["paths"]["/predict"]["post"]["responses"]
    with one_project(*digest_of, Access(keys_file=str(tmp_path / "keys"), rate=RateLimit(5, 1.0))) as served:
        document = served.ask("GET", "/openapi.json", headers={"x-api-key": "k" * 20}).json()
        assert document["security"] == [{"bearer": []}, {"header": []}]
        assert document["components"]["securitySchemes"]["header"] == {"type": "apiKey", "in": "header", "name": "X-API-Key"}
        assert "401" in document["paths"]["/predict"]["post"]["responses"]


def test_the_platform_is_one_of_the_protocols(served: InProcess) -> None:
    """Number 16: `platform` is PROJECT_FORMAT."""
    assert served.ask("GET", f"/v2/models/{PROJECT}").json()["platform"] == "onnx_onnxv1"
    assert BINARY.task is Task.BINARY


# -- metrics


def test_every_count_carries_its_project(tmp_path: Path) -> None:
    """Number 16: metrics of the model server carry `project` everywhere."""
    seal = Seal(tmp_path / "state")
    digests = {p: compiled(seal, tmp_path, n, project=p) for n, p in enumerate(("fraud", "churn"))}
    with in_process(seal, digests) as served:
        assert served.post("/fraud/predict", RECORD).status_code == 200
        assert served.try_fast("/churn/predict", [RECORD, RECORD]).status == 200
        assert served.post("/churn/predict", {}).status_code == 422
        assert served.post("/churn/feedback", {"key": "k", "label": 1}).status_code == 202
        served.apps.count_refusal(431)
        text = served.ask("GET", "/metrics").text
        assert served.counts.rows() == 3
        assert served.counts.of("churn").codes()[422] == 1
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    counted = [line for line in lines if not line.startswith(("noria_worker", "noria_process"))]
    assert all('project="fraud"' in line or 'project="churn"' in line for line in counted), counted
    assert 'noria_prediction_rows_total{environment="production",project="fraud"} 1' in lines
    assert 'noria_prediction_rows_total{environment="production",project="churn"} 2' in lines
    assert 'noria_http_answers_total{environment="production",project="churn",code="422"} 1' in lines
    assert 'noria_feedback_total{environment="production",project="churn"} 1' in lines
    assert 'noria_prediction_seconds_count{environment="production",project="fraud"} 1' in lines


def test_counts_of_projects_are_shared_by_workers_and_survive_them(tmp_path: Path) -> None:
    path = counts_path(tmp_path, "production")
    counting.create(path)
    for slot in (0, 3):
        mine = SharedCounters(path, slot)
        for project in ("a", "b") if slot else ("b", "a"):
            mine.of(project).count_prediction("champion", 2, 0.001)
        mine.of("b").count_arm(7, candidate=False, error=False, slow=True)
        mine.close()
    reader = SharedCounters(path)
    assert (reader.of("a").rows(), reader.of("b").rows(), reader.rows()) == (4, 4, 8)
    assert sorted(reader.projects()) == ["", "a", "b"]
    assert reader.tallies_of(7)[0] == Tally(2, 0, 2)
    for number in range(counting.PROJECTS):  # more than there is room for
        reader.of(f"p{number}").count_answer(200)
    assert (reader.codes()[200], len(reader.projects())) == (counting.PROJECTS, counting.PROJECTS)
    reader.close()
