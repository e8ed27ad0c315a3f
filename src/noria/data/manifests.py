"""Manifests in chunks: which entries stand together depends on their names alone, so that equal versions have equal chunks.

A chunk begins at each name whose hash says so, on average every ``CHUNK_FILES`` names. What is added, changed or taken away in a
sorted list of entries touches the chunk around it, and its neighbour when the name was a beginning; all others stay as they are.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence

import msgspec
from blake3 import blake3

from noria.data.snapshot import FilePin
from noria.kernel import names
from noria.storage.rows import UNREADABLE, damage_error

CHUNK_FILES = 512  # entries of a chunk, on average; a power of two
Span = tuple[str, str | None]  # from this name on, up to but not including that one; None: to the end


class ManifestChunk(msgspec.Struct, frozen=True):
    """A part of a manifest, known without its entries."""

    first: str  # name of its first entry
    key: str  # digest of all that is kept of its entries
    identity: str  # digest of their names and contents
    files: int
    rows: int
    size_bytes: int


def begins(name: str) -> bool:
    """Whether a chunk begins at this name."""
    return int.from_bytes(blake3(name.encode()).digest(length=4)) % CHUNK_FILES == 0


def split(pins: Iterable[FilePin]) -> Iterator[list[FilePin]]:
    """Sorted entries, chunk by chunk."""
    pending: list[FilePin] = []
    for pin in pins:
        if pending and begins(pin.name):
            yield pending
            pending = []
        pending.append(pin)
    if pending:
        yield pending


def pack(pins: Sequence[FilePin]) -> tuple[ManifestChunk, bytes]:
    """A chunk, and its entries as they are kept."""
    content = msgspec.json.encode([_entry(pin) for pin in pins])
    chunk = ManifestChunk(
        first=pins[0].name,
        key=names.digest_bytes(content),
        identity=names.digest_bytes(msgspec.json.encode([(pin.name, pin.digest) for pin in pins])),
        files=len(pins),
        rows=sum(pin.rows for pin in pins),
        size_bytes=sum(pin.size_bytes for pin in pins),
    )
    return chunk, content


def unpack(content: str | bytes) -> Iterator[FilePin]:
    """The entries of a chunk. Raises StoreError when it was damaged."""
    try:
        pins = [FilePin(*entry) for entry in msgspec.json.decode(content)]
    except UNREADABLE as error:
        raise damage_error("chunks", error) from error
    yield from pins


def digest(dataset: str, chunks: Iterable[ManifestChunk]) -> str:
    """The identity of a version: its dataset, and the name and content of each file."""
    return names.digest_bytes(msgspec.json.encode([dataset, [chunk.identity for chunk in chunks]]))


def spans(chunks: Sequence[ManifestChunk], touched: Iterable[str]) -> list[tuple[int, int, Span]]:
    """The runs of chunks that names lie in: from chunk, to chunk (exclusive), and the names between which to look again.

    In order, and apart from each other. A name at which a chunk begins concerns the chunk before it too: it may be gone.
    """
    firsts = [chunk.first for chunk in chunks]
    stale: set[int] = set()
    for name in touched:
        at = max(0, bisect_right(firsts, name) - 1)
        stale.add(at)
        if at and firsts[at] == name:
            stale.add(at - 1)
    found: list[tuple[int, int, Span]] = []
    for at in sorted(stale):
        begin = found.pop()[0] if found and found[-1][1] == at else at
        lowest = firsts[begin] if begin else ""
        found.append((begin, min(at + 1, len(chunks)), (lowest, firsts[at + 1] if at + 1 < len(chunks) else None)))
    return found


def _entry(pin: FilePin) -> tuple[str | int | None, ...]:
    plain = (pin.name, pin.digest, pin.size_bytes, pin.rows)
    if pin.made_from is not None:
        return (*plain, pin.origin, pin.made_from)
    return plain if pin.origin is None else (*plain, pin.origin)
