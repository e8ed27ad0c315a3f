"""Profiles beside brute force: the bins, their sums, what chance gives, and how far windows wander."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2_contingency

from noria.stats import profile
from noria.stats.profile_records import ColumnProfile, Profile

NUMBERS = st.lists(st.one_of(st.none(), st.floats(-5, 5), st.integers(-3, 3).map(float)), max_size=50)
TEXTS = st.lists(st.one_of(st.none(), st.sampled_from(["a", "b", "", "ä", "a ", "null"])), max_size=50)


def table(values: list[float | None] | list[str | None], dtype: type[pl.DataType]) -> pl.DataFrame:
    return pl.DataFrame({"x": pl.Series(values, dtype=dtype)})


@settings(max_examples=80)
@given(reference=NUMBERS, values=NUMBERS)
def test_a_number_falls_between_its_edges(reference: list[float | None], values: list[float | None]) -> None:
    """Above the edge before, and not above its own; as `bisect` says."""
    made = profile.build(table(reference, pl.Float64), ["x"])
    column = made.columns["x"]
    found = profile.summarise(table(values, pl.Float64), made).columns["x"]
    if not column.edges:
        return
    places = Counter(bisect_left(column.edges, value) for value in values if value is not None)
    assert found.counts == tuple(places[i] for i in range(len(column.edges) + 1))
    assert found.nulls == sum(value is None for value in values)


@settings(max_examples=80)
@given(reference=TEXTS, values=TEXTS)
def test_a_text_falls_to_its_value_or_to_the_rest(reference: list[str | None], values: list[str | None]) -> None:
    made = profile.build(table(reference, pl.String), ["x"])
    known = made.columns["x"].values
    often = Counter(value for value in reference if value is not None)
    assert list(known) == sorted(often, key=lambda value: (-often[value], value))
    found = profile.summarise(table(values, pl.String), made).columns["x"]
    seen = Counter(value for value in values if value is not None)
    assert found.counts == (*(seen[value] for value in known), sum(n for value, n in seen.items() if value not in known))


@settings(max_examples=60)
@given(reference=NUMBERS, parts=st.lists(NUMBERS, min_size=1, max_size=4))
def test_profiles_of_parts_add_up_to_that_of_the_whole(reference: list[float | None], parts: list[list[float | None]]) -> None:
    made = profile.build(table(reference, pl.Float64), ["x"])
    each = [profile.summarise(table(part, pl.Float64), made) for part in parts]
    whole = profile.summarise(table([value for part in parts for value in part], pl.Float64), made)
    forward, backward = each[0], each[-1]
    for one in each[1:]:
        forward = profile.add_profiles(forward, one)
    for one in each[-2::-1]:
        backward = profile.add_profiles(backward, one)
    assert forward == backward == whole


def test_columns_of_either_part_are_in_the_sum() -> None:
    made = profile.build(pl.DataFrame({"a": [1, 2, 3], "b": ["x", "y", "x"]}), ["a", "b"])
    one = profile.summarise(pl.DataFrame({"a": [1]}), made)
    other = profile.summarise(pl.DataFrame({"b": ["x", None]}), made)
    both = profile.add_profiles(one, other)
    assert (both.rows, both.columns["a"].rows, both.columns["b"].rows, both.columns["b"].nulls) == (3, 1, 2, 1)


@pytest.mark.parametrize("seed", range(4))
def test_the_index_is_that_of_the_field_on_many_rows(seed: int) -> None:
    """The sum of (q - p) ln(q / p) over the bins, as monitoring tools reckon it, less what chance adds."""
    rng = np.random.default_rng(seed)
    before, after = rng.normal(size=40_000), rng.normal(0.2 * seed, 1 + 0.1 * seed, 40_000)
    made = profile.build(pl.DataFrame({"x": before}), ["x"])
    edges = [-math.inf, *made.columns["x"].edges, math.inf]
    p, q = (np.histogram(values, edges)[0] / len(values) for values in (before, after))
    by_hand = float(((q - p) * np.log(q / p)).sum())
    chance = 9 * (1 / 40_000 + 1 / 40_000)
    found = profile.distances(made, profile.summarise(pl.DataFrame({"x": after}), made))["x"]
    assert found == pytest.approx(max(0.0, by_hand - chance), abs=2e-4)


@given(seed=st.integers(0, 2**32), scale=st.sampled_from([0.25, 4.0, 2.0**20]), shift=st.sampled_from([0.0, 8.0]))
@settings(max_examples=40)
def test_neither_unit_nor_order_of_rows_changes_a_distance(seed: int, scale: float, shift: float) -> None:
    rng = np.random.default_rng(seed)
    before, after = rng.integers(-50, 50, 300).astype(float), rng.integers(-30, 60, 80).astype(float)
    plain = profile.build(pl.DataFrame({"x": before}), ["x"])
    expected = profile.distances(plain, profile.summarise(pl.DataFrame({"x": after}), plain))
    moved = profile.build(pl.DataFrame({"x": rng.permutation(before) * scale + shift}), ["x"])
    assert profile.distances(moved, profile.summarise(pl.DataFrame({"x": after[::-1] * scale + shift}), moved)) == expected


def counted(nulls: int, rows: int) -> Profile:
    return Profile(rows, {"x": ColumnProfile("x", rows, nulls, values=("a",), counts=(rows - nulls, 0))})


@pytest.mark.parametrize(("before", "after"), [(0, 0), (100, 10), (500, 50), (1000, 100)])
def test_as_many_gaps_as_before_are_no_news(before: int, after: int) -> None:
    assert profile.missing(counted(before, 1000), counted(after, 100)) == {"x": 0.0}


def test_gaps_that_a_test_of_shares_calls_sure_are_news_and_others_are_not() -> None:
    """A window in a thousand is what is allowed by chance: beside the chi-square test of a two by two table."""
    for gaps in range(0, 101, 5):
        found = profile.missing(counted(200, 1000), counted(gaps, 100))["x"]
        p_value = chi2_contingency([[800, 200], [100 - gaps, gaps]], correction=False).pvalue
        if p_value < 1e-5:
            assert found > 0, gaps
        if p_value > 1e-2:
            assert found == 0, gaps


def test_what_neither_has_rows_of_has_no_gaps() -> None:
    assert profile.missing(counted(0, 0), counted(3, 10)) == {}
    assert profile.missing(counted(3, 10), counted(0, 0)) == {}
    assert profile.missing(counted(3, 10), Profile(10, {})) == {}


def test_chance_grows_with_certainty_and_shrinks_with_rows() -> None:
    column = profile.build(pl.DataFrame({"x": np.random.default_rng(1).normal(size=5000)}), ["x"]).columns["x"]
    by_tail = [profile.chance(column, 200, tail) for tail in (0.1, 0.01, 1e-3, 1e-6)]
    by_rows = [profile.chance(column, rows, 0.01) for rows in (20, 100, 1000, 10_000)]
    assert by_tail == sorted(by_tail)
    assert by_rows == sorted(by_rows, reverse=True)
    assert profile.chance(column, 0, 0.01) == 0.0
    assert profile.chance(ColumnProfile("x", 0, 0), 100, 0.01) == 0.0


@pytest.mark.parametrize("rows", [30, 300])
@pytest.mark.parametrize("kind", ["numbers", "texts"])
def test_what_chance_gives_is_exceeded_as_seldom_as_stated(kind: str, rows: int) -> None:
    rng, tail, runs = np.random.default_rng(rows), 0.02, 250
    draw = (
        (lambda n: rng.normal(size=n))
        if kind == "numbers"
        else (lambda n: rng.choice(list("abcde"), n, p=[0.5, 0.2, 0.2, 0.07, 0.03]))
    )
    exceeded = 0
    for _ in range(runs // 25):
        made = profile.build(pl.DataFrame({"x": draw(2000)}), ["x"])
        limit = profile.chance(made.columns["x"], rows, tail)
        for _ in range(25):
            exceeded += profile.distances(made, profile.summarise(pl.DataFrame({"x": draw(rows)}), made))["x"] > limit
    assert exceeded / runs <= tail + 4 * math.sqrt(tail / runs)


def test_a_column_of_the_calendar_wanders_and_one_of_chance_does_not() -> None:
    """Two hundred rows a day for twelve weeks."""
    times = np.sort(np.random.default_rng(3).uniform(0, 84 * 86_400, 84 * 200))
    days = (times // 86_400).astype(int) % 7
    made = pl.DataFrame({"weekday": days, "chance": np.random.default_rng(4).normal(size=len(times))})
    found = profile.wander(made, times, profile.build(made, ["weekday", "chance"]))
    lengths = [one.every_s for one in found]
    assert lengths == sorted(lengths)
    by_length = {one.every_s: one for one in found}
    assert by_length[86_400.0].windows == 84
    assert by_length[86_400.0].mean["weekday"] > 1
    assert by_length[86_400.0].most["weekday"] >= by_length[86_400.0].mean["weekday"]
    assert "weekday" not in by_length[7 * 86_400.0].mean, "whole weeks hold each day as often"
    assert all("chance" not in one.mean for one in found)
    assert 28 * 86_400.0 not in by_length, "three months hold too few of these windows"


@pytest.mark.parametrize(("windows", "rows", "measured"), [(8, 50, True), (7, 50, False), (8, 49, False)])
def test_few_windows_or_rows_are_not_measured(windows: int, rows: int, measured: bool) -> None:
    times = np.repeat(np.arange(windows), rows) * 3600.0 + 1
    made = pl.DataFrame({"x": np.arange(len(times)) % 7})
    found = profile.wander(made, times, profile.build(made, ["x"]))
    assert [one.every_s for one in found if one.every_s == 3600.0] == ([3600.0] if measured else [])
