"""Situations in which other validators let bad rows pass: Pandera's issues 1583, 1776, 1830, 1946 and 1958, and what dataframely
collects in its FailureInfo. A lazy table gets the same answer as the same rows in memory."""

from __future__ import annotations

from datetime import date

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.data import judge_contract as judge
from noria.data.judge_contract import ContractRuling
from noria.kernel.contract import ColumnRule, Contract, RowRule, Severity
from noria.kernel.errors import ConfigError

PRICES = pl.DataFrame({"city": ["Orlando", "Miami", "Tampa", "Austin", "Dallas", "Reno"], "price": [2, 12, 10, 24, 20, 18]})
IN_RANGE = Contract(columns=(ColumnRule("city", "string"), ColumnRule("price", "int", low=5, high=20)))


def both(contract: Contract, table: pl.DataFrame, **more: object) -> ContractRuling:
    """The ruling of the table in memory, once that of the lazy table is shown to be the same."""
    eager, lazy = (judge.judge(contract, each, now=None, **more) for each in (table, table.lazy()))
    assert lazy.verdict == eager.verdict
    assert (lazy.failing_rows, lazy.warnings) == (eager.failing_rows, eager.warnings)
    assert lazy.failing.equals(eager.failing)
    assert (lazy.mask is None) == (eager.mask is None)
    assert eager.mask is None or lazy.mask.equals(eager.mask)
    return eager


def test_a_lazy_table_is_checked_row_by_row() -> None:
    """Pandera 1583 and 1776: the checks of values do not run on a LazyFrame, and it passes."""
    ruling = both(IN_RANGE, PRICES)
    assert ruling.verdict.sentence() == "price: 2 of 6 rows lie outside 5 to 20 (1 below, 1 above)"
    assert ruling.failing["city"].to_list() == ["Orlando", "Austin"]


def test_bad_rows_are_told_and_collected_at_once() -> None:
    """Pandera 1830 and 1958: where bad rows are dropped, or are to be, no error says so, or nothing is dropped."""
    ruling = both(IN_RANGE, PRICES)
    assert not ruling.verdict.passed
    assert ruling.mask.to_list() == [True, False, False, True, False, False]
    good, bad = PRICES.filter(~ruling.mask), PRICES.filter(ruling.mask)
    assert judge.judge(IN_RANGE, good, now=None).verdict.passed
    assert good.height + bad.height == PRICES.height
    assert ruling.failing.drop("noria_reason").equals(bad)


@pytest.mark.parametrize("name", ["c", "cc", "n", "numbers", "1", "a b", "größe", "列", "noria_reason x"])
def test_the_name_of_a_column_decides_nothing(name: str) -> None:
    """Pandera 1830: whether rows were dropped depended on how the column was called."""
    table = pl.DataFrame({name: [1, 2, 3, 4]})
    assert both(Contract(columns=(ColumnRule(name, low=3),)), table).failing[name].to_list() == [1, 2]


def test_a_wrong_type_is_a_reason_and_no_crash() -> None:
    """Pandera 1946: a column of another type, whose rows were to be dropped, ended in a TypeError."""
    ruling = both(Contract(columns=(ColumnRule("a", "int", low=0),)), pl.DataFrame({"a": [1.0, 1.1]}))
    assert ruling.verdict.sentence() == "a: the contract promises int, the file has float"
    assert (ruling.failing_rows, ruling.mask) == (0, None)


def test_a_missing_column_beside_bad_rows() -> None:
    """What the table lacks and what its rows break are told together."""
    contract = Contract(columns=(ColumnRule("state"), ColumnRule("price", high=20)))
    ruling = both(contract, PRICES)
    assert [r.code for r in ruling.verdict.reasons] == ["contract.missing_column", "contract.range"]
    assert ruling.failing_rows == 1


def test_a_row_has_all_its_reasons() -> None:
    """dataframely's FailureInfo: counts by rule, and each failing row with every rule that it breaks."""
    table = pl.DataFrame({"id": [1, 1, 2, None], "zip": ["12345", "1234", "abc", None], "n": [5, -1, 7, None]})
    contract = Contract(
        columns=(ColumnRule("id", nulls=0.0), ColumnRule("zip", pattern=r"\d{5}"), ColumnRule("n", low=0)),
        unique=(("id",),),
        rules=(RowRule("small", "n < 7"),),
    )
    ruling = both(contract, table)
    assert dict(zip(ruling.failing["n"], ruling.failing["noria_reason"], strict=True)) == {
        -1: r"zip does not match \d{5}; n lies outside 0 and above; (id) repeats a row of this file",
        7: r"zip does not match \d{5}; rule 'small' does not hold",
        None: "id is empty",
    }
    assert {r.code: r.numbers.get("failing", r.numbers.get("repeated")) for r in ruling.verdict.reasons} == {
        "contract.nulls": None,
        "contract.pattern": 2,
        "contract.range": None,
        "contract.unique": 1,
        "contract.rule": 1,
    }


