"""The contract's types read every file; without them, those of the first files do."""

from __future__ import annotations

import shutil
from typing import Any

LATER = ("b2_alldigits", "b17_keydigits", "b6_boolish", "b7_dates", "b3_emptynum", "b5_quotedempty")


def walk(case: Any) -> None:
    case.write("noria.yaml", 'project: p\ndata:\n  b1: {source: "data/*.csv", contract: contract.yaml, settle: 1ms}\n')
    case.copy("contract.yaml")
    case.copy("b1.csv", *(f"{name}.csv" for name in LATER), "b9_floattenure.csv", to="data")
    said = case.noria("check", code=1)
    assert all(f"ok    data/{name}.csv: " in said for name in ("b1", *LATER)), said
    assert "FAIL  data/b9_floattenure.csv: tenure: 50 % of 60 rows are empty; the contract allows 0 %" in said, "5.0 is whole"
    assert "cust string, tenure int, sku string, discount float, comment string, vip string, churned int" in said
    case.write("noria.yaml", 'project: p\ndata:\n  b1: {source: "data/*.csv", settle: 1ms}\n')
    shutil.rmtree(case.home / "data")
    case.copy("b1.csv", to="data")
    case.noria("run")
    case.copy(*(f"{name}.csv" for name in LATER), "b9_floattenure.csv", to="data")
    assert case.noria_json("run")["outcome"] == "done", "nothing is refused"
    said = case.noria("check")
    assert "by the files: cust string, tenure int, sku string, discount float, comment string, vip string, churned int" in said
