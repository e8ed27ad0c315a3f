"""Which rows a table held, in 8 kB: the smallest hashes of its rows, from which the overlap of two tables is known.

Of tables of up to ``KEPT`` rows every hash is kept and the overlap is exact; of larger ones it is an estimate with a standard
error of at most 1.6 % (Bar-Yossef, Jayram, Kumar, Sivakumar and Trevisan, RANDOM 2002: the k smallest values).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

KEPT = 1024
Hashes = NDArray[np.uint64]


def sketch(rows: Iterable[str], salt: str, key: bytes = b"") -> Hashes:
    """The smallest hashes of the rows' identities, in order; equal rows count once. Without the key, none can be guessed."""
    secret = blake2b(salt.encode(), digest_size=32, key=key).digest()
    hashed = (int.from_bytes(blake2b(row.encode(), digest_size=8, key=secret).digest()) for row in rows)
    return np.unique(np.fromiter(hashed, dtype=np.uint64))[:KEPT]


def share_within(rows: Hashes, others: Sequence[Hashes]) -> float:
    """The share of ``rows`` that at least one of ``others`` holds as well."""
    limit = _reach([rows, *others])
    known = rows[rows <= limit]
    if not len(known):
        return 0.0
    return float(np.isin(known, np.concatenate(others)).mean()) if others else 0.0


def _reach(sketches: Sequence[Hashes]) -> np.uint64:
    """Up to this hash every sketch is complete."""
    full = [found[-1] for found in sketches if len(found) >= KEPT]
    return np.uint64(min(full)) if full else np.uint64(2**64 - 1)
