"""What a contract refuses, in which words, and which rows it points at."""

from __future__ import annotations

from datetime import UTC, date, datetime

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.data import judge_contract as judge
from noria.kernel.contract import ColumnRule, Contract, RowRule
from noria.kernel.errors import ConfigError
from noria.kernel.verdict import Outcome

TABLE = pl.DataFrame(
    {
        "id": list(range(20)),
        "distance": [100, None, 300, -4] * 5,
        "origin": ["JFK", "EWR", "XXX", "LGA"] * 5,
        "delay": [1.0, 2.0, float("nan"), 4.0] * 5,
        "day": [date(2013, 1, 1 + i) for i in range(20)],
    }
)
NOW = datetime(2013, 1, 22, tzinfo=UTC).timestamp()


def columns(*rules: ColumnRule, **more: object) -> Contract:
    return Contract(columns=rules, **more)


def rule(expr: str, at_most: float = 0.0) -> Contract:
    return Contract(rules=(RowRule("sane", expr, at_most),))


CASES = [
    (columns(ColumnRule("Distance")), ["column Distance is missing (the file has distance)"], 0),
    (columns(ColumnRule("orgin")), ["column orgin is missing (the file has origin)"], 0),
    (columns(ColumnRule("tail_number")), ["column tail_number is missing"], 0),
    (columns(ColumnRule("tail_number", required=False)), [], 0),
    (columns(ColumnRule("id"), extra_columns="forbid"),
     ["the contract forbids extra columns; the file has distance, origin, delay, day"], 0),
    (columns(ColumnRule("distance", "float"), ColumnRule("id", "int"), ColumnRule("day", "date")), [], 0),
    (columns(ColumnRule("delay", "int")), ["delay: the contract promises int, the file has float"], 0),
    (columns(ColumnRule("origin", "float")), ["origin: the contract promises float, the file has string"], 0),
    (columns(ColumnRule("day", "datetime")), ["day: the contract promises datetime, the file has date"], 0),
    (columns(ColumnRule("distance", nulls=0.0)), ["distance: 25 % of 20 rows are empty; the contract allows 0 %"], 5),
    (columns(ColumnRule("distance", nulls=0.25)), [], 0),
    (columns(ColumnRule("delay", nulls=0.1)), ["delay: 25 % of 20 rows are empty; the contract allows 10 %"], 5),
    (columns(ColumnRule("distance", low=0, high=250)),
     ["distance: 10 of 20 rows lie outside 0 to 250 (5 below, 5 above)"], 10),
    (columns(ColumnRule("distance", low=0)), ["distance: 5 of 20 rows lie outside 0 and above (5 below, 0 above)"], 5),
    (columns(ColumnRule("distance", low=-4, high=300)), [], 0),
    (columns(ColumnRule("delay", high=3.5)), ["delay: 5 of 20 rows lie outside 3.5 and below (0 below, 5 above)"], 5),
    (columns(ColumnRule("origin", low=1)), ["origin: the contract sets a range of numbers, the file has string"], 0),
    (columns(ColumnRule("origin", values=("JFK", "EWR", "LGA"))),
     ["origin: 5 of 20 rows hold 1 value other than JFK, EWR, LGA"], 5),
    (columns(ColumnRule("delay", values=("1", "2"))), ["delay: 5 of 20 rows hold 1 value other than 1, 2"], 5),
    (columns(ColumnRule("distance", values=("100", "300", "-4"))), [], 0),
    (Contract(unique=(("id",),)), [], 0),
    (Contract(unique=(("origin", "distance"),)),
     ["16 of 20 rows repeat the (origin, distance) of a row before them in this file"], 16),
    (Contract(unique=(("flight",),)), ["column flight is missing"], 0),
    (Contract(rows_min=21), ["20 rows; the contract asks for at least 21"], 0),
    (Contract(rows_max=19), ["20 rows; the contract allows at most 19"], 0),
    (Contract(fresh_column="day", fresh_within_s=2 * 86400.0), [], 0),
    (Contract(fresh_column="day", fresh_within_s=86400.0),
     ["day: the newest row is 2 d old; the contract allows 1 d"], 0),
    (Contract(fresh_column="origin", fresh_within_s=60.0),
     ["origin: no row has a time"], 0),
    (rule("distance > 0"), ["rule 'sane' does not hold on 5 of 20 rows"], 5),  # null holds
    (rule("distance > 0", 0.25), [], 0),
    (rule("distance > 0", 0.2), ["rule 'sane' does not hold on 5 of 20 rows; the contract allows 20 %"], 5),
    (rule("delay < 4"), ["rule 'sane' does not hold on 5 of 20 rows"], 5),  # NaN is empty, so it holds
    (rule("origin IN ('JFK') OR id >= 0"), [], 0),
    (rule("distnce > 0"), ["rule 'sane' needs distnce, which the file does not have"], 0),
    (rule("count(*) > 20"), ["rule 'sane' does not hold on 20 of 20 rows"], 20),
    (Contract(columns=(ColumnRule("origin", "int"),), rules=(RowRule("sane", "origin > 3"),)),
     ["origin: the contract promises int, the file has string"], 0),
]  # fmt: skip


