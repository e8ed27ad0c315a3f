"""What `--where` may say of runs and of predictions: the SQL expressions of contracts (`expression`) over named fields.

    metrics.auc > 0.8 and params.train.lr <= 0.1 and tag = 'baseline'

A field is ``metrics.NAME``, ``params.NAME`` or one of ``RUNS.fields`` (of a prediction: ``PREDICTIONS``); a name with other
characters than letters, digits, ``_`` and ``.`` stands in double quotes: ``metrics."val loss"``. Text stands in single quotes. A
row that does not have a field meets no comparison with it, as SQL has it: ``params.depth is null`` asks for those.

Who computes a condition gives each field it asks about as the column `Asked.column`: `row_sql.holds`.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from noria.kernel import expression
from noria.kernel.errors import UsageError
from noria.kernel.expression import COMPARE, FUNCTIONS, ExpressionError, Parser, Token

WHOLE = 1e15  # whole numbers below it are written without a point
MOST_PARTS = 400  # words and signs: the engine plans them in half a second; it takes 12 for 2,000
GROUPS = ("metrics", "params")
AMONG = "\n"  # stands around each of several values of a field, such as tags


class Language(msgspec.Struct, frozen=True):
    """What can be asked of one sort of things. ``numbers``: groups and fields that hold numbers; ``times``: moments in UTC, as
    text; ``several``: fields that hold several texts, of which any may be the one."""

    noun: str
    groups: tuple[str, ...]
    fields: Mapping[str, str]
    numbers: frozenset[str]
    times: frozenset[str]
    several: frozenset[str]
    example: str


RUNS = Language(
    "run",
    GROUPS,
    {
        "id": "the run's id",
        "kind": "turn, experiment or trial",
        "outcome": "how it ended: promoted, released, gate failed, ...",
        "tag": "any of its tags",
        "note": "its note",
        "parent": "the run whose search it is a trial of",
        "commit": "the full id of its commit",
        "started": "when, in UTC: '2026-11-21', or '2026-11-21 14:30'",
        "seconds": "how long it took",
    },
    frozenset({"seconds", "metrics"}),
    frozenset({"started"}),
    frozenset({"tag"}),
    "Write for example: metrics.auc > 0.8 and params.train.lr <= 0.1 and tag = 'baseline'.",
)
PREDICTIONS = Language(
    "prediction",
    ("inputs", "outputs"),
    {
        "id": "the prediction's id",
        "at": "when it was answered, in UTC: '2026-11-21', or '2026-11-21 14:30'",
        "release": "the release that answered",
        "variant": "champion, candidate, or fallback",
        "rollout": "the rollout in which it was answered",
        "key": "the key of the request",
        "event_time": "the event time of the request, as it came",
        "latency_ms": "how long the answer took",
        "error": "why the candidate did not answer",
        "sample": "the chance that it was recorded",
        "label": "what came back for it",
        "labels": "how many different labels came for it",
    },
    frozenset({"latency_ms", "sample", "labels"}),
    frozenset({"at"}),
    frozenset(),
    "Write for example: outputs.probability > 0.9 and inputs.carrier = 'AA' and label is not null.",
)

_NAME = r"""(?:\w+|"(?:[^"]|"")+"|`[^`]+`)"""
_TOKEN = re.compile(
    expression.TOKEN.pattern.replace("|(?P<number>", r"|(?P<time>\d{4}-\d\d-\d\d(?:T[\d:.]+)?)|(?P<number>").replace(
        "|(?P<word>", rf"|(?P<dotted>[^\W\d]\w*(?:\.{_NAME})+)|(?P<word>"
    ),
    re.VERBOSE,
)
_PART = re.compile(_NAME)
_RUN_ON = re.compile(r"[\w./:+-]+")  # what is one word for people
_TEXT = re.compile(r"'(?:[^']|'')*'")
_ISO = re.compile(r"('\d{4}-\d\d-\d\d)T")


class QueryField(msgspec.Struct, frozen=True):
    """``group`` is metrics, params (inputs, outputs), or empty for a field of the run (the prediction) itself."""

    group: str
    name: str
    position: int = 0  # where it stands in the text, from 1

    def __str__(self) -> str:
        return f"{self.group}.{self.name}" if self.group else self.name

    @property
    def column(self) -> str:
        """The column under which a condition asks for it: no name of the data's own."""
        return f"? {self}"


class ComparedParts(msgspec.Struct, frozen=True):
    """Two parts that are compared, and where: what cannot be computed is looked for among them."""

    sql: str
    left: str
    right: str
    position: int


class Condition(msgspec.Struct, frozen=True):
    """What is asked. ``sql``: as the engine is given it, over the columns of ``fields``."""

    text: str
    sql: str
    fields: tuple[QueryField, ...]
    comparisons: tuple[ComparedParts, ...]
    source: str = "--where"

    def wrong(self, message: str, position: int = 1, hint: str | None = None) -> UsageError:
        return UsageError(message, where=place_in(self.source, position), hint=hint)


