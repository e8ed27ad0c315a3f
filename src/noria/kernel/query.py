"""Which runs, or predictions, are asked for: ``metrics.auc > 0.8 and params.train.lr <= 0.1 and tag = 'baseline'``.

    query      = part {"or" part}              part = term {"and" term}
    term       = "not" term | "(" query ")" | comparison
    comparison = FIELD ("=" | "!=" | "<" | "<=" | ">" | ">=" | "~") VALUE

FIELD is ``metrics.NAME``, ``params.NAME`` or one of ``FIELDS`` (of a prediction: see ``PREDICTIONS``); a name with other
characters than letters, digits and ``_ . / -`` stands in backquotes: ``metrics.`val loss` ``. VALUE is a number, a word, or text
in quotes; ``~`` means "contains" in any case. A run that does not have a metric or a parameter meets no comparison with it,
``!=`` neither; ``not`` turns that round.
"""

from __future__ import annotations

import difflib
import math
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import msgspec

from noria.kernel.errors import UsageError

WHOLE = 1e15  # whole numbers below it are written without a point
FIELDS = {  # what a run is, beside its metrics and parameters
    "id": "the run's id",
    "kind": "turn, experiment or trial",
    "outcome": "how it ended: promoted, released, gate failed, ...",
    "tag": "any of its tags",
    "note": "its note",
    "parent": "the run whose search it is a trial of",
    "commit": "the full id of its commit",
    "started": "when, in UTC: 2026-11-21, or '2026-11-21 14:30'",
    "seconds": "how long it took",
}
GROUPS = ("metrics", "params")
NUMBERS = frozenset({"seconds"})  # fields that hold a number
PREDICTION = {  # what a prediction is, beside its inputs and outputs
    "id": "the prediction's id",
    "at": "when it was answered, in UTC: 2026-11-21, or '2026-11-21 14:30'",
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
}
LENGTH_LIMIT = 4000  # characters of a query
DEPTH_LIMIT = 50  # of brackets and `not` inside each other
HINT = "Write for example: metrics.auc > 0.8 and params.train.lr <= 0.1 and tag = 'baseline'."


class Language(msgspec.Struct, frozen=True):
    """What can be asked of one sort of things. ``numbers``: groups and fields that hold numbers; ``times``: moments in UTC."""

    noun: str
    groups: tuple[str, ...]
    fields: Mapping[str, str]
    numbers: frozenset[str]
    times: frozenset[str]
    hint: str


