"""What has arrived and is not judged yet."""

from __future__ import annotations

import msgspec


class Arrival(msgspec.Struct, frozen=True):
    """A file that no delivery has judged yet; its bytes are already a blob."""

    dataset: str
    name: str  # relative to home, '/' separated
    digest: str
    size_bytes: int
    mark: str = ""  # of the file when its bytes were taken, for the stat index
    problem: str = ""  # why it could not be read, in words; then there are no bytes
    origin: str | None = None  # the address at which it stays, of a dataset that is pinned by version
