"""A state folder and a release of an earlier Noria open, serve, and go on."""

from __future__ import annotations

import gzip
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from small_project import Small, address_of, post, until

from noria import cli

HERE = Path(__file__).parent
OLD = "2026-11-30"


@pytest.fixture
def shop(tmp_path: Path) -> Small:
    with tarfile.open(HERE / f"state-{OLD}.tar.gz") as archive:
        archive.extractall(tmp_path, filter="fully_trusted")
    return Small(tmp_path / "shop")


def answered(shop: Small) -> list[dict[str, Any]]:
    """What the server of then answered, by its log."""
    found: list[dict[str, Any]] = shop.noria("predictions", "--limit", "100", "--json").facts["predictions"]
    assert len(found) == 60
    return found


def test_what_happened_is_read_as_before(
    shop: Small, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(shop.home)

    def noria(*arguments: str) -> Any:
        assert cli.execute([*arguments, "--json"]) == 0, capsys.readouterr()
        return json.loads(capsys.readouterr().out)

    assert noria("audit", "verify")["problems"] == []
    turns = {turn["number"]: turn["outcome"] for turn in noria("runs")["turns"]}
    assert turns == {1: "promoted", 2: "nothing changed", 3: "quarantined", 4: "rolling out"}
    assert {release["version"]: release["form"] for release in noria("releases")["releases"]} == {
        "v1": "compiled",
        "v2": "compiled",
    }
    (experiment,) = noria("runs", "--kind", "experiment")["runs"]
    assert experiment["params"]["train.inverse_penalty"] == 0.1
    assert round(experiment["metrics"]["validation.roc_auc"], 4) == 0.8235
    pinned = [version for version in noria("data", "log")["snapshots"] if version["pinned"]]
    assert [(version["files"], version["rows"]) for version in pinned] == [(2, 600)]
    asked = noria("predictions", "--limit", "1")
    assert (asked["count"], asked["labelled"], asked["releases"]) == (60, 40, {"v1": 52, "v2": 8})
    for subject in ("v1", "v2", "1", "4", experiment["id"]):
        noria("show", subject)
    measured = noria("show", "1")
    assert measured["gate"]["outcome"] == "pass"
    assert len(measured["gate"]["gates"]) == len(measured["gate"]["reasons"]) > 0
    assert measured["evaluation"]["metrics"].keys() >= {"roc_auc", "brier"}
    assert noria("rollout")["rollout"]["release"] == "v2"
    assert noria("data", "verify")["ok"]


def test_an_exported_release_answers_as_its_server_did(shop: Small, tmp_path: Path) -> None:
    bundle = tmp_path / "v1.noria.tar"
    bundle.write_bytes(gzip.decompress((HERE / f"release-{OLD}.noria.tar.gz").read_bytes()))
    asked = [row for row in answered(shop) if row["release"] == "v1"]
    with (tmp_path / "rows.jsonl").open("w") as file:
        file.writelines(json.dumps(row["inputs"]) + "\n" for row in asked)
    key = ("--key", str(shop.state / "signing.pub"))
    shop.noria("releases", "verify", str(bundle), *key, "--json")
    out = tmp_path / "scored.jsonl"
    ran = shop.noria("predict", "--input", str(tmp_path / "rows.jsonl"), "--output", str(out), "--release", str(bundle), *key)
    assert ran.code == 0, ran
    scored = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["probability"] for row in scored] == pytest.approx([row["outputs"]["probability"] for row in asked], abs=1e-6)


def test_it_serves_and_turns_on(shop: Small) -> None:
    """At the next start: v1 and its canary answer as before, and new data makes a release of the same project."""
    before = answered(shop)
    with shop.up("--serve", "127.0.0.1:0", "--console", "127.0.0.1:0").ready():
        address, alike = address_of(shop), 0
        for row in before:
            status, answer = post(address, "/predict", row["inputs"])
            assert status == 200, answer
            if answer["release"] == row["release"]:
                assert answer["predictions"][0]["probability"] == pytest.approx(row["outputs"]["probability"], abs=1e-6)
                alike += 1
        assert alike > 10
        lines = (shop.home / "data/day2.csv").read_text().splitlines()
        fresh = [lines[0], *(f"{2000 + number},{line.partition(',')[2]}" for number, line in enumerate(lines[1:]))]
        shop.edit("contracts/day1.yaml", "range: [0, 599]", "range: [0, 9999]")  # as it was drafted then
        shop.commit("Later customers")
        shop.deliver("day3.csv", "\n".join(fresh) + "\n")
        until(lambda: shop.ledger("SELECT 1 FROM turns WHERE release = 'v3' AND outcome = 'rolling out'"), "v3 is on its way")
    assert shop.noria("audit", "verify", "--json").facts["ok"]
    assert shop.noria("predictions", "--limit", "1", "--json").facts["count"] == 120
