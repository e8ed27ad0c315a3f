"""The installation's signing key: Ed25519, made once, readable by its owner only, and never replaced in silence.

``signing.pub`` holds the public half, and below it those of keys that were lost: what they signed is valid for ever.
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

from noria.kernel.errors import RefusedError, StoreError
from noria.storage.disk import write_whole

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

KEY = "signing.key"  # 64 hex digits: the private key's 32 bytes
PUBLIC = "signing.pub"  # 64 hex digits a line: the newest key first
RELEASES = "releases"  # where bundles lie: what was signed
SIGNATURE_BYTES = 64
_HEX = re.compile(r"[0-9a-f]{64}")
BACK = "Restore it from a backup. If it is lost for good, `noria audit new-key` makes another; signing.pub keeps old ones valid."


def sign(state: Path, data: bytes) -> bytes:
    """The 64-byte signature of ``data`` with the key in ``state``; the key is made when nothing was ever signed there.

    Raises StoreError when the key is missing, or is not the one that signed before.
    """
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
    """The public half, as hex, of the key that signs; made when nothing was ever signed there. Raises StoreError."""
    return _public_of(_private_key(state))


def known_keys(state: Path) -> tuple[str, ...]:
    """The public keys that something here may be signed with, as hex, the newest first. None is ever made.

    Raises StoreError when there are none, or the file cannot be read.
    """
    path = state / PUBLIC
    try:
        found = tuple(path.read_text(encoding="ascii").split())
    except FileNotFoundError:
        if (state / KEY).exists():
            return (_public_of(_read(state / KEY)),)
        raise StoreError("the public signing key is missing: no release can be verified", where=str(path), hint=BACK) from None
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(
            "the public signing key cannot be read: no release can be verified", where=str(path), hint=BACK
        ) from error
    if not found or not all(map(_HEX.fullmatch, found)):
        raise StoreError("the public signing key is damaged: no release can be verified", where=str(path), hint=BACK)
    return found


def missing(state: Path) -> str:
    """Why nothing can be signed though something was before; empty where all is well."""
    try:
        _demand_kept(state)
        if (state / KEY).exists():
            _private_key(state)
    except StoreError as error:
        return error.message
    return ""


def make_new(state: Path) -> str:
    """Make a key in place of one that was lost; what the old ones signed stays valid. The public half, as hex.

    Raises RefusedError while the old one is there, StoreError when it is there and cannot be read.
    """
    if (state / KEY).exists():
        _read(state / KEY)
        raise RefusedError("the signing key is not lost", where=str(state / KEY), hint="Nothing needs to be done.")
    old = known_keys(state) if (state / PUBLIC).exists() else ()
    private = _create(state / KEY)
    public = _public_of(private)
    write_whole(state / PUBLIC, "".join(f"{key}\n" for key in (public, *old)).encode())
    return public


def _private_key(state: Path) -> Ed25519PrivateKey:
    path = state / KEY
    if not path.exists():
        _demand_kept(state)
        _create(path)
    key = _read(path)
    public = _public_of(key)
    if not (state / PUBLIC).exists():
        write_whole(state / PUBLIC, f"{public}\n".encode())
    elif public not in known_keys(state):
        text = f"{KEY} is not the key whose public half is in {PUBLIC}: one of them was replaced"
        raise StoreError(text, where=str(path), hint="Restore both from a backup: releases are signed with the old one.")
    return key


def _demand_kept(state: Path) -> None:
    """Raise StoreError when a key was there once: its public half is, or something that it signed."""
    was = (state / PUBLIC).exists()
    with contextlib.suppress(FileNotFoundError):
        was = was or any((state / RELEASES).iterdir())
    if was and not (state / KEY).exists():  # asked last: who makes the first one writes it first
        raise StoreError("the signing key is missing: nothing can be signed", where=str(state / KEY), hint=BACK)


def _read(path: Path) -> Ed25519PrivateKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    try:
        return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(path.read_text().strip()))
    except (OSError, ValueError) as error:
        raise StoreError(
            f"the signing key cannot be read: {error}",
            where=str(path),
            hint="Restore it from a backup; if it is lost for good, move it away: `noria audit new-key` makes another.",
        ) from error


def _public_of(key: Ed25519PrivateKey) -> str:
    return key.public_key().public_bytes_raw().hex()


def _create(path: Path) -> Ed25519PrivateKey:
    path.parent.mkdir(parents=True, exist_ok=True)
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    content = Ed25519PrivateKey.generate().private_bytes_raw().hex() + "\n"
    with contextlib.suppress(FileExistsError):  # another process was first: its key stands
        write_whole(path, content.encode(), 0o600, replace=False)
    return _read(path)
