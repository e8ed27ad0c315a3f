"""Dates that may be day or month first are nobody's guess; the contract's format reads them."""

from __future__ import annotations

from typing import Any


def walk(case: Any) -> None:
    case.copy("orders.csv")
    made = case.noria_json("init", "--data", "orders.csv", "--label", "churned")
    assert "day or month" in made["left_out"]["at"]
    assert "orders.csv: 400 rows meet the contract" in case.noria("check", "--no-tests")
    contract = case.home / "contracts" / "orders.yaml"
    drafted = contract.read_text()
    contract.write_text("\n".join(line for line in drafted.splitlines() if not line.startswith("  at:")) + "\n")
    said = case.noria("check", "--no-tests", code=1)
    assert "at: a date like 01/01/2024 may be %d/%m/%Y or %m/%d/%Y" in said
    assert 'at: {format: "%d/%m/%Y" or "%m/%d/%Y"}' in said
    contract.write_text(drafted.replace("at: {type: string,", 'at: {format: "%m/%d/%Y",'))
    said = case.noria("check", "--no-tests")
    assert "at date as %m/%d/%Y" in said
    policy = case.home / "noria.yaml"
    text = policy.read_text().replace("  task: binary", "  event_time: at\n  task: binary").partition("gates:")[0]
    policy.write_text(text.partition("checks:")[0].replace("holdout: {fraction: 0.2}", "holdout: {last: 31d}"))
    case.commit()
    run = case.noria_json("run", code=None)
    assert run["outcome"] in ("promoted", "not released"), run
    (training,) = (case.home / ".noria" / "releases").glob("*/evidence/training.json")
    assert "2024-11-12 to 2024-12-12" in training.read_text(), "the newest 31 days are held out"
