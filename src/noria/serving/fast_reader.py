"""Reads common requests in one pass: a decoder made for the signature checks names and types while it parses.

It answers exactly as `protocol.read` does, or not at all: whatever is unusual or wrong is left to that one, which says what is.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Annotated, Any

import msgspec
from msgspec.structs import astuple

from noria.kernel.errors import SignatureError
from noria.models.signature import Input, Kind, Signature
from noria.serving import protocol
from noria.serving.protocol import SINGLE_MAX, PredictionRequest

Decoders = tuple[Callable[[bytes], Any], Callable[[bytes], Any]]
_UNTAKEN = re.compile(r'["\\\x00-\x1f]')  # JSON writes these with an escape, and a body with one is not read here
_INT = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
_TYPES: dict[Kind, Any] = {Kind.STRING: str, Kind.NUMBER: _INT | float, Kind.INTEGER: _INT, Kind.BOOLEAN: bool}


class FastReader:
    """Reads bodies of one record, or a list of them, of one signature. Columns named in ``also`` may be there too."""

    def __init__(self, signature: Signature, also: frozenset[str], max_rows: int) -> None:
        self._names = [entry.name for entry in signature.inputs]
        optional = {name for name in (signature.key, signature.event_time) if name} | also
        self._all = [*self._names, *sorted(n for n in optional - set(self._names) if not _UNTAKEN.search(n))]
        self._decoders = self._make_decoders(signature, _type)
        self._ranged = self._make_decoders(signature, _within)
        self._texts = [i for i, entry in enumerate(signature.inputs) if entry.kind is Kind.STRING]
        self._fixed = sum(1 + name.count(":") for name in self._names)
        self._optional = [(i, 1 + self._all[i].count(":")) for i in range(len(self._names), len(self._all))]
        self._odd = bool(self._texts or self._optional)
        self._key, self._event_time = signature.key, signature.event_time
        self._max_rows = max_rows

    def _make_decoders(self, signature: Signature, type_of: Callable[[Input], Any]) -> Decoders:
        """Of one record, and of a list of them."""
        fields: list[Any] = [(f"f{i}", type_of(entry)) for i, entry in enumerate(signature.inputs)]
        fields += [(f"f{i}", Any, msgspec.UNSET) for i in range(len(fields), len(self._all))]
        called = {f"f{i}": name for i, name in enumerate(self._all)}
        record: Any = msgspec.defstruct("Record", fields, rename=called, forbid_unknown_fields=True, gc=False)
        return msgspec.json.Decoder(record).decode, msgspec.json.Decoder(list[record]).decode

    def rows(self, body: bytes) -> list[tuple[Any, ...]] | None:
        """The values of each record: of the inputs, then of the optional columns, UNSET where they are not given.

        None when `protocol.read` must look at the body, or a number lies outside what training saw, or beyond float32.
        """
        return self._decode(body, self._ranged)

    def _decode(self, body: bytes, decoders: Decoders) -> list[tuple[Any, ...]] | None:
        if b"\\" in body:
            return None  # an escape may hide that a name came twice
        try:
            rows = [astuple(decoders[0](body))] if body[:1] == b"{" else list(map(astuple, decoders[1](body)))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        if not 0 < len(rows) <= self._max_rows or body.count(b":") != self._colons(rows):
            return None  # the latter: a name came twice, or something is nested
        return rows

    def read(self, body: bytes) -> PredictionRequest | None:
        """What `protocol.read` makes of the body; None when that one must look at it."""
        rows = self._decode(body, self._decoders)
        if rows is None:
            return None
        columns = {name: list(values) for name, values in zip(self._names, zip(*rows, strict=True), strict=False)}
        records = LazyRecords(self._all, rows)
        try:
            keys, times = protocol.keys(records, self._key), protocol.event_times(records, self._event_time)
        except SignatureError:
            return None
        return PredictionRequest(records, columns, keys, times)

    def place(self, name: str | None) -> int | None:
        """Where a column stands in `rows`; None for one that they never hold."""
        return self._all.index(name) if name in self._all else None

    def _colons(self, rows: list[tuple[Any, ...]]) -> int:
        """As many as the records' text has, when no name comes twice and nothing is nested."""
        found = self._fixed * len(rows)
        if not self._odd:
            return found
        for i in self._texts:
            found += sum(row[i].count(":") for row in rows if row[i] is not None)
        for i, own in self._optional:
            found += sum(own + (row[i].count(":") if type(row[i]) is str else 0) for row in rows if row[i] is not msgspec.UNSET)
        return found


class LazyRecords(Sequence[dict[str, Any]]):
    """Records, made one by one when accessed, which is rare."""

    def __init__(self, names: list[str], rows: list[tuple[Any, ...]]) -> None:
        self._names = names
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return map(self.__getitem__, range(len(self._rows)))

    def __getitem__(self, index: Any) -> Any:
        named = zip(self._names, self._rows[index], strict=True)
        return {name: value for name, value in named if value is not msgspec.UNSET}


def _type(entry: Input) -> Any:
    return _TYPES[entry.kind] | None if entry.nullable else _TYPES[entry.kind]


def _within(entry: Input) -> Any:
    """As `_type`, with the range of the training data: a number outside is marked, which takes a closer look."""
    low = -SINGLE_MAX if entry.low is None else max(entry.low, -SINGLE_MAX)
    high = SINGLE_MAX if entry.high is None else min(entry.high, SINGLE_MAX)
    whole = Annotated[int, msgspec.Meta(ge=max(math.ceil(low), -(2**63)), le=min(math.floor(high), 2**63 - 1))]
    if entry.kind is Kind.NUMBER:
        found: Any = whole | Annotated[float, msgspec.Meta(ge=low, le=high)]
    elif entry.kind is Kind.INTEGER:
        found = whole
    else:
        return _type(entry)
    return found | None if entry.nullable else found


@lru_cache(maxsize=64)  # a route that changes its shares keeps its reader
def reader(signature: Signature, also: frozenset[str], max_rows: int) -> FastReader | None:
    """None where an input's name takes an escape in JSON: `protocol.read` reads each request then."""
    if any(_UNTAKEN.search(entry.name) for entry in signature.inputs):
        return None
    return FastReader(signature, also, max_rows)
