"""What changed between two tables: each kind of change, their order, what is chance, and input that breaks naive code."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.data.judge_table_difference import judge
from noria.data.table_change import ChangeKind, TableChange, TableDifference

RNG = np.random.default_rng(7)


def of(found: TableDifference, column: str, kind: ChangeKind | None = None) -> TableChange:
    (change,) = [one for one in found.changes if one.column == column and kind in (None, one.kind)]
    return change


def frame(**columns: Any) -> pl.DataFrame:
    return pl.DataFrame(columns, strict=False)


def test_a_table_does_not_differ_from_itself() -> None:
    table = frame(x=RNG.normal(size=50), c=["a", "b"] * 25, day=[date(2024, 1, 1) + timedelta(days=n) for n in range(50)])
    found = judge(table, table)
    assert found.changes == ()
    assert found.equal == ("x", "c", "day")


def test_columns_that_came_went_and_changed_their_type() -> None:
    before, after = frame(a=[1, 2], b=["x", None], c=[1, 2]), frame(c=["1", "2"], a=[1.5, 2.0], d=[True, False])
    found = judge(before, after)
    assert of(found, "b").kind is ChangeKind.DROPPED
    assert of(found, "b").before == "string, 50 % empty"
    assert of(found, "d", ChangeKind.ADDED).after == "bool"
    assert of(found, "c").text == "the type is string, it was int"
    assert found.not_compared == {"c": "its type changed"}
    assert of(found, "a", ChangeKind.RETYPED).effect == 0.5  # half of the decimals are whole
    assert of(found, "").text == "2 columns stand elsewhere: a, c"


def test_the_largest_effect_stands_first_and_chance_last() -> None:
    n = 4000
    before = frame(small=RNG.normal(size=n), large=RNG.normal(size=n), same=RNG.normal(size=n), kind=["a", "b"] * (n // 2))
    after = frame(
        small=RNG.normal(0.2, size=n), large=RNG.normal(2, size=n), same=RNG.normal(size=n), kind=["a"] * 3000 + ["c"] * 1000
    )
    found = judge(before, after)
    assert [one.column for one in found.changes] == ["large", "kind", "small", "same"]
    assert [one.beyond_chance for one in found.changes] == [True, True, True, False]
    large, kind = found.changes[:2]
    assert large.numbers["wasserstein"] == pytest.approx(2, abs=0.1)
    assert large.text.startswith("higher by 2")
    assert kind.numbers["total_variation"] == pytest.approx(0.5)
    assert (kind.came, kind.went) == (("c",), ("b",))
    assert kind.text == "a: 50 % → 75 %; c is new (25 % of the rows); b is gone (50 % of the rows)"


def test_two_samples_of_one_source_differ_by_chance() -> None:
    """Of 40 comparisons of 8 columns each, the bound of 1 % for a whole comparison lets about none through."""
    alarms = 0
    for _ in range(40):
        sides = [
            frame(
                **{f"n{i}": RNG.exponential(size=300) for i in range(4)},
                **{f"c{i}": RNG.choice(list("abcdef"), 300) for i in range(4)},
            )
            for _ in range(2)
        ]
        alarms += any(one.beyond_chance for one in judge(*sides).changes)
    assert alarms <= 4


def test_empty_cells_and_rows() -> None:
    found = judge(frame(x=[1.5, None] * 100), frame(x=[1.5] * 90 + [float("nan")] * 10))
    nulls = of(found, "x")
    assert (nulls.kind, nulls.before, nulls.after) == (ChangeKind.NULLS, "50 % empty", "10 % empty")
    assert nulls.effect == pytest.approx(0.4)
    volume = of(found, "")
    assert (volume.effect, volume.text, volume.beyond_chance) == (0.5, "50 % fewer rows", True)
    few = judge(frame(x=[1] * 10), frame(x=[1] * 12))
    assert not of(few, "").beyond_chance


def test_rows_that_versions_share_sharpen_the_test() -> None:
    old = frame(x=RNG.normal(size=2000))
    new = pl.concat([old, frame(x=RNG.normal(0.6, size=200))])
    assert not of(judge(old, new), "x").beyond_chance  # as if none of its rows were known
    assert of(judge(old, new, shared=2000), "x").beyond_chance
    assert not of(judge(old, pl.concat([old, frame(x=RNG.normal(size=200))]), shared=2000), "x").beyond_chance


def test_dates_and_times() -> None:
    days = [date(2024, 1, 1) + timedelta(days=n) for n in range(30)]
    found = judge(frame(day=days), frame(day=[one + timedelta(days=30) for one in days]))
    change = of(found, "day")
    assert (change.before, change.after) == ("2024-01-01 to 2024-01-30", "2024-01-31 to 2024-02-29")
    assert change.text == "later; no time in one lies within the other"
    mixed = judge(frame(day=days), frame(day=[datetime(2024, 1, 1), datetime(2500, 1, 1)]))
    assert of(mixed, "day", ChangeKind.RETYPED).after == "datetime"
    far = judge(frame(t=[datetime(1, 1, 1)]), frame(t=[datetime(9999, 12, 31)]))
    assert of(far, "t").before.startswith("0001-01-01")


def test_numbers_that_are_not_finite() -> None:
    inf = float("inf")
    found = of(judge(frame(x=[0.5, 1.5, 2.5, inf]), frame(x=[0.5, 1.5, -inf, inf])), "x")
    assert found.text.endswith("infinite: 1, now 2")
    assert all(np.isfinite(value) for value in found.numbers.values())
    assert of(judge(frame(x=[inf, inf]), frame(x=[1.5, 2.5])), "x").text.startswith("there were no finite numbers")
    assert judge(frame(x=[float("nan")] * 3), frame(x=[float("nan")] * 3)).equal == ("x",)


def test_columns_without_values_and_constant_ones() -> None:
    empty = pl.Series("x", [None, None, None])
    found = judge(pl.DataFrame([empty]), frame(x=[1.5, 2.5, 3.5]))
    assert [one.kind for one in found.changes] == [ChangeKind.NULLS]
    assert judge(pl.DataFrame([empty]), pl.DataFrame([empty])).changes == ()
    constant = of(judge(frame(x=[7] * 20), frame(x=[8] * 20)), "x")
    assert (constant.text, constant.beyond_chance) == ("8 is new (100 % of the rows); 7 is gone (100 % of the rows)", True)


def test_tables_without_rows_or_columns() -> None:
    nothing = pl.DataFrame()
    assert judge(nothing, nothing).changes == ()
    found = judge(frame(x=[1, 2]).clear(), frame(x=[1, 2]))
    assert (of(found, "").text, of(found, "").effect) == ("there were no rows", 1.0)
    assert {one.kind for one in judge(frame(x=[1]), nothing).changes} == {ChangeKind.DROPPED, ChangeKind.VOLUME}


def test_texts_that_hardly_repeat_are_compared_by_length_and_never_shown() -> None:
    before, after = frame(id=[f"k{n}" for n in range(5000)]), frame(id=[f"secret{n}" for n in range(5000)])
    change = of(judge(before, after), "id")
    assert (change.kind, change.came) == (ChangeKind.LENGTHS, ())
    assert "5,000 different" in change.after
    assert change.text.endswith("0 % of the texts were there before")
    assert "secret1" not in str(change)


def test_names_and_values_of_any_writing() -> None:
    found = judge(pl.DataFrame({"größe ☃": ["ä", "ß"] * 20, "a b": [1, 2] * 20}), pl.DataFrame({"größe ☃": ["ä"] * 40}))
    assert of(found, "größe ☃").went == ("ß",)


def test_values_of_other_types_are_named_as_not_compared() -> None:
    found = judge(frame(x=[[1], [2]], b=[b"1", b"2"]), frame(x=[[3], None], b=[b"1", b"3"]))
    assert set(found.not_compared) == {"x", "b"}
    assert of(found, "x").kind is ChangeKind.NULLS


cells = st.one_of(
    st.lists(st.none() | st.integers(-(2**63), 2**63 - 1), min_size=6, max_size=6),
    st.lists(st.none() | st.floats(), min_size=6, max_size=6),
    st.lists(st.none() | st.text(max_size=3), min_size=6, max_size=6),
    st.lists(st.none() | st.booleans(), min_size=6, max_size=6),
    st.lists(st.none() | st.datetimes(), min_size=6, max_size=6),
)


@settings(max_examples=150)
@given(st.dictionaries(st.sampled_from("abc"), cells), st.dictionaries(st.sampled_from("abc"), cells), st.integers(0, 6))
def test_any_two_tables_are_compared(first: dict[str, list[Any]], second: dict[str, list[Any]], height: int) -> None:
    before, after = frame(**first), frame(**second).head(height)
    found = judge(before, after)
    effects = [one.effect for one in found.changes]
    assert all(0 <= effect <= 1 for effect in effects)
    assert all(np.isfinite(value) for one in found.changes for value in one.numbers.values())
    certain = [one.effect for one in found.changes if one.beyond_chance]
    assert certain == sorted(certain, reverse=True)
    assert {one.kind for one in judge(before, before).changes} == set()
