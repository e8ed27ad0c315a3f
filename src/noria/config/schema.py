"""What editors and people read about the keys: a JSON Schema and a page of reference, made from the table of keys."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from noria.config import keys
from noria.config.gate import ALWAYS, FORMS
from noria.config.shapes import ListOf, MapOf, Record, ScalarOr, Shape, WordOr
from noria.kernel.tasks import DEFINITIONS

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema() -> dict[str, Any]:
    """JSON Schema 2020-12 of noria.yaml; that of a contract is under ``$defs.contract``. ``schema.json`` is its copy.

    It knows shapes, not names: cycles, functions and columns are checked by ``load`` alone.
    """
    return {
        "$schema": DIALECT,
        "title": "noria.yaml",
        **keys.PROJECT.schema(),
        "$defs": {"contract": {"title": "contracts/NAME.yaml", **keys.CONTRACT.schema()}},
    }


def reference() -> str:
    """The keys of noria.yaml and of a contract as Markdown."""
    parts = [
        "# noria.yaml",
        _table(keys.PROJECT),
        "## Gates",
        _gates(),
        "## Metrics of gates",
        _metrics(),
        "# contracts/NAME.yaml",
        _table(keys.CONTRACT),
    ]
    return "\n\n".join(parts) + "\n"


def _gates() -> str:
    said = (
        "Bounds are one-sided, at 95 % unless `at 90%` says otherwise, on the same held-out rows ([statistics](statistics.md)).\n"
        "The best release so far is the newest that is neither barred nor deleted, or the one that it was compared with "
        "and did not reach."
    )
    return "\n".join([*(f"- `{text}` passes {what}" for text, what in FORMS), "", said])


def _table(record: Record) -> str:
    rows = [f"| `{path}` | {words} | {default} | {sentence} |" for path, words, default, sentence in _rows(record, "")]
    return "\n".join(["| key | takes | default | |", "|---|---|---|---|", *rows])


def _rows(record: Record, prefix: str) -> Iterator[tuple[str, str, str, str]]:
    for key in record.keys:
        path = prefix + key.name
        yield path, key.shape.words.replace("|", "\\|"), "required" if key.required else key.default, key.sentence
        inner, below = _inner(key.shape, path)
        if inner is not None:
            yield from _rows(inner, below)


def _inner(shape: Shape, path: str) -> tuple[Record | None, str]:
    """The record inside a shape, and how its keys are written."""
    if isinstance(shape, Record):
        return shape, f"{path}."
    if isinstance(shape, WordOr | ScalarOr):
        return shape.record, f"{path}."
    if isinstance(shape, MapOf) and isinstance(shape.element, Record):
        return shape.element, f"{path}.NAME."
    if isinstance(shape, ListOf):
        return _inner(shape.element, f"{path}[]")
    return None, path


def _metrics() -> str:
    lines = []
    for task, each in DEFINITIONS.items():
        lines.append(f"- {task}: {', '.join(f'`{name}`' for name in each.metrics)}")
        more = [f"`{name}`{f' (needs `model.{m.needs}`)' if m.needs else ''}" for name, m in each.on_request.items()]
        if more:
            lines.append(f"- {task}, where a gate asks for it: {', '.join(more)}")
    return "\n".join([*lines, f"- every task: {', '.join(f'`{name}`' for name in ALWAYS)}"])


if __name__ == "__main__":
    print(json.dumps(schema(), indent=2, ensure_ascii=False))
