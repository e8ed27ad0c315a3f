"""Requests and answers: bytes in, checked columns out. Nothing here knows HTTP or processes."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache, partial
from types import NoneType
from typing import Any

import msgspec

from noria.kernel.errors import BadBodyError, SignatureError, TooLargeError
from noria.kernel.task_definition import Output
from noria.models.signature import Input, Kind, Signature, class_text
from noria.serving.problems import NAME_LENGTH, Problems, nearest, render_names

Record = dict[str, Any]
Columns = dict[str, list[Any]]
Label = str | int | float | bool

SINGLE_MAX = 3.4028234663852886e38  # the largest float32
SINGLE_END = 3.4028235677973366e38  # from here on a number rounds to float32's infinity
MARKED = 20  # inputs of a row that are named as outside: an answer must not be many times its request
ID_LIMIT = 200  # characters of a prediction id or key
_MISSING = object()
_WHOLE = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_ACCEPTED: dict[Kind, frozenset[type]] = {
    Kind.STRING: frozenset({str}),
    Kind.NUMBER: frozenset({int, float}),
    Kind.INTEGER: frozenset({int}),
    Kind.BOOLEAN: frozenset({bool}),
}
_WORDS = {Kind.STRING: "a string", Kind.NUMBER: "a number", Kind.INTEGER: "a whole number", Kind.BOOLEAN: "true or false"}
_EXAMPLES: dict[Kind, Any] = {Kind.STRING: "text", Kind.NUMBER: 1.5, Kind.INTEGER: 1, Kind.BOOLEAN: True}
_decode = msgspec.json.Decoder().decode


class PredictionRequest(msgspec.Struct, frozen=True):
    """A request that the champion can read."""

    records: Sequence[Record]
    columns: Columns  # of the champion's signature
    keys: list[str | None]
    event_times: list[str | None]


def parse(body: bytes) -> Any:
    """JSON, strictly: UTF-8, no duplicate names, no NaN. Raises BadBodyError."""
    if not body.strip():
        raise BadBodyError("the body is empty", hint='Send one record as JSON: {"column": value, ...}')
    try:
        value = _decode(body)
        _refuse_duplicates(body, value)
    except RecursionError as error:
        raise BadBodyError("the body is nested too deeply") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadBodyError(f"the body is not JSON: {error}") from error
    return value


def records_of(value: Any, field: str, max_rows: int, plain: bool = False) -> list[Record]:
    """The records of a body: one object, a list, or ``{field: [...]}`` (unless ``plain``: the field is a column).

    Raises BadBodyError, SignatureError for none, TooLargeError.
    """
    if isinstance(value, dict) and not plain and len(value) == 1 and field in value:
        value = value[field]
        if not isinstance(value, list):
            raise BadBodyError(f"{field!r} must be a list of objects")
    records = [value] if isinstance(value, dict) else value
    if not isinstance(records, list):
        raise BadBodyError(f'the body must be an object, a list of objects, or {{"{field}": [...]}}, not {_name(value)}')
    if not records:
        raise SignatureError("there are no records in the body")
    if len(records) > max_rows:
        raise TooLargeError(f"{len(records)} records are more than {max_rows}", hint="Send them in several requests.")
    for i, record in enumerate(records):
        if type(record) is not dict:
            raise BadBodyError(f"{field}[{i}] must be an object, not {_name(record)}")
    return records


def read(value: Any, signature: Signature, also: frozenset[str], max_rows: int) -> PredictionRequest:
    """Check a parsed body against the champion's signature. Columns named in ``also`` may be there too (a candidate's).

    Raises BadBodyError, SignatureError (each problem with its record and the nearest valid name), TooLargeError.
    """
    names = {i.name for i in signature.inputs}
    if isinstance(value, dict) and value.keys() == {"columns"} and "columns" not in names:
        value = records_from_columns(value["columns"], max_rows)
    return ask_of(records_of(value, "records", max_rows, plain="records" in names), signature, also)


def ask_of(records: list[Record], signature: Signature, also: frozenset[str]) -> PredictionRequest:
    """Records, checked as `read` does. Raises SignatureError."""
    found = columns(records, signature, also)
    return PredictionRequest(records, found, keys(records, signature.key), event_times(records, signature.event_time))


def records_from_columns(value: Any, max_rows: int, where: str = "columns") -> list[Record]:
    """``{"a": [1, 2], "b": [3, 4]}`` as records. Raises BadBodyError, SignatureError, TooLargeError."""
    if not isinstance(value, dict):
        raise BadBodyError(f"'{where}' must be an object of lists, not {_name(value)}")
    for name, values in value.items():
        if type(values) is not list:
            raise BadBodyError(f"{where}.{name[:80]} must be a list, not {_name(values)}")
    lengths = {name: len(values) for name, values in value.items()}
    longest, shortest = max(lengths, key=lengths.__getitem__, default=""), min(lengths, key=lengths.__getitem__, default="")
    if lengths and lengths[longest] > max_rows:
        raise TooLargeError(f"{lengths[longest]} records are more than {max_rows}", hint="Send them in several requests.")
    if lengths and lengths[longest] != lengths[shortest]:
        found = f"{where}.{longest[:80]} has {lengths[longest]} values, {where}.{shortest[:80]} has {lengths[shortest]}"
        raise SignatureError(f"{where} must hold columns of one length: {found}")
    return [dict(zip(value, row, strict=True)) for row in zip(*value.values(), strict=True)]


def columns(records: Sequence[Record], signature: Signature, also: frozenset[str] = frozenset()) -> Columns:
    """The signature's columns out of the records. Raises SignatureError."""
    problems = Problems()
    table: Columns = {}
    for spec in signature.inputs:
        name = spec.name
        values = [record.get(name, _MISSING) for record in records]
        if not _acceptable(spec, values):
            if spec.kind is Kind.INTEGER:
                values = list(map(whole, values))
            _look(spec, values, problems)
            if problems.is_full:
                break
        table[name] = values
    expected = len(signature.inputs)
    if any(len(record) != expected for record in records) or problems:
        problems = _unknown(records, signature, also).followed_by(problems)
    if problems:
        raise refusal(problems, signature)
    return table


