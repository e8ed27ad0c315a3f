"""Records of the prediction log as Arrow tables, and back again.

An input, an output or a label has a column of the kind that all its values in one table have: ``bool``, ``int`` and ``float``
and ``number`` (both of them), all three as doubles, ``text``, or else ``json`` as text. ``null`` (no value at all) has no column.
``segment`` and ``row`` say where a record stood when it was written: together they name it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any

import msgspec
import pyarrow as pa

from noria.predictions.records import Feedback, Prediction, Record

FORMAT = b"noria.log"  # the key of a file's metadata under which the kinds of its columns stand
EXACT = 2**53  # whole numbers beyond are not exact as doubles
NUMBERS = frozenset({"int", "float", "number"})
_MOMENT = pa.timestamp("us", tz="UTC")
_TYPES = {"bool": pa.bool_(), "int": pa.float64(), "float": pa.float64(), "number": pa.float64()}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TEXTS = ("id", "project", "release", "variant", "rollout", "key", "event_time", "error")
_NUMBERS = ("latency_ms", "sample")


class RecordGroup(msgspec.Struct, frozen=True):
    """What stands in one file: records of one sort, project, day (UTC) and shape."""

    record: str  # prediction or feedback
    project: str
    date: str  # 2026-11-21
    columns: tuple[str, ...]  # inputs.NAME and outputs.NAME, or label


class GroupPart(msgspec.Struct, frozen=True):
    """Some rows of a group; ``kinds`` by column, of those whose kind the values decide."""

    table: pa.Table
    kinds: dict[str, str]


def tabulate(segment: str, first_row: int, records: Sequence[Record]) -> dict[RecordGroup, GroupPart]:
    """The records by group; the first one stood at ``first_row`` of its segment."""
    grouped: dict[RecordGroup, list[tuple[int, Record]]] = {}
    days: dict[int, str] = {}
    for row, record in enumerate(records, first_row):
        day = int(record.at // 86400)
        date = days.get(day) or days.setdefault(day, _date(day))
        grouped.setdefault(_group(record, date), []).append((row, record))
    return {group: _part(group, segment, rows) for group, rows in grouped.items()}


def unite_parts(parts: Sequence[GroupPart]) -> GroupPart:
    """One part of several of the same group, in their order."""
    kinds = dict(parts[0].kinds)
    for part in parts[1:]:
        kinds = {name: _common(kind, part.kinds[name]) for name, kind in kinds.items()}
    return GroupPart(pa.concat_tables([_recast(part, kinds) for part in parts]), kinds)


def finish_table(group: RecordGroup, part: GroupPart) -> pa.Table:
    """As it is written: without columns that hold nothing, with the kinds in its metadata."""
    about = json.dumps({"format": 1, "record": group.record, "kinds": part.kinds}).encode()
    empty = [name for name, kind in part.kinds.items() if kind == "null"]
    return part.table.drop_columns(empty).replace_schema_metadata({FORMAT: about})


def records_of(table: pa.Table) -> list[tuple[int, Record]]:
    """The rows that were written as ``finished`` said, each with its number in its segment."""
    about = json.loads(table.schema.metadata[FORMAT])
    columns = {name: _values(table, name, kind) for name, kind in about["kinds"].items()}
    rows = table.column("row").to_pylist()
    times = [at / 1e6 for at in table.column("at").cast(pa.int64()).to_pylist()]
    made = _predictions if about["record"] == "prediction" else _labels
    return list(zip(rows, made(table, times, columns), strict=True))


def _predictions(table: pa.Table, times: list[float], columns: dict[str, list[Any]]) -> Iterator[Prediction]:
    facts = {name: table.column(name).to_pylist() for name in (*_TEXTS, *_NUMBERS)} | {"at": times}
    inputs, outputs = _columns_below(columns, "inputs."), _columns_below(columns, "outputs.")
    for i in range(table.num_rows):
        own = {name: values[i] for name, values in facts.items()}
        yield Prediction(inputs={n: v[i] for n, v in inputs}, outputs={n: v[i] for n, v in outputs}, **own)


def _columns_below(columns: dict[str, list[Any]], prefix: str) -> list[tuple[str, list[Any]]]:
    return [(name.removeprefix(prefix), values) for name, values in columns.items() if name.startswith(prefix)]


def _labels(table: pa.Table, times: list[float], columns: dict[str, list[Any]]) -> Iterator[Feedback]:
    texts = [table.column(name).to_pylist() for name in ("project", "id", "key", "kind")]
    for at, label, project, named, key, kind in zip(times, columns["label"], *texts, strict=True):
        yield Feedback(at, project, label, named, key, kind)


def _values(table: pa.Table, name: str, kind: str) -> list[Any]:
    """A column's values as they were recorded."""
    if kind == "null":
        return [None] * table.num_rows
    values: list[Any] = table.column(name).to_pylist()
    back = _BACK.get(kind)
    return values if back is None else [None if v is None else back(v) for v in values]