class Order(msgspec.Struct, frozen=True):
    """Runs without the field come last, either way."""

    field: QueryField
    descending: bool


def parse(text: str, source: str = "--where", language: Language = RUNS) -> Condition:
    """The condition that ``text`` says. Raises UsageError; its ``where`` is ``source`` and the position."""
    try:
        reader = _Reader(text, language)
        sql = reader.either()
        reader.demand_end()
        if reader.parts > MOST_PARTS:
            raise ExpressionError(1, f"it has {reader.parts:,} words and signs, more than {MOST_PARTS:,}")
        if reader.casts > expression.CASTS:
            raise ExpressionError(1, f"it has {reader.casts} conversions, more than {expression.CASTS}")
    except ExpressionError as error:
        hint = error.hint if isinstance(error, _FieldError) else None
        message = str(error).partition(": ")[2]
        raise UsageError(message, where=place_in(source, error.position), hint=hint or language.example) from None
    return Condition(text, sql, tuple(reader.fields), tuple(reader.comparisons), source)


def parse_order(text: str, source: str = "--sort") -> Order:
    """``metrics.auc`` (smallest first) or ``-metrics.auc`` (largest first). Raises UsageError."""
    descending = text.startswith("-")
    name = text[1:] if descending else text
    group, dot, rest = name.partition(".")
    quoted = re.fullmatch(r'"([^"]+)"|`([^`]+)`', rest)
    if group in GROUPS and dot and (quoted or (rest.strip() and len(rest.split()) == 1)):
        return Order(QueryField(group, (quoted[1] or quoted[2]) if quoted else rest, 1), descending)
    if name in RUNS.fields:
        return Order(QueryField("", name, 1), descending)
    shown = name if len(name) <= 60 else f"{name[:60]}..."
    raise UsageError(f"a run has no field {shown!r} to sort by", where=place_in(source, 1), hint=_field_hint(name, RUNS))


def rank(order: Order, facts: Mapping[str, Any]) -> tuple[int, float, str] | None:
    """What to sort a run by: numbers before texts; None where it does not have the field."""
    value = value_of(order.field, facts)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return (0, float(value), "")
    return (1, 0.0, as_text(value))


def value_of(field: QueryField, facts: Mapping[str, Any]) -> Any:
    """What a run holds there; None where it has nothing."""
    held = facts.get(field.group or field.name)
    return held.get(field.name) if field.group and held is not None else held


