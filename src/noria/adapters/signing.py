"""The installation's signing key: Ed25519, made once, readable by its owner only."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from noria.errors import StoreError
from noria.names import new_id

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

KEY = "signing.key"  # 64 hex digits: the private key's 32 bytes
PUBLIC = "signing.pub"  # 64 hex digits


def sign(state: Path, data: bytes) -> bytes:
    """The 64-byte signature of ``data`` with the key in ``state``; the key is made when there is none."""
    return _private_key(state).sign(data)


def verify(public_hex: str, data: bytes, signature: bytes) -> bool:
    """Whether ``signature`` is of ``data`` and by the key ``public_hex``. False too for a malformed key or signature."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_hex.strip())).verify(signature, data)
    except (InvalidSignature, ValueError):
        return False
    return True


def public_key(state: Path) -> str:
    """The public key as hex; made when there is none."""
    _private_key(state)
    return (state / PUBLIC).read_text().strip()


def _private_key(state: Path) -> Ed25519PrivateKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    path = state / KEY
    if not path.exists():
        _create(path)
    try:
        key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(path.read_text().strip()))
    except (OSError, ValueError) as error:
        raise StoreError(
            f"the signing key cannot be read: {error}",
            where=str(path),
            hint="Restore it from a backup: releases signed with it cannot be verified with another.",
        ) from error
    public = key.public_key().public_bytes_raw().hex() + "\n"
    if not (state / PUBLIC).exists() or (state / PUBLIC).read_text() != public:
        _write(state / PUBLIC, public, 0o644, replace=True)
    return key


def _create(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    content = Ed25519PrivateKey.generate().private_bytes_raw().hex() + "\n"
    with contextlib.suppress(FileExistsError):  # another process was first: its key stands
        _write(path, content, 0o600, replace=False)


def _write(path: Path, content: str, mode: int, *, replace: bool) -> None:
    """Whole or not at all: a link or a rename makes it visible, after its bytes are on disk."""
    fresh = path.with_name(f".{path.name}.{new_id('k')}")
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(handle, "w") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            fresh.replace(path)
        else:
            os.link(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)
