"""What the end of a Parquet file says of its size, read without Arrow, whose loading takes longer than a small file does.

The footer is a Thrift structure in the compact protocol; three of its fields matter here, and all others are passed over.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import msgspec

MAGIC = b"PAR1"
FOOTER_MOST = 1 << 18  # bytes; Arrow reads a longer one faster
DEEPEST = 32  # structures within each other: the format needs seven
FIXED = {3: 1, 7: 8}  # bytes of a byte and of a double
TRUE, FALSE, BINARY, LIST, SET, STRUCT = 1, 2, 8, 9, 10, 12
WHOLE = (4, 5, 6)  # numbers of 16, 32 and 64 bits


class ParquetSize(msgspec.Struct, frozen=True):
    """``names``: of the columns as people see them. ``leaves``: the physical type of each column as it is stored."""

    rows: int
    stored_bytes: int  # unpacked, but encoded
    names: tuple[str, ...]
    leaves: tuple[int, ...]


def read(path: Path) -> ParquetSize | None:
    """None where Arrow should be asked: the footer is long, encrypted or not understood."""
    with path.open("rb") as file:
        end = file.seek(0, 2)
        file.seek(max(0, end - 8))
        tail = file.read(8)
        if len(tail) < 8 or tail[4:] != MAGIC:
            return None
        length = struct.unpack("<I", tail[:4])[0]
        if not 0 < length <= min(FOOTER_MOST, end - 12):
            return None
        file.seek(end - 8 - length)
        try:
            return _size_of(ThriftReader(file.read(length)).structure(0))
        except (IndexError, KeyError, TypeError, ValueError, struct.error):
            return None


def _size_of(footer: dict[int, Any]) -> ParquetSize | None:
    elements, rows, groups = footer[2], int(footer[3]), footer.get(4) or []
    stored = sum(int(group[2]) for group in groups)
    names = _children(elements)
    leaves = tuple(int(each[1]) for each in elements if not each.get(5))
    return None if rows < 0 or stored < 0 else ParquetSize(rows, stored, names, leaves)


def _children(elements: list[dict[int, Any]]) -> tuple[str, ...]:
    """The names right below the root; the elements are a tree, written from the top down, each before its children."""
    names, at = [], 1
    for _ in range(elements[0][5]):
        names.append(elements[at][4].decode())
        left = 1
        while left:
            left += int(elements[at].get(5, 0)) - 1
            at += 1
    return tuple(names)


class ThriftReader:
    """Of Thrift's compact protocol: structures as their fields by number. Raises IndexError or ValueError for what is none."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0

    def structure(self, depth: int) -> dict[int, Any]:
        if depth > DEEPEST:
            raise ValueError("structures lie too deep")
        found: dict[int, Any] = {}
        number = 0
        while head := self._byte():
            step = head >> 4
            number = number + step if step else self._whole()
            found[number] = self._value(head & 15, depth)
        return found

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (TRUE, FALSE):
            return kind == TRUE
        if kind in WHOLE:
            return self._whole()
        if kind == BINARY:
            return self._bytes(self._varint())
        if kind in FIXED:
            return self._bytes(FIXED[kind])
        if kind == STRUCT:
            return self.structure(depth + 1)
        if kind in (LIST, SET):
            return self._list(depth + 1)
        raise ValueError("an unknown kind")  # a map, too: Parquet has none

    def _list(self, depth: int) -> list[Any]:
        head = self._byte()
        count = head >> 4 if head >> 4 < 15 else self._varint()
        kind = head & 15
        if kind in (TRUE, FALSE):
            return [self._byte() for _ in range(count)]
        return [self._value(kind, depth) for _ in range(count)]

    def _byte(self) -> int:
        self._at += 1
        return self._content[self._at - 1]

    def _bytes(self, count: int) -> bytes:
        self._at += count
        if self._at > len(self._content):
            raise IndexError("the footer ends before its field")
        return self._content[self._at - count : self._at]

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7
            if shift > 70:
                raise ValueError("a number is too long")

    def _whole(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)
