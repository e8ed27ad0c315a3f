"""How much memory the reading of a file may take: few bytes can stand for any number of equal values."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from noria.kernel.errors import DataError
from noria.kernel.words import size

UNPACKED_BYTES = 1 << 30  # what any file may take, ...
TIMES = 100  # ... and beyond it this many times its size, ...
SHARE = 2  # ... as long as it is not more than this part of the machine's memory
PARTED_FROM_BYTES = 1 << 28  # of a table in memory: a larger one is judged in parts
PART_BYTES = 1 << 24  # of each, about
PIECE_BYTES = 8 << 20
PACKINGS = (".gz", ".zst")


def most(size_bytes: int) -> int:
    """The most bytes that a file of this size may take in memory."""
    return min(max(UNPACKED_BYTES, TIMES * size_bytes), _memory() // SHARE)


def demand(path: Path, needed_bytes: int) -> None:
    """Raise DataError when reading the file would take more than it may."""
    held = path.stat().st_size
    limit = most(held)
    if needed_bytes > limit:
        text = f"would take {size(needed_bytes)} in memory: a file of {size(held)} may take {size(limit)} here"
        raise DataError(text, where=str(path), hint="Deliver it in several files, or as another format.")


def read_unpacked(path: Path) -> bytes:
    """The bytes of a file that may be packed. Raises DataError when they would be too many."""
    if path.suffix.lower() not in PACKINGS:
        demand(path, path.stat().st_size)
        return path.read_bytes()
    import pyarrow as pa

    limit, found = most(path.stat().st_size), bytearray()
    with pa.input_stream(str(path), compression="detect") as stream:
        while piece := stream.read(PIECE_BYTES):
            found += piece
            if len(found) > limit:
                demand(path, len(found))
    return bytes(found)


def _memory() -> int:
    """Of this machine, or as much of it as this process may have."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for place in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            text = Path(place).read_text().strip()
        except OSError:
            continue
        if text.isdigit():
            return min(whole, int(text))
    return whole if whole > 0 else sys.maxsize