@pytest.mark.parametrize(
    ("contract", "texts", "failing"), CASES, ids=[f"{i}: {' '.join(c[1])[:50]}" for i, c in enumerate(CASES)]
)
def test_contract(contract: Contract, texts: list[str], failing: int) -> None:
    ruling = judge.judge(contract, TABLE, now=NOW)
    assert [r.text for r in ruling.verdict.reasons] == (texts or ["20 rows meet the contract"])
    assert ruling.verdict.outcome is (Outcome.FAIL if texts else Outcome.PASS)
    assert (ruling.failing_rows, ruling.failing.height) == (failing, failing)
    assert ruling.failing.columns == [*TABLE.columns, "noria_reason"]


def test_all_failing_rows_are_collected_or_as_many_as_are_asked_for() -> None:
    table = pl.DataFrame({"distance": [None] * 9_819 + [5] * 18_977}, schema={"distance": pl.Int64})
    ruling = judge.judge(columns(ColumnRule("distance", nulls=0.0)), table, now=None)
    assert ruling.verdict.sentence() == "distance: 34.1 % of 28,796 rows are empty; the contract allows 0 %"
    assert (ruling.failing_rows, ruling.failing.height) == (9_819, 9_819)
    few = judge.judge(columns(ColumnRule("distance", nulls=0.0)), table, now=None, most=1_000)
    assert (few.failing_rows, few.failing.height, few.mask.sum()) == (9_819, 1_000, 9_819)
    assert few.failing.equals(ruling.failing.head(1_000))
    one = judge.judge(columns(ColumnRule("distance", high=4)), table.with_row_index().with_columns(
        distance=pl.when(pl.col("index") == 0).then(9).otherwise(1)), now=None)  # fmt: skip
    assert one.verdict.sentence() == "distance: 1 of 28,796 rows lie outside 4 and below (0 below, 1 above)"


def test_an_empty_file_is_too_short_and_no_more() -> None:
    contract = columns(ColumnRule("id", nulls=0.0, low=0), unique=(("id",),), rules=(RowRule("sane", "id > 3"),))
    ruling = judge.judge(contract, TABLE.clear(), now=NOW)
    assert ruling.verdict.sentence() == "0 rows; the contract asks for at least 1"
    assert ruling.failing_rows == 0
    untyped = pl.DataFrame(schema={"id": pl.String})  # a CSV file that has a header only
    assert judge.judge(contract, untyped, now=NOW).verdict.sentence() == "0 rows; the contract asks for at least 1"


def test_freshness_needs_a_clock_and_reads_text_and_numbers() -> None:
    contract = Contract(fresh_column="at", fresh_within_s=3600.0)
    texts = pl.DataFrame({"at": ["2013-01-21T23:30:00+00:00", "2013-01-01T00:00:00+00:00"]})
    seconds = pl.DataFrame({"at": [NOW - 1800, float("nan")]})
    zoned = pl.DataFrame({"at": [datetime(2013, 1, 21, 23, 30, tzinfo=UTC)]})
    for table in (texts, seconds, zoned):
        assert judge.judge(contract, table, now=NOW).verdict.passed
        assert not judge.judge(contract, table, now=NOW + 3600).verdict.passed
        assert judge.judge(contract, table, now=None).verdict.passed


def test_known_keys_are_found_across_types() -> None:
    table = pl.DataFrame({"id": [1, 2, 3, None], "origin": ["a", "b", "c", "d"]})
    known = pl.DataFrame({"id": ["2", "9", None], "origin": ["b", "c", "d"]})
    ruling = judge.judge(Contract(unique=(("id", "origin"),)), table, now=None, known_keys=known)
    assert ruling.verdict.sentence() == "2 of 4 rows repeat the (id, origin) of a row that was accepted before"
    assert ruling.failing["origin"].to_list() == ["b", "d"]
    assert judge.judge(Contract(unique=(("id",),)), table, now=None, known_keys=known.clear()).verdict.passed


