"""A sealed bundle is believed only when it is whole and signed (``releases.bundle_verifier``): unpickling it runs code."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from noria.kernel.errors import StoreError
from noria.pipeline.context import PipelineContext
from noria.releases import bundle_verifier, signing
from noria.releases.bundle_verifier import VerifiedBundle
from noria.releases.release import Release


def verify(context: PipelineContext, release: Release) -> dict[str, Any]:
    """The manifest of a release whose bundle is whole and ours. Raises StoreError naming what is not."""
    return bundle_verifier.facts(whole(context.bundle(release.digest), release, signing.known_keys(context.state)))


def whole(folder: Path, release: Release, keys: Sequence[str]) -> VerifiedBundle:
    """As ``verify``, of a bundle that lies in ``folder`` and must be sealed with one of ``keys``."""
    try:
        return bundle_verifier.verify(folder, keys, release.digest)
    except StoreError as error:
        hint = "Put the folder back from a backup, or roll back."
        raise StoreError(f"{release.version} is damaged: {error.message}", where=str(folder), hint=hint) from error
