"""Contracts: contracts/NAME.yaml -> a Contract."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from noria.config import document, keys
from noria.config.reading import touch
from noria.config.shapes import Section
from noria.kernel import expression, names
from noria.kernel.contract import ColumnRule, Contract, RowRule
from noria.kernel.errors import ConfigError
from noria.kernel.expression import ExpressionError


def load_contract(path: Path, *, shown: str) -> Contract:
    """The contract in a file that errors call ``shown``. Raises ConfigError, also when the file is missing."""
    data = read_bytes(path, shown)
    root = keys.CONTRACT.read(document.read(data, shown))
    fresh = root.get("freshness")
    return Contract(
        columns=tuple(_column(name, section) for name, section in root.get("columns", {}).items()),
        source=shown,
        digest=names.digest_bytes(data),
        rules=tuple(_rule(section) for section in root.get("rules", ())),
        **root.given(unique="unique", extra_columns="extra_columns"),
        **_rows(root),
        **(fresh.given(fresh_column="column", fresh_within_s="within") if fresh else {}),
    )


def read_bytes(path: Path, shown: str, hint: str | None = None) -> bytes:
    """A project file's bytes; raises ConfigError when there is none to read."""
    try:
        with touch(path).open("rb") as file:
            return file.read(document.SIZE_LIMIT + 1)
    except FileNotFoundError:
        raise ConfigError("there is no such file", where=shown, hint=hint) from None
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", where=shown, hint=hint) from error


def _column(name: str, section: Section) -> ColumnRule:
    low, high = section.get("range", (None, None))
    if low is not None and high is not None and low > high:
        raise section.at("range").error(f"the range of {name} ends before it begins: {low:g} to {high:g}")
    kind = section.get("type")
    if "range" in section and kind not in (None, "int", "float"):
        raise section.at("range").error(f"only numbers have a range; {name} is a {kind}")
    if "format" in section and kind not in (None, "date", "datetime"):
        raise section.at("format").error(f"only dates and times have a format; {name} is a {kind}")
    given = section.given(type="type", nulls="nulls", values="values", required="required", format="format")
    return ColumnRule(name, low=low, high=high, **given)


def _rule(section: Section) -> RowRule:
    rule = RowRule(**section.given(name="name", expr="expr", at_most="at_most"))
    try:
        expression.parse(rule.expr)
    except ExpressionError as error:
        raise section.at("expr").error(f"rule '{rule.name}' cannot be read: {error}", hint=f"expr: {rule.expr}") from None
    return rule


def _rows(root: Section) -> dict[str, Any]:
    rows = root.get("rows")
    if rows is None:
        return {}
    limits: dict[str, Any] = rows.given(rows_min="min", rows_max="max")
    if limits.get("rows_max", 1 << 60) < limits.get("rows_min", 1):
        raise rows.at("max").error("the most rows are fewer than the least")
    return limits
