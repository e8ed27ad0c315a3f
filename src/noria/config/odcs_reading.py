"""Reads a contract in the Open Data Contract Standard 3: as the keys of a Noria contract, and what Noria does not judge.

Keys of Noria that the standard has no place for stand in `customProperties` as `noriaSeverity`, `noriaExtraColumns` ...
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

from noria.config import keys
from noria.config.document import DocumentItem
from noria.config.patterns import PATTERN
from noria.kernel.errors import ConfigError

KINDS = {
    "integer": "int", "number": "float", "string": "string", "boolean": "bool", "timestamp": "datetime", "date": "date",
    "array": "list", "object": "struct",
}  # fmt: skip
UNITS = {
    "s": "s", "sec": "s", "second": "s", "seconds": "s", "min": "m", "minute": "m", "minutes": "m", "h": "h", "hour": "h",
    "hours": "h", "d": "d", "day": "d", "days": "d", "w": "w", "week": "w", "weeks": "w",
}  # fmt: skip
JDK = {
    "yyyy": "%Y",
    "yy": "%y",
    "MMM": "%b",
    "MM": "%m",
    "dd": "%d",
    "HH": "%H",
    "mm": "%M",
    "ss": "%S",
    "Z": "%z",
    "X" * 3: "%z",
}
ENGINE = "noria"
OPERATORS = (
    "mustBe", "mustNotBe", "mustBeGreaterThan", "mustBeGreaterOrEqualTo", "mustBeLessThan", "mustBeLessOrEqualTo",
    "mustBeBetween", "mustNotBeBetween",
)  # fmt: skip
FRESHNESS = ("latency", "ly", "freshness")


def is_odcs(root: DocumentItem) -> bool:
    return isinstance(root.value, dict) and ("apiVersion" in root.value or "kind" in root.value)


def read(root: DocumentItem, table: str | None) -> tuple[DocumentItem, tuple[str, ...]]:
    """The contract of one table as a document of Noria's, and what the file promises that Noria does not judge.

    Of several tables it is the one called ``table``. Raises ConfigError.
    """
    version = str(_plain(root, "apiVersion") or "")
    if not version.startswith("v3."):
        found = f"apiVersion {version}" if version else "no apiVersion"
        raise root.error(f"{found}: Noria reads version 3 of the Open Data Contract Standard", "apiVersion: v3.1.0")
    chosen = _choose(root, table)
    others = {_text(one, key) for one in _listed(root, "schema") if one is not chosen for key in ("name", "physicalName")}
    reader = _TableReader(chosen, others)
    return reader.read(_listed(root, "slaProperties")), tuple(reader.unjudged)


def custom_name(key: str) -> str:
    """``extra_columns`` is ``noriaExtraColumns`` among the standard's custom properties."""
    return "noria" + "".join(word.capitalize() for word in key.split("_"))


def _choose(root: DocumentItem, table: str | None) -> DocumentItem:
    tables = _listed(root, "schema")
    if not tables:
        raise root.error("has no table in `schema`", "schema: [{name: orders, properties: [...]}]")
    named = [one for one in tables if table is not None and table in (_plain(one, "name"), _plain(one, "physicalName"))]
    if len(named) == 1 or len(tables) == 1:
        return (named or tables)[0]
    found = ", ".join(str(_plain(one, "name")) for one in tables)
    raise root.error(f"promises {len(tables)} tables, and none is called {table}", f"Call the dataset like one of them: {found}.")


