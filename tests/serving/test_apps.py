"""Several projects, models and versions behind one address."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from serving_alone import Alone, exported, refused
from serving_bundles import BINARY, PROJECT, RECORD, Seal, compiled, logged, wait_for
from serving_world import World

from noria.kernel.task import Task
from noria.models.signature import Input, Kind, Signature
from noria.releases import signing
from noria.serving.client import ArmTallies
from noria.serving.route import Route
from noria.serving.route_store import RouteStore
from noria.serving.tallies import Tally
from noria.storage.ledger import Ledger

OTHER = "tips"
REGRESSION = Signature(BINARY.inputs, Task.REGRESSION, key="table")


def publish(world: World, project: str, champion: str, version: str, **more: Any) -> None:
    ledger = Ledger.open(world.state)
    try:
        with ledger.transaction():
            RouteStore(ledger, project).put(Route(project, "production", 0, champion, version, **more))
    finally:
        ledger.close()


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Two projects with the same revision; of the first, one more version is resident."""
    folder = tmp_path_factory.mktemp("apps")
    world = World(Seal(folder / "state"), folder / "scratch")
    world.server.start({"production": ("127.0.0.1", 0)}, workers=2)
    try:
        first, old = compiled(world.seal, world.scratch, 1), compiled(world.seal, world.scratch, 2)
        second = compiled(world.seal, world.scratch, 3, REGRESSION, OTHER)
        publish(world, PROJECT, first, "v2", previous=old, previous_version="v1")
        publish(world, OTHER, second, "v7")
        assert world.server.sync().applied == {f"production/{PROJECT}": 1, f"production/{OTHER}": 1}
        yield world
    finally:
        world.close()


def infer(world: World, path: str) -> httpx.Response:
    tensors = [
        {"name": "carrier", "shape": [1], "datatype": "BYTES", "data": ["AA"]},
        {"name": "distance", "shape": [1], "datatype": "FP64", "data": [3.5]},
    ]
    return world.client().post(path, json={"inputs": tensors})


def test_each_project_answers_by_its_name(both: World) -> None:
    client = both.client()
    first = client.post(f"/{PROJECT}/predict", json=RECORD | {"flight_id": "f"}).json()
    second = client.post(f"/{OTHER}/predict", json=[RECORD | {"table": 4}, RECORD]).json()
    assert (first["release"], "probability" in first["predictions"][0]) == ("v2", True)
    assert (second["release"], "probability" in second["predictions"][0], len(second["predictions"])) == ("v7", False, 2)
    for model, version in ((PROJECT, "v2"), (OTHER, "v7")):
        said = infer(both, f"/v2/models/{model}/infer").json()
        assert (said["model_name"], said["model_version"]) == (model, version)
        assert client.get(f"/v2/models/{model}").json()["name"] == model
    assert infer(both, f"/v2/models/{PROJECT}/versions/v1/infer").json()["model_version"] == "v1"
    assert client.get(f"/v2/models/{PROJECT}").json()["versions"] == ["v2", "v1"]
    wrong = client.post(f"/{OTHER}/predict", json=RECORD | {"flight_id": "f"})
    assert (wrong.status_code, "flight_id" in wrong.json()["error"]["message"]) == (422, True)


def test_the_log_and_the_counts_tell_them_apart(both: World) -> None:
    before = {project: both.server.stats(project, "production").get(1, ArmTallies()) for project in (PROJECT, OTHER)}
    client = both.client()
    ids = {p: client.post(f"/{p}/predict", json=RECORD).json()["predictions"][0]["id"] for p in (PROJECT, OTHER)}
    label = {"id": ids[OTHER], "label": 3.25}
    assert client.post(f"/{OTHER}/feedback", json=label).status_code == 202
    rows = logged(both.state, "production")
    assert {row["id"]: row["project"] for row in rows if row["id"] in ids.values() and "release" in row} == {
        ids[PROJECT]: PROJECT,
        ids[OTHER]: OTHER,
    }
    assert [row["project"] for row in rows if "label" in row] == [OTHER]
    after = {project: both.server.stats(project, "production")[1].champion for project in (PROJECT, OTHER)}
    for project, arms in before.items():
        assert after[project] == Tally(arms.champion.requests + 1)
    text = wait_for(lambda: client.get("/metrics").text)
    assert (
        f'noria_route_requests_total{{environment="production",project="{OTHER}",revision="1",arm="champion",release="v7"' in text
    )
    assert f'project="{PROJECT}"' in text
    assert text.count("# TYPE noria_route_requests_total") == 1


