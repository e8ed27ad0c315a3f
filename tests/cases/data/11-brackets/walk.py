"""Brackets in the name of the home or of a file are part of the name."""

from __future__ import annotations

from typing import Any

ROWS = "id,x,churned\n" + "".join(f"C{at},{at % 7},{at % 2}\n" for at in range(60))


def walk(case: Any) -> None:
    team = case.home / "[team] churn"
    team.mkdir()
    case.noria("init", cwd=team)
    said = case.noria("check", "--no-tests", cwd=team)
    assert "data/readings-01.csv: 3,240 rows" in said or "data/readings-01.csv: " in said
    assert "no file matches" not in said
    case.write("sales [2024].csv", ROWS)
    shop = case.home / "shop"
    shop.mkdir()
    case.noria("init", "--data", "../sales [2024].csv", "--label", "churned", cwd=shop)
    assert "data/sales [2024].csv: 60 rows meet the contract" in case.noria("check", "--no-tests", cwd=shop)
    assert case.run("git", "status", "--porcelain", cwd=shop) == "", "the data is ignored"
