"""What a table is: its columns with their types, decided once for a dataset; and how a text file of it is written."""

from __future__ import annotations

from enum import StrEnum

import msgspec

NULL_WORDS = frozenset(
    ["NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "-nan", "-NaN", "NaT", "null", "NULL", "Null", "None", "none"]
)  # missing where every other value is a number, a date or true/false; in a column of text they are text
EXACT = 2**53  # beyond it not every whole number is one that JSON and a double hold
ISO = ""  # the format of dates that begin with the year


class ColumnKind(StrEnum):
    """The types that a contract knows."""

    INT = "int"
    FLOAT = "float"
    STRING = "string"
    BOOL = "bool"
    DATETIME = "datetime"
    DATE = "date"


class Column(msgspec.Struct, frozen=True):
    """The type of a column. ``kind``: one of ``Kind``, another type's own name (``List(Int64)``), or empty as long as no file has
    a value in it."""

    kind: str = ""
    format: str = ISO  # of dates and times
    zone: str = ""  # of times: empty for times without one
    said: bool = False  # by the contract: then whole numbers may have zeros before them, and words be truth values
    why: str = ""  # why digits are text


class TableType(msgspec.Struct, frozen=True):
    """The columns of a dataset in their order."""

    columns: dict[str, Column] = {}


class ColumnLooks(msgspec.Struct, frozen=True):
    """What the values of one column of one file look like: ``fits`` are all types that take every value as it is written."""

    fits: frozenset[Column] = frozenset()
    filled: bool = False  # whether there is any value
    example: str = ""
    why: str = ""  # why digits are text


class FileLooks(msgspec.Struct, frozen=True):
    """The columns of one file in their order."""

    name: str
    columns: dict[str, ColumnLooks]
