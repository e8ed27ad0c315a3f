"""The key of hashes of personal data: 32 random bytes in the state folder, in no bundle, no export and no repository."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

from noria.kernel.errors import StoreError
from noria.storage.context import StoreContext
from noria.storage.disk import write_whole
from noria.storage.ledger import Ledger

FILE = "personal.key"
BYTES = 32
USED = "SELECT 1 FROM tables WHERE source LIKE ? UNION ALL SELECT 1 FROM holdout_looks WHERE keyed = 1 LIMIT 1"
HASHED = "key:"  # stands in the identity of a dataset whose columns were hashed


def read(state: Path) -> bytes | None:
    """The key; None where there is none. Raises StoreError when it cannot be read."""
    try:
        key = (state / FILE).read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"the key of hashed personal data cannot be read: {error.strerror}", where=str(state / FILE)) from error
    if len(key) != BYTES:
        hint = "Restore it from a backup; or put 32 random bytes there, and files are hashed again."
        raise StoreError(f"the key of hashed personal data has {len(key)} bytes, not {BYTES}", where=str(state / FILE), hint=hint)
    return key


def make(state: Path) -> bytes:
    """The key, made where there is none; its owner alone may read it."""
    key = read(state)
    if key is not None:
        return key
    with contextlib.suppress(FileExistsError):  # another process was first
        write_whole(state / FILE, os.urandom(BYTES), 0o600, replace=False)
    return read(state) or b""


def of_a_look(state: Path | None) -> bytes:
    """The key; where there is none yet, one that nobody keeps."""
    return (read(state) if state is not None else None) or os.urandom(BYTES)


def demand(context: StoreContext) -> bytes:
    """The key, made where nothing was hashed yet. Raises StoreError where it is gone: another one would give other hashes."""
    demand_kept(context.state, context.ledger)
    return make(context.state)


def demand_kept(state: Path, ledger: Ledger) -> None:
    """Raise StoreError where something was hashed and the key is gone."""
    if read(state) is None and ledger.database.row(USED, (f"%+%{HASHED}% %",)):
        hint = (
            "Restore it from a backup. Or put 32 random bytes there: then all files that are still in the sources are hashed "
            "again, the files of before leave their datasets, and earlier looks at held-out rows are not counted."
        )
        raise StoreError("the key of hashed personal data is gone", where=str(state / FILE), hint=hint)


def fingerprint(state: Path) -> str:
    """What tells one key from another, and tells nothing of it; nothing where there is none."""
    key = read(state)
    return "" if key is None else hashlib.blake2b(b"noria", key=key, digest_size=8).hexdigest()
