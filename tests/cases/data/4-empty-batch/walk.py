"""A file with a head and no rows changes nothing of what a release takes."""

from __future__ import annotations

import json
from typing import Any


def kinds(case: Any, release: str) -> dict[str, str]:
    digest = case.noria_json("show", release)["release"]["digest"]
    manifest = json.loads((case.home / ".noria" / "releases" / digest / "manifest.json").read_text())
    return {one["name"]: one["kind"] for one in manifest["signature"]["inputs"]}


def walk(case: Any) -> None:
    case.copy("model.py")
    case.copy("b1.csv", to="data")
    case.copy("contract.yaml", to="contracts")
    (case.home / "contracts" / "contract.yaml").rename(case.home / "contracts" / "b1.yaml")
    policy = (case.inputs / "noria.yaml").read_text().partition("gates:")[0]
    policy = policy.partition("checks:")[0] + 'gates: ["roc_auc >= 0.55"]\n'
    case.write("noria.yaml", policy.replace("params: params.yaml\n", ""))
    case.write(".gitignore", ".noria/\ndata/\n")
    case.commit()
    assert case.noria_json("run")["release"] == "v1"
    assert kinds(case, "v1") == {"seats": "integer", "level": "integer"}
    case.copy("b2.csv", to="data")
    assert "FAIL" not in case.noria("check", "--no-tests")
    ran = case.noria_json("run", code=None)
    assert ran["outcome"] in ("nothing changed", "promoted"), ran
    newest = case.noria_json("releases")["releases"][0]["version"]
    assert kinds(case, newest) == {"seats": "integer", "level": "integer"}
