"""A locale that is not UTF-8: what is printed lacks a character at most, and nothing ends."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from walked_case import Case, wait_for

from noria.serving.client import Server

MODEL = """
from sklearn.linear_model import Ridge

def train(features, label):
    return Ridge().fit(features, label)
"""
PROJECT = """
project: points
data: {points: {source: "data/*.csv", settle: 50ms}}
model: {rows: points, key: id, task: regression, inputs: [x], label: y, train: "model:train"}
gates: [rows >= 1]
environments: {production: {rollout: direct}}
"""


def walk(case: Case) -> None:
    """Number 57: the commands print, and a commit message in Japanese ends neither the daemon nor the server."""
    locale = latin_1(case)
    case.write("model.py", MODEL)
    case.write("noria.yaml", PROJECT)
    case.write(".gitignore", "/.noria/\n/data/\n")
    case.write("data/a.csv", "id,x,y\n" + "".join(f"{i},{i},{2 * i}\n" for i in range(60)))
    case.commit("Caf\u00e9 \u2013 \u6771\u4eac")
    said = case.noria("run", env=locale)
    assert "promoted" in said
    for words in (["status"], ["runs"], ["show", "v1"], ["releases"], ["audit", "log"]):
        case.noria(*words, env=locale)
    with case.up(env=locale) as up:
        wait_for(lambda: Server(case.home / ".noria").is_alive())
        case.run("git", "commit", "-q", "--allow-empty", "-m", "Fix \u6771\u4eac")
        wait_for(lambda: "Fix" in case.noria("audit", "log", env=locale))
        assert "Fix \\u6771" in case.noria("audit", "log", "--json", env=locale)  # as JSON writes it for who reads no UTF-8
        assert up["process"].poll() is None
        assert Server(case.home / ".noria").is_alive()


def latin_1(case: Case) -> dict[str, str]:
    """An environment whose locale is Latin-1, made as a person without one would."""
    if shutil.which("localedef") is None:
        pytest.skip("no localedef here to make a locale with")
    name = "xx_XX.ISO-8859-1"
    made = case.home.parent / name
    subprocess.run(["localedef", "-c", "-i", "POSIX", "-f", "ISO-8859-1", str(made)], capture_output=True, check=False)
    if not (made / "LC_CTYPE").exists():
        pytest.skip("the locale cannot be made here: its sources are missing")
    return {"LOCPATH": str(made.parent), "LC_ALL": name, "PYTHONUTF8": "", "LANG": name}
