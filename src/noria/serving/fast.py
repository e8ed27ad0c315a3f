"""The common request, read in one go: a decoder made for the signature checks names and types while it parses.

It answers exactly as `protocol.read` does, or not at all: whatever is unusual or wrong is left to that one, which says what is.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Any

import msgspec

from noria.domain.signature import Input, Kind, Signature
from noria.errors import SignatureError
from noria.serving import protocol
from noria.serving.protocol import Ask

_INT = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
_TYPES: dict[Kind, Any] = {Kind.STRING: str, Kind.NUMBER: _INT | float, Kind.INTEGER: _INT, Kind.BOOLEAN: bool}


class Reader:
    """Reads bodies of one record, or a list of them, of one signature. Columns named in ``also`` may be there too."""

    def __init__(self, signature: Signature, also: frozenset[str], max_rows: int) -> None:
        self._names = [entry.name for entry in signature.inputs]
        optional = {name for name in (signature.key, signature.event_time) if name} | also
        self._all = [*self._names, *sorted(optional - set(self._names))]
        self._more = len(self._all) > len(self._names)
        fields: list[Any] = [(f"f{i}", _type(entry)) for i, entry in enumerate(signature.inputs)]
        fields += [(f"f{i}", Any, msgspec.UNSET) for i in range(len(fields), len(self._all))]
        called = {f"f{i}": name for i, name in enumerate(self._all)}
        record: Any = msgspec.defstruct("Record", fields, rename=called, forbid_unknown_fields=True, gc=False)
        self._one, self._several = msgspec.json.Decoder(record).decode, msgspec.json.Decoder(list[record]).decode
        self._texts = [i for i, entry in enumerate(signature.inputs) if entry.kind is Kind.STRING]
        self._fixed = sum(1 + name.count(":") for name in self._names)
        self._optional = [(i, 1 + self._all[i].count(":")) for i in range(len(self._names), len(self._all))]
        self._key, self._event_time = signature.key, signature.event_time
        self._max_rows = max_rows

    def read(self, body: bytes) -> Ask | None:
        """What `protocol.read` makes of the body; None when that one must look at it."""
        if b"\\" in body:
            return None  # an escape may hide that a name came twice
        try:
            found = [self._one(body)] if body[:1] == b"{" else self._several(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        if not 0 < len(found) <= self._max_rows:
            return None
        rows = [msgspec.structs.astuple(record) for record in found]
        records = (
            [self._record(row) for row in rows] if self._more else [dict(zip(self._names, row, strict=True)) for row in rows]
        )
        if body.count(b":") != sum(map(self._colons, rows)):
            return None  # a name came twice, or something is nested
        columns = {name: list(values) for name, values in zip(self._names, zip(*rows, strict=True), strict=False)}
        try:
            keys, times = protocol.keys(records, self._key), protocol.event_times(records, self._event_time)
        except SignatureError:
            return None
        return Ask(records, columns, keys, times)

    def _colons(self, row: tuple[Any, ...]) -> int:
        """As many as a record's text has, when no name comes twice and nothing is nested."""
        found = self._fixed
        for i in self._texts:
            if row[i] is not None:
                found += row[i].count(":")
        for i, own in self._optional:
            if row[i] is not msgspec.UNSET:
                found += own + (row[i].count(":") if type(row[i]) is str else 0)
        return found

    def _record(self, row: tuple[Any, ...]) -> dict[str, Any]:
        found = dict(zip(self._all, row, strict=True))
        return {name: value for name, value in found.items() if value is not msgspec.UNSET} if self._more else found


def _type(entry: Input) -> Any:
    return _TYPES[entry.kind] | None if entry.nullable else _TYPES[entry.kind]


@lru_cache(maxsize=64)  # a route that changes its shares keeps its reader
def reader(signature: Signature, also: frozenset[str], max_rows: int) -> Reader:
    return Reader(signature, also, max_rows)
