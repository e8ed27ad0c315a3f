"""Number 19: `noria check` beside a dvc.yaml or an MLproject says what it found and what would be needed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from noria import config
from noria.cli import execute
from noria.config.elsewhere import neighbours

DVC = """\
stages:
  Prepare:
    cmd: [mkdir -p out, python prepare.py data.csv out/table.csv]
    deps: [prepare.py, data.csv]
    params: [seed, {other.yaml: [split.share]}]
    outs: [{out/table.csv: {cache: false}}]
  train:
    cmd: python train.py
    deps: [out/table.csv]
    metrics: [{scores.json: {cache: false}}]
    always_changed: true
  each:
    foreach: [a, b]
    do: {cmd: "echo ${item} > ${item}.txt", outs: ["${item}.txt"]}
"""
ML = """\
name: wine
python_env: python_env.yaml
entry_points:
  main:
    parameters: {alpha: {type: float, default: 0.5}, l1-ratio: float}
    command: "python train.py --alpha {alpha} --ratio {l1-ratio} --keep {this}"
"""


def steps(home: Path) -> dict[str, config.Step]:
    """The drafted steps, read by the real reader."""
    (found,) = neighbours(home)
    (home / "params.yaml").write_text("seed: 1\nsplit: {share: 0.2}\nalpha: 0.5\nl1-ratio: 0.1\n")
    (home / "noria.yaml").write_text(f"project: p\n{found.steps}\n")
    return config.load(home, environ={}).steps


def test_stages_of_dvc_become_steps(tmp_path: Path) -> None:
    (tmp_path / "dvc.yaml").write_text(DVC)
    for name in ("prepare.py", "data.csv", "raw.csv.dvc"):
        (tmp_path / name).write_text("")
    made = steps(tmp_path)
    assert made["prepare"].cmd == "mkdir -p out\npython prepare.py data.csv out/table.csv"
    assert (made["prepare"].files, made["prepare"].outs) == (("prepare.py", "data.csv"), ("out/table.csv",))
    assert made["prepare"].params == ("seed", "split.share")
    assert (made["train"].needs, made["train"].metrics, made["train"].always) == (("prepare",), ("scores.json",), True)
    (found,) = neighbours(tmp_path)
    assert "3 stages of DVC" in found.says
    assert any("${...} have no counterpart" in need for need in found.needs)
    assert any("1 .dvc file name data kept elsewhere" in need for need in found.needs)


def test_entry_points_of_mlflow_become_steps(tmp_path: Path) -> None:
    (tmp_path / "MLproject").write_text(ML)
    made = steps(tmp_path)
    assert made["main"].cmd == "python train.py --alpha $NORIA_PARAM_ALPHA --ratio $NORIA_PARAM_L1_RATIO --keep {this}"
    assert made["main"].params == ("alpha", "l1-ratio")


@pytest.mark.parametrize("text", ["stages: [", "stages: [1, 2]", "- 1", ""])
def test_what_cannot_be_read_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    (tmp_path / "dvc.yaml").write_text(text)
    assert execute(["-C", str(tmp_path), "check", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)["findings"]
    assert [(f["what"], f["ok"]) for f in found] == [("noria.yaml", False), ("dvc.yaml", True)]
