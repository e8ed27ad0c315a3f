"""The types that a contract promises, held against those that the values of a table have. Nothing here loads Polars."""

from __future__ import annotations

from typing import Any

from noria.kernel.contract import parse_decimal

_NAMED = {
    "String": "string",
    "Categorical": "string",
    "Enum": "string",
    "Boolean": "bool",
    "Datetime": "datetime",
    "Date": "date",
    "Struct": "struct",
}


def words(dtype: Any) -> str:
    """The contract's word for the type of a column of a table, or that type's own name."""
    if dtype.is_integer():
        return "int"
    if dtype.is_decimal():
        return "decimal"
    if dtype.is_numeric():
        return "float"
    if is_list(dtype):
        return f"list({words(dtype.inner)})"
    return _NAMED.get(dtype.base_type().__name__, str(dtype))


def fits(promised: str, dtype: Any) -> bool:
    """Whether each value of the column's type is one of the promised type. Whole numbers are floats and decimals, too."""
    found = words(dtype)
    if promised == found or (promised == "float" and dtype.is_numeric()):
        return True
    if promised.startswith("decimal"):
        return found == "int" or (found == "decimal" and _holds(promised, dtype))
    if promised.startswith("list") and is_list(dtype):
        return promised == "list" or dtype.inner.base_type().__name__ == "Null" or fits(promised[5:-1], dtype.inner)
    return False


def is_promised(kind: str) -> bool:
    """Whether it is a type that only a contract gives a column: files do not show it by themselves."""
    return kind.startswith("decimal") or is_nested(kind)


def is_nested(promised: str) -> bool:
    """Whether it is a type that no text file has."""
    return promised.startswith("list") or promised == "struct"


def is_list(dtype: Any) -> bool:
    return dtype.base_type().__name__ in ("List", "Array")


def _holds(promised: str, dtype: Any) -> bool:
    digits, places = parse_decimal(promised)
    if promised == "decimal":
        return True
    return bool(dtype.scale <= places and (dtype.precision or digits) - dtype.scale <= digits - places)