def _acceptable(spec: Input, values: list[Any]) -> bool:
    """The fast check of the common case: every type is right and every number is in range."""
    types = set(map(type, values))
    if spec.nullable:
        types.discard(NoneType)
    if not types <= _ACCEPTED[spec.kind]:
        return False
    return int not in types or all(v is None or -(2**63) <= v < 2**63 for v in values)


def whole(value: Any) -> Any:
    """30.0 is 30: JSON has one type of numbers, and clients of other languages write either. All else is as it was."""
    return int(value) if type(value) is float and value.is_integer() and -(2**63) <= value < 2**63 else value


def _look(spec: Input, values: list[Any], problems: Problems) -> None:
    """Note what is wrong with a column's values."""
    accepted = _ACCEPTED[spec.kind] | ({NoneType} if spec.nullable else set())
    for index, value in enumerate(values):
        if problems.is_full:
            return
        if type(value) not in accepted or (type(value) is int and not -(2**63) <= value < 2**63):
            problems.add(partial(_problem, spec, index, value))


def _problem(spec: Input, index: int, value: Any) -> str:
    where = f"records[{index}].{spec.name[:NAME_LENGTH]}"
    if value is _MISSING:
        return f"{where} is missing"
    if value is None:
        return f"{where} must not be null"
    if type(value) not in _ACCEPTED[spec.kind]:
        return f"{where} must be {_WORDS[spec.kind]}, not {_value_text(value)}"
    return f"{where} is beyond 64 bits"


def _unknown(records: Sequence[Record], signature: Signature, also: frozenset[str]) -> Problems:
    known = dict.fromkeys([*(i.name for i in signature.inputs), *(n for n in (signature.key, signature.event_time) if n)])
    problems = Problems()
    for index, record in enumerate(records):
        for name in record:
            if name not in known and name not in also:
                problems.add(partial(_not_an_input, index, name, known))
        if problems.is_full:
            break
    return problems


def _not_an_input(index: int, name: str, known: Iterable[str]) -> str:
    return f"records[{index}].{name[:NAME_LENGTH]} is not an input{nearest(name, known)}"


def refusal(problems: Problems, signature: Signature) -> SignatureError:
    """Returns the error with the first few problems, the number of others, and the inputs."""
    return SignatureError(
        str(problems), hint="The inputs are: " + render_names([f"{i.name} ({i.kind})" for i in signature.inputs])
    )


