"""A sealed bundle is believed only when its signature and every file's digest verify: unpickling it runs code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from noria import names
from noria.adapters import signing
from noria.domain.release import Release
from noria.errors import StoreError
from noria.stages.line import Line


def verify(line: Line, release: Release) -> dict[str, Any]:
    """The manifest of a release whose bundle is whole and ours. Raises StoreError naming what is not."""
    return whole(line.bundle(release.digest), release, signing.public_key(line.state))


def whole(folder: Path, release: Release, key: str) -> dict[str, Any]:
    """As ``verify``, of a bundle that lies in ``folder`` and must be sealed with ``key``."""
    try:
        content = (folder / "manifest.json").read_bytes()
        seal = (folder / "manifest.sig").read_bytes()
    except OSError as error:
        raise _broken(release, f"its bundle cannot be read: {error.strerror}", str(folder)) from error
    if names.digest_bytes(content) != release.digest or not signing.verify(key, content, seal):
        raise _broken(release, "its manifest is not the one that was sealed", str(folder))
    manifest: dict[str, Any] = msgspec.json.decode(content)
    for name, digest in manifest["files"].items():
        path = folder / name
        if not path.is_file() or names.digest_file(path) != digest:
            raise _broken(release, f"{name} is missing or was changed", str(folder))
    return manifest


def _broken(release: Release, what: str, where: str) -> StoreError:
    return StoreError(
        f"{release.version} is damaged: {what}", where=where, hint="Put the folder back from a backup, or roll back."
    )
