"""`noria data infer`: of a file without a project, of a dataset before and after its first run, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from noria.cli import execute

PROJECT = "project: p\ndata:\n  points: {source: 'data/*.csv'}\n  pictures: {source: pictures, format: files}\n"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "noria.yaml").write_text(PROJECT)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/a.csv").write_text("id,x,day\n" + "".join(f"{n},{n / 4},13.05.2024\n" for n in range(40)))
    (tmp_path / "data/b.csv").write_text("id,x,day\n" + "".join(f"{n},,14.05.2024\n" for n in range(40, 60)))
    return tmp_path


def facts(capsys: pytest.CaptureFixture[str], home: Path, *arguments: str, code: int = 0) -> Any:
    assert execute(["-C", str(home), "data", "infer", *arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_a_file_needs_no_project(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "noria.yaml").unlink()
    assert execute(["-C", str(home), "data", "infer", "data/a.csv"]) == 0
    contract = yaml.safe_load(capsys.readouterr().out)
    assert contract["columns"]["day"] == {"type": "date", "format": "%d.%m.%Y", "nulls": "never"}
    assert contract["unique"] == ["id"]


def test_a_dataset_is_drafted_from_all_its_files_and_then_checks(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = facts(capsys, home, "points", "--into", "contracts/points.yaml")
    assert (found["files"], found["rows"], found["written"]) == (2, 60, "contracts/points.yaml")
    assert found["columns"][1]["nulls"] == 1.0  # all of the second file
    assert (home / "contracts/points.yaml").read_text() == found["contract"]
    (home / "noria.yaml").write_text(PROJECT.replace("'data/*.csv'", "'data/*.csv', contract: contracts/points.yaml"))
    assert execute(["-C", str(home), "check", "--no-tests"]) in (0, 1)
    said = capsys.readouterr().out
    assert "data/a.csv: 40 rows meet the contract" in said
    assert "data/b.csv: 20 rows meet the contract" in said


def test_nothing_is_overwritten_without_force(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "mine.yaml").write_text("mine")
    assert "not overwritten" in facts(capsys, home, "points", "--into", "mine.yaml", code=1)["error"]["message"]
    assert (home / "mine.yaml").read_text() == "mine"
    facts(capsys, home, "points", "--into", "mine.yaml", "--force")
    assert "columns" in (home / "mine.yaml").read_text()


@pytest.mark.parametrize(
    ("what", "said", "code"),
    [
        ("point", "there is no dataset 'point'", 2),
        ("pictures", "are not tables", 2),
        ("gone.csv", "there is no such file", 2),
        ("data/empty.csv", "is empty (0 bytes)", 1),
        ("data/", "is a folder", 2),
    ],
)
def test_what_cannot_be_drafted_from(home: Path, capsys: pytest.CaptureFixture[str], what: str, said: str, code: int) -> None:
    (home / "data/empty.csv").touch()
    assert said in facts(capsys, home, what, code=code)["error"]["message"]


def test_a_file_with_a_head_alone(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "head.csv").write_text("a,b\n")
    assert yaml.safe_load(facts(capsys, home, "head.csv")["contract"]) == {
        "columns": {"a": {}, "b": {}},
        "rows": {"min": 0},
    }


def test_types_of_several_files_are_drafted_together(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "data/b.csv").write_text("id,x,day\nA1,7,14.05.2024\n")
    columns = {one["name"]: one for one in facts(capsys, home, "points")["columns"]}
    assert columns["id"]["type"] == "string"  # numbers in one file, a text in the other
    assert (columns["x"]["type"], columns["x"]["low"], columns["x"]["high"]) == ("float", 0, 19.5)
    assert (columns["day"]["type"], columns["day"]["format"]) == ("date", "%d.%m.%Y")


def test_dates_that_may_be_read_in_two_ways_are_asked_about(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "dates.csv").write_text("day\n" + "01/02/2024\n03/04/2024\n" * 5)
    (day,) = facts(capsys, home, "dates.csv")["columns"]
    assert day["type"] == "string"
    assert "may be day or month first" in day["seen"]


def test_a_person_reads_what_to_do_next(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["-C", str(home), "data", "infer", "points", "--into", "contracts/points.yaml"]) == 0
    said = capsys.readouterr().out
    assert "contracts/points.yaml: 3 columns from 60 rows in 2 files" in said
    assert "`contract: contracts/points.yaml` below data.points; then: noria check" in said
    assert execute(["-C", str(home), "data", "infer", "data/a.csv", "--into", "one.yaml"]) == 0
    assert "noria.yaml takes it" not in capsys.readouterr().out


def test_column_names_of_any_writing_stay_whole(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "odd.csv").write_text('größe ☃,"a: b #c",- x\n1,2,3\n4,5,6\n', encoding="utf-8")
    found = facts(capsys, home, "odd.csv")
    assert list(yaml.safe_load(found["contract"])["columns"]) == ["größe ☃", "a: b #c", "- x"]
