"""Frozen records to rows and back: plain fields are columns, nested ones are JSON."""

from __future__ import annotations

import math
import operator
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from functools import cache
from types import UnionType
from typing import Any, Generic, TypeVar, Union, get_args, get_origin

import msgspec
import msgspec.structs

from noria.kernel.errors import StoreError
from noria.storage.connection import CURE, Database, Value

R = TypeVar("R", bound=msgspec.Struct)
UNREADABLE = (msgspec.MsgspecError, ValueError, TypeError, LookupError, AttributeError)
PLAIN = {str, int, float, type(None)}  # most fields


class StructTable(Generic[R]):
    """A table whose columns are the fields of a frozen Struct, and maybe a few more."""

    def __init__(self, database: Database, name: str, record: type[R], key: tuple[str, ...] = ("id",)) -> None:
        self.database, self.name, self.record, self.key = database, name, record, key
        self.fields = list(record.__struct_fields__)
        self._values = operator.attrgetter(*self.fields)

    def columns(self, record: R) -> dict[str, Value]:
        """Column values of a record."""
        return dict(zip(self.fields, map(encode, self._values(record)), strict=True))

    def insert(self, record: R, *, replace: bool = False, **more: Value) -> None:
        """Write a row; ``more`` are columns that the record does not have."""
        values = {**self.columns(record), **more}
        otherwise = self._otherwise(values) if replace else ""
        self.database.execute(self._insertion(values) + otherwise, list(values.values()))

    def insert_many(self, records: Sequence[R], **more: Value) -> None:
        """Write rows, all or none; ``more`` are columns that the records do not have."""
        if records:
            sql = self._insertion([*self.fields, *more])
            rest = tuple(more.values())
            self.database.execute_many(sql, [(*map(encode, self._values(record)), *rest) for record in records])

    def _insertion(self, columns: Iterable[str]) -> str:
        quoted = [f'"{name}"' for name in columns]
        return f"INSERT INTO {self.name} ({', '.join(quoted)}) VALUES ({', '.join('?' * len(quoted))})"  # noqa: S608  # names are ours

    def _otherwise(self, values: dict[str, Value]) -> str:
        """What to do with a row of the same key: write its other columns anew."""
        keys = ", ".join(f'"{k}"' for k in self.key)
        changes = ", ".join(f'"{n}" = excluded."{n}"' for n in values if n not in self.key)
        return f" ON CONFLICT ({keys}) DO UPDATE SET {changes}"

    def update(self, key: str, value: Value, changes: dict[str, Any]) -> int:
        """Change some columns of one row; the number of rows that matched."""
        names = ", ".join(f'"{n}" = ?' for n in changes)
        values = [*(encode(v) for v in changes.values()), value]
        return self.database.execute(f'UPDATE {self.name} SET {names} WHERE "{key}" = ?', values)  # noqa: S608  # names are ours, values are bound

    def one(self, where: str, *values: Value) -> R | None:
        """The first row that matches, as a record."""
        found = self.database.row(f"SELECT * FROM {self.name} WHERE {where}", values)  # noqa: S608  # names are ours, values are bound
        return None if found is None else self.read(found)

    def many(self, where: str, *values: Value) -> list[R]:
        """All rows that match, as records; ``where`` may carry ORDER BY and LIMIT."""
        return [self.read(row) for row in self.database.rows(f"SELECT * FROM {self.name} WHERE {where}", values)]  # noqa: S608  # names are ours, values are bound

    def read(self, row: sqlite3.Row) -> R:
        """A row as a record."""
        try:
            facts = {name: row[name] if decode is None else decode(row[name]) for name, decode in _decoders(self.record).items()}
            return msgspec.convert(facts, self.record, strict=False)
        except UNREADABLE as error:
            raise damage_error(self.name, error) from error


def damage_error(what: str, error: Exception) -> StoreError:
    """For a row that no Noria wrote so: the disk changed it, or somebody did."""
    return StoreError(f"the ledger is damaged: a row of {what} cannot be read: {error}", hint=CURE)


def parse_json(text: str | bytes, kind: type[R] | Any = Any, *, strict: bool = True) -> Any:
    """What a JSON column holds. Raises StoreError when it was damaged."""
    try:
        return msgspec.json.decode(text, type=kind, strict=strict)
    except UNREADABLE as error:
        raise damage_error("JSON", error) from error


def encode(value: Any) -> Value:
    """A field as SQLite keeps it."""
    if type(value) in PLAIN:
        plain: Value = value
        return plain
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, str | int | float):
        return value
    return to_json(value)


def to_json(value: Any) -> str:
    """Canonical JSON; NaN and the infinities, which JSON has not, as text that `float` reads (read with ``strict=False``)."""
    return msgspec.json.encode(_finite(msgspec.to_builtins(value)), order="sorted").decode()


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: _finite(v) for key, v in value.items()}
    return [_finite(v) for v in value] if isinstance(value, list | tuple) else value


@cache
def _decoders(record: type[msgspec.Struct]) -> dict[str, Callable[[Any], Any] | None]:
    """By field: how its column is read; None for one that is taken as it stands."""
    return {field.name: _decoder(field.type) for field in msgspec.structs.fields(record)}


def _decoder(kind: Any) -> Callable[[Any], Any] | None:
    if kind is float:
        return _number
    kinds = get_args(kind) if isinstance(kind, UnionType) or get_origin(kind) is Union else (kind,)
    return _from_json if any(_is_nested(one) for one in kinds) else None


def _is_nested(kind: Any) -> bool:
    origin = get_origin(kind) or kind
    return isinstance(origin, type) and issubclass(origin, tuple | dict | msgspec.Struct)


def _number(value: Any) -> Any:
    return math.nan if value is None else value  # SQLite keeps NaN as NULL


def _from_json(value: Any) -> Any:
    return msgspec.json.decode(value) if isinstance(value, str) else value
