"""`noria data check FILE`: any file, with or without a contract, without a project."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from noria.cli import execute

GOOD = pl.DataFrame({"id": [1, 2, 3], "amount": [0.5, 1.5, 2.5], "name": ["a", "b", "c"]})


def facts(capsys: pytest.CaptureFixture[str], folder: Path, *arguments: str, code: int = 0) -> Any:
    assert execute(["-C", str(folder), "data", "check", *arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl", "arrow"])
def test_every_format_gets_the_same_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    {"csv": GOOD.write_csv, "parquet": GOOD.write_parquet, "jsonl": GOOD.write_ndjson, "arrow": GOOD.write_ipc}[suffix](path)
    (tmp_path / "c.yaml").write_text("columns: {amount: {type: float, range: [1, 2]}, id: int}\nunique: [id]\n")
    found = facts(capsys, tmp_path, path.name)
    assert found["ok"]
    assert [(one["name"], one["type"], one["nulls"], one["distinct"]) for one in found["columns"]] == [
        ("id", "int", 0, 3), ("amount", "float", 0, 3), ("name", "string", 0, 3)]  # fmt: skip
    assert [one["code"] for one in found["findings"]] == ["readable"]
    held = facts(capsys, tmp_path, path.name, "--contract", "c.yaml", code=1)
    assert (held["rows"], held["failing_rows"]) == (3, 2)
    assert held["findings"] == [
        {
            "level": "fail",
            "code": "contract.range",
            "text": "amount: 2 of 3 rows lie outside 1 to 2 (1 below, 1 above)",
            "columns": [],
        }
    ]


def test_a_warning_ends_with_zero(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    GOOD.write_csv(tmp_path / "a.csv")
    (tmp_path / "c.yaml").write_text("columns: {amount: {range: [1, 2], severity: warn}}\n")
    found = facts(capsys, tmp_path, "a.csv", "--contract", "c.yaml")
    assert [one["level"] for one in found["findings"]] == ["ok", "warn"]


def test_what_any_reader_wants_to_know(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "größe.csv"
    path.write_text("id,preis €,empty,one,twin,x\n1,2.5,,k,1,inf\n2,n.a.,,k,2,1.5\n3,4,,k,3,2.5\n3,4,,k,3,2.5\n")
    found = facts(capsys, tmp_path, path.name)
    assert {one["code"]: one["columns"] for one in found["findings"][1:]} == {
        "all_null": ["empty"],
        "constant": ["one"],
        "mixed": ["preis €"],
        "infinite": ["x"],
        "equal_columns": ["id", "twin"],
        "equal_rows": [],
    }
    assert execute(["-C", str(tmp_path), "data", "check", path.name]) == 0
    said = capsys.readouterr().out
    assert "preis € mixes types: 75 % of 4 values are numbers, the others are text" in said
    assert "preis €" in said.splitlines()[2]


UNREADABLE = [
    ("a.csv", "a,b\n1,2,3\n", "row 1 has 3 values where the head has 2 columns"),
    ("a.csv", "a,a\n1,2\n", "has the column 'a' 2 times"),
    ("a.csv", "", "is not a readable csv file"),
    ("a.parquet", "PAR1 cut", "is cut off: the end of a parquet file is missing"),
    ("a.jsonl", '{"a": 1}\n{"a":', "is not a readable ndjson file"),
    ("a.txt", "hello", ".txt is not a table format"),
]


@pytest.mark.parametrize(("name", "content", "said"), UNREADABLE)
def test_a_file_that_cannot_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: str, said: str
) -> None:
    (tmp_path / name).write_text(content)
    found = facts(capsys, tmp_path, name, code=1)
    assert (found["ok"], found["rows"], found["findings"][0]["code"]) == (False, None, "unreadable")
    assert said in found["findings"][0]["text"]


def test_what_is_not_there_and_what_is_no_contract(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    GOOD.head(0).write_parquet(tmp_path / "a.parquet")
    (tmp_path / "c.yaml").write_text("columns: {a: {pattern: '(?=x)'}}\n")
    assert facts(capsys, tmp_path, "none.csv", code=2)["error"]["message"] == "there is no file none.csv"
    assert facts(capsys, tmp_path, "a.parquet", "--contract", "none.yaml", code=2)["error"]["where"] == "none.yaml"
    assert facts(capsys, tmp_path, "a.parquet", "--contract", "c.yaml", code=2)["error"]["where"] == "c.yaml:1:24"
    assert [one["code"] for one in facts(capsys, tmp_path, "a.parquet")["findings"]] == ["readable", "empty"]


def test_dates_that_may_be_read_in_two_ways(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.csv").write_text("day\n03/04/2024\n05/06/2024\n")
    assert [one["code"] for one in facts(capsys, tmp_path, "a.csv")["findings"]][:2] == ["readable", "undecided"]
    (tmp_path / "c.yaml").write_text("columns: {day: {type: date}}\n")
    assert "may be" in facts(capsys, tmp_path, "a.csv", "--contract", "c.yaml", code=1)["findings"][0]["text"]


def test_a_contract_that_lists_every_column_and_drops_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.csv").write_text("id,x\n1,2\n2,3\n3,500\n")
    told = "columns: {id: int, x: {type: float, range: [0, 100]}}\ndrop_rows: {at_most: SHARE}\n"
    (tmp_path / "c.yaml").write_text(told.replace("SHARE", "50%"))
    found = facts(capsys, tmp_path, "a.csv", "--contract", "c.yaml")
    assert [(one["level"], one["code"]) for one in found["findings"]] == [("warn", "contract.drop_rows")]
    assert (found["rows"], found["failing_rows"]) == (3, 1)
    (tmp_path / "c.yaml").write_text(told.replace("SHARE", "1%"))
    found = facts(capsys, tmp_path, "a.csv", "--contract", "c.yaml", code=1)
    assert [one["code"] for one in found["findings"]] == ["contract.range", "contract.drop_rows"]
    assert "1 of 3 rows (33.3 %) fail; drop_rows allows at most 1 %" in found["findings"][1]["text"]