class _TableReader:
    """Collects the keys of one table, and what cannot be judged."""

    def __init__(self, table: DocumentItem, others: Collection[str | None]) -> None:
        self.table, self.name, self.others = table, str(_plain(table, "name")), others
        self.unjudged: list[str] = []
        self.unique: list[list[str]] = []
        self.rules: list[Any] = []
        self.rows: dict[str, int] = {}
        self.names: dict[str, str] = {}  # of the standard -> of the column in the file

    def read(self, agreements: list[DocumentItem]) -> DocumentItem:
        properties = _listed(self.table, "properties")
        for one in properties:
            name = _plain(one, "name")
            if not isinstance(name, str) or not name:
                raise one.error("a property without a name")
            self.names[name] = str(_plain(one, "physicalName") or name)
        made: dict[str, Any] = {}
        for rule in _listed(self.table, "quality"):
            self._of_table(rule)
        columns = dict[str, Any]()
        for one in properties:
            name = self.names[str(_plain(one, "name"))]
            if name in columns:
                raise one.error(f"the column {name} is listed twice")
            columns[name] = _item(self._column(name, one), one.where)
        if columns:
            made["columns"] = _item(columns, self.table.where)
        self._primary_key(properties)
        made |= {"unique": self.unique} if self.unique else {}
        made |= {"rules": self.rules} if self.rules else {}
        made |= {"rows": self.rows} if self.rows else {}
        for one in agreements:
            self._agreement(one, made)
        self._relationships("", self.table)
        made |= _customs(self.table, tuple(key.name for key in keys.CONTRACT.keys))
        return _item(made, self.table.where)

    def _column(self, name: str, one: DocumentItem) -> dict[str, Any]:
        made: dict[str, Any] = {}
        logical = _text(one, "logicalType")
        if logical in KINDS:
            inner = KINDS.get(str(_plain(_get(one, "items"), "logicalType")), "")
            made["type"] = f"list({inner})" if logical == "array" and inner not in ("", "list", "struct") else KINDS[logical]
        elif logical is not None:
            self._leave(name, f"logicalType {logical}")
        if _listed(one, "properties"):
            self._leave(name, "its nested properties")
        if _is_true(one, "required"):
            made["nulls"] = "never"
        self._options(name, str(logical), _get(one, "logicalTypeOptions"), made)
        for rule in _listed(one, "quality"):
            self._of_column(name, rule, made)
        if _is_true(one, "unique") and [name] not in self.unique:
            self.unique.append([name])
        self._relationships(name, one)
        return made | _customs(one, tuple(key.name for key in keys.COLUMN.keys))

    def _options(self, name: str, logical: str, options: DocumentItem | None, made: dict[str, Any]) -> None:
        if options is not None and not isinstance(options.value, dict | None):
            raise options.error(f"expected a mapping of options, found {options.kind}")
        given: dict[str, DocumentItem] = options.value or {} if options is not None else {}
        for key, item in given.items():
            value, number = item.value, isinstance(item.value, int | float) and not isinstance(item.value, bool)
            if key in ("minimum", "maximum") and number:
                made.setdefault("range", [None, None])[key == "maximum"] = value
            elif key in ("exclusiveMinimum", "exclusiveMaximum") and number:
                sign = ">" if key == "exclusiveMinimum" else "<"
                self.rules.append(
                    {"name": f"{name} {sign} {value}", "expr": f'"{name.replace(chr(34), chr(34) * 2)}" {sign} {value}'}
                )
            elif key in ("minLength", "minItems", "maxLength", "maxItems"):
                made.setdefault("length", [None, None])[key.startswith("max")] = value
            elif key == "pattern":
                self._pattern(name, item, made)
            elif key == "format" and logical in ("date", "timestamp"):
                told = _strptime(str(value))
                if told is None:
                    self._leave(name, f"format {value}")
                else:
                    made["format"] = told
            elif not (key == "format" and logical in ("integer", "number")) and value not in (False, 0):
                self._leave(name, key)

    def _pattern(self, name: str, item: DocumentItem, made: dict[str, Any]) -> None:
        try:
            PATTERN.read(item)
        except ConfigError as error:  # the standard's are of ECMA-262
            self._leave(name, f"its pattern: {error.message}")
        else:
            made["pattern"] = item

    def _of_column(self, name: str, rule: DocumentItem, made: dict[str, Any]) -> None:
        arguments = _get(rule, "arguments")
        metric = _metric(rule)
        if metric == "nullValues" and (share := _largest_share(rule)) is not None and _refuses(rule):
            made["nulls"] = min(share, 0.0 if made.get("nulls") == "never" else made.get("nulls", 1.0))
        elif metric == "duplicateValues" and _is_none(rule) and _refuses(rule):
            self.unique += [] if [name] in self.unique else [[name]]
        elif metric == "invalidValues" and _is_none(rule) and _refuses(rule) and arguments is not None:
            if (pattern := _get(arguments, "pattern")) is not None:
                self._pattern(name, pattern, made)
            if _get(arguments, "validValues") is not None:
                made["values"] = [one for one in _listed(arguments, "validValues") if one.value is not None]
        else:
            self._leave(name, _rule_words(rule))

    def _of_table(self, rule: DocumentItem) -> None:
        metric, arguments = _metric(rule), _get(rule, "arguments")
        if _plain(rule, "type") == "custom" and _plain(rule, "engine") == ENGINE:
            self.rules.append(_get(rule, "implementation"))
        elif metric == "rowCount" and (bounds := _whole_bounds(rule)) is not None and _refuses(rule):
            self.rows |= bounds
        elif metric == "duplicateValues" and _is_none(rule) and _refuses(rule) and arguments is not None:
            key = [self.names.get(str(one.value), str(one.value)) for one in _listed(arguments, "properties")]
            self.unique += [key] if key and key not in self.unique else []
        else:
            self._leave("", _rule_words(rule))

    def _primary_key(self, properties: list[DocumentItem]) -> None:
        parts = [one for one in properties if _is_true(one, "primaryKey")]
        parts.sort(key=lambda one: position if isinstance(position := _plain(one, "primaryKeyPosition"), int) else -1)
        key = [self.names[str(_plain(one, "name"))] for one in parts]
        if key and key not in self.unique:
            self.unique.append(key)

    def _agreement(self, one: DocumentItem, made: dict[str, Any]) -> None:
        what, value, unit = _text(one, "property"), _plain(one, "value"), UNITS.get(str(_plain(one, "unit")))
        table, _, column = str(_plain(one, "element") or "").partition(".")
        own = table in (self.name, _plain(self.table, "physicalName")) and bool(column) and "," not in column
        if what in FRESHNESS and own and unit and isinstance(value, int | float) and "freshness" not in made:
            made["freshness"] = {"column": self.names.get(column, column), "within": f"{value:.17g}{unit}"}
        elif table not in self.others:
            self._leave("", f"slaProperties {what}")

    def _relationships(self, name: str, one: DocumentItem) -> None:
        for relation in _listed(one, "relationships"):
            self._leave(name, f"relationship to {_plain(relation, 'to')}")

    def _leave(self, column: str, what: str) -> None:
        self.unjudged.append(f"{column}: {what}" if column else what)


