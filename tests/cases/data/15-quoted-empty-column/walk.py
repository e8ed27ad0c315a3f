"""An empty cell in quotes is a missing number, as NA is, and a decimal comma is found."""

from __future__ import annotations

from typing import Any


def walk(case: Any) -> None:
    text = (case.inputs / "quoted.csv").read_text()
    written = {"quoted": text, "words": text.replace('""', '"NA"'), "commas": text.replace(".", ",")}
    for name, content in written.items():
        home = case.home / name
        home.mkdir()
        (home / "quoted.csv").write_text(content)
        made = case.noria("init", "--data", "quoted.csv", "--label", "churned", cwd=home)
        assert "left out" not in made
        contract = (home / "contracts" / "quoted.yaml").read_text()
        assert 'fee: {type: float, nulls: "<= 17%", range: [0, 152]}' in contract
        assert "quoted.csv: 100 rows meet the contract" in case.noria("check", "--no-tests", cwd=home)
