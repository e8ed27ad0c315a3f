"""Numbers 23, 24: tables as people have them, drafted and checked in this process."""

from __future__ import annotations

import json
import keyword
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from noria import cli, config

N = 80


def table(**more: Any) -> pl.DataFrame:
    return pl.DataFrame({"x": [at % 7 + at / 100 for at in range(N)], **more, "y": [at % 3 % 2 for at in range(N)]})


def initialise(home: Path, name: str) -> str:
    """A project for the file of that name in the home; what init printed is in the capture."""
    assert cli.execute(["-C", str(home), "init", "--data", name, "--label", "y"]) == 0
    assert config.load(home).model is not None
    return (home / "noria.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["texts", "table", "pl", "class", "count"])
def test_any_file_name_makes_a_project_that_can_be_read(tmp_path: Path, name: str) -> None:
    """Number 24: the file's name becomes that of a dataset, which is an argument where a step takes it: no keyword."""
    table(plan=["a", "b"] * (N // 2)).write_csv(tmp_path / f"{name}.csv")
    initialise(tmp_path, f"{name}.csv")
    (dataset,) = config.load(tmp_path).data
    assert dataset.isidentifier()
    assert not keyword.iskeyword(dataset)


def test_bytes_and_categories_are_drafted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Number 24: a column of bytes is left out; Enum is text."""
    rows = table(raw=[bytes([at, 255]) for at in range(N)], kind=pl.Series(["a", "b"] * (N // 2), dtype=pl.Enum(["b", "a"])))
    rows.write_parquet(tmp_path / "rows.parquet")
    initialise(tmp_path, "rows.parquet")
    assert "left out: raw (of type Binary)" in capsys.readouterr().out
    assert "kind: {type: string" in (tmp_path / "contracts" / "rows.yaml").read_text()
    assert cli.execute(["-C", str(tmp_path), "check", "--no-tests"]) == 0
    assert "raw Binary" in capsys.readouterr().out


def test_a_table_in_the_place_of_a_folder_is_named_with_the_command_to_use(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table().write_csv(tmp_path / "my rows.csv")
    assert cli.execute(["-C", str(tmp_path), "init", "my rows.csv"]) == 2
    assert "noria init --data 'my rows.csv' --label COLUMN" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["rows.parquet", "rows.arrow", "rows.csv"])
def test_a_column_that_stands_twice_is_refused_in_every_format(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """Number 23: readers name the second one otherwise, or take one of the two."""
    twice = pa.table([pa.array(range(N)), pa.array([at % 2 for at in range(N)]), pa.array([0] * N)], names=["x", "y", "y"])
    if name.endswith("csv"):
        (tmp_path / name).write_text("x,y,y\n" + "1,0,0\n" * N)
    elif name.endswith("arrow"):
        with pa.ipc.new_file(tmp_path / name, twice.schema) as file:
            file.write_table(twice)
    else:
        pq.write_table(twice, tmp_path / name)
    assert cli.execute(["-C", str(tmp_path), "init", "--data", name, "--label", "y"]) == 1
    assert "has the column 'y' 2 times (columns 2, 3)" in capsys.readouterr().err


def test_an_input_that_predicts_the_label_alone_is_said_at_the_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Number 23: and it fails nothing, since it may be right."""
    rows = table(id=[f"k{at}" for at in range(N)])
    rows.with_columns(copy=pl.col("y") * 10 + 1, plan=pl.lit("a")).write_csv(tmp_path / "rows.csv")
    initialise(tmp_path, "rows.csv")
    capsys.readouterr()
    assert cli.execute(["-C", str(tmp_path), "check", "--no-tests", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["findings"]
    told = [one["text"] for one in found if one["level"] == "warn"]
    assert told == ["copy predicts y alone (AUC 1.000): is it known when a prediction is asked for?"]
