"""What a value may look like. One table of shapes reads the files, makes the JSON Schema, and makes the reference."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Protocol

import msgspec

from noria.config import units
from noria.config.document import DocumentItem, nearest
from noria.kernel import names
from noria.kernel.errors import ConfigError

Json = dict[str, Any]
NAME_HINT = "A name begins with a small letter; small letters, digits, - and _ follow, 63 characters at most."


class Shape(Protocol):
    """``words`` completes "expected ..."."""

    @property
    def words(self) -> str: ...

    def read(self, item: DocumentItem) -> Any:
        """The value. Raises ConfigError at its place."""

    def schema(self) -> Json:
        """Its JSON Schema."""


class Scalar(msgspec.Struct, frozen=True):
    """One value; ``take`` raises ValueError for what it does not accept."""

    words: str
    take: Callable[[DocumentItem], Any]
    json: Json

    def read(self, item: DocumentItem) -> Any:
        try:
            return self.take(item)
        except ValueError as error:
            raise unexpected(self, item, str(error) if isinstance(error, units.OutOfRange) else None) from None

    def schema(self) -> Json:
        return dict(self.json)


class Choice(msgspec.Struct, frozen=True):
    """One of a few words."""

    options: Collection[str]

    @property
    def words(self) -> str:
        *others, last = self.options
        return " or ".join(filter(None, [", ".join(others), last]))

    def read(self, item: DocumentItem) -> str:
        if not isinstance(item.value, str):
            raise unexpected(self, item)
        if item.value not in self.options:
            raise item.error(f"expected {self.words}, found {item.kind}", nearest(item.value, self.options))
        return item.value

    def schema(self) -> Json:
        return {"enum": list(self.options)}


class ListOf(msgspec.Struct, frozen=True):
    """A list; the same value twice is an error when ``distinct``."""

    element: Shape
    words: str
    length: int | None = None
    distinct: bool = False

    def read(self, item: DocumentItem) -> tuple[Any, ...]:
        if not isinstance(item.value, list) or (self.length is not None and len(item.value) != self.length):
            raise unexpected(self, item)
        found: list[Any] = []
        for child in item.value:
            value = self.element.read(child)
            if self.distinct and value in found:
                raise child.error(f"{value!r} is listed twice")
            found.append(value)
        return tuple(found)

    def schema(self) -> Json:
        size = {} if self.length is None else {"minItems": self.length, "maxItems": self.length}
        return {"type": "array", "items": self.element.schema(), **size, **({"uniqueItems": True} if self.distinct else {})}


class ListOrLists(msgspec.Struct, frozen=True):
    """A list, which stands for a list of itself, or a list of lists. The value is always the latter."""

    inner: ListOf

    @property
    def words(self) -> str:
        return f"{self.inner.words}, or a list of such lists"

    def read(self, item: DocumentItem) -> tuple[tuple[Any, ...], ...]:
        if not isinstance(item.value, list):
            raise unexpected(self, item)
        if not item.value or not isinstance(item.value[0].value, list):
            return (self.inner.read(item),) if item.value else ()
        found: list[tuple[Any, ...]] = []
        for child in item.value:
            value = self.inner.read(child)
            if not value:
                raise child.error("the list is empty")
            if value in found:
                raise child.error(f"{', '.join(value)} is listed twice")
            found.append(value)
        return tuple(found)

    def schema(self) -> Json:
        inner = self.inner.schema()
        return {"anyOf": [inner, {"type": "array", "items": {**inner, "minItems": 1}, "uniqueItems": True}]}


class MapOf(msgspec.Struct, frozen=True):
    """A mapping whose keys the user chooses: Noria names, or any text when they are ``columns``."""

    element: Shape
    words: str
    columns: bool = False

    def read(self, item: DocumentItem) -> dict[str, Any]:
        if not isinstance(item.value, dict):
            raise unexpected(self, item)
        assert item.keys is not None
        for name, where in item.keys.items():
            if not self.columns:
                demand_name(name, where)
        return {name: self.element.read(child) for name, child in item.value.items()}

    def schema(self) -> Json:
        keys = {} if self.columns else {"propertyNames": {"pattern": f"^{names.NAME.pattern}$"}}
        return {"type": "object", "additionalProperties": self.element.schema(), **keys}


class ConfigKey(msgspec.Struct, frozen=True):
    """A key of a record and the sentence that explains it; ``default`` is how the reference prints it."""

    name: str
    shape: Shape
    sentence: str
    default: str = ""
    required: bool = False


class Section(msgspec.Struct, frozen=True):
    """A record that was read: the values of the keys that were given, and where they stand."""

    item: DocumentItem
    values: dict[str, Any]

    def get(self, key: str, default: Any = None) -> Any:
        return self.values.get(key, default)

    def __contains__(self, key: str) -> bool:
        return key in self.values

    def at(self, key: str) -> DocumentItem:
        """The item of a key, or the whole section when it was not given."""
        if key in self.values and isinstance(self.item.value, dict):
            found: DocumentItem = self.item.value[key]
            return found
        return self.item

    def element(self, key: str, index: int) -> DocumentItem:
        """The item of a list's element."""
        found: DocumentItem = self.at(key).value[index]
        return found

    def given(self, **fields: str) -> dict[str, Any]:
        """``given(every_s="every")``: the values of the keys that were given, under the names of a record's fields."""
        return {name: self.values[key] for name, key in fields.items() if key in self.values}


