"""The grammar of identifiers, digests and versions: the one place that knows it."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

from blake3 import blake3

from noria.kernel.errors import UsageError

NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")
DIGEST = re.compile(r"[0-9a-f]{64}")
VERSION = re.compile(r"v([1-9][0-9]{0,8})")


def digest_bytes(data: bytes) -> str:
    """BLAKE3 of ``data``: 64 lower-case hex digits, the identity of every blob."""
    return blake3(data).hexdigest()


def digest_file(path: Path) -> str:
    """BLAKE3 of a file's bytes, memory-mapped."""
    if path.stat().st_size == 0:
        return digest_bytes(b"")
    return blake3().update_mmap(path).hexdigest()


def new_id(prefix: str) -> str:
    """A sortable, unguessable identifier: ``run-0197a3c2e5f1-9c1b7e22``.

    Twelve hex digits of milliseconds since 1970, then 32 random bits.
    """
    return f"{prefix}-{time.time_ns() // 1_000_000:012x}-{os.urandom(4).hex()}"


def is_name(text: str) -> bool:
    """Whether ``text`` may name a project, dataset, step or environment."""
    return NAME.fullmatch(text) is not None


def version_name(number: int) -> str:
    """``12`` -> ``v12``."""
    return f"v{number}"


def version_number(text: str) -> int:
    """``v12`` -> ``12``; raises UsageError for anything else."""
    match = VERSION.fullmatch(text)
    if match is None:
        raise UsageError(f"{text!r} is not a release", hint="Releases are named v1, v2, ...; `noria releases` lists them.")
    return int(match.group(1))


def short(digest: str) -> str:
    """The first twelve digits: enough for a person."""
    return digest[:12]
