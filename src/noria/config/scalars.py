"""What one value of noria.yaml or of a contract may be, where the shapes that all share do not say it."""

from __future__ import annotations

import codecs
import math
import re
from datetime import UTC, datetime
from typing import Any

from noria.config import freezing, gate, units
from noria.config.document import DocumentItem
from noria.config.shapes import NUMBER, SHARE, SOME_SHARE, Scalar, whole
from noria.kernel.contract import TYPE_PATTERN, parse_decimal
from noria.kernel.errors import ConfigError
from noria.kernel.policy import Freeze, Gate

TARGET_PATTERN = r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$"


def _target(item: DocumentItem) -> str:
    if not isinstance(item.value, str) or re.fullmatch(TARGET_PATTERN, item.value) is None:
        raise ValueError
    return item.value


def _gate(item: DocumentItem) -> Gate:
    if not isinstance(item.value, str):
        raise ValueError
    try:
        return gate.read_gate(item.value)
    except ConfigError as error:
        raise item.error(error.message, error.hint) from error


def _step(item: DocumentItem) -> float | str:
    return "shadow" if item.value == "shadow" else SOME_SHARE.take(item)


def _freeze(item: DocumentItem) -> Freeze:
    if not isinstance(item.value, str):
        raise ValueError
    try:
        return freezing.parse(item.value)
    except ValueError as error:
        raise item.error(f"{item.value!r} is not a freeze: {error}") from error


def _cron(item: DocumentItem) -> str:
    if not isinstance(item.value, str):
        raise ValueError
    from cronsim import CronSim, CronSimError  # every command reads the project, and few projects have a schedule

    try:
        next(CronSim(item.value, datetime(2024, 1, 1, tzinfo=UTC)))
    except (CronSimError, StopIteration) as error:
        raise item.error(f"{item.value!r} is not a cron line: {error or 'it never comes due'}", CRON_HINT) from error
    return item.value


def _nulls(item: DocumentItem) -> float:
    if item.value == "never":
        return 0.0
    if isinstance(item.value, str):
        return units.share(item.value.removeprefix("<=").strip())
    return float(SHARE.take(item))


def _plain(item: DocumentItem) -> str | int | float | bool:
    """A value of its own type, as another library is to get it."""
    if not isinstance(item.value, str | int | float | bool):
        raise ValueError
    return item.value


def _format(item: DocumentItem) -> str:
    """Directives of strptime that both Python and Polars know, a date among them."""
    if not isinstance(item.value, str):
        raise ValueError
    directives = re.findall(r"%(.?)", item.value.replace("%.f", ""))
    if any(letter not in DIRECTIVES for letter in directives):
        raise ValueError
    known = set(directives)
    if not ({"Y", "y"} & known and {"m", "b", "B"} & known and "d" in known):
        raise item.error(
            f"{item.value!r} does not give year, month and day", "As %m/%d/%Y, %d.%m.%Y %H:%M or %Y-%m-%d %H:%M:%S%z."
        )
    return item.value


def _encoding(item: DocumentItem) -> str:
    if not isinstance(item.value, str):
        raise ValueError
    try:
        return codecs.lookup(item.value).name
    except LookupError:
        raise item.error(f"there is no encoding {item.value!r}", "As utf-8, cp1252, latin-1 or utf-16.") from None


def _mark(item: DocumentItem) -> str:
    """One character, as pyarrow takes it."""
    text = {"tab": "\t", "\\t": "\t"}.get(item.value, item.value) if isinstance(item.value, str) else None
    if text is None or len(text) != 1 or not text.isascii() or text.isalnum() or text in "\r\n":
        raise ValueError
    return text


def _quote(item: DocumentItem) -> str:
    return "" if item.value == "none" else _mark(item)


def _limit(item: DocumentItem) -> float | None:
    """One end of a range: a number, or null for none."""
    if item.value is None:
        return None
    value = float(NUMBER.read(item))
    if math.isnan(value):
        raise ValueError
    return value


def _type(item: DocumentItem) -> str:
    if not isinstance(item.value, str) or re.fullmatch(TYPE_PATTERN, item.value) is None:
        raise ValueError
    kind = item.value.replace(" ", "")
    if kind.startswith("decimal"):
        digits, places = parse_decimal(kind)
        if not (1 <= digits <= 38 and places <= digits):
            raise item.error(f"{item.value} is no decimal", "Of 1 to 38 digits, and as many or fewer after the point.")
    return kind


def _length(item: DocumentItem) -> int | None:
    """One end of a length: a whole number, or null for none."""
    return None if item.value is None else int(_WHOLE.read(item))


def _parallel(item: DocumentItem) -> int | str:
    if item.value == "auto":
        return "auto"
    if type(item.value) is not int or not 1 <= item.value <= 256:
        raise ValueError
    return item.value


DIRECTIVES = frozenset("YymdbBHIMSpzT%")  # of a time's format
CRON_HINT = 'Write minute, hour, day, month, weekday: "0 3 * * mon".'
TARGET = Scalar('a function as "module:function"', _target, {"type": "string", "pattern": TARGET_PATTERN})
GATE = Scalar('a gate like "roc_auc >= 0.6"', _gate, {"type": "string", "pattern": gate.PATTERN})
CRON = Scalar("a cron line", _cron, {"type": "string"})
STEP_SCALAR = Scalar(
    "a share like 10%, shadow, {shadow: 20%}, {pause: 10m} or {approve: 1}",
    _step,
    {"anyOf": [{"const": "shadow"}, SOME_SHARE.schema()]},
)
FREEZE = Scalar("a time like `fri 16:00 .. mon 08:00`", _freeze, {"type": "string", "pattern": freezing.PATTERN})
NULLS: Any = Scalar(
    'never, "<= 10%" or 0.1',
    _nulls,
    {
        "anyOf": [
            {"const": "never"},
            {"type": "number", "minimum": 0, "maximum": 1},
            {"type": "string", "pattern": r"^(<=)?\s*[0-9.]+\s*%$"},
        ]
    },
)
TIME_FORMAT = Scalar("a format like %m/%d/%Y or %d.%m.%Y %H:%M", _format, {"type": "string", "pattern": "%"})
PLAIN = Scalar("text, a number, true or false", _plain, {"type": ["string", "number", "boolean"]})
TYPE = Scalar(
    "int, float, string, bool, datetime, date, decimal, decimal(12,2), list, list(int) or struct",
    _type,
    {"type": "string", "pattern": f"^{TYPE_PATTERN}$"},
)
_WHOLE = whole("a whole number from 0", 0, 1 << 53)
LENGTH = Scalar("a whole number from 0", _length, {"type": ["integer", "null"], "minimum": 0})
LIMIT = Scalar("a number", _limit, {"type": ["number", "null"]})
PORT = whole("a port from 0 to 65535", 0, 65535)
MARK = Scalar("one character", _mark, {"type": "string", "minLength": 1})
QUOTE = Scalar("one character, or none", _quote, {"type": "string", "minLength": 1})
ENCODING = Scalar("the name of an encoding", _encoding, {"type": "string"})
PARALLEL: Any = Scalar(
    "auto, or a number from 1 to 256",
    _parallel,
    {"anyOf": [{"const": "auto"}, {"type": "integer", "minimum": 1, "maximum": 256}]},
)