class Record(msgspec.Struct, frozen=True):
    """A mapping with known keys; a plain text stands for ``{short: text}``. One of ``either`` must be there: who asks checks."""

    words: str
    keys: tuple[ConfigKey, ...]
    short: str | None = None
    either: tuple[str, ...] = ()

    def read(self, item: DocumentItem) -> Section:
        given = self._given(item)
        known = {key.name: key for key in self.keys}
        for name in given:
            if name not in known:
                where = (item.keys or {}).get(name, item.where)
                raise ConfigError(f"unknown key {name!r}", where=where, hint=nearest(name, known))
        values = {name: known[name].shape.read(child) for name, child in given.items() if child.value is not None}
        for key in self.keys:
            if key.required and key.name not in values:
                raise item.error(f"{key.name!r} is missing", f"{key.name}: {key.sentence}")
        return Section(DocumentItem(given, item.where, keys=item.keys), values)

    def _given(self, item: DocumentItem) -> dict[str, DocumentItem]:
        if item.value is None:
            return {}
        if isinstance(item.value, str) and self.short is not None:
            return {self.short: item}
        if not isinstance(item.value, dict):
            raise unexpected(self, item)
        return item.value

    def schema(self) -> Json:
        required = [key.name for key in self.keys if key.required]
        whole: Json = {
            "type": "object" if required else ["object", "null"],  # `serving:` with nothing below it is all defaults
            "additionalProperties": False,
            "properties": {key.name: {**key.shape.schema(), "description": key.sentence} for key in self.keys},
        }
        if required:
            whole["required"] = required
        if self.either:
            whole |= {"type": "object", "anyOf": [{"required": [name]} for name in self.either]}
        if self.short is not None:
            short = next(key for key in self.keys if key.name == self.short)
            return {"anyOf": [short.shape.schema(), whole]}
        return whole


class WordOr(msgspec.Struct, frozen=True):
    """One word, or a record."""

    word: str
    record: Record

    @property
    def words(self) -> str:
        return f"`{self.word}` or {self.record.words}"

    def read(self, item: DocumentItem) -> Section | str:
        if item.value == self.word:
            return self.word
        if not isinstance(item.value, dict):
            raise unexpected(self, item)
        return self.record.read(item)

    def schema(self) -> Json:
        return {"anyOf": [{"const": self.word}, self.record.schema()]}


class WordOrList(msgspec.Struct, frozen=True):
    """One word that stands for a whole list, or a list."""

    word: str
    elements: ListOf

    @property
    def words(self) -> str:
        return f"`{self.word}` or {self.elements.words}"

    def read(self, item: DocumentItem) -> Any:
        if item.value == self.word:
            return self.word
        if not isinstance(item.value, list):
            raise unexpected(self, item)
        return self.elements.read(item)

    def schema(self) -> Json:
        return {"anyOf": [{"const": self.word}, self.elements.schema()]}


class ScalarOr(msgspec.Struct, frozen=True):
    """One plain value, or a record; the words of the scalar tell of both."""

    scalar: Scalar
    record: Record

    @property
    def words(self) -> str:
        return self.scalar.words

    def read(self, item: DocumentItem) -> Any:
        return (self.record if isinstance(item.value, dict) else self.scalar).read(item)

    def schema(self) -> Json:
        return {"anyOf": [self.scalar.schema(), self.record.schema()]}