def test_a_warning_lets_the_file_through_and_is_told() -> None:
    contract = Contract(columns=(ColumnRule("price", high=20, severity=Severity.WARN), ColumnRule("city", nulls=0.0)))
    ruling = both(contract, PRICES)
    assert ruling.verdict.passed
    assert ruling.verdict.sentence() == (
        "6 rows meet the contract; warning: price: 1 of 6 rows lie outside 20 and below (0 below, 1 above)"
    )
    assert [r.code for r in ruling.warnings] == ["contract.range"]
    assert (ruling.failing_rows, ruling.failing.height) == (0, 0)


def test_a_warning_beside_a_refusal_refuses_no_row() -> None:
    contract = Contract(
        columns=(ColumnRule("price", high=20, severity=Severity.WARN), ColumnRule("city", values=("Reno", "Austin", "Miami"))),
        rules=(RowRule("cheap", "price < 11", severity=Severity.WARN),),
    )
    ruling = both(contract, PRICES)
    assert not ruling.verdict.passed
    assert ruling.verdict.sentence() == "city: 3 of 6 rows hold 3 values other than Reno, Austin, Miami"
    assert len(ruling.warnings) == 2
    assert ruling.failing["city"].to_list() == ["Orlando", "Tampa", "Dallas"]


def test_the_whole_contract_may_warn_and_a_column_refuse() -> None:
    contract = Contract(
        columns=(ColumnRule("price", high=20), ColumnRule("city", nulls=0.0, severity=Severity.QUARANTINE)),
        rows_min=7,
        severity=Severity.WARN,
    )
    assert both(contract, PRICES).verdict.passed
    assert not both(contract, PRICES.with_columns(city=pl.lit(None, pl.String))).verdict.passed


def test_a_rule_that_cannot_be_computed_is_named_among_others_that_can() -> None:
    contract = Contract(columns=(ColumnRule("price", high=20),), rules=(RowRule("fine", "price > 0"), RowRule("odd", "city > 3")))
    for table in (PRICES, PRICES.lazy()):
        with pytest.raises(ConfigError, match="rule 'odd' cannot be computed"):
            judge.judge(contract, table, now=None)


cells = st.fixed_dictionaries({
    "n": st.none() | st.integers(-3, 3),
    "x": st.none() | st.floats(-3, 3) | st.sampled_from([float("nan"), float("inf"), -0.0]),
    "s": st.none() | st.text("abé1", max_size=4),
    "d": st.none() | st.dates(date(2024, 1, 1), date(2024, 1, 9)),
    "l": st.none() | st.lists(st.integers(0, 3), max_size=3),
})  # fmt: skip
SCHEMA = {"n": pl.Int64, "x": pl.Float64, "s": pl.String, "d": pl.Date, "l": pl.List(pl.Int64)}
limits = st.none() | st.integers(-3, 3)
severities = st.sampled_from([None, Severity.WARN, Severity.QUARANTINE])
contracts = st.builds(
    lambda low, high, nulls, severity, unique, order, at_most: Contract(
        columns=(
            ColumnRule("n", nulls=nulls, low=low, severity=severity),
            ColumnRule("x", high=high, nulls=nulls),
            ColumnRule("s", pattern="[a-c]*", length_min=1, length_max=2, severity=severity),
            ColumnRule("l", length_max=1),
        ),
        unique=unique,
        order=order,
        rules=(RowRule("sane", "n <= x", at_most), RowRule("all", "count(*) > 2", severity=severity)),
    ),
    limits, limits, st.sampled_from([0.0, 0.5, 1.0]), severities,
    st.sampled_from([(), (("n",),), (("n", "s"), ("d",))]), st.sampled_from([None, "d", "x"]), st.sampled_from([0.0, 0.4]),
)  # fmt: skip


@settings(max_examples=60)
@given(contracts, st.lists(cells, max_size=8), st.lists(st.integers(-3, 3), max_size=3))
def test_lazy_and_eager_agree(contract: Contract, data: list[dict[str, object]], known: list[int]) -> None:
    keys = pl.DataFrame({"n": known, "s": ["a"] * len(known), "d": [date(2024, 1, 2)] * len(known)}, schema_overrides=SCHEMA)
    both(contract, pl.DataFrame(data, schema=SCHEMA), known_keys=keys)


def test_why_a_row_fails_names_a_length_once() -> None:
    rules = (ColumnRule("n", length_max=3), ColumnRule("l", length_min=2))
    ruling = judge.judge(Contract(columns=rules), pl.DataFrame({"n": ["abcd", "ab"], "l": [[1, 2], [1]]}), now=None)
    assert ruling.failing["noria_reason"].to_list() == [
        "n does not have at most 3 characters",
        "l does not have at least 2 items",
    ]
