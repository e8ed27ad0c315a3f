"""Contracts as files."""

from __future__ import annotations

from pathlib import Path

import pytest
from blake3 import blake3

from noria import config
from noria.kernel.contract import ColumnRule, Contract, RowRule
from noria.kernel.errors import ConfigError

TEXT = """\
columns:
  id: string
  Age (years): {type: int, nulls: never, range: [0, 60]}
  humid: {type: float, nulls: "<= 10%", range: [null, 1.5]}
  site: {nulls: 0.1, values: [NO, SE, 7, true]}
  note: {required: false}
unique: [id]
rows: {min: 10, max: 1000}
freshness: {column: at, within: 60d}
extra_columns: forbid
rules:
  - {name: sober, expr: "humid IS NULL OR humid <= 1", at_most: 1%}
"""


def load(tmp_path: Path, text: str) -> Contract:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    return config.load_contract(path, shown="contracts/c.yaml")


def test_a_contract(tmp_path: Path) -> None:
    assert load(tmp_path, TEXT) == Contract(
        columns=(
            ColumnRule("id", "string"),
            ColumnRule("Age (years)", "int", 0.0, 0, 60),
            ColumnRule("humid", "float", 0.1, None, 1.5),
            ColumnRule("site", None, 0.1, values=("NO", "SE", "7", "true")),
            ColumnRule("note", required=False),
        ),
        unique=("id",),
        rows_min=10,
        rows_max=1000,
        fresh_column="at",
        fresh_within_s=5_184_000,
        extra_columns="forbid",
        rules=(RowRule("sober", "humid IS NULL OR humid <= 1", 0.01),),
        source="contracts/c.yaml",
        digest=blake3(TEXT.encode()).hexdigest(),
    )


def test_an_empty_contract_promises_a_row(tmp_path: Path) -> None:
    contract = load(tmp_path, "")
    assert (contract.columns, contract.rows_min, contract.extra_columns) == ((), 1, "allow")


@pytest.mark.parametrize(
    ("text", "where", "message"),
    [
        ("columns: {a: {type: integer}}", "1:21", "expected int, float"),
        ("columns: {a: {nulls: some}}", "1:22", 'never, "<= 10%" or 0.1'),
        ("columns: {a: {nulls: '<= 110%'}}", "1:22", "expected never"),
        ("columns: {a: {range: [5, 1]}}", "1:22", "ends before it begins"),
        ("columns: {a: {range: [5]}}", "1:22", "expected a list of two numbers"),
        ("columns: {a: {type: string, range: [1, 5]}}", "1:36", "only numbers have a range"),
        ("rows: {min: 5, max: 1}", "1:21", "fewer than the least"),
        ("freshness: {column: at}", "1:12", "'within' is missing"),
        ("rules: [{name: x}]", "1:9", "'expr' is missing"),
        ("extra_columns: forbidden", "1:16", "expected allow or forbid"),
        ("colums: {}", "1:1", "unknown key 'colums'"),
        ("[]", "1:1", "expected a mapping, found a list"),
    ],
)
def test_a_mistake_names_its_place(tmp_path: Path, text: str, where: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert caught.value.where == f"contracts/c.yaml:{where}"
    assert message in caught.value.message
