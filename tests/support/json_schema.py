"""Holds values against a JSON Schema (2019-09), as far as the schema of the Open Data Contract Standard goes."""

from __future__ import annotations

import re
from typing import Any

KINDS = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "number": (int, float),
    "integer": int,
    "null": type(None),
}
_NOTES = "title description default examples deprecated $schema $defs $id $comment then else format minLength"
NOTES = frozenset(_NOTES.split())


class Validator:
    """``problems(value)`` says what a value breaks; a key of the schema that is not known here is an error."""

    def __init__(self, root: dict[str, Any]) -> None:
        self.root = root

    def problems(self, value: Any) -> list[str]:
        return self._check(value, self.root, "$")[0]

    def _check(self, value: Any, schema: Any, at: str) -> tuple[list[str], set[str]]:
        """What is wrong, and which properties the schema knows."""
        if isinstance(schema, bool):
            return ([] if schema else [f"{at}: not allowed"]), set()
        found: list[str] = []
        known: set[str] = set()
        for key in schema:
            if key in NOTES or key in ("additionalProperties", "unevaluatedProperties"):
                continue
            wrong, more = getattr(self, f"_{key.removeprefix('$')}")(value, schema[key], at, schema)
            found, known = found + wrong, known | (more if not wrong else set())
        if isinstance(value, dict):
            own = set(schema.get("properties", ()))
            rest = set(value) - own if "additionalProperties" in schema else set(value) - own - known
            further = schema.get("additionalProperties", schema.get("unevaluatedProperties", True))
            for name in sorted(rest):
                found += self._check(value[name], further, f"{at}.{name}")[0]
            known |= own
        return found, known

    def _ref(self, value: Any, name: str, at: str, _: Any) -> tuple[list[str], set[str]]:
        schema = self.root
        for part in name.removeprefix("#/").split("/"):
            schema = schema[part]
        return self._check(value, schema, at)

    def _type(self, value: Any, kinds: Any, at: str, _: Any) -> tuple[list[str], set[str]]:
        names = [kinds] if isinstance(kinds, str) else kinds
        fine = any(isinstance(value, KINDS[kind]) and not (isinstance(value, bool) and kind != "boolean") for kind in names)
        return ([] if fine else [f"{at}: {value!r} is no {kinds}"]), set()

    def _properties(self, value: Any, parts: Any, at: str, _: Any) -> tuple[list[str], set[str]]:
        given = value if isinstance(value, dict) else {}
        return [w for name in parts if name in given for w in self._check(given[name], parts[name], f"{at}.{name}")[0]], set(
            parts
        )

    def _required(self, value: Any, names: Any, at: str, _: Any) -> tuple[list[str], set[str]]:
        return [f"{at}: {name} is missing" for name in names if isinstance(value, dict) and name not in value], set()

    def _items(self, value: Any, schema: Any, at: str, _: Any) -> tuple[list[str], set[str]]:
        given = value if isinstance(value, list) else []
        return [wrong for i, one in enumerate(given) for wrong in self._check(one, schema, f"{at}[{i}]")[0]], set()

    def _enum(self, value: Any, options: Any, at: str, _: Any) -> tuple[list[str], set[str]]:
        return ([] if value in options else [f"{at}: {value!r} is not one of {options}"]), set()

    def _const(self, value: Any, one: Any, at: str, _: Any) -> tuple[list[str], set[str]]:
        return ([] if value == one else [f"{at}: {value!r} is not {one!r}"]), set()

    def _pattern(self, value: Any, pattern: str, at: str, _: Any) -> tuple[list[str], set[str]]:
        return ([f"{at}: {value!r}"] if isinstance(value, str) and re.search(pattern, value) is None else []), set()

    def _minimum(self, value: Any, least: float, at: str, _: Any) -> tuple[list[str], set[str]]:
        return ([f"{at}: below {least}"] if isinstance(value, int | float) and value < least else []), set()

    def _minItems(self, value: Any, least: int, at: str, _: Any) -> tuple[list[str], set[str]]:
        return ([f"{at}: too short"] if isinstance(value, list) and len(value) < least else []), set()

    def _maxItems(self, value: Any, most: int, at: str, _: Any) -> tuple[list[str], set[str]]:
        return ([f"{at}: too long"] if isinstance(value, list) and len(value) > most else []), set()

    def _uniqueItems(self, value: Any, once: bool, at: str, _: Any) -> tuple[list[str], set[str]]:
        again = once and isinstance(value, list) and any(one in value[:i] for i, one in enumerate(value))
        return ([f"{at}: an item twice"] if again else []), set()

    def _each(self, value: Any, parts: Any, at: str) -> list[tuple[list[str], set[str]]]:
        return [self._check(value, part, at) for part in parts]

    def _allOf(self, value: Any, parts: Any, at: str, _: Any) -> tuple[list[str], set[str]]:
        found = self._each(value, parts, at)
        return [wrong for one, _ in found for wrong in one], set().union(*(known for _, known in found))

    def _anyOf(self, value: Any, parts: Any, at: str, _: Any) -> tuple[list[str], set[str]]:
        fine = [known for wrong, known in self._each(value, parts, at) if not wrong]
        return ([] if fine else [f"{at}: none of {len(parts)} forms"]), set().union(*fine)

    def _oneOf(self, value: Any, parts: Any, at: str, _: Any) -> tuple[list[str], set[str]]:
        fine = [known for wrong, known in self._each(value, parts, at) if not wrong]
        return ([] if len(fine) == 1 else [f"{at}: {len(fine)} of {len(parts)} forms"]), set().union(*fine)

    def _not(self, value: Any, part: Any, at: str, _: Any) -> tuple[list[str], set[str]]:
        return ([] if self._check(value, part, at)[0] else [f"{at}: is what it may not be"]), set()

    def _if(self, value: Any, part: Any, at: str, schema: Any) -> tuple[list[str], set[str]]:
        wrong, known = self._check(value, part, at)
        then, more = self._check(value, schema.get("else" if wrong else "then", True), at)
        return then, more if wrong else known | more
