"""The published schema and the reference say what the reader reads."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from noria.config import schema

ROOT = Path(__file__).parents[2]
TYPES: dict[str, Any] = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}


def complaints(value: Any, schema: dict[str, Any], path: str = "") -> Iterator[str]:
    """A validator of the part of JSON Schema that ours uses; an unknown keyword fails."""
    unknown = set(schema) - {
        *("$schema", "$defs", "title", "description", "type", "anyOf", "enum", "const", "pattern", "minLength"),
        *("minimum", "maximum", "items", "minItems", "maxItems", "uniqueItems"),
        *("properties", "additionalProperties", "propertyNames", "required"),
    }
    assert not unknown
    if "anyOf" in schema and all(list(complaints(value, option, path)) for option in schema["anyOf"]):
        yield f"{path}: no option fits {value!r}"
    if "enum" in schema and value not in schema["enum"]:
        yield f"{path}: {value!r} is not one of {schema['enum']}"
    if "const" in schema and value != schema["const"]:
        yield f"{path}: {value!r} is not {schema['const']!r}"
    if "type" in schema and not any(
        is_a(value, name) for name in [schema["type"]] * isinstance(schema["type"], str) or schema["type"]
    ):
        yield f"{path}: {value!r} is no {schema['type']}"
    if isinstance(value, str) and not re.search(schema.get("pattern", ""), value):
        yield f"{path}: {value!r} does not match"
    if is_a(value, "number") and not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        yield f"{path}: {value!r} is out of range"
    if isinstance(value, list):
        for index, child in enumerate(value):
            yield from complaints(child, schema.get("items", {}), f"{path}[{index}]")
    if isinstance(value, dict):
        yield from object_complaints(value, schema, path)


def object_complaints(value: dict[str, Any], schema: dict[str, Any], path: str) -> Iterator[str]:
    yield from (f"{path}.{name} is missing" for name in schema.get("required", ()) if name not in value)
    for name, child in value.items():
        yield from complaints(name, schema.get("propertyNames", {}), f"{path}.{name}")
        inner = schema.get("properties", {}).get(name, schema.get("additionalProperties", {}))
        if inner is False:
            yield f"{path}.{name} is unknown"
        else:
            yield from complaints(child, inner, f"{path}.{name}")


def is_a(value: Any, name: str) -> bool:
    if name in ("number", "integer"):
        return isinstance(value, int if name == "integer" else (int, float)) and not isinstance(value, bool)
    return isinstance(value, TYPES[name])


def plain(text: str) -> Any:
    return yaml.safe_load(text)


def test_the_published_schema_is_the_one_that_is_read() -> None:
    published = json.loads((ROOT / "src" / "noria" / "config" / "schema.json").read_text())
    assert published == schema.schema(), "write it again: `python -m noria.config.schema > src/noria/config/schema.json`"


@pytest.mark.parametrize("key", ["data", "gates", "environments", "model"])
def test_the_flagship_example_fits_the_schema(key: str) -> None:
    text = (ROOT / "examples" / "flights" / "noria.yaml").read_text().replace("{on:", '{"on":')
    found = plain(text)
    assert key in found
    assert list(complaints(found, schema.schema())) == []


def test_the_flagship_contracts_fit_the_schema() -> None:
    for path in (ROOT / "examples" / "flights" / "contracts").glob("*.yaml"):
        assert list(complaints(plain(path.read_text()), schema.schema()["$defs"]["contract"])) == []


@pytest.mark.parametrize(
    "text",
    [
        "{goal: x}",
        "{project: Big Name}",
        "{project: p, modle: {}}",
        "{project: p, serving: {port: 99999}}",
        "{project: p, gates: [f1 = 3]}",
        "{project: p, environments: {live: {rollout: slow}}}",
        "{project: p, data: {x: {contract: c}}}",
        "{project: p, steps: {x: {timeout: 10}}}",
    ],
)
def test_what_the_reader_refuses_the_schema_refuses(text: str) -> None:
    assert list(complaints(plain(text), schema.schema()))


def test_the_reference_has_every_key() -> None:
    page = schema.reference()

    def keys(schema: dict[str, Any]) -> Iterator[str]:
        for name, child in schema.get("properties", {}).items():
            yield name
            yield from keys(child)
        for child in schema.get("anyOf", ()):
            yield from keys(child)
        for below in ("additionalProperties", "items"):
            if isinstance(schema.get(below), dict):
                yield from keys(schema[below])

    named = {path.rpartition(".")[2] for path in re.findall(r"^\| `([^`]+)`", page, re.MULTILINE)}
    assert named == {*keys(schema.schema()), *keys(schema.schema()["$defs"]["contract"])}
