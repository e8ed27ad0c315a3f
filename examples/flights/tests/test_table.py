"""The labelled table on a handful of invented flights."""

import sys
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from delays.table import INPUTS, WEATHER, departures


def flight(number: int, **changes: object) -> dict[str, object]:
    row: dict[str, object] = {
        "year": 2013, "month": 1, "day": 1, "carrier": "UA", "flight": number, "origin": "EWR", "dest": "IAH",
        "dep_time": 517, "sched_dep_time": 515, "dep_delay": 2.0, "sched_arr_time": 819, "arr_delay": 16.0,
        "distance": 1400.0, "hour": 5, "time_hour": datetime(2013, 1, 1, 10, tzinfo=UTC),
    }  # fmt: skip
    return row | changes


def weather(hour: int) -> pl.DataFrame:
    row = {"origin": "EWR", "time_hour": datetime(2013, 1, 1, hour, tzinfo=UTC)} | dict.fromkeys(WEATHER, float(hour))
    return pl.DataFrame([row])


def served(table: pl.DataFrame) -> pl.DataFrame:
    """The table's rows as the model server would have logged them, all labelled "in time"."""
    logged = table.rename({"flight_id": "key", "time_hour": "event_time", "late": "label"})
    return logged.with_columns(label=pl.lit(0.0))


def test_a_flight_becomes_a_row() -> None:
    [row] = departures(pl.DataFrame([flight(1545)]), weather(10)).to_dicts()
    assert row["flight_id"] == "2013-01-01-UA-1545-EWR-0515"
    assert row["time_hour"] == datetime(2013, 1, 1, 10, tzinfo=UTC)
    assert (row["late"], row["weekday"], row["hour"], row["sched_minutes"], row["temp"]) == (1, 2, 5, 184, 10)


@pytest.mark.parametrize(("delay", "late"), [(-10.0, 0), (15.0, 0), (16.0, 1)])
def test_late_is_more_than_fifteen_minutes(delay: float, late: int) -> None:
    assert departures(pl.DataFrame([flight(1, arr_delay=delay)]), weather(10))["late"].to_list() == [late]


def test_cancelled_and_diverted_flights_are_left_out() -> None:
    cancelled = flight(2, dep_time=None, dep_delay=None, arr_delay=None)
    diverted = flight(3, arr_delay=None)
    table = departures(pl.DataFrame([flight(1), cancelled, diverted]), weather(10))
    assert table["flight_id"].to_list() == ["2013-01-01-UA-1-EWR-0515"]


def test_a_flight_without_weather_stays() -> None:
    [row] = departures(pl.DataFrame([flight(1)]), weather(11)).to_dicts()
    assert [row[name] for name in WEATHER] == [None] * len(WEATHER)


def test_a_plan_over_midnight_takes_minutes_not_a_day() -> None:
    night = flight(1, sched_dep_time=2350, sched_arr_time=40, hour=23)
    assert departures(pl.DataFrame([night]), weather(10))["sched_minutes"].to_list() == [50]


def test_served_rows_are_added_unless_the_files_have_the_flight() -> None:
    cancelled = flight(2, dep_time=None, arr_delay=None)
    files = pl.DataFrame([flight(1), cancelled])
    logged = served(departures(pl.DataFrame([flight(1), flight(2), flight(3)]), weather(10)))
    table = departures(files, weather(10), logged)
    assert table.select("flight_id", "late").rows() == [("2013-01-01-UA-1-EWR-0515", 1), ("2013-01-01-UA-3-EWR-0515", 0)]


def test_nothing_served_changes_nothing() -> None:
    files = pl.DataFrame([flight(1)])
    table = departures(files, weather(10))
    assert departures(files, weather(10), served(table).clear()).equals(table)
    assert departures(files, weather(10), pl.DataFrame()).equals(table)
    assert table.columns == ["flight_id", "time_hour", *INPUTS, "late"]
