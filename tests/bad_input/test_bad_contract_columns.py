"""Columns that hold nothing, one thing, too much or something odd: each promise has a defined answer, lazily and in memory."""

from __future__ import annotations

import polars as pl
import pytest

from noria.data import judge_contract as judge
from noria.kernel.contract import ColumnRule, Contract, RowRule

NAN, INF = float("nan"), float("inf")
ALL = {"nulls": 0.0, "low": 0.0, "high": 9.0, "values": ("1", "2"), "pattern": "a+", "length_min": 2, "length_max": 3}
CASES = [  # the column, a promise of it, what is said ("" where it holds), failing rows
    ([1.0, NAN, 2.0], {"nulls": 0.0}, "a: 33.3 % of 3 rows are empty; the contract allows 0 %", 1),
    ([1.0, NAN, 2.0], {"low": 0.0, "high": 9.0}, "", 0),
    ([1.0, NAN], {"values": ("1",)}, "", 0),
    ([1.0, INF, -INF], {"low": 0.0, "high": 9.0}, "a: 2 of 3 rows lie outside 0 to 9 (1 below, 1 above)", 2),
    ([1.0, INF], {"high": INF}, "", 0),
    ([7, 7, 7, 7], {"low": 7.0, "high": 7.0}, "", 0),
    ([7, 7, 7], {"unique": True}, "2 of 3 rows repeat the (a) of a row before them in this file", 2),
    ([], ALL, "0 rows; the contract asks for at least 1", 0),
    ([None, None], {"low": 0.0, "values": ("1",), "pattern": "a", "length_min": 2}, "", 0),
    ([None, None], {"nulls": 0.5}, "a: 100 % of 2 rows are empty; the contract allows 50 %", 2),
    ([None, None], {"unique": True}, "1 of 2 rows repeat the (a) of a row before them in this file", 1),
    ([None, None], {"order": True, "type": "int"}, "", 0),
    (["a", "1"], {"low": 0.0}, "a: the contract sets a range of numbers, the file has string", 0),
    ([True, False], {"low": 0.0}, "a: the contract sets a range of numbers, the file has bool", 0),
    ([1, 2], {"pattern": r"\d"}, "a: the contract sets a pattern of text, the file has int", 0),
    ([1, 2], {"length_min": 1}, "a: only text and lists have a length, the file has int", 0),
    (["x"], {"order": True}, "a: only times and numbers have an order, the file has string", 0),
    ([[1], [2, 3], None], {"length_max": 1}, "a: 1 of 3 rows do not have at most 1 items (0 shorter, 1 longer)", 1),
    ([[1], [1]], {"values": ("1",)}, "a: the contract lists values, the file has list(int)", 0),
    ([[1], [1]], {"unique": True}, "1 of 2 rows repeat the (a) of a row before them in this file", 1),
    ([{"b": 1}, {"b": 1}], {"unique": True}, "1 of 2 rows repeat the (a) of a row before them in this file", 1),
    (["é", "ée", "日本語"], {"length_min": 1, "length_max": 2},
     "a: 1 of 3 rows do not have 1 to 2 characters (0 shorter, 1 longer)", 1),
    (["ab", "ab\n", "xab", ""], {"pattern": "ab"}, "a: 3 of 4 rows do not match ab", 3),
    (["a", "b", "ab"], {"pattern": "a|b"}, "a: 1 of 3 rows do not match a|b", 1),
    ([1, 3, None, 2, 2, 4], {"order": True}, "a: 1 of 6 rows are earlier than the row before them", 1),
    ([1.0, NAN, 0.5], {"order": True}, "a: 1 of 3 rows are earlier than the row before them", 1),
    ([2**53, 2**53 + 1], {"high": float(2**53)},
     "a: 1 of 2 rows lie outside 9.0072e+15 and below (0 below, 1 above)", 1),
]  # fmt: skip


@pytest.mark.parametrize("name", ["a", "größe 列 %", "noria:rule:0"])
@pytest.mark.parametrize(("values", "promise", "said", "failing"), CASES, ids=[f"{i}: {c[2][:40]}" for i, c in enumerate(CASES)])
def test_odd_columns(values: list[object], promise: dict[str, object], said: str, failing: int, name: str) -> None:
    table = pl.DataFrame({name: values})
    kept = {key: value for key, value in promise.items() if key not in ("unique", "order")}
    contract = Contract(
        columns=(ColumnRule(name, **kept),),
        unique=((name,),) if "unique" in promise else (),
        order=name if "order" in promise else None,
    )
    words = said.replace("(a)", f"({name})").replace("a: ", f"{name}: ", 1) if said.startswith("a: ") or "(a)" in said else said
    for each in (table, table.lazy()):
        ruling = judge.judge(contract, each, now=None)
        assert ruling.verdict.sentence() == (words or f"{len(values)} rows meet the contract")
        assert (ruling.failing_rows, ruling.failing.height) == (failing, failing)


def test_a_contract_for_columns_that_do_not_exist() -> None:
    contract = Contract(
        columns=(ColumnRule("a", "int"), ColumnRule("b", pattern="x")),
        unique=(("a", "c"),),
        fresh_column="at",
        fresh_within_s=60.0,
        order="at",
        rules=(RowRule("sane", "z > 0"),),
    )
    table = pl.DataFrame({"x": [1, 2]})
    for each in (table, table.lazy()):
        ruling = judge.judge(contract, each, now=0.0)
        assert [r.text for r in ruling.verdict.reasons] == [
            "column a is missing",
            "column b is missing",
            "column c is missing",
            "column at is missing",
            "rule 'sane' needs z, which the file does not have",
        ]
        assert ruling.failing_rows == 0


def test_a_million_distinct_texts() -> None:
    table = pl.DataFrame({"key": pl.int_range(1_000_000, eager=True).cast(pl.String)})
    contract = Contract(columns=(ColumnRule("key", "string", nulls=0.0, pattern=r"\d+", length_max=6),), unique=(("key",),))
    assert judge.judge(contract, table, now=None).verdict.passed
    twice = pl.concat([table, table.head(3)])
    assert judge.judge(contract, twice, now=None).failing_rows == 3
    listed = Contract(columns=(ColumnRule("key", values=("1", "2")),))
    ruling = judge.judge(listed, table, now=None, most=5)
    assert ruling.verdict.sentence() == "key: 999,998 of 1,000,000 rows hold 999,998 values other than 1, 2"
    assert (ruling.failing_rows, ruling.failing.height) == (999_998, 5)
