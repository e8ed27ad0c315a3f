"""Numbers in words, and the chart's geometry."""

from __future__ import annotations

import re

import console_story as story
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from noria.console import chart
from noria.kernel import words


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"), (0.0, "0 ms"), (0.0124, "12 ms"), (0.9994, "999 ms"), (0.9996, "1.0 s"),
        (3.42, "3.4 s"), (59.96, "1 min"), (310, "5 min 10 s"),
        (3599.7, "1 h"), (7500, "2 h 5 min"), (86_400, "1 d"), (273_600, "3 d 4 h"),
    ],
)  # fmt: skip
def test_duration(seconds: float | None, text: str) -> None:
    assert words.duration(seconds) == text


@given(st.floats(0.001, 1e8))
def test_a_duration_reads_back_within_its_last_digit(seconds: float) -> None:
    units = {"ms": 0.001, "s": 1, "min": 60, "h": 3600, "d": 86_400}
    parts = re.findall(r"([\d.]+) (ms|s|min|h|d)\b", words.duration(seconds))
    told = sum(float(value) * units[unit] for value, unit in parts)
    smallest = {"ms": 0.001, "s": 1, "min": 1, "h": 60, "d": 3600}[parts[0][1]]
    assert abs(told - seconds) <= smallest


@pytest.mark.parametrize(
    ("passed", "text"), [(0, "just now"), (40, "40 s ago"), (190, "3 min ago"), (7199, "1 h ago"), (5 * 86_400, "5 d ago")]
)
def test_ago(passed: float, text: str) -> None:
    assert words.ago(1000.0, 1000.0 + passed) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.5, "0.5"), (12.0, "12"), (1234.5, "1,234"), (0.123456, "0.1235"), (1_000_000, "1,000,000")]
)
def test_number(value: float, text: str) -> None:
    assert words.number(value) == text


def test_percent_and_moment() -> None:
    assert words.percent(0.05) == "5 %"
    assert words.percent(0.00321) == "0.321 %"
    assert words.moment(1_364_774_400.0) == "2013-04-01 00:00:00 UTC"
    assert words.day(1_364_774_400.0 + 3600) == "2013-04-01 01:00"


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_are_few_and_inside(low: float, span: float) -> None:
    high = low + span
    if high - low < 1e-9 * max(abs(low), 1):
        return
    found = chart.ticks(low, high)
    assert 2 <= len(found) <= 7
    assert all(low - span * 1e-6 <= t <= high + span * 1e-6 for t in found)


def circles(svg: str, css: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(rf'<circle class="{css}[^"]*" cx="([\d.]+)" cy="([\d.]+)"', svg)]


def test_one_point_a_window_inside_the_picture_and_rings_where_it_sank() -> None:
    svg = str(chart.quality_chart(story.WINDOWS, 1000, 250, 0.001))
    points = circles(svg, "point")
    assert len(points) == len(story.WINDOWS)
    assert all(0 <= x <= 1000 and 0 <= y <= 250 for x, y in points)
    assert len(circles(svg, "sunk")) == sum(w.p_value < 0.001 for w in story.WINDOWS) == 3


def test_higher_is_higher() -> None:
    first, second = story.WINDOWS[0], story.WINDOWS[1]
    low, high = circles(str(chart.quality_chart([replace(first, value=0.1), replace(second, value=0.9)], 400, 200, 0.0)), "point")
    assert high[1] < low[1]
    assert low[0] < high[0]


def test_windows_without_labels_are_not_drawn() -> None:
    assert str(chart.quality_chart([replace(w, labelled=0) for w in story.WINDOWS], 400, 200, 0.001)) == ""
    assert str(chart.quality_chart((), 400, 200, 0.001)) == ""


def test_one_window_alone_has_a_chart() -> None:
    window = replace(story.WINDOWS[0], value=0.0, reference=0.0)
    assert len(circles(str(chart.quality_chart([window], 400, 200, 0.001)), "point")) == 1