_BACK: dict[str, Callable[[Any], Any]] = {"int": int, "json": json.loads}


def _date(day: int) -> str:
    return (_EPOCH + timedelta(days=day)).date().isoformat()


def _group(record: Record, date: str) -> RecordGroup:
    if isinstance(record, Feedback):
        return RecordGroup("feedback", record.project, date, ("label",))
    names = (*(f"inputs.{n}" for n in record.inputs), *(f"outputs.{n}" for n in record.outputs))
    return RecordGroup("prediction", record.project, date, names)


def _part(group: RecordGroup, segment: str, rows: list[tuple[int, Record]]) -> GroupPart:
    records: list[Any] = [record for _, record in rows]
    texts = _TEXTS if group.record == "prediction" else ("id", "project", "key", "kind")
    arrays: dict[str, pa.Array] = {name: _texts([getattr(r, name) for r in records]) for name in texts}
    arrays["at"] = pa.array([round(r.at * 1e6) for r in records], pa.int64()).cast(_MOMENT)
    if group.record == "prediction":
        arrays |= {name: pa.array([getattr(r, name) for r in records], pa.float64()) for name in _NUMBERS}
    kinds: dict[str, str] = {}
    for name in group.columns:
        values = _record_values(records, name)
        kinds[name] = _kind(values)
        arrays[name] = _array(values, kinds[name])
    arrays["segment"] = _texts([segment] * len(rows))
    arrays["row"] = pa.array([row for row, _ in rows], pa.int64())
    return GroupPart(pa.table(arrays), kinds)


def _texts(values: list[str | None]) -> pa.Array:
    return pa.array(values, pa.string())


def _record_values(records: list[Any], column: str) -> list[Any]:
    if column == "label":
        return [r.label for r in records]
    place, _, name = column.partition(".")
    return [getattr(r, place)[name] for r in records]


def _kind(values: Iterable[Any]) -> str:
    kind = "null"
    for kinds, several in groupby(values, type):
        kind = _common(kind, _KINDS.get(kinds, "json"))
        if kinds is int and any(abs(v) > EXACT for v in several):
            return "json"
    return kind


_KINDS: dict[type, str] = {type(None): "null", bool: "bool", int: "int", float: "float", str: "text"}


def _common(one: str, other: str) -> str:
    if one == other or other == "null":
        return one
    if one == "null":
        return other
    return "number" if one in NUMBERS and other in NUMBERS else "json"


def _array(values: list[Any], kind: str) -> pa.Array:
    if kind == "json":
        return _texts([None if v is None else json.dumps(v, ensure_ascii=False) for v in values])
    return pa.array(values, _TYPES.get(kind, pa.string()))


def _recast(part: GroupPart, kinds: dict[str, str]) -> pa.Table:
    """The part's table with columns of these kinds, which its own fit into."""
    table = part.table
    for place, name in enumerate(table.column_names):
        own, wanted = part.kinds.get(name), kinds.get(name)
        if own != wanted and wanted is not None and not (own in NUMBERS and wanted in NUMBERS):
            table = table.set_column(place, name, _array(_values(table, name, own or "null"), wanted))
    return table
