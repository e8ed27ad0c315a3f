"""Columns that are a part of the row's own date or time, beside Python's datetime, in every zone and way of writing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import polars as pl
import pytest

from noria.stats import calendar, profile

RNG = np.random.default_rng(11)
MOMENTS = np.sort(RNG.integers(1_300_000_000, 1_500_000_000, 200)).astype(float)  # over six years
PARTS: dict[str, tuple[str, Callable[[datetime], Any]]] = {
    "weekday from 1": ("the weekday", lambda at: at.isoweekday()),
    "weekday from 0": ("the weekday", lambda at: at.weekday()),
    "weekday, sunday is 0": ("the weekday", lambda at: at.isoweekday() % 7),
    "weekday, sunday is 1": ("the weekday", lambda at: at.isoweekday() % 7 + 1),
    "weekday as text": ("the weekday", lambda at: f"{at:%A}"),
    "weekday, short": ("the weekday", lambda at: f"{at:%a}".upper()),
    "weekday as a float": ("the weekday", lambda at: float(at.isoweekday())),
    "weekend": ("whether it is the weekend", lambda at: at.weekday() >= 5),
    "weekend as 0 and 1": ("whether it is the weekend", lambda at: int(at.weekday() >= 5)),
    "hour": ("the hour", lambda at: at.hour),
    "hour with a zero": ("the hour", lambda at: f"{at:%H}"),
    "minute of the day": ("the minute of the day", lambda at: at.hour * 60 + at.minute),
    "day": ("the day of the month", lambda at: at.day),
    "day of the year": ("the day of the year", lambda at: at.timetuple().tm_yday),
    "week": ("the week", lambda at: at.isocalendar().week),
    "month": ("the month", lambda at: at.month),
    "month from 0": ("the month", lambda at: at.month - 1),
    "month as text": ("the month", lambda at: f"{at:%B}"),
    "month, short": ("the month", lambda at: f"{at:%b}"),
    "month with its year": ("the month", lambda at: f"{at:%Y-%m}"),
    "quarter": ("the quarter", lambda at: (at.month + 2) // 3),
    "year": ("the year", lambda at: at.year),
    "date": ("the date", lambda at: at.date()),
    "date as text": ("the date", lambda at: at.date().isoformat()),
}


def found(values: list[Any], moments: np.ndarray = MOMENTS) -> str | None:
    table = pl.DataFrame({"x": values})
    agree = calendar.agreements(table, moments)["x"]
    seen = {"x": (min(len(values), calendar.ROWS), agree)}
    return calendar.time_parts(seen, profile.build(table, ["x"]).columns).get("x")


@pytest.mark.parametrize("hours", [-11, -5, 0, 2, 12])
@pytest.mark.parametrize("name", PARTS)
def test_each_part_is_known_on_each_clock(name: str, hours: int) -> None:
    words, part = PARTS[name]
    zone = timezone(timedelta(hours=hours))
    assert found([part(datetime.fromtimestamp(at, zone)) for at in MOMENTS]) == words


@pytest.mark.parametrize("name", PARTS)
def test_a_few_odd_rows_do_not_hide_a_part_and_many_do(name: str) -> None:
    words, part = PARTS[name]
    values = [part(datetime.fromtimestamp(at, UTC)) for at in MOMENTS]
    few = [None if i % 40 == 7 else value for i, value in enumerate(values)]  # 2.5 %
    many = [None if i % 5 == 3 else value for i, value in enumerate(values)]  # 20 %
    assert found(few) == words
    assert found(many) is None


@pytest.mark.parametrize(
    "values",
    [
        RNG.integers(1, 8, 200).tolist(),
        RNG.integers(0, 24, 200).tolist(),
        RNG.normal(size=200).tolist(),
        RNG.choice(["monday", "sunday", "friday"], 200).tolist(),
        [None] * 200,
        [np.inf, -np.inf, np.nan, 1e300] * 50,
        [1] * 200,
    ],
)
def test_what_is_no_part_is_none(values: list[Any]) -> None:
    assert found(values) is None


@pytest.mark.parametrize("value", [[1, 2], {"hour": 1}, b"\xff\x00", []])
def test_what_is_no_single_value_agrees_with_nothing(value: Any) -> None:
    agree = calendar.agreements(pl.DataFrame({"x": [value] * 200, "n": [1] * 200}), MOMENTS)
    assert agree["x"].shape == agree["n"].shape
    assert not agree["x"].any()


def test_a_flag_is_the_weekends_only_by_its_share_in_training() -> None:
    """A window of a few days may hold nothing but working days, and then any constant flag agrees."""
    flags = [datetime.fromtimestamp(at, UTC).weekday() >= 5 for at in MOMENTS]
    agree = calendar.agreements(pl.DataFrame({"x": flags}), MOMENTS)
    for share, words in [(0.05, None), (2 / 7, "whether it is the weekend"), (0.5, None), (0.0, None)]:
        training = pl.DataFrame({"x": [i < share * 1000 for i in range(1000)]})
        told = calendar.time_parts({"x": (200, agree["x"])}, profile.build(training, ["x"]).columns)
        assert told.get("x") == words, share


def test_few_rows_say_nothing_and_unknown_columns_neither() -> None:
    days = [datetime.fromtimestamp(at, UTC).isoweekday() for at in MOMENTS]
    table = pl.DataFrame({"x": days})
    agree = calendar.agreements(table, MOMENTS)["x"]
    reference = profile.build(table, ["x"]).columns
    assert calendar.time_parts({"x": (calendar.SEEN - 1, agree)}, reference) == {}
    assert calendar.time_parts({"y": (200, agree)}, reference) == {}
    assert calendar.agreements(table.head(0), MOMENTS[:0]) == {}


@pytest.mark.parametrize("start", ["0001-01-02", "1969-12-20", "9999-12-01"])
def test_times_at_the_ends_of_the_calendar(start: str) -> None:
    first = datetime.fromisoformat(start).replace(tzinfo=UTC)
    times = [first + timedelta(hours=hour / 4) for hour in range(200)]
    seconds = np.array([(at - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(seconds=1) for at in times])
    assert found([at.hour for at in times], seconds) == "the hour"