@pytest.mark.parametrize(
    ("method", "path", "status", "said"),
    [
        ("POST", "/predict", 404, f"several projects are served here: {PROJECT}, {OTHER}"),
        ("POST", "/feedback", 404, "several projects are served here"),
        ("GET", "/openapi.json", 404, "several projects are served here"),
        ("POST", "/nobody/predict", 404, "no such path"),
        ("GET", "/v2/models/nobody", 404, f"there is no model 'nobody' here; there are {PROJECT}, {OTHER}"),
        ("GET", f"/{PROJECT}/predict", 405, "this path takes POST"),
        ("GET", f"/{PROJECT}/metrics", 404, "no such path"),
        ("GET", f"/{PROJECT}", 200, '"release":"v2"'),
        ("GET", f"/{OTHER}/openapi.json", 200, '"table"'),
        ("GET", "/", 200, '"projects":[{"project":'),
        ("GET", "/health/ready", 200, "true"),
        ("GET", "/v2/health/ready", 200, "true"),
    ],
)
def test_paths_that_name_nobody_say_who_is_there(both: World, method: str, path: str, status: int, said: str) -> None:
    answer = both.client().request(method, path, json={} if method == "POST" else None)
    assert answer.status_code == status, answer.text
    assert said in answer.text.replace("\\", "")


def test_a_change_of_one_leaves_the_other_alone(both: World) -> None:
    client = both.client()
    broken = compiled(both.seal, both.scratch, 9, REGRESSION, OTHER)
    (both.state / "releases" / broken / "model.onnx").write_bytes(b"nothing")
    publish(both, OTHER, broken, "v8")
    assert broken in both.server.sync().failed
    assert client.post(f"/{OTHER}/predict", json=RECORD).json()["release"] == "v7"
    third = compiled(both.seal, both.scratch, 4)
    publish(both, PROJECT, third, "v3")
    applied = both.server.sync().applied
    assert applied[f"production/{PROJECT}"] == 2
    assert client.post(f"/{PROJECT}/predict", json=RECORD).json()["release"] == "v3"
    assert client.post(f"/{OTHER}/predict", json=RECORD).json()["release"] == "v7"


def test_several_files_are_served_alone(seal: Seal, tmp_path: Path) -> None:
    """Number 15: each project is signed by an installation of its own; ``--key`` may be given again."""
    files = [
        exported(seal, compiled(seal, tmp_path / "a", 1), tmp_path / "flights.tar", "v5"),
        exported(seal, compiled(seal, tmp_path / "b", 2), tmp_path / "old.tar", "v4"),
        exported(seal, compiled(seal, tmp_path / "c", 3, REGRESSION, OTHER), tmp_path / "tips.tar", "v1", OTHER),
    ]
    with Alone(tmp_path, *files, "--port", 0, "--workers", 1, "--state", tmp_path / "serve") as alone:
        for one in alone.facts["releases"][::2]:
            answer = httpx.post(alone.url + one["example"]["path"], json=one["example"]["body"])
            assert (answer.status_code, answer.json()["release"]) == (200, one["release"])
        assert httpx.get(f"{alone.url}/v2/models/{PROJECT}").json()["versions"] == ["v5", "v4"]
        assert [one["project"] for one in alone.facts["releases"]] == [PROJECT, PROJECT, OTHER]
    code, said = refused(tmp_path, *files[:2], files[0], "--port", 0, "--state", tmp_path / "serve")
    assert (code, "cannot be served together" in said) == (1, True)
    stranger = Seal(tmp_path / "stranger")
    foreign = exported(stranger, compiled(stranger, tmp_path / "d", 5, project="x"), tmp_path / "x.tar", "v1", "x")
    both = [tmp_path / "own.pub", tmp_path / "stranger.pub"]
    for path, one in zip(both, (seal, stranger), strict=True):
        path.write_text(signing.public_key(one.state) + "\n")
    named = ("--key", both[0], "--key", both[1])
    with Alone(tmp_path, files[0], foreign, *named, "--port", 0, "--workers", 1, "--state", tmp_path / "two") as alone:
        assert [one["key"] for one in alone.facts["releases"]] == [path.read_text().strip() for path in both]
        for one in alone.facts["releases"]:
            answer = httpx.post(alone.url + one["example"]["path"], json=one["example"]["body"])
            assert (answer.status_code, answer.json()["release"]) == (200, one["release"])
    code, said = refused(tmp_path, files[0], foreign, *named[:2], "--port", 0, "--state", tmp_path / "serve")
    assert (code, "it is signed with the key" in said) == (1, True)
    same = exported(stranger, compiled(stranger, tmp_path / "e", 6), tmp_path / "same.tar", "v9")
    code, said = refused(tmp_path, files[0], same, "--port", 0, "--state", tmp_path / "serve")
    assert (code, "different keys" in said) == (1, True)


def test_one_project_has_the_plain_paths_and_its_own(seal: Seal, tmp_path: Path) -> None:
    wide = Signature((*BINARY.inputs, Input("wind", Kind.NUMBER)), Task.BINARY, ("0", "1"))
    world = World(seal, tmp_path / "scratch")
    world.server.start({"production": ("127.0.0.1", 0)}, workers=1)
    try:
        world.serve(compiled(seal, tmp_path / "scratch"))
        assert world.client().post("/predict", json=RECORD).status_code == 200
        assert world.client().post(f"/{PROJECT}/predict", json=RECORD).status_code == 200
        publish(world, OTHER, compiled(seal, tmp_path / "scratch", 3, wide, OTHER), "v1")
        world.server.sync()
        assert world.client().post("/predict", json=RECORD).status_code == 404
        assert world.client().post(f"/{OTHER}/predict", json=RECORD | {"wind": 1}).status_code == 200
    finally:
        world.close()
