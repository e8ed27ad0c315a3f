"""A column that stands twice is refused, by init and at arrival."""

from __future__ import annotations

from typing import Any


def walk(case: Any) -> None:
    case.copy("joined.csv")
    said = case.noria("init", "--data", "joined.csv", "--label", "churned", code=1)
    assert "has the column 'churned' 2 times (columns 2, 5)" in said
    case.write("noria.yaml", "project: p\ndata: {joined: joined.csv}\n")
    assert "has the column 'churned' 2 times" in case.noria("check", code=1)
    ran = case.noria_json("run", code=1)
    assert (ran["outcome"], "joined.csv quarantined" in ran["reason"]) == ("quarantined", True)
