"""Decimals, lists and structs as a contract promises them: which values fit, from text and from files with types."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from noria.data import judge_contract as judge
from noria.data import promised_types
from noria.data.formats import DatasetFile, fit_columns, open_table, read_tables
from noria.data.table import Column, TableType
from noria.kernel.contract import ColumnRule, Contract
from noria.kernel.dialect import PLAIN

FITTING = [
    ("decimal", pl.Decimal(20, 12), True), ("decimal(12,2)", pl.Decimal(12, 2), True), ("decimal(12,2)", pl.Decimal(10, 1), True),
    ("decimal(12,2)", pl.Decimal(12, 3), False), ("decimal(12,2)", pl.Decimal(14, 2), False), ("decimal", pl.Int32, True),
    ("decimal", pl.Float64, False), ("float", pl.Decimal(9, 2), True), ("int", pl.Decimal(9, 0), False),
    ("list", pl.List(pl.String), True), ("list(int)", pl.List(pl.Int8), True), ("list(int)", pl.List(pl.String), False),
    ("list(float)", pl.Array(pl.Float32, 3), True), ("list(string)", pl.List(pl.Null), True), ("list", pl.String, False),
    ("struct", pl.Struct({"a": pl.Int64}), True), ("struct", pl.List(pl.Int64), False), ("string", pl.Categorical(), True),
]  # fmt: skip


@pytest.mark.parametrize(("promised", "dtype", "fits"), FITTING)
def test_which_types_fit(promised: str, dtype: pl.DataType, fits: bool) -> None:
    assert promised_types.fits(promised, pl.Series(dtype=dtype).dtype) is fits
    ruling = judge.judge(
        Contract(columns=(ColumnRule("a", promised),)), pl.DataFrame({"a": pl.Series([None], dtype=dtype)}), now=None
    )
    assert ruling.verdict.passed is fits


def fitted(path: Path, **kinds: str) -> tuple[pl.DataFrame, list[str]]:
    table, misfits = fit_columns(open_table(path), TableType({n: Column(k, said=True) for n, k in kinds.items()}), PLAIN)
    return table, [each.text for each in misfits]


def test_decimals_of_text_are_exact(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a,b\n0.10,1\n+12345678901234567890.12,\n-.5,3.100\n")
    table, misfits = fitted(path, a="decimal(22,2)", b="decimal(3,1)")
    assert misfits == []
    assert table["a"].to_list() == [Decimal("0.10"), Decimal("12345678901234567890.12"), Decimal("-0.50")]
    assert table["b"].to_list() == [Decimal("1.0"), None, Decimal("3.1")]
    path.write_text("a\n0.123\n1e3\n12345.00\nx\n1.00\n")
    assert fitted(path, a="decimal(5,2)")[1] == ["a: 4 of 5 rows are no decimal(5,2); the contract says decimal(5,2)"]


def test_text_is_no_list(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('a,b\n"[1, 2]",x\n')
    assert len(fitted(path, a="list", b="struct")[1]) == 2


def test_lists_and_structs_of_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in [{"a": [1, 2], "b": {"c": 1}}, {"a": None, "b": None}]))
    table, misfits = fitted(path, a="list(int)", b="struct")
    assert misfits == []
    assert table["a"].to_list() == [[1, 2], None]
    assert fitted(path, a="list(string)")[1] == ["a: the contract promises list(string), the file has list(int)"]


def test_files_of_decimals_stand_one_below_the_other(tmp_path: Path) -> None:
    for name, kind in (("a", pl.Decimal(9, 2)), ("b", pl.Decimal(12, 4)), ("c", pl.Int64)):
        pl.DataFrame({"x": pl.Series([1], dtype=kind)}).write_parquet(tmp_path / f"{name}.parquet")
    parts = [DatasetFile(f"{name}.parquet", tmp_path / f"{name}.parquet") for name in "abc"]
    assert read_tables(parts, TableType({"x": Column("decimal", said=True)}))["x"].to_list() == [Decimal(1)] * 3
