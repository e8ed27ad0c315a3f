"""Files whose columns are others than those of the files accepted before: refused, warned of or allowed, as the contract says."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from noria.cli import execute
from noria.config import DataSource
from noria.data import table_types
from noria.data.formats import DatasetFile, open_table, read_tables
from noria.data.table import TableType
from noria.data.table_types import TypeDecision
from noria.kernel.contract import ColumnRule, Contract, SchemaChange, SchemaPolicy
from noria.pipeline import check

BASE = ("id", "name", "price")
CASES = [  # the columns of a file, the policy, whether it is accepted, what is said
    (("id", "name", "price"), SchemaPolicy(), True, ""),
    (("price", "id", "name"), SchemaPolicy(), True, ""),
    (("id", "name", "price", "tax"), SchemaPolicy(), False, "has the column tax, which the files accepted before have not"),
    (("id", "name"), SchemaPolicy(), False, "has no column price, which the files accepted before have"),
    (("id", "name", "price", "tax"), SchemaPolicy(added=SchemaChange.ALLOW), True, ""),
    (("id", "name", "price", "tax"), SchemaPolicy(added=SchemaChange.WARN), True,
     "warning: has the column tax, which the files accepted before have not"),
    (("id",), SchemaPolicy(dropped=SchemaChange.ALLOW), True, ""),
    (("id",), SchemaPolicy(dropped=SchemaChange.WARN), True,
     "warning: has no columns name, price, which the files accepted before have"),
    (("name", "id", "price"), SchemaPolicy(reordered=SchemaChange.WARN), True,
     "warning: has its columns in another order than the files accepted before"),
    (("name", "id", "price"), SchemaPolicy(reordered=SchemaChange.REFUSE), False,
     "has its columns in another order than the files accepted before"),
    (("id", "price", "tax"), SchemaPolicy(added=SchemaChange.ALLOW), False, "has no column name"),
    (("id", "name", "tax"), SchemaPolicy(added=SchemaChange.WARN, dropped=SchemaChange.REFUSE), False, "has no column price"),
]  # fmt: skip


def ruled(path: Path, columns: tuple[str, ...], policy: SchemaPolicy) -> tuple[bool, str]:
    pl.DataFrame({name: [1, 2] for name in columns}).write_parquet(path)
    contract = Contract(columns=(ColumnRule("id", nulls=0.0),), schema=policy)
    source = DataSource("shop", "*.parquet", contract, "c.yaml")
    opened = open_table(path)
    decided = table_types.for_file(source, TypeDecision(TableType()), opened)
    ruling, _, _ = check.ruling(source, decided, opened, BASE, None)
    assert ruling.verdict.passed or not ruling.warnings
    return ruling.verdict.passed, ruling.verdict.sentence()


@pytest.mark.parametrize(("columns", "policy", "accepted", "said"), CASES)
def test_schema_changes(tmp_path: Path, columns: tuple[str, ...], policy: SchemaPolicy, accepted: bool, said: str) -> None:
    passed, sentence = ruled(tmp_path / "a.parquet", columns, policy)
    assert passed is accepted
    if accepted:
        assert sentence == "2 rows meet the contract" + (f"; {said}" if said else "")
    else:
        assert sentence.startswith(said)


def test_files_of_both_shapes_are_one_table(tmp_path: Path) -> None:
    """A column that came or went is empty where a file does not have it."""
    pl.DataFrame({"id": [1], "old": ["x"]}).write_parquet(tmp_path / "a.parquet")
    pl.DataFrame({"id": [2], "new": [0.5]}).write_parquet(tmp_path / "b.parquet")
    policy = SchemaPolicy(added=SchemaChange.ALLOW, dropped=SchemaChange.ALLOW)
    source = DataSource("shop", "*.parquet", Contract(schema=policy), "c.yaml")
    parts = [DatasetFile(name, tmp_path / name) for name in ("a.parquet", "b.parquet")]
    kind = TableType()
    for part in parts:
        opened = open_table(part.path)
        decided = table_types.for_file(source, TypeDecision(kind), opened)
        ruling, _, _ = check.ruling(source, decided, opened, tuple(kind.columns), None)
        assert ruling.verdict.passed
        kind = table_types.accepted_type(decided, kind, opened.table.columns)
    assert read_tables(parts, kind).rows() == [(1, "x", None), (2, None, 0.5)]


def test_check_says_of_each_file_what_the_run_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A column that one file brought is missing in the next one, in `noria check` as in `noria run`."""
    (tmp_path / "noria.yaml").write_text('project: demo\ndata: {shop: {source: "*.csv", contract: c.yaml, settle: 1ms}}\n')
    (tmp_path / "c.yaml").write_text("schema: {added: warn, dropped: refuse}\n")
    for name, text in (("a", "id\n1\n"), ("b", "id,tax\n2,1\n"), ("c", "id\n3\n")):
        (tmp_path / f"{name}.csv").write_text(text)
    assert execute(["-C", str(tmp_path), "check", "--json"]) == 1
    found = {one["what"]: one["level"] for one in json.loads(capsys.readouterr().out)["findings"]}
    assert [found[f"{name}.csv"] for name in "abc"] == ["ok", "warn", "fail"]
