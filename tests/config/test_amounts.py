"""Durations, sizes, shares, rates and hosts as people write them: each reads as arithmetic says, or is refused; and what the
published JSON Schema lets through is what the reader lets through."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.config import keys, scalars, shapes, units
from noria.config.document import DocumentItem
from noria.kernel.errors import ConfigError

DECIMALS = st.decimals(min_value=0, max_value=5000, places=3, allow_nan=False)
SPACES = st.sampled_from(["", " ", "  ", "\t"])
SPAN = {"ms": timedelta(milliseconds=1), "s": timedelta(seconds=1), "m": timedelta(minutes=1), "h": timedelta(hours=1)}
SPAN |= {"d": timedelta(days=1), "w": timedelta(weeks=1)}


@given(count=DECIMALS, unit=st.sampled_from(sorted(SPAN)), space=SPACES)
def test_a_duration_is_that_of_timedelta(count: Any, unit: str, space: str) -> None:
    text, seconds = f"{count}{space}{unit}", float(count) * SPAN[unit].total_seconds()
    if not 0 < seconds <= 100 * 366 * 86_400:
        with pytest.raises(ValueError):
            units.duration_s(text)
    else:
        assert units.duration_s(text) == pytest.approx(seconds, rel=1e-12)


@given(number=st.integers(1, 999_999_999), unit=st.sampled_from([("s", 1.0), ("min", 60.0), ("h", 3600.0)]), space=SPACES)
def test_a_frequency(number: int, unit: tuple[str, float], space: str) -> None:
    assert units.frequency(f"{number}{space}/{space}{unit[0]}") == (number, unit[1])


@given(number=st.integers(1, 10**9), unit=st.sampled_from(sorted(units.PERIODS)))
def test_a_rate_of_a_period(number: int, unit: str) -> None:
    assert units.rate(f"{number} per {unit}") == (number, units.PERIODS[unit])
    assert units.rate(f"{number}  per 12h") == (number, 43_200.0)


@given(st.lists(st.integers(0, 255), min_size=4, max_size=4))
def test_an_address_is_a_host(parts: list[int]) -> None:
    text = ".".join(map(str, parts))
    assert units.host(text) == text


NO: dict[Callable[[str], Any], tuple[str, ...]] = {
    units.duration_s: (
        "", "5", "s", "5 s ", " 5s", "5S", "-5s", "+5s", "5.s", ".5s", "5,5s", "1e3s", "5 minutes", "1h30m", "0s", "0.0ms",
        "36601d",
        "5s\n", "٥s", "5µs", "inf s", "nans", "9" * 400 + "d", "1 000s",
    ),
    units.size_bytes: ("", "5", "MB", "-1MB", "0MB", "0.4B", "1e3MB", "5 MiB", "1,5GB", "5MB\n", "9" * 400 + "TB",
    "1048576TB", "٥MB"),
    units.share: ("", "%", "5", "-1%", "101%", "100.1%", "5 % ", "5%%", "1e1%", ".5%", "5%\n", "٥%", "NaN%"),
    units.frequency: ("", "5", "/s", "0/s", "5/d", "5/sec", "5.5/s", "-5/s", "5 per s", "5/s\n", "1234567890/s", "٥/s"),
    units.rate: ("", "1", "per day", "0 per day", "1 per", "1 a day", "1 per days", "1.5 per day", "1 per 0h", "1 per 12",
    "1per day", "-1 per day"),
    units.host: ("", "a b", "a:80", "a/b", "http://a", ".a", "a.", "-a", "a-", "ä.org", "[::1", "::1", "[g::]", "a\n", "*",
    "*.a.org"),
}  # fmt: skip


@pytest.mark.parametrize(("read", "text"), [(read, text) for read, texts in NO.items() for text in texts])
def test_what_is_none(read: Callable[[str], Any], text: str) -> None:
    with pytest.raises(ValueError):
        read(text)


@pytest.mark.parametrize(
    ("text", "host"),
    [("A.Org", "a.org"), ("localhost", "localhost"), ("a_b", "a_b"), ("[::1]", "[::1]"), ("[FE80::1]", "[fe80::1]"),
    ("x", "x"), ("a..b", "a..b")],
)  # fmt: skip
def test_a_host_is_told_in_small_letters(text: str, host: str) -> None:
    assert units.host(text) == host


PATTERNS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "duration": (units.DURATION, units.duration_s),
    "share": (units.PERCENT, units.share),
    "frequency": (units.FREQUENCY, units.frequency),
    "rate": (units.RATE, units.rate),
    "host": (units.HOST, units.host),
}
NEARLY = st.text("0123456789.% smhdwpery/inut-[]:aB\n", max_size=9)


@pytest.mark.parametrize("kind", PATTERNS)
@given(text=NEARLY)
def test_what_is_read_fits_the_pattern_that_editors_know(kind: str, text: str) -> None:
    """The other way round an editor knows no ranges: zero, or a share above 100 %."""
    pattern, read = PATTERNS[kind]
    try:
        read(text)
    except ValueError:
        return
    assert re.search(pattern, text)


def item(value: Any) -> DocumentItem:
    return DocumentItem(value, "noria.yaml:3:7", str(value))


@pytest.mark.parametrize(
    ("shape", "value", "read"),
    [
        (shapes.DURATION, "90m", 5400.0), (shapes.SIZE, "4GB", 4 << 30), (shapes.SHARE, "5%", 0.05), (shapes.SHARE, 0, 0.0),
        (shapes.SHARE, 1, 1.0), (shapes.SHARE, 0.25, 0.25), (scalars.NULLS, "never", 0.0), (scalars.NULLS, "<= 10%", 0.1),
        (scalars.NULLS, "<=10 %", 0.1), (scalars.NULLS, 0.5, 0.5), (scalars.PLAIN, "x", "x"), (scalars.PLAIN, True, True),
        (scalars.LIMIT, None, None), (scalars.LIMIT, -3, -3.0), (scalars.PORT, 0, 0), (scalars.PORT, 65535, 65535),
        (scalars.MARK, "tab", "\t"), (scalars.MARK, "\\t", "\t"), (scalars.MARK, ";", ";"), (scalars.QUOTE, "none", ""),
        (scalars.QUOTE, "'", "'"), (scalars.ENCODING, "Latin-1", "iso8859-1"), (scalars.ENCODING, "UTF8", "utf-8"),
        (scalars.PARALLEL, "auto", "auto"), (scalars.PARALLEL, 256, 256),
        (scalars.TIME_FORMAT, "%d.%m.%Y %H:%M", "%d.%m.%Y %H:%M"),
        (scalars.TIME_FORMAT, "%m/%d/%y", "%m/%d/%y"),
        (scalars.TIME_FORMAT, "%d %B %Y %H:%M:%S%.f%z", "%d %B %Y %H:%M:%S%.f%z"),
        (scalars.TARGET, "a.b:c_1", "a.b:c_1"), (scalars.CRON, "*/5 0-3 * * mon", "*/5 0-3 * * mon"),
    ],
)  # fmt: skip
def test_a_value_of_each_shape(shape: Any, value: Any, read: Any) -> None:
    found = shape.read(item(value))
    assert found == pytest.approx(read) if isinstance(read, float) else found == read


@pytest.mark.parametrize(
    ("shape", "value", "message"),
    [
        (shapes.DURATION, "90 minutes", "expected a duration like 50ms, 10m or 7d, found the text '90 minutes'"),
        (shapes.DURATION, 5, "expected a duration like 50ms, 10m or 7d, found the number 5"),
        (shapes.DURATION, None, "expected a duration like 50ms, 10m or 7d, found nothing"),
        (shapes.SIZE, True, "expected a size like 512MB or 4GB, found `True`"),
        (shapes.SIZE, [], "expected a size like 512MB or 4GB, found a list"),
        (scalars.NULLS, "<= 200%", "expected never, \"<= 10%\" or 0.1, found the text '<= 200%'"),
        (scalars.NULLS, True, 'expected never, "<= 10%" or 0.1, found `True`'),
        (scalars.NULLS, 1.5, 'expected never, "<= 10%" or 0.1, found the number 1.5'),
        (scalars.PLAIN, None, "expected text, a number, true or false, found nothing"),
        (scalars.PLAIN, {}, "expected text, a number, true or false, found a mapping"),
        (scalars.LIMIT, "3", "expected a number, found the text '3'"),
        (scalars.LIMIT, False, "expected a number, found `False`"),
        (scalars.PORT, 65536, "expected a port from 0 to 65535, found the number 65536"),
        (scalars.PORT, True, "expected a port from 0 to 65535, found `True`"),
        (scalars.PORT, 80.0, "expected a port from 0 to 65535, found the number 80.0"),
        (scalars.MARK, "ab", "expected one character, found the text 'ab'"),
        (scalars.MARK, "a", "expected one character, found the text 'a'"),
        (scalars.MARK, "§", "expected one character, found the text '§'"),
        (scalars.MARK, "\n", "expected one character, found the text '\\n'"),
        (scalars.ENCODING, "utf-9", "there is no encoding 'utf-9'"),
        (scalars.PARALLEL, 0, "expected auto, or a number from 1 to 256, found the number 0"),
        (scalars.PARALLEL, True, "expected auto, or a number from 1 to 256, found `True`"),
        (scalars.TIME_FORMAT, "%H:%M", "'%H:%M' does not give year, month and day"),
        (scalars.TIME_FORMAT, "%d/%m", "'%d/%m' does not give year, month and day"),
        (scalars.TIME_FORMAT, "%d.%m.%Q", "expected a format like %m/%d/%Y or %d.%m.%Y %H:%M, found the text '%d.%m.%Q'"),
        (scalars.TIME_FORMAT, "%Y-%m-%d %", "expected a format like %m/%d/%Y or %d.%m.%Y %H:%M, found the text '%Y-%m-%d %'"),
        (scalars.TARGET, "a:b.c", "expected a function as \"module:function\", found the text 'a:b.c'"),
        (scalars.TARGET, "a.py:b", None),
        (scalars.TARGET, "a-b:c", "expected a function as \"module:function\", found the text 'a-b:c'"),
        (scalars.CRON, "* * * *", "'* * * *' is not a cron line: "),
        (scalars.CRON, "0 0 31 2 *", "'0 0 31 2 *' is not a cron line: "),
        (scalars.CRON, 5, "expected a cron line, found the number 5"),
    ],
)
def test_what_no_shape_takes_is_told_with_its_place(shape: Any, value: Any, message: str | None) -> None:
    if message is None:
        assert shape.read(item(value)) == value
        return
    with pytest.raises(ConfigError) as caught:
        shape.read(item(value))
    assert caught.value.message.startswith(message)
    assert caught.value.where == "noria.yaml:3:7"


@pytest.mark.parametrize(
    ("shape", "value", "allowed"),
    [
        (shapes.DURATION, "0s", "more than zero"),
        (shapes.DURATION, "0.0ms", "more than zero"),
        (shapes.DURATION, "101000w", "at most 100 years"),
        (shapes.SIZE, "0MB", "at least 1B"),
        (shapes.SHARE, "101%", "at most 100%"),
        (shapes.SHARE, -0.5, "0% to 100%"),
        (shapes.SOME_SHARE, "0%", "more than 0%"),
        (shapes.CHANCE, "100%", "less than 100%"),
        (shapes.RATE, "0 per day", "At least 1"),
        (shapes.RATE, "1 per 0h", "more than zero"),
        (shapes.FREQUENCY, "0/s", "1/h is the lowest"),
        (scalars.NULLS, "<= 200%", "at most 100%"),
        (scalars.STEP_SCALAR, "0%", "more than 0%"),
    ],
)
def test_what_is_written_well_and_out_of_range_is_told_what_is_allowed(shape: Any, value: Any, allowed: str) -> None:
    with pytest.raises(ConfigError) as caught:
        shape.read(item(value))
    assert caught.value.message.startswith(f"expected {shape.words}, found ")
    assert allowed in str(caught.value.hint)


def test_every_whole_number_says_its_range() -> None:
    """Each `whole(words, low, high)` of the table names both ends in its words."""
    assert list(_whole_numbers(keys.PROJECT)) + list(_whole_numbers(keys.CONTRACT))
    for scalar in (*_whole_numbers(keys.PROJECT), *_whole_numbers(keys.CONTRACT)):
        for end in ("minimum", "maximum"):
            assert str(scalar.json[end]) in scalar.words.replace(",", ""), scalar.words


def _whole_numbers(shape: Any) -> Iterator[shapes.Scalar]:
    if isinstance(shape, shapes.Scalar) and shape.json.get("type") == "integer":
        yield shape
    inner = [getattr(shape, name, None) for name in ("element", "record", "scalar")]
    for child in (*(key.shape for key in getattr(shape, "keys", ())), *filter(None, inner)):
        yield from _whole_numbers(child)
