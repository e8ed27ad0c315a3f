"""A release on disk: read, and believed only when it is whole and signed (``releases.bundle_verifier``)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from noria.kernel.errors import ServingError, StoreError
from noria.models import weights
from noria.models.signature import Signature
from noria.releases import signing
from noria.releases.bundle_verifier import MANIFEST, verify
from noria.releases.release import ServedForm


class ModelFacts(msgspec.Struct, frozen=True):
    file: str
    runtime: str = "onnx"


class HostedFacts(msgspec.Struct, frozen=True):
    features: str | None = None  # "delays.features:build"
    paths: tuple[str, ...] = (".",)  # import paths inside code/
    frames: dict[str, str] = {}  # the kinds of table that features and model take: see adapters.asking.Frames
    batch: bool = False  # rows of several requests may be answered in one call: no row's answer depends on the others


class Manifest(msgspec.Struct, frozen=True):
    """The part of a manifest that serving reads; other keys are evidence for people."""

    format: int
    project: str
    form: ServedForm
    signature: Signature
    model: ModelFacts
    files: dict[str, str]
    hosted: HostedFacts | None = None


class Bundle(msgspec.Struct, frozen=True):
    """A verified release folder."""

    folder: Path
    digest: str  # of manifest.json: the release's identity
    manifest: Manifest

    @property
    def signature(self) -> Signature:
        return self.manifest.signature

    @property
    def form(self) -> ServedForm:
        return self.manifest.form

    @property
    def model_path(self) -> Path:
        return self.folder / self.manifest.model.file

    @property
    def weights_digest(self) -> str | None:
        """Of the file beside a large model's graph that holds its weights; None when they are inside."""
        return self.manifest.files.get(self.manifest.model.file + weights.SUFFIX)


def public_keys(state: Path) -> tuple[str, ...]:
    """The Ed25519 public keys of ``signing.pub``, as hex: a release may be signed with any. Raises ServingError."""
    try:
        return signing.known_keys(state)
    except StoreError as error:
        raise ServingError(error.message, where=error.where, hint=error.hint) from error


def open_bundle(folder: Path, keys: Sequence[str], digest: str | None = None) -> Bundle:
    """Verify a release folder: signature first, then every file. ``digest`` is the identity that the caller expects.

    Raises ServingError when anything is missing, changed, added, a link, or signed by another key.
    """
    try:
        found = verify(folder, keys, digest)
    except StoreError as error:
        raise ServingError(f"{error.message}; the release is refused", where=error.where) from error
    try:
        manifest = msgspec.json.decode(found.content, type=Manifest)
    except msgspec.DecodeError as error:
        raise ServingError(f"the manifest is not understood: {error}", where=str(folder / MANIFEST)) from error
    if manifest.format != 1:
        raise ServingError(f"manifest format {manifest.format} is newer than this Noria", where=str(folder / MANIFEST))
    if manifest.model.file not in found.files:
        raise ServingError(f"the manifest does not cover {manifest.model.file!r}", where=str(folder))
    return Bundle(folder, found.digest, manifest)
