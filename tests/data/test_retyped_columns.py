"""A column whose values no longer fit its type: refused, warned of or allowed, as `schema.retyped` says."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from noria.cli import execute
from noria.config import DataSource
from noria.data import retyped, table_types
from noria.data.formats import DatasetFile, open_table, read_tables
from noria.data.table import TableType
from noria.data.table_store import Settled
from noria.data.table_types import TypeDecision
from noria.kernel.contract import ColumnRule, Contract, SchemaChange, SchemaPolicy
from noria.pipeline import check

WHOLE, HALVES, WORDS = "n\n1\n2\n", "n\n1.5\n2\n", "n\nfew\nmany\n"


def held(folder: Path, texts: list[str], policy: SchemaChange, kind: str | None = None) -> tuple[list[str], TableType]:
    """What is said of each file beside those accepted before, and the table's type in the end."""
    rules = (ColumnRule("n", kind),) if kind else ()
    source = DataSource("shop", "*.csv", Contract(columns=rules, schema=SchemaPolicy(retyped=policy)), "c.yaml")
    known, accepted, said = TableType(), list[DatasetFile](), list[str]()
    for at, text in enumerate(texts):
        path = folder / f"{at}.csv"
        path.write_text(text)
        opened = open_table(path, path.name)
        before = Settled("", table_types.basis(source), known)
        decided = table_types.of_files(source, before, (), [DatasetFile(path.name, path)])
        decided = table_types.for_file(source, decided, opened)
        decided = retyped.with_other_types(source, decided, opened, lambda names: list(retyped.of_files(source, accepted, names)))
        ruling, _, _ = check.ruling(source, decided, opened, tuple(known.columns), None)
        said.append(ruling.verdict.sentence())
        if ruling.verdict.passed:
            accepted.append(DatasetFile(path.name, path))
            known = table_types.accepted_type(decided, known, opened.table.columns)
    assert read_tables(accepted, known).height == 2 * len(accepted)
    return said, known


def test_refused_unless_the_contract_says_otherwise(tmp_path: Path) -> None:
    said, kind = held(tmp_path, [WHOLE, HALVES], SchemaPolicy().retyped)
    assert said[1] == "n: row 1 is no whole number; in this dataset it is int, as long as no contract says otherwise"
    assert kind.columns["n"].kind == "int"


def test_a_wider_type_is_taken_for_all_files(tmp_path: Path) -> None:
    said, kind = held(tmp_path, [WHOLE, HALVES, WORDS, WHOLE], SchemaChange.WARN)
    assert said[1].endswith("warning: has float in the column n, which was int in the files accepted before")
    assert said[2].endswith("warning: has string in the column n, which was float in the files accepted before")
    assert said[3] == "2 rows meet the contract"
    assert kind.columns["n"].kind == "string"


def test_allowed_changes_are_not_told(tmp_path: Path) -> None:
    said, kind = held(tmp_path, [WHOLE, HALVES], SchemaChange.ALLOW)
    assert said[1] == "2 rows meet the contract"
    assert kind.columns["n"].kind == "float"


def test_a_type_that_the_contract_says_stands(tmp_path: Path) -> None:
    said, _ = held(tmp_path, [WHOLE, HALVES], SchemaChange.ALLOW, kind="int")
    assert said[1] == "n: row 1 is no whole number; the contract says int"


def test_types_that_no_file_shares_are_refused(tmp_path: Path) -> None:
    """Parquet's whole numbers are no text: no type reads both."""
    source = DataSource("shop", "*", Contract(schema=SchemaPolicy(retyped=SchemaChange.ALLOW)), "c.yaml")
    pl.DataFrame({"n": [1]}).write_parquet(tmp_path / "a.parquet")
    pl.DataFrame({"n": ["one"]}).write_parquet(tmp_path / "b.parquet")
    first = DatasetFile("a.parquet", tmp_path / "a.parquet")
    decided = table_types.for_file(source, TypeDecision(TableType()), open_table(first.path))
    opened = open_table(tmp_path / "b.parquet")
    same = retyped.with_other_types(source, decided, opened, lambda names: list(retyped.of_files(source, [first], names)))
    assert same.type == decided.type
    assert not check.ruling(source, same, opened, ("n",), None)[0].verdict.passed


def test_check_and_run_agree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "noria.yaml").write_text('project: demo\ndata: {shop: {source: "*.csv", contract: c.yaml, settle: 1ms}}\n')
    (tmp_path / "c.yaml").write_text("schema: {retyped: warn}\n")
    (tmp_path / "a.csv").write_text(WHOLE)
    assert execute(["-C", str(tmp_path), "run", "--json"]) == 0
    capsys.readouterr()
    (tmp_path / "b.csv").write_text(HALVES)
    (tmp_path / "c.csv").write_text(WHOLE)
    assert execute(["-C", str(tmp_path), "check", "--json"]) == 0
    levels = {one["what"]: one["level"] for one in json.loads(capsys.readouterr().out)["findings"]}
    assert (levels["b.csv"], levels["c.csv"]) == ("warn", "ok")
    for _ in range(2):
        assert execute(["-C", str(tmp_path), "run", "--json"]) == 0
    capsys.readouterr()
    assert execute(["-C", str(tmp_path), "data", "quarantine"]) == 0
    assert "nothing was refused" in capsys.readouterr().out
    assert execute(["-C", str(tmp_path), "check", "--json"]) == 0
    assert "n float" in next(one["text"] for one in json.loads(capsys.readouterr().out)["findings"] if one["what"] == "shop")