def _customs(one: DocumentItem, names: tuple[str, ...]) -> dict[str, Any]:
    """Noria's own keys among the custom properties; null says nothing."""
    given = {_text(each, "property"): _get(each, "value") for each in _listed(one, "customProperties")}
    found = {name: given.get(custom_name(name)) for name in names}
    return {name: item for name, item in found.items() if item is not None and item.value is not None}


def _metric(rule: DocumentItem) -> str:
    return str(_plain(rule, "metric") or _plain(rule, "rule") or "") if _plain(rule, "type") in (None, "library") else ""


def _refuses(rule: DocumentItem) -> bool:
    """Whether a file that breaks the rule is to be refused; a rule that only warns has no place in a column of Noria's."""
    return str(_plain(rule, "severity") or "error").lower() not in ("info", "warn", "warning")


def _operator(rule: DocumentItem) -> tuple[str, Any]:
    given = [(name, _plain(rule, name)) for name in OPERATORS if _get(rule, name) is not None]
    return given[0] if len(given) == 1 else ("", None)


def _is_none(rule: DocumentItem) -> bool:
    """Whether the rule allows no row at all."""
    return _largest_share(rule) == 0.0


def _largest_share(rule: DocumentItem) -> float | None:
    """The share of rows that a rule allows; None where it counts rows, or asks for some."""
    operator, value = _operator(rule)
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    if _plain(rule, "unit") != "percent":
        none = (operator in ("mustBe", "mustBeLessOrEqualTo") and value == 0) or (operator == "mustBeLessThan" and value == 1)
        return 0.0 if none else None
    if (operator == "mustBeLessOrEqualTo" or (operator == "mustBe" and value == 0)) and 0 <= value <= 100:
        return value / 100
    return math.nextafter(value / 100, 0) if operator == "mustBeLessThan" and 0 < value <= 100 else None


def _whole_bounds(rule: DocumentItem) -> dict[str, int] | None:
    """Between how many rows a table is to have."""
    operator, value = _operator(rule)
    pair = value if isinstance(value, list) and len(value) == 2 else [value, value]
    if any(not isinstance(one, int) or isinstance(one, bool) for one in pair) or _plain(rule, "unit") == "percent":
        return None
    low, high = pair
    bounds = {
        "mustBe": {"min": low, "max": high},
        "mustBeBetween": {"min": low, "max": high},
        "mustBeGreaterThan": {"min": low + 1},
        "mustBeGreaterOrEqualTo": {"min": low},
        "mustBeLessThan": {"max": high - 1},
        "mustBeLessOrEqualTo": {"max": high},
    }
    return bounds.get(operator)


def _rule_words(rule: DocumentItem) -> str:
    kind = str(_metric(rule) or _plain(rule, "type") or "library")
    told = str(_plain(rule, "name") or _plain(rule, "description") or "")
    return f"{kind} rule {told[:80]!r}" if told else f"{kind} rule"


def _strptime(jdk: str) -> str | None:
    """A format of Java's as strptime knows it; None for one that says what strptime does not."""
    made, rest = "", jdk.replace("'T'", "T")
    while rest:
        part = next((one for one in JDK if rest.startswith(one)), rest[0])
        if part not in JDK and part.isalpha() and part != "T":
            return None
        made, rest = made + JDK.get(part, part), rest[len(part) :]
    return made


def _get(item: DocumentItem | None, key: str) -> DocumentItem | None:
    return item.value.get(key) if item is not None and isinstance(item.value, dict) else None


def _plain(item: DocumentItem | None, key: str) -> Any:
    found = _get(item, key)
    return None if found is None else found.plain()


def _text(item: DocumentItem, key: str) -> str | None:
    """A text; what is none is shown as it is written."""
    found = _plain(item, key)
    return None if found is None else str(found)


def _is_true(item: DocumentItem, key: str) -> bool:
    found = _get(item, key)
    if found is None or found.value is None:
        return False
    if not isinstance(found.value, bool):
        raise found.error(f"expected true or false, found {found.kind}")
    return found.value


def _listed(item: DocumentItem, key: str) -> list[DocumentItem]:
    found = _get(item, key)
    if found is None or found.value is None:
        return []
    if not isinstance(found.value, list):
        raise found.error(f"expected a list of {key}, found {found.kind}")
    return found.value


def _item(value: Any, where: str) -> DocumentItem:
    """A value as a part of a document, all of it at one place."""
    if isinstance(value, DocumentItem):
        return value
    if isinstance(value, dict):
        return DocumentItem({key: _item(one, where) for key, one in value.items()}, where, keys=dict.fromkeys(value, where))
    if isinstance(value, list):
        return DocumentItem([_item(one, where) for one in value], where)
    return DocumentItem(value, where, "" if value is None else str(value))