def keys(records: Sequence[Record], name: str | None) -> list[str | None]:
    """The key of each record, as text. Raises SignatureError."""
    if name is None:
        return [None] * len(records)
    return [key_text(record.get(name), f"records[{i}].{name}") for i, record in enumerate(records)]


def key_text(value: Any, where: str) -> str | None:
    """A key as text. Raises SignatureError."""
    if value is None:
        return None
    value = whole(value)
    if type(value) not in (str, int) or not 0 < len(text := str(value)) <= ID_LIMIT:
        raise SignatureError(
            f"{where} must be a string of up to {ID_LIMIT} characters or a whole number, not {_value_text(value)}"
        )
    return text


def event_times(records: Sequence[Record], name: str | None) -> list[str | None]:
    """When each record's event was, as ISO 8601 says it. Raises SignatureError."""
    if name is None:
        return [None] * len(records)
    return [time_text(record.get(name), f"records[{i}].{name}") for i, record in enumerate(records)]


def time_text(value: Any, where: str) -> str | None:
    """A time in ISO 8601, checked. Raises SignatureError."""
    if value is None:
        return None
    try:
        datetime.fromisoformat(value)
    except (TypeError, ValueError) as error:
        raise SignatureError(f"{where} must be a time in ISO 8601, not {_value_text(value)}") from error
    return str(value)


# -- answers


def labels_of(signature: Signature) -> tuple[Label, ...]:
    """The classes as clients see them: whole numbers where their text is one."""
    return _labels(signature.classes)


@lru_cache(maxsize=64)
def _labels(classes: tuple[str, ...]) -> tuple[Label, ...]:
    return tuple(int(c) if _WHOLE.fullmatch(c) else c for c in classes)


Answerer = Callable[[list[Any]], dict[str, list[Any]]]


def outputs(signature: Signature, answers: list[Any]) -> list[dict[str, Any]]:
    """One row's answer each: ``prediction`` and, for classes, ``probability`` (of the second class) or ``probabilities``."""
    found = answerer(signature)(answers)
    return [dict(zip(found, row, strict=True)) for row in zip(*found.values(), strict=True)]


def answerer(signature: Signature) -> Answerer:
    """The same of one signature, column by column."""
    outputs = signature.task.definition.outputs
    if list(outputs.values()) == [Output.CLASS, Output.SECOND] and not signature.says_class:
        (called, chance), (no, yes) = outputs, labels_of(signature)
        return partial(_of_two, called, chance, no, yes, threshold_of(signature))
    columns = [(name, _column(signature, output)) for name, output in outputs.items()]
    return lambda answers: {name: column(answers) for name, column in columns}


def _column(signature: Signature, output: Output) -> Callable[[list[Any]], list[Any]]:
    """What makes one column of the answers."""
    labels, classes, says_class = labels_of(signature), signature.classes, signature.says_class
    if output is Output.VALUE:
        return lambda answers: answers
    if output is Output.SECOND:
        return lambda answers: [row[1] for row in answers]
    if output is Output.EACH:
        return lambda answers: [dict(zip(classes, row, strict=not says_class)) for row in answers]
    if says_class:
        return lambda answers: [labels[int(row[-1])] for row in answers]
    return lambda answers: [labels[max(range(len(row)), key=row.__getitem__)] for row in answers]


def threshold_of(signature: Signature) -> float:
    """Of two classes: the probability from which on an answer is called the second."""
    decision = signature.decision
    return 0.5 if decision is None or decision.threshold is None else decision.threshold


def _of_two(called: str, chance: str, no: Label, yes: Label, threshold: float, answers: list[Any]) -> dict[str, list[Any]]:
    chances = [p for _, p in answers]
    return {called: [yes if p >= threshold else no for p in chances], chance: chances}


def outside(signature: Signature, columns: Mapping[str, Sequence[Any]]) -> dict[int, list[str]]:
    """Row -> its inputs (the first few) whose values lie outside what training saw: answered all the same, and marked."""
    found: dict[int, list[str]] = {}
    for entry in signature.inputs:
        values = columns.get(entry.name, ())
        if entry.low is None or entry.high is None or not values:
            continue
        known = values if None not in values else [v for v in values if v is not None]
        if known and not entry.low <= min(known) <= max(known) <= entry.high:
            for row, value in enumerate(values):
                if value is not None and not entry.low <= value <= entry.high:
                    marked = found.setdefault(row, [])
                    if len(marked) < MARKED:
                        marked.append(entry.name)
    return found


