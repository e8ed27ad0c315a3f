"""Times, shares, sizes and numbers in words: beside datetime, monotone, and at the edges of each unit."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from noria.config import units
from noria.kernel import words
from noria.kernel.policy import RolloutStep, StepKind

SECONDS = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86_400.0}
MOMENTS = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59))


def told(text: str) -> float:
    """The seconds that a duration names."""
    return sum(float(count) * SECONDS[unit] for count, unit in re.findall(r"([\d.e+]+) (ms|s|min|h|d)\b", text.replace(",", "")))


@given(st.floats(0, 1e9), st.floats(0, 1e9))
def test_the_longer_of_two_durations_is_not_told_as_the_shorter(one: float, other: float) -> None:
    low, high = sorted([one, other])
    assert told(words.duration(low)) <= told(words.duration(high))


@given(st.floats(0, 1e9))
def test_no_part_of_a_duration_reaches_the_next_unit(seconds: float) -> None:
    """Never `60.0 s`, `60 min` or `24 h`."""
    limits = {"ms": 1000, "s": 60, "min": 60, "h": 24}
    for count, unit in re.findall(r"([\d.]+) (ms|s|min|h)\b", words.duration(seconds)):
        assert float(count) < limits[unit], words.duration(seconds)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"),
        (0.0000415, "0.04 ms"),
        (0.0004, "0.4 ms"),
        (0.012, "12 ms"),
        (0.9996, "1.0 s"),
        (59.6, "59.6 s"),
        (59.94, "59.9 s"),
        (59.95, "1 min"),
        (60, "1 min"),
        (60.4, "1 min"),
        (60.6, "1 min 1 s"),
        (3599, "59 min 59 s"),
        (3599.4, "59 min 59 s"),
        (3600, "1 h"),
        (86_399.6, "1 d"),
        (1234 * 86_400 + 3_600, "1234 d 1 h"),
        (-5, "-5.0 s"),
        (math.nan, "–"),
        (math.inf, "–"),
    ],
)
def test_a_duration_at_the_edge_of_a_unit(seconds: float, text: str) -> None:
    assert words.duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.25, "0.25 s"),
        (59.96, "1 min"),
        (60, "1 min"),
        (3599, "1 h"),
        (5400, "1.5 h"),
        (86_399, "1 d"),
        (7 * 86_400, "7 d"),
        (1234 * 86_400, "1,234 d"),
        (math.inf, "for ever"),
        (None, "for ever"),
    ],
)
def test_what_was_set_is_told_in_one_unit(seconds: float | None, text: str) -> None:
    assert words.lasting(seconds) == text


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1_000, "1.0 kB"),
        (99_949, "99.9 kB"),
        (99_950, "100 kB"),
        (999_499, "999 kB"),
        (999_500, "1.0 MB"),
        (5_600_000, "5.6 MB"),
        (1_234_000_000, "1.2 GB"),
        (999_499_999_999, "999 GB"),
        (999_500_000_000, "1.0 TB"),
        (10**12, "1.0 TB"),
        (4_321_000_000_000_000, "4,321 TB"),
    ],
)
def test_sizes_at_their_borders(size_bytes: int, text: str) -> None:
    assert words.size(size_bytes) == text


@given(st.integers(1 << 20, 1 << 53))
def test_a_limit_is_told_as_the_project_writes_it(limit: int) -> None:
    """By powers of 1024: what is told reads as the same limit in noria.yaml."""
    assert units.size_bytes(words.limit_size(limit)) == pytest.approx(limit, rel=0.5)
    if limit >= 1 << 27:
        assert units.size_bytes(words.limit_size(limit)) == pytest.approx(limit, rel=5e-3)


@pytest.mark.parametrize(
    ("limit", "text"), [(300 << 20, "300 MB"), (3 << 29, "1.5 GB"), (1023 << 30, "1023 GB"), (1 << 40, "1 TB")]
)
def test_a_limit_in_words(limit: int, text: str) -> None:
    assert words.limit_size(limit) == text


@given(st.floats(-100, 1e9))
@example(59.6)
@example(3599.9)
def test_what_was_long_ago_is_told_in_whole_units_that_have_passed(passed: float) -> None:
    text = words.ago(1e9, 1e9 + passed)
    if text == "just now":
        assert passed < 2.000001
        return
    count, unit = re.fullmatch(r"(\d+) (s|min|h|d) ago", text).groups()  # type: ignore[union-attr]  # the next line would say it
    assert int(count) * SECONDS[unit] <= passed + 1e-6 < (int(count) + 1) * SECONDS[unit] + 1e-5
    assert int(count) < {"s": 60, "min": 60, "h": 24, "d": 1e9}[unit]


@given(MOMENTS)
def test_a_moment_is_that_of_the_calendar(moment: datetime) -> None:
    """Also of the years before 1000, which have four digits here as in every other place."""
    at = (moment.replace(tzinfo=UTC, microsecond=0) - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(seconds=1)
    assert words.moment(at) == f"{moment.year:04}-{moment:%m-%d %H:%M:%S} UTC"
    day = f"{moment.year:04}-{moment:%m-%d}"
    assert words.day(at) == (day if (moment.hour, moment.minute) == (0, 0) else f"{day} {moment:%H:%M}")


def test_nothing_is_a_dash() -> None:
    assert words.moment(None) == words.duration(None) == "–"


@given(st.floats(-1e15, 1e15))
@example(999.96)
@example(-999.96)
@example(999.94)
@example(-0.0)
def test_a_number_reads_back_within_four_digits_and_has_commas_from_a_thousand_on(value: float) -> None:
    text = words.number(value)
    back = float(text.replace(",", ""))
    assert back == pytest.approx(value, rel=5.1e-4, abs=1e-300)
    whole = text.lstrip("-").partition(".")[0]
    assert text != "-0"
    assert "e" in text or re.fullmatch(r"\d{1,3}(,\d{3})*", whole), text


@pytest.mark.parametrize(("count", "text"), [(0, "0 rows"), (1, "1 row"), (2, "2 rows"), (1_000_000, "1,000,000 rows")])
def test_one_is_singular_and_nothing_else(count: int, text: str) -> None:
    assert words.plural(count, "row") == text


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0, "0 %"),
        (0.0004, "0.04 %"),
        (0.001, "0.1 %"),
        (0.25, "25 %"),
        (1 / 3, "33.3 %"),
        (0.9996, "99.96 %"),
        (0.99999, "99.999 %"),
        (1.0, "100 %"),
        (2.5, "250 %"),
        (12.345, "1,234 %"),
        (math.nan, "–"),
    ],
)
def test_a_share_is_a_hundredth(share: float, text: str) -> None:
    assert words.percent(share) == text


@pytest.mark.parametrize(
    ("step", "text", "judged"),
    [
        (RolloutStep(StepKind.CANARY, share=0.05), "5 % of traffic", True),
        (RolloutStep(StepKind.CANARY, share=1.0), "100 % of traffic", False),
        (RolloutStep(StepKind.SHADOW, share=1.0), "shadow of 100 % of traffic", True),
        (RolloutStep(StepKind.PAUSE, seconds=600), "a pause of 10 min", False),
        (RolloutStep(StepKind.PAUSE, seconds=5400), "a pause of 1.5 h", False),
        (RolloutStep(StepKind.PAUSE, seconds=0.5), "a pause of 0.5 s", False),
        (RolloutStep(StepKind.APPROVE, approvals=1), "1 approval", False),
        (RolloutStep(StepKind.APPROVE, approvals=2), "2 approvals", False),
    ],
)
def test_a_step_of_a_rollout_in_words(step: RolloutStep, text: str, judged: bool) -> None:
    assert (step.words, step.judged) == (text, judged)


@given(st.floats(0.01, 1e8))
def test_a_lasting_time_reads_back(seconds: float) -> None:
    assert told(words.lasting(seconds)) == pytest.approx(seconds, rel=6e-3)
