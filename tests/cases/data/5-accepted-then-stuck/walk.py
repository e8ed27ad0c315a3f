"""What cannot stand below the accepted files is refused at arrival, by the person's names; the turns go on."""

from __future__ import annotations

import shutil
from typing import Any


def walk(case: Any) -> None:
    case.write("noria.yaml", 'project: p\ndata:\n  b1: {source: "data/*.csv", contract: contracts/b1.yaml, settle: 1ms}\n')
    case.write("contracts/b1.yaml", "columns:\n  cust: {type: string, nulls: never}\nrows: {min: 1}\n")
    refused = (
        ("extra", "data/b2.csv: has the column extra, which the files accepted before have not"),
        ("utc", "at in row 1 is '2024-01-13T12:00:00Z'"),
    )
    for name, said in refused:
        shutil.rmtree(case.home / ".noria", ignore_errors=True)
        shutil.rmtree(case.home / "data", ignore_errors=True)
        if name == "utc":  # the contract says datetime, which both are
            shutil.copy(case.inputs / "b1.yaml", case.home / "contracts" / "b1.yaml")
        (case.home / "data").mkdir()
        shutil.copy(case.inputs / f"{name}_b1.csv", case.home / "data" / "b1.csv")
        assert case.noria_json("run")["outcome"] == "done"
        shutil.copy(case.inputs / f"{name}_b2.csv", case.home / "data" / "b2.csv")
        assert said in case.noria("check", code=1)
        ran = case.noria_json("run", code=1)
        assert (ran["outcome"], "data/b2.csv quarantined" in ran["reason"]) == ("quarantined", True), ran
        (case.home / "data" / "b2.csv").unlink()
        assert "quarantined" not in case.noria_json("run")["reason"]