def unexpected(shape: Shape, item: DocumentItem, hint: str | None = None) -> ConfigError:
    return item.error(f"expected {shape.words}, found {item.kind}", hint)


def demand_name(name: str, where: str) -> None:
    """Raises ConfigError when a project, dataset, step or environment may not be called so."""
    if not names.is_name(name):
        raise ConfigError(f"{name!r} is not a name", where=where, hint=NAME_HINT)


def whole(words: str, low: int, high: int) -> Scalar:
    """An integer from ``low`` to ``high``."""

    def take(item: DocumentItem) -> int:
        if type(item.value) is not int or not low <= item.value <= high:
            raise ValueError
        return item.value

    return Scalar(words, take, {"type": "integer", "minimum": low, "maximum": high})


def _text(item: DocumentItem) -> str:
    if not isinstance(item.value, str) or not item.value.strip():
        raise ValueError
    return item.value


def _name(item: DocumentItem) -> str:
    if not names.is_name(_text(item)):
        raise item.error(f"{item.value!r} is not a name", NAME_HINT)
    return str(item.value)


def _flag(item: DocumentItem) -> bool:
    if type(item.value) is not bool:
        raise ValueError
    return item.value


def _number(item: DocumentItem) -> float:
    if isinstance(item.value, bool) or not isinstance(item.value, (int, float)):
        raise ValueError
    try:
        return float(item.value)
    except OverflowError:
        raise ValueError from None


def _positive(item: DocumentItem) -> float:
    value = _number(item)
    if not 0 < value < float("inf"):
        raise ValueError
    return value


def _share(item: DocumentItem) -> float:
    value = units.share(item.value) if isinstance(item.value, str) else _number(item)
    if not 0 <= value <= 1:
        raise units.OutOfRange("A share is 0% to 100%, or a number from 0 to 1.")
    return value


def _some_share(item: DocumentItem) -> float:
    value = _share(item)
    if value == 0:
        raise units.OutOfRange("This share is more than 0% and at most 100%.")
    return value


def _chance(item: DocumentItem) -> float:
    value = _some_share(item)
    if value >= 1:
        raise units.OutOfRange("This share is more than 0% and less than 100%.")
    return value


def _scalar_text(item: DocumentItem) -> str:
    if item.value is None or isinstance(item.value, (dict, list)):
        raise ValueError
    return item.text


def _anything(item: DocumentItem) -> Any:
    return item.plain()


_SHARE_JSON: Json = {"anyOf": [{"type": "number", "minimum": 0, "maximum": 1}, {"type": "string", "pattern": units.PERCENT}]}
_SIZE_JSON: Json = {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?\s*([bB]|[kKmMgGtT][bB])$"}

TEXT = Scalar("text", _text, {"type": "string", "minLength": 1})
NAME = Scalar("a name", _name, {"type": "string", "pattern": f"^{names.NAME.pattern}$"})
FLAG = Scalar("true or false", _flag, {"type": "boolean"})
NUMBER = Scalar("a number", _number, {"type": "number"})
POSITIVE = Scalar("a number above zero", _positive, {"type": "number", "exclusiveMinimum": 0})
SHARE = Scalar("a share like 5% or 0.05", _share, _SHARE_JSON)
SOME_SHARE = Scalar("a share above zero, like 10%", _some_share, _SHARE_JSON)
CHANCE = Scalar("a share between 0% and 100%, like 1%", _chance, _SHARE_JSON)
DURATION = Scalar(
    "a duration like 50ms, 10m or 7d", lambda item: units.duration_s(_text(item)), {"type": "string", "pattern": units.DURATION}
)
SIZE = Scalar("a size like 512MB or 4GB", lambda item: units.size_bytes(_text(item)), _SIZE_JSON)
RATE = Scalar("a rate like 1 per day", lambda item: units.rate(_text(item)), {"type": "string", "pattern": units.RATE})
FREQUENCY = Scalar("a rate like 100/s", lambda item: units.frequency(_text(item)), {"type": "string", "pattern": units.FREQUENCY})
HOST = Scalar("a host name without a port", lambda item: units.host(_text(item)), {"type": "string", "pattern": units.HOST})
VALUE = Scalar("text, a number, true or false", _scalar_text, {"type": ["string", "number", "boolean"]})
ANY = Scalar("a value", _anything, {})
HOSTS = ListOf(HOST, "a list of host names", distinct=True)
TEXTS = ListOf(TEXT, "a list of text", distinct=True)