RUNS = Language("run", GROUPS, FIELDS, NUMBERS | {"metrics"}, frozenset({"started"}), HINT)
PREDICTIONS = Language(
    "prediction",
    ("inputs", "outputs"),
    PREDICTION,
    frozenset({"latency_ms", "sample", "labels"}),
    frozenset({"at"}),
    "Write for example: outputs.probability > 0.9 and inputs.carrier = 'AA' and label != null.",
)

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<field>[a-z]+\.`[^`]*`)
    | (?P<quoted>'[^']*'|"[^"]*")
    | (?P<op><=|>=|!=|==|=|<|>|~)
    | (?P<bracket>[()])
    | (?P<word>[\w./:+-]+)
    )""",
    re.VERBOSE,
)
_TESTS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class Field(msgspec.Struct, frozen=True):
    """``group`` is metrics, params (inputs, outputs), or empty for a field of the run (the prediction) itself."""

    group: str
    name: str
    column: int = 0  # where it stands in the text, from 1

    def __str__(self) -> str:
        return f"{self.group}.{self.name}" if self.group else self.name


class Compare(msgspec.Struct, frozen=True):
    field: Field
    op: str
    text: str
    number: float | None  # None where the value is no number, or stands in quotes
    quoted: bool = False


class Not(msgspec.Struct, frozen=True):
    part: Query


class Every(msgspec.Struct, frozen=True):
    parts: tuple[Query, ...]


class Either(msgspec.Struct, frozen=True):
    parts: tuple[Query, ...]


Query = Compare | Not | Every | Either


class Order(msgspec.Struct, frozen=True):
    """Runs without the field come last, either way."""

    field: Field
    descending: bool


def parse(text: str, source: str = "--where", language: Language = RUNS) -> Query:
    """The query that ``text`` says. Raises UsageError; its ``where`` is ``source`` and the column."""
    if len(text) > LENGTH_LIMIT:
        raise UsageError(f"a query has at most {LENGTH_LIMIT:,} characters, this one has {len(text):,}", where=source)
    reader = _Reader(text, source, language)
    found = reader.query(0)
    reader.demand_end()
    return found


def parse_order(text: str, source: str = "--sort") -> Order:
    """``metrics.auc`` (smallest first) or ``-metrics.auc`` (largest first). Raises UsageError."""
    descending = text.startswith("-")
    reader = _Reader(text[1:] if descending else text, source, RUNS)
    order = Order(reader.field(), descending)
    reader.demand_end()
    return order


def matches(query: Query, facts: Mapping[str, Any]) -> bool:
    """Whether a run meets the query. ``facts``: ``metrics`` and ``params`` as dicts, ``tag`` as a sequence, and FIELDS."""
    match query:
        case Every(parts):
            return all(matches(part, facts) for part in parts)
        case Either(parts):
            return any(matches(part, facts) for part in parts)
        case Not(part):
            return not matches(part, facts)
        case Compare():
            return _holds(query, facts)


def rank(order: Order, facts: Mapping[str, Any]) -> tuple[int, float, str] | None:
    """What to sort a run by: numbers before texts; None where it does not have the field."""
    value = value_of(order.field, facts)
    number = _as_number(value)
    if number is not None:
        return (0, number, "")
    return None if value is None or _undefined(value) else (1, 0.0, _as_text(value))


def value_of(field: Field, facts: Mapping[str, Any]) -> Any:
    """What a run holds there; None where it has nothing."""
    held = facts.get(field.group or field.name)
    return held.get(field.name) if field.group and held is not None else held


def fields(query: Query) -> Iterator[Field]:
    """Every field that is asked about, in the order of the text."""
    match query:
        case Compare(field):
            yield field
        case Not(part):
            yield from fields(part)
        case Every(parts) | Either(parts):
            for part in parts:
                yield from fields(part)


def demand_known(asked: Iterable[tuple[Field, str]], known: Mapping[str, Iterable[str]]) -> None:
    """Raises UsageError for a metric or parameter that no run has; ``asked`` are fields with their source, ``known`` names by
    group. A name that is nowhere is a slip of the pen, and an empty answer would hide it."""
    for field, source in asked:
        names = list(known.get(field.group, ())) if field.group else []
        if field.group and field.name not in names:
            noun = "metric" if field.group == "metrics" else "parameter"
            near = nearest(str(field), [str(Field(field.group, name)) for name in names])
            raise UsageError(f"no run has the {noun} {field.name}", where=_place(source, field.column), hint=near)


def nearest(word: str, known: list[str]) -> str:
    """A hint that names the closest of what there is, or all of it when it is little."""
    found = difflib.get_close_matches(word, known, 1, cutoff=0.55)
    if found:
        return f"Did you mean {found[0]}?"
    return f"Known: {', '.join(sorted(known))}." if 0 < len(known) <= 24 else HINT


def _place(source: str, column: int) -> str:
    return f"{source}, column {column}"


def _holds(asked: Compare, facts: Mapping[str, Any]) -> bool:
    value = value_of(asked.field, facts)
    if asked.field.name == "tag" and not asked.field.group:
        return _tagged(asked, value or ())
    if value is None:
        group = facts.get(asked.field.group) or {}
        present = bool(asked.field.group) and asked.field.name in group  # a parameter may be null
        return present and asked.op in ("=", "!=") and (asked.text.lower() in ("null", "none")) == (asked.op == "=")
    return _compare(asked, value)


def _tagged(asked: Compare, tags: Iterable[str]) -> bool:
    if asked.op == "!=":
        return asked.text not in tags
    return any(_compare(asked, tag) for tag in tags)


def _compare(asked: Compare, value: Any) -> bool:
    if asked.op == "~":
        return asked.text.lower() in _as_text(value).lower()
    if _undefined(value):
        return False
    number = _as_number(value)
    if number is not None:
        return _TESTS[asked.op](number, asked.number) if asked.number is not None else asked.op == "!="
    text = _as_text(value)
    if asked.number is not None and asked.op not in ("=", "!="):
        return False  # "10" is not compared with 5: neither order of text nor of numbers is what was meant
    if isinstance(value, bool) and asked.op not in ("=", "!="):
        return False
    wanted = asked.text.lower() if isinstance(value, bool) else asked.text
    return _TESTS[asked.op](text, wanted)


def _undefined(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _as_number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or _undefined(value):
        return None
    return float(value)


def _as_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return ", ".join(_as_text(v) for v in value)
    if isinstance(value, float) and value.is_integer() and abs(value) < WHOLE:
        return str(int(value))  # 1 and 1.0 are one number, and look alike
    return str(value)


class _Reader:
    """Tokens of the text, from left to right."""

    def __init__(self, text: str, source: str, language: Language) -> None:
        self._text, self._source, self._language, self._at = text, source, language, 0

    def query(self, depth: int) -> Query:
        parts = [self._part(depth)]
        while self._take_word("or"):
            parts.append(self._part(depth))
        return parts[0] if len(parts) == 1 else Either(tuple(parts))

    def _part(self, depth: int) -> Query:
        parts = [self._term(depth)]
        while self._take_word("and"):
            parts.append(self._term(depth))
        return parts[0] if len(parts) == 1 else Every(tuple(parts))

    def _term(self, depth: int) -> Query:
        if depth > DEPTH_LIMIT:
            raise self._wrong(f"more than {DEPTH_LIMIT} brackets stand inside each other")
        if self._take_word("not"):
            return Not(self._term(depth + 1))
        if self._peek("bracket") == "(":
            self._next()
            inside = self.query(depth + 1)
            if self._peek("bracket") != ")":
                raise self._wrong(f"a closing bracket is missing before {self._shown()}")
            self._next()
            return inside
        return self._comparison()

    def _comparison(self) -> Compare:
        field = self.field()
        op = self._peek("op")
        if op is None:
            raise self._wrong(f"after {field} comes one of = != < <= > >= ~, not {self._shown()}")
        self._next()
        value = self._match()
        if value is None or value.lastgroup not in ("quoted", "word"):
            raise self._wrong(f"after {field} {op} comes a value, not {self._shown()}")
        return self._valued(field, "=" if op == "==" else op, value)

    def _valued(self, field: Field, op: str, found: re.Match[str]) -> Compare:
        quoted = found.lastgroup == "quoted"
        text = found[found.lastgroup or 0]
        text = text[1:-1] if quoted else text
        number = None if quoted else _number(text)
        if (field.group or field.name) in self._language.numbers and op != "~" and number is None:
            raise self._wrong(f"{field} is a number: compare it with one, not with {text!r}")
        self._next()
        if str(field) in self._language.times:
            text, number = text.replace("T", " "), None
        return Compare(field, op, text, number, quoted)

    def field(self) -> Field:
        language = self._language
        groups = [f"{group}.NAME" for group in language.groups]
        found = self._match()
        if found is None or found.lastgroup not in ("field", "word"):
            raise self._wrong(f"a field is expected ({', '.join([*groups, *language.fields])}), not {self._shown()}")
        text, column = found[found.lastgroup], found.start(found.lastgroup) + 1
        group, dot, name = text.partition(".")
        if group in language.groups and dot and name.strip("`"):
            self._next()
            return Field(group, name.strip("`"), column)
        if text not in language.fields:
            plain = "." not in text and text.isidentifier()
            hint = f"Write {' or '.join(f'{g}.{text}' for g in language.groups)}." if plain else None
            known = [*language.fields, *(f"{g}.{name}" for g in language.groups)]
            close = difflib.get_close_matches(text, known, 1, cutoff=0.7)
            hint = f"Did you mean {close[0]}?" if close else hint
            everything = f"Fields: {', '.join([*groups, *language.fields])}."
            raise self._wrong(f"a {language.noun} has no field {text!r}", hint or everything)
        self._next()
        return Field("", text, column)

    def demand_end(self) -> None:
        if self._text[self._at :].strip():
            raise self._wrong(
                f"{self._shown()} was not expected here", "Join comparisons by `and` or `or`; put text into quotes."
            )

    def _match(self) -> re.Match[str] | None:
        return _TOKEN.match(self._text, self._at)

    def _peek(self, kind: str) -> str | None:
        found = self._match()
        return found[kind] if found is not None and found.lastgroup == kind else None

    def _next(self) -> None:
        found = self._match()
        assert found is not None, "only what was looked at is passed"
        self._at = found.end()

    def _take_word(self, word: str) -> bool:
        found = self._peek("word")
        if found is None or found.lower() != word:
            return False
        self._next()
        return True

    def _shown(self) -> str:
        found = self._match()
        rest = self._text[self._at :].strip()
        shown = found[0].strip() if found is not None else rest[:20]
        return repr(shown) if shown else "the end"

    def _wrong(self, message: str, hint: str | None = None) -> UsageError:
        rest = self._text[self._at :]
        column = self._at + len(rest) - len(rest.lstrip()) + 1
        return UsageError(message, where=_place(self._source, column), hint=hint or self._language.hint)


def _number(text: str) -> float | None:
    try:
        found = float(text)
    except ValueError:
        return None
    return found if math.isfinite(found) else None
