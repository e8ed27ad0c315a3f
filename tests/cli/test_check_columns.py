"""`noria check` finds columns that the model names and its dataset lacks, before a turn trains for nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from noria.cli import execute

PROJECT = """\
project: p
data: {points: {source: points.csv}}
model: {rows: points, key: id, label: {label}, inputs: [{inputs}], train: "m:train"}
gates: ["worst(roc_auc, by={by}) >= 0.5"]
environments: {production: {rollout: direct}}
"""


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NORIA_HOME", str(tmp_path / "state"))
    Path("m.py").write_text("def train(features, label):\n    raise AssertionError\n")
    Path("points.csv").write_text("id,a,shop,fails\n" + "".join(f"{i},{i / 7},s{i % 2},{i % 2}\n" for i in range(40)))

    def check(label: str = "fails", inputs: str = "a", by: str = "shop") -> list[str]:
        text = PROJECT
        for name, value in {"label": label, "inputs": inputs, "by": by}.items():
            text = text.replace(f"{{{name}}}", value)
        Path("noria.yaml").write_text(text)
        capsys.readouterr()
        execute(["check", "--no-tests", "--json"])
        found = json.loads(capsys.readouterr().out)["findings"]
        return [each["text"] for each in found if not each["ok"]]

    return check


def test_columns_that_are_there_are_no_finding(said) -> None:
    assert said() == []


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ({"label": "fals"}, "no column 'fals' (did you mean 'fails'?)"),
        ({"inputs": "a, b"}, "no column 'b'"),
        ({"by": "shp"}, "no column 'shp' (did you mean 'shop'?)"),
        ({"label": "fails, query: sesion"}, "no column 'sesion'"),
        ({"inputs": "größe, a", "label": "y"}, "no column 'y' and no column 'größe'"),
    ],
)
def test_a_column_that_is_not_there_is_named_with_the_nearest_one(said, given: dict[str, str], missing: str) -> None:
    assert said(**given) == [f"the model names columns that points does not have: {missing}"]


def test_a_hashed_key_is_a_warning_for_who_sends_requests(said, capsys: pytest.CaptureFixture[str]) -> None:
    said()
    Path("contract.yaml").write_text("personal_data: {hash: [id]}\n")
    Path("noria.yaml").write_text(Path("noria.yaml").read_text().replace("points.csv}", "points.csv, contract: contract.yaml}"))
    execute(["check", "--no-tests", "--json"])
    found = json.loads(capsys.readouterr().out)["findings"]
    (told,) = [each["text"] for each in found if each["level"] == "warn" and "hash" in each["text"]]
    assert told == "id names the rows and is hashed on the way in: requests and labels must send its hash, not its value"