def as_text(value: Any) -> str:
    """A value as a condition compares it with text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return ", ".join(as_text(v) for v in value)
    if isinstance(value, float) and value.is_integer() and abs(value) < WHOLE:
        return str(int(value))  # 1 and 1.0 are one number, and look alike
    return str(value)


def demand_known(asked: Iterable[tuple[QueryField, str]], known: Mapping[str, Iterable[str]]) -> None:
    """Raises UsageError for a metric or parameter that no run has; ``asked`` are fields with their source, ``known`` names by
    group. A name that is nowhere is a slip of the pen, and an empty answer would hide it."""
    for field, source in asked:
        names = list(known.get(field.group, ())) if field.group else []
        if field.group and field.name not in names:
            noun = "metric" if field.group == "metrics" else "parameter"
            near = nearest(str(field), [str(QueryField(field.group, name)) for name in names]) or RUNS.example
            raise UsageError(f"no run has the {noun} {field.name}", where=place_in(source, field.position), hint=near)


def nearest(word: str, known: list[str]) -> str | None:
    """A hint that names the closest of what there is, or all of it when it is little."""
    found = difflib.get_close_matches(word[:200], known, 1, cutoff=0.55)
    if found:
        return f"Did you mean {found[0]}?"
    return f"Known: {', '.join(sorted(known))}." if 0 < len(known) <= 24 else None


def place_in(source: str, position: int) -> str:
    return f"{source}, column {position}"


def _field_hint(word: str, language: Language) -> str:
    known = [*language.fields, *(f"{g}.{word.partition('.')[2] or 'NAME'}" for g in language.groups)]
    close = difflib.get_close_matches(word[:200], known, 1, cutoff=0.7)
    if close:
        return f"Did you mean {close[0]}?"
    if word.isidentifier() and len(word) < 100:
        return f"Write {' or '.join(f'{group}.{word}' for group in language.groups)}."
    return f"Fields: {', '.join([*(f'{group}.NAME' for group in language.groups), *language.fields])}."


class _FieldError(ExpressionError):
    def __init__(self, position: int, text: str, hint: str) -> None:
        super().__init__(position, text)
        self.hint = hint


class _Reader(Parser):
    """The expressions of contracts, over the fields of a language. What was written otherwise before is told how to write it."""

    noun = "a query"
    functions = FUNCTIONS - {"replace"}  # within itself it makes texts of any size
    cast = "TRY_CAST"  # one value that cannot be converted is none

    def __init__(self, text: str, language: Language) -> None:
        tokens = expression.tokens_of(text, _TOKEN)
        super().__init__(tokens)
        self.parts = len(tokens) - 1
        self.fields: list[QueryField] = []
        self.comparisons: list[ComparedParts] = []
        self._text, self._language = text, language

    def _single(self) -> str:
        token = self._next
        if token.kind == "time":
            raise _FieldError(token.at, f"{token.text} is no number", f"Times stand in single quotes: '{token.text}'.")
        if token.kind != "dotted":
            return super()._single()
        group, *parts = _PART.findall(self._advance().text)
        if group.lower() in self._language.groups:
            name = ".".join(part if part[0] not in '"`' else part[1:-1].replace('""', '"') for part in parts)
            return self._field(QueryField(group.lower(), name, token.at))
        raise self._unknown(token.text, token)

    def _column(self, name: str, token: Token) -> str:
        if name in self._language.fields:
            return self._field(QueryField("", name, token.at))
        raise self._unknown(name, token)

    def _field(self, field: QueryField) -> str:
        if all(str(known) != str(field) for known in self.fields):
            self.fields.append(field)
        return _quote_name(field.column)

    def _comparison(self, left: str, sign: Token, right: str) -> str:
        if "NULL" in (left, right):
            no = "not " if COMPARE.get(sign.text) == "!=" else ""
            raise _FieldError(sign.at, "nothing is equal to null, and nothing is different", f"Write `is {no}null`.")
        for one, other in ((left, right), (right, left)):
            field = self._field_of(one)
            if field is None:
                continue
            if field.name in self._language.several and not field.group and COMPARE.get(sign.text) in ("=", "!="):
                return self._any(one, other, no=COMPARE[sign.text] == "!=")
            if (field.group or field.name) in self._language.numbers and _TEXT.fullmatch(other):
                raise _FieldError(sign.at, f"{field} is a number: compare it with one, not with {other}", self._language.example)
        left, right = self._timed(left, right), self._timed(right, left)
        sql = super()._comparison(left, sign, right)
        self.comparisons.append(ComparedParts(sql, left, right, sign.at))
        return sql

    def _membership(self, left: str, no: str, among: list[str]) -> str:
        field = self._field_of(left)
        if field is not None and field.name in self._language.several and not field.group:
            found = " OR ".join(self._any(left, one, no=False) for one in among)
            return f"(NOT ({found}))" if no else f"({found})"
        return super()._membership(left, no, among)

    def _any(self, several: str, text: str, *, no: bool) -> str:
        """Whether one of several texts is this one."""
        found = f"strpos({_quote_name(self._several(several))}, concat('{AMONG}', {text}, '{AMONG}')) > 0"
        return f"(NOT ({found}))" if no else f"({found})"

    def _several(self, sql: str) -> str:
        return f"{sql[1:-1]}{AMONG}"

    def _timed(self, sql: str, other: str) -> str:
        """A moment as a text that is compared with a time, written as the times are."""
        field = self._field_of(other)
        times = field is not None and not field.group and field.name in self._language.times
        return _ISO.sub(r"\1 ", sql) if times and _TEXT.fullmatch(sql) else sql

    def _field_of(self, sql: str) -> QueryField | None:
        return next((field for field in self.fields if _quote_name(field.column) == sql), None)

    def _unknown(self, name: str, token: Token) -> _FieldError:
        before = next((one for one in reversed(self._tokens) if one.at < token.at), None)
        run_on = _RUN_ON.match(self._text, token.at - 1)
        word = run_on[0] if run_on else name
        compared = before is not None and (before.text in COMPARE or before.text in expression.MATCH)
        hint = _field_hint(name, self._language)
        if (compared or token.kind == "quoted") and len(word) < 100:
            text = (word if token.kind != "quoted" else name).replace("'", "''")
            null = " No value at all: `is null`." if word.lower() == "none" else ""
            hint = f"Text stands in single quotes: '{text}'.{null}"
        elif before is not None and before.text in ("-", "/", "+") and before.at == token.at - 1:
            whole = next((found for found in _RUN_ON.finditer(self._text) if found.start() < token.at - 1 < found.end()), None)
            group, dot, rest = whole[0].partition(".") if whole else ("", "", "")
            hint = f'Such a name stands in double quotes: {group}."{rest}".' if dot and group in self._language.groups else hint
        shown = name if len(name) <= 60 else f"{name[:60]}..."
        return _FieldError(token.at, f"a {self._language.noun} has no field {shown!r}", hint)


def _quote_name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
