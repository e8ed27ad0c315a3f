"""Conditions on parameters: ``train.deep``, ``model == 'hgb' and not quick``, ``size in [1, 2]``. Read, never executed."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any

from noria.config.document import nearest, shorten
from noria.kernel.errors import ConfigError

_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
}
_WORDS = {"true": True, "false": False, "null": None}
HINT = "Compare parameters with values: train.deep, model == 'hgb' and not quick, size in [1, 2]."


def holds(text: str, params: Mapping[str, Any]) -> bool:
    """Whether the condition holds. Raises ConfigError, without a place, for what cannot be read or compared."""
    try:
        tree = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ConfigError(f"{shorten(text)!r} is not a condition", hint=HINT) from error
    try:
        return bool(_value(tree, params))
    except TypeError as error:
        raise ConfigError(f"{shorten(text)!r} compares what cannot be compared: {error}", hint=HINT) from error
    except RecursionError:  # Python reads deeper than this can follow
        raise ConfigError(f"{shorten(text)!r} is nested too deep", hint=HINT) from None


def find(params: Mapping[str, Any], name: str) -> Any:
    """The parameter of a dotted name. Raises KeyError."""
    found: Any = params
    for part in name.split("."):
        if not isinstance(found, Mapping) or part not in found:
            raise KeyError(name)
        found = found[part]
    return found


def dotted_names(params: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Every dotted name, sections among them."""
    names = []
    for key, value in params.items():
        names.append(f"{prefix}{key}")
        if isinstance(value, Mapping):
            names += dotted_names(value, f"{prefix}{key}.")
    return names


def _value(node: ast.expr, params: Mapping[str, Any]) -> Any:
    if isinstance(node, ast.BoolOp):
        every = isinstance(node.op, ast.And)
        return all(_value(v, params) for v in node.values) if every else any(_value(v, params) for v in node.values)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return not _value(node.operand, params)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_value(node.operand, params)
    if isinstance(node, ast.Compare):
        values = [_value(v, params) for v in (node.left, *node.comparators)]
        if all(type(op) in _COMPARE for op in node.ops):
            return all(_COMPARE[type(op)](a, b) for op, a, b in zip(node.ops, values, values[1:], strict=False))
    if isinstance(node, ast.Constant) and isinstance(node.value, str | int | float | bool | None):
        return node.value
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(v, params) for v in node.elts]
    name = _dotted_name(node)
    if name in _WORDS:
        return _WORDS[name]
    try:
        return find(params, name)
    except KeyError:
        raise ConfigError(f"there is no parameter {shorten(name)!r}", hint=nearest(name, dotted_names(params))) from None


def _dotted_name(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{_dotted_name(node.value)}.{node.attr}"
    raise ConfigError(f"{shorten(ast.unparse(node))!r} is not allowed in a condition", hint=HINT)
