"""A sealed bundle is believed only when it is whole and signed (``adapters.bundle``): unpickling it runs code."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from noria.adapters import bundle, signing
from noria.adapters.bundle import Verified
from noria.domain.release import Release
from noria.errors import StoreError
from noria.stages.line import Line


def verify(line: Line, release: Release) -> dict[str, Any]:
    """The manifest of a release whose bundle is whole and ours. Raises StoreError naming what is not."""
    return bundle.facts(whole(line.bundle(release.digest), release, signing.known_keys(line.state)))


def whole(folder: Path, release: Release, keys: Sequence[str]) -> Verified:
    """As ``verify``, of a bundle that lies in ``folder`` and must be sealed with one of ``keys``."""
    try:
        return bundle.verify(folder, keys, release.digest)
    except StoreError as error:
        hint = "Put the folder back from a backup, or roll back."
        raise StoreError(f"{release.version} is damaged: {error.message}", where=str(folder), hint=hint) from error