def test_the_sample_says_what_each_row_breaks() -> None:
    contract = columns(ColumnRule("distance", nulls=0.0, low=0), ColumnRule("origin", values=("JFK", "EWR")))
    why = judge.judge(contract, TABLE, now=None).failing["noria_reason"].to_list()
    assert why[:3] == [
        "distance is empty",
        "origin is not an allowed value",
        "distance lies outside 0 and above; origin is not an allowed value",
    ]


BAD = ["distance >", "distance + 1", "origin > 3", "nosuch(distance) > 0", "SELECT 1", "id IN (SELECT 1)", ""]


@pytest.mark.parametrize("expr", BAD)
def test_an_impossible_rule_is_a_configuration_error(expr: str) -> None:
    contract = Contract(rules=(RowRule("sane", expr),), source="contracts/flights.yaml")
    with pytest.raises(ConfigError, match="rule 'sane'") as caught:
        judge.judge(contract, TABLE, now=None)
    assert caught.value.where == "contracts/flights.yaml"


rows = st.lists(
    st.fixed_dictionaries({
        "n": st.none() | st.integers(-3, 3),
        "x": st.none() | st.floats(-3, 3) | st.just(float("nan")) | st.just(float("inf")),
        "s": st.none() | st.sampled_from("abc"),
    }),
    min_size=1,
    max_size=12,
)  # fmt: skip
limits = st.none() | st.integers(-3, 3)
contracts = st.builds(
    lambda nulls, low, high, values, unique, at_most: Contract(
        columns=(
            ColumnRule("n", nulls=nulls, low=low, high=high),
            ColumnRule("x", nulls=nulls, low=low, high=high),
            ColumnRule("s", nulls=nulls, values=values),
        ),
        unique=unique,
        rules=(RowRule("order", "n <= x", at_most),),
    ),
    st.sampled_from([0.0, 0.3, 1.0]), limits, limits, st.sampled_from([None, ("a",), ("a", "b")]),
    st.sampled_from([(), (("n",),), (("n", "s"),), (("n",), ("s", "x"))]), st.sampled_from([0.0, 0.3, 1.0]),
)  # fmt: skip


def empty(value: object) -> bool:
    return value is None or value != value


def same(one: object, other: object) -> bool:
    return (empty(one) and empty(other)) or one == other


def breaks_a_rule(contract: Contract, row: dict[str, object], before: list[dict[str, object]]) -> bool:
    """Row by row in plain Python: could any rule of the contract object to this row?"""
    for column in contract.columns:
        value = row[column.name]
        if empty(value):
            if column.nulls < 1.0:
                return True
            continue
        if column.low is not None and value < column.low:
            return True
        if column.high is not None and value > column.high:
            return True
        if column.values is not None and value not in column.values:
            return True
    if any(any(all(same(row[k], other[k]) for k in key) for other in before) for key in contract.unique):
        return True
    return not empty(row["n"]) and not empty(row["x"]) and not row["n"] <= row["x"]


@given(contracts, rows)
def test_rows_are_conserved_and_every_failing_row_breaks_a_rule(contract: Contract, data: list[dict[str, object]]) -> None:
    table = pl.DataFrame(data, schema={"n": pl.Int64, "x": pl.Float64, "s": pl.String})
    ruling = judge.judge(contract, table, now=None)
    suspects = {i for i, row in enumerate(data) if breaks_a_rule(contract, row, data[:i])}
    marked = judge.judge(contract, table.with_row_index(), now=None)
    assert set(marked.failing["index"].to_list()) <= suspects
    assert ruling.failing_rows == ruling.failing.height <= table.height
    assert ruling.verdict.passed == (ruling.failing_rows == 0)
    assert all(ruling.failing["noria_reason"].to_list())
    if not suspects:
        assert ruling.verdict.passed
    strict = {c.nulls for c in contract.columns} <= {0.0, 1.0} and contract.rules[0].at_most == 0.0
    if strict:  # nothing is tolerated: then the suspects are exactly the failing rows
        assert set(marked.failing["index"].to_list()) == suspects
