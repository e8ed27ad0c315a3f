"""What the options of `noria run` ask for: parameters, a sweep, chosen steps, tags and a note."""

from __future__ import annotations

from typing import Any

import msgspec

from noria.config import document
from noria.kernel.errors import UsageError


class ExperimentsOptions(msgspec.Struct, frozen=True):
    """What the options say. ``chosen`` are --to, --from and --only."""

    overrides: dict[str, Any] = {}
    sweep: dict[str, list[Any]] = {}
    chosen: tuple[str | None, str | None, str | None] = (None, None, None)
    tags: tuple[str, ...] = ()
    note: str = ""

    @property
    def any(self) -> bool:
        return bool(self.overrides or self.sweep or any(self.chosen) or self.tags or self.note)


def parse_options(
    settings: tuple[str, ...],
    sweeps: tuple[str, ...],
    chosen: tuple[str | None, str | None, str | None],
    tags: tuple[str, ...],
    note: str,
) -> ExperimentsOptions:
    """Raises UsageError for options that do not fit together."""
    if sum(name is not None for name in chosen) > 1:
        raise UsageError("--to, --from and --only exclude each other", hint="Choose one of them.")
    overrides = {name: _value(text) for name, text in map(_pair, settings)}
    sweep = {name: [_value(part) for part in _parts(text)] for name, text in map(_pair, sweeps)}
    both = overrides.keys() & sweep.keys()
    if both:
        raise UsageError(f"{', '.join(sorted(both))} is both set and swept")
    return ExperimentsOptions(overrides, sweep, chosen, tags, note)


def _pair(text: str) -> tuple[str, str]:
    name, found, value = text.partition("=")
    if not found or not name.strip():
        raise UsageError(f"{text!r} is not NAME=VALUE", hint="Like train.learning_rate=0.1")
    return name.strip(), value


def _value(text: str) -> Any:
    """As noria's YAML reads it: numbers, true, false, null, lists in brackets; else text."""
    if text[:1] in "[{":
        return document.read(text.encode(), "the value").plain()
    return document.scalar(text.strip())


def _parts(text: str) -> list[str]:
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        raise UsageError(f"{text!r} is not a list of values", hint="Like 0.05,0.1,0.2")
    return parts
