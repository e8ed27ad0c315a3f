"""`noria data diff` of files on disk, without a project, and of files against a project's versions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from noria.cli import execute


@pytest.fixture
def two(tmp_path: Path) -> Path:
    before = pl.DataFrame({"id": range(200), "price": [n * 0.5 for n in range(200)], "city": ["Bonn", "Köln"] * 100})
    after = before.with_columns(pl.col("price") * 100, city=pl.lit("Bonn"))
    before.write_csv(tmp_path / "a.csv", separator=";")
    after.write_parquet(tmp_path / "b.parquet")
    before.write_ndjson(tmp_path / "a.jsonl")
    before.write_ipc(tmp_path / "a.arrow")
    return tmp_path


def facts(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> Any:
    assert execute([*arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.arrow"])
def test_files_of_different_formats_are_compared_by_content(two: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    found = facts(capsys, "-C", str(two), "data", "diff", name, "b.parquet")
    assert found["before"] == {"file": name, "rows": 200, "columns": 3, "size_bytes": (two / name).stat().st_size}
    assert [(one["column"], one["kind"]) for one in found["content"]["changes"]] == [("price", "numbers"), ("city", "categories")]
    assert found["content"]["changes"][1]["went"] == ["Köln"]
    assert found["content"]["equal"] == ["id"]
    assert found["problem"] == ""


def test_a_person_reads_a_short_table(two: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["-C", str(two), "data", "diff", "a.csv", "b.parquet"]) == 0
    said = capsys.readouterr().out
    assert "a.csv → b.parquet: 200 → 200 rows; 2 differences beyond chance" in said
    assert "Köln is gone (50 % of the rows)" in said
    assert "equal: id" in said


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty (0 bytes)"),
        (b"a,a\n1,2\n", "has the column 'a' 2 times"),
        (b"a,b\n1\n", "row 1 has 1 value where the head has 2 columns"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(two: Path, capsys: pytest.CaptureFixture[str], content: bytes, said: str) -> None:
    (two / "bad.csv").write_bytes(content)
    error = facts(capsys, "-C", str(two), "data", "diff", "bad.csv", "b.parquet", code=1)["error"]
    assert said in error["message"]
    assert "bad.csv" in error["where"]


def test_what_is_no_file_and_no_version(two: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gone = facts(capsys, "-C", str(two), "data", "diff", "a.csv", "gone.csv", code=2)["error"]
    assert (gone["message"], Path(gone["where"]).name) == ("there is no such file", "gone.csv")
    assert "is a folder" in facts(capsys, "-C", str(two), "data", "diff", "a.csv", "../" + two.name, code=2)["error"]["message"]
    assert "noria.yaml" in facts(capsys, "-C", str(two), "data", "diff", "a.csv", "flights", code=2)["error"]["message"]
    files = facts(capsys, "-C", str(two), "data", "diff", "a.csv", "b.parquet", "--files", code=2)["error"]
    assert "--files compares the files of two snapshots" in files["message"]


def test_a_file_with_a_head_alone(two: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (two / "head.csv").write_text("id,price,city\n")
    (volume,) = facts(capsys, "-C", str(two), "data", "diff", "head.csv", "a.csv")["content"]["changes"]
    assert (volume["kind"], volume["text"]) == ("volume", "there were no rows")


def test_what_chance_may_explain_is_counted_and_listed_with_all(two: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (two / "c.csv").write_text("price\n" + "".join(f"{n * 0.5}\n" for n in range(200)))
    (two / "d.csv").write_text("price\n" + "".join(f"{n * 0.5 + 0.1}\n" for n in range(200)))
    assert execute(["-C", str(two), "data", "diff", "c.csv", "d.csv"]) == 0
    assert "0 differences beyond chance\n1 more difference that chance may explain (--all)" in capsys.readouterr().out
    assert execute(["-C", str(two), "data", "diff", "c.csv", "d.csv", "--all"]) == 0
    said = capsys.readouterr().out
    assert "(maybe chance) median" in said
    assert "higher by 0.1 on average" in said


def test_a_file_does_not_differ_from_itself(two: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = facts(capsys, "-C", str(two), "data", "diff", "a.csv", "a.csv")
    assert found["content"]["changes"] == []
    assert found["content"]["equal"] == ["id", "price", "city"]


def test_values_of_several_kinds_in_one_column_are_texts(two: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (two / "mixed.csv").write_text("id,price,city\n" + "1,2,x\nA,b,3\n" * 30)
    found = facts(capsys, "-C", str(two), "data", "diff", "a.csv", "mixed.csv")["content"]
    assert [(one["column"], one["after"]) for one in found["changes"] if one["kind"] == "retyped"] == [
        ("id", "string"),
        ("price", "string"),
    ]
    assert set(found["not_compared"]) == {"id", "price"}
