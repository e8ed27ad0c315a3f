"""The index that pandas writes is a column with a name, no key and no input; the drafted project runs."""

from __future__ import annotations

from typing import Any


def walk(case: Any) -> None:
    case.copy("indexed.csv")
    made = case.noria_json("init", "--data", "indexed.csv", "--label", "churned")
    assert made["left_out"] == {"column_1": "the number of the row"}
    assert "column_1" not in made["inputs"]
    assert "ok    tests" in case.noria("check")
    ran = case.noria_json("run", code=None)
    assert ran["outcome"] in ("promoted", "gate failed", "not enough data"), ran  # 80 rows may show too little
