"""Profiles keep counts; distances see change and stay silent without it."""

from __future__ import annotations

import math
import sys

import msgspec
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.stats import profile
from noria.stats.profile_records import ColumnProfile, Profile


def one(values: list[object] | np.ndarray, dtype: pl.DataType | type[pl.DataType] | None = None) -> ColumnProfile:
    return profile.build(pl.DataFrame({"x": pl.Series(values, dtype=dtype)}), ["x"]).columns["x"]


def distance(before: object, after: object) -> float:
    reference = profile.build(pl.DataFrame({"x": before}), ["x"])
    return profile.distances(reference, profile.summarise(pl.DataFrame({"x": after}), reference))["x"]


def test_numbers_fall_into_ten_equal_bins() -> None:
    column = one(list(range(1000)))
    assert len(column.edges) == 9
    assert sum(column.counts) == 1000
    assert max(abs(count - 100) for count in column.counts) <= 1


def test_nulls_and_nan_are_counted_apart() -> None:
    column = one([1.0, None, math.nan, 2.0, 3.0])
    assert (column.rows, column.nulls, sum(column.counts)) == (5, 2, 3)


def test_text_and_booleans_keep_the_most_frequent_values() -> None:
    column = one([f"v{i:02}" for i in range(30) for _ in range(40 - i)] + [None])
    assert column.values == tuple(f"v{i:02}" for i in range(20))
    assert column.counts[:2] == (40, 39)
    assert column.counts[-1] == sum(40 - i for i in range(20, 30))
    assert column.nulls == 1
    flags = one([True, True, False, None])
    assert (flags.values, flags.counts, flags.nulls) == (("true", "false"), (2, 1, 0), 1)


def test_ties_go_by_value() -> None:
    assert one(["b", "a", "c", "a", "b"]).values == one(["a", "b", "c", "b", "a"]).values == ("a", "b", "c")


@settings(max_examples=60)
@given(
    values=st.lists(st.one_of(st.none(), st.floats(), st.sampled_from([0.0, 1.0, 2.0])), max_size=60),
    later=st.lists(st.one_of(st.none(), st.floats()), max_size=40),
)
def test_every_row_is_counted_once_and_the_profile_survives_json(values: list[float | None], later: list[float | None]) -> None:
    table = pl.DataFrame({"x": pl.Series(values, dtype=pl.Float64)})
    reference = profile.build(table, ["x"])
    current = profile.summarise(pl.DataFrame({"x": pl.Series(later, dtype=pl.Float64)}), reference)
    for column, rows in ((reference.columns["x"], values), (current.columns["x"], later)):
        assert sum(column.counts) + column.nulls == column.rows == len(rows)
        assert len(column.counts) == len(column.edges) + 1
        assert column.edges == tuple(sorted(set(column.edges)))
    assert profile.summarise(table, reference) == reference
    assert msgspec.convert(msgspec.json.decode(msgspec.json.encode(reference)), Profile) == reference
    assert 0 <= profile.distances(reference, current)["x"] < math.inf


@pytest.mark.parametrize("values", [[math.inf] * 3, [-math.inf] * 3, [-math.inf, -math.inf, -math.inf, 1.0, 2.0, math.inf]])
def test_infinities_are_counted_but_make_no_edges(values: list[float]) -> None:
    column = one(values)
    assert all(map(math.isfinite, column.edges))
    assert (sum(column.counts), column.nulls) == (len(values), 0)


@pytest.mark.parametrize("value", [-sys.float_info.max, sys.float_info.max])
def test_the_largest_numbers_make_edges_that_json_has(value: float) -> None:
    reference = profile.build(pl.DataFrame({"x": [value]}), ["x"])
    assert all(map(math.isfinite, reference.columns["x"].edges))
    assert msgspec.convert(msgspec.json.decode(msgspec.json.encode(reference)), Profile) == reference


def test_a_column_may_be_called_anything() -> None:
    table = pl.DataFrame({"n": ["a", "b"], "value": ["c", "c"], "counts": [1, 2]})
    assert profile.build(table, table.columns).columns["n"].counts == (1, 1, 0)


def test_columns_that_the_table_lacks_are_left_out() -> None:
    reference = profile.build(pl.DataFrame({"a": [1, 2], "b": ["x", "y"]}), ["a", "b"])
    current = profile.summarise(pl.DataFrame({"b": ["x"], "c": [1]}), reference)
    assert list(current.columns) == list(profile.distances(reference, current)) == ["b"]


def test_the_index_by_hand() -> None:
    """Half and half against nine to one: (0.9 - 0.5) ln(0.9 / 0.5) + (0.1 - 0.5) ln(0.1 / 0.5)."""
    by_hand = 0.4 * math.log(1.8) - 0.4 * math.log(0.2)
    n = 100_000
    assert distance(["a"] * n + ["b"] * n, ["a"] * 9 * n + ["b"] * n) == pytest.approx(by_hand, abs=1e-3)


def test_a_column_that_empties_has_drifted() -> None:
    assert distance([1.0, 2.0, 3.0] * 300, [1.0, 2.0, None] * 300) > 0.25
    assert distance(["a", "b"] * 300, ["a", None] * 300) > 0.25


def test_a_shift_is_seen_and_a_new_value_and_a_constant_that_moves() -> None:
    rng = np.random.default_rng(1)
    assert distance(rng.normal(size=5000), rng.normal(size=500) + 1) > 0.25
    assert distance(["a", "b"] * 300, ["a", "c"] * 300) > 0.25
    for moved in (6.0, 8.0):
        assert distance([7.0] * 500, [moved] * 500) > 0.25
    assert distance([True, False] * 300, [True] * 600) > 0.25


@pytest.mark.parametrize("rows", [200, 1000])
def test_without_change_the_index_is_nil_on_average(rows: int) -> None:
    """The subtracted mean is the right one: kept negative values would average to about 0, and few exceed the limit."""
    rng = np.random.default_rng(2)
    reference = profile.build(pl.DataFrame({"x": rng.normal(size=20_000)}), ["x"])
    found = [
        profile.distances(reference, profile.summarise(pl.DataFrame({"x": rng.normal(size=rows)}), reference))["x"]
        for _ in range(300)
    ]
    spread = math.sqrt(2 * 9) * (1 / rows + 1 / 20_000)  # of (1/n + 1/m) chi-square with 9 degrees of freedom
    assert np.mean(np.array(found) == 0) == pytest.approx(0.56, abs=0.12)  # P(chi-square of 9 < 9) = 0.563
    assert np.quantile(found, 0.99) < 4 * spread
    assert max(found) < 0.25


def test_profiles_with_other_bins_are_refused() -> None:
    a, b = (profile.build(pl.DataFrame({"x": values}), ["x"]) for values in ([1, 2, 3, 4], ["a", "b"]))
    with pytest.raises(ValueError, match="different bins"):
        profile.distances(a, b)


def test_no_rows_is_no_distance() -> None:
    assert distance([1.0, 2.0], pl.Series([], dtype=pl.Float64)) == 0
    assert distance(pl.Series([], dtype=pl.String), ["a"]) == 0