def example(signature: Signature) -> Record:
    """A record that passes the check."""
    return {i.name: i.low if i.kind is Kind.NUMBER and i.low is not None else _EXAMPLES[i.kind] for i in signature.inputs}


# -- feedback


class FeedbackMessage(msgspec.Struct, frozen=True):
    """A label for an earlier prediction, by its id or by the entity's key."""

    id: str | None
    key: str | None
    label: Label


def read_feedback(value: Any, signature: Signature | None, max_rows: int) -> list[FeedbackMessage]:
    """Raises BadBodyError, SignatureError, TooLargeError."""
    return [_parse_feedback(r, f"feedback[{i}]", signature) for i, r in enumerate(records_of(value, "feedback", max_rows))]


def _parse_feedback(record: Record, where: str, signature: Signature | None) -> FeedbackMessage:
    unknown = sorted(record.keys() - {"id", "key", "label"})
    if unknown:
        raise SignatureError(f"{where}.{unknown[0][:80]} is not known; feedback has id or key, and label")
    named = [n for n in ("id", "key") if record.get(n) is not None]
    if len(named) != 1:
        raise SignatureError(f"{where} needs either id or key", hint='{"id": "...", "label": 1}')
    name = key_text(record[named[0]], f"{where}.{named[0]}")
    label = record.get("label")
    if label is None or type(label) not in (str, int, float, bool):
        raise SignatureError(f"{where}.label must be a string, a number, true or false, not {_value_text(label)}")
    _check_label(label, where, signature)
    return FeedbackMessage(name if named == ["id"] else None, name if named == ["key"] else None, label)


def _check_label(label: Label, where: str, signature: Signature | None) -> None:
    """A label that cannot be one would poison what is learnt later. New classes may appear where the task takes them."""
    definition = signature.task.definition if signature is not None else None
    if signature is None or definition is None or definition.takes_new_classes:
        return
    if not definition.has_classes:
        if isinstance(label, str | bool) or not math.isfinite(label):
            raise SignatureError(f"{where}.label must be a number, not {_value_text(label)}")
    elif not same_class(label, signature.classes):
        raise SignatureError(f"{where}.label must be one of {render_names(signature.classes)}, not {_value_text(label)}")


def same_class(label: Label, classes: tuple[str, ...]) -> bool:
    """Whether a label's text names a class; true and 1, false and 0 mean the same."""
    texts = {str(label), class_text(label)}
    if isinstance(label, int | float) and label in (0, 1):
        texts |= {str(int(label)), str(bool(label)), str(bool(label)).lower()}
    return bool(texts & set(classes))


# -- strictness


def _refuse_duplicates(body: bytes, value: Any) -> None:
    """A name given twice is refused. Counting colons proves most bodies clean without a second reading."""
    named = _names_in(value)
    if body.count(b":") == named or (b"\\" not in body and body.count(b":") == named + _colons_in(value)):
        return
    try:
        json.loads(body, object_pairs_hook=_unique)
    except _DuplicateError as error:
        raise BadBodyError(f"the body names {error.args[0][:NAME_LENGTH]!r} twice in one object") from error
    except ValueError as error:
        raise BadBodyError(f"the body is not JSON: {error}") from error


class _DuplicateError(Exception):
    """A name came twice in one object."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise _DuplicateError(name)
            seen.add(name)
    return found


def _names_in(value: Any) -> int:
    if type(value) is dict:
        return len(value) + sum(_names_in(v) for v in value.values() if type(v) in (dict, list))
    if type(value) is list:
        return sum(_names_in(v) for v in value if type(v) in (dict, list))
    return 0


def _colons_in(value: Any) -> int:
    """The colons in names and texts: without escapes, as many as the body has there."""
    if type(value) is str:
        return value.count(":")
    if type(value) is dict:
        return sum(map(_colons_in, value)) + sum(map(_colons_in, value.values()))
    return sum(map(_colons_in, value)) if type(value) is list else 0


def _name(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", NoneType: "null"}
    return names.get(type(value), "a number")


def _value_text(value: Any) -> str:
    if value is _MISSING:
        return "nothing"
    if isinstance(value, dict | list):
        return _name(value)
    if type(value) is int and value.bit_length() > 64:
        return "a number beyond 64 bits"
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
