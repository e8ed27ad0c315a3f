"""A release on disk: read, and believed only when its signature and every file's digest verify."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from noria import names
from noria.adapters import weights
from noria.domain.release import Form
from noria.domain.signature import Signature
from noria.errors import ServingError

MANIFEST = "manifest.json"
SEAL = "manifest.sig"


class ModelFacts(msgspec.Struct, frozen=True):
    file: str
    runtime: str = "onnx"


class HostedFacts(msgspec.Struct, frozen=True):
    features: str | None = None  # "delays.features:build"
    paths: tuple[str, ...] = (".",)  # import paths inside code/
    batch: bool = False  # rows of several requests may be answered in one call: no row's answer depends on the others


class Manifest(msgspec.Struct, frozen=True):
    """The part of a manifest that serving reads; other keys are evidence for people."""

    format: int
    project: str
    form: Form
    signature: Signature
    model: ModelFacts
    files: dict[str, str]
    hosted: HostedFacts | None = None


@dataclass(frozen=True, slots=True)
class Bundle:
    """A verified release folder."""

    folder: Path
    digest: str  # of manifest.json: the release's identity
    manifest: Manifest

    @property
    def signature(self) -> Signature:
        return self.manifest.signature

    @property
    def form(self) -> Form:
        return self.manifest.form

    @property
    def model_path(self) -> Path:
        return self.folder / self.manifest.model.file

    @property
    def weights_digest(self) -> str | None:
        """Of the file beside a large model's graph that holds its weights; None when they are inside."""
        return self.manifest.files.get(self.manifest.model.file + weights.SUFFIX)

    @property
    def code_paths(self) -> tuple[Path, ...]:
        """Where the sealed source tree is imported from, in order."""
        paths = self.manifest.hosted.paths if self.manifest.hosted else ()
        return tuple((self.folder / "code" / p).resolve() for p in paths)


def public_key(state: Path) -> bytes:
    """The installation's 32-byte Ed25519 public key from ``signing.pub``. Raises ServingError."""
    path = state / "signing.pub"
    try:
        key = bytes.fromhex(path.read_text().strip())
    except (OSError, ValueError) as error:
        raise ServingError("the signing key cannot be read, so no release can be verified", where=str(path)) from error
    if len(key) != 32:
        raise ServingError(f"an Ed25519 public key has 32 bytes, not {len(key)}", where=str(path))
    return key


def open_bundle(folder: Path, public_key: bytes, digest: str | None = None) -> Bundle:
    """Verify a release folder: signature first, then every file. ``digest`` is the identity that the caller expects.

    Raises ServingError when anything is missing, changed, added, or signed by another key.
    """
    content = _verified_manifest(folder, public_key)
    found = names.digest_bytes(content)
    if digest is not None and digest != found:
        raise ServingError(f"this is release {names.short(found)}, not {names.short(digest)}", where=str(folder))
    try:
        manifest = msgspec.json.decode(content, type=Manifest)
    except msgspec.DecodeError as error:
        raise ServingError(f"the manifest is not understood: {error}", where=str(folder / MANIFEST)) from error
    if manifest.format != 1:
        raise ServingError(f"manifest format {manifest.format} is newer than this Noria", where=str(folder / MANIFEST))
    _verify_files(folder, manifest)
    return Bundle(folder, found, manifest)


def _verified_manifest(folder: Path, public_key: bytes) -> bytes:
    try:
        content = (folder / MANIFEST).read_bytes()
        seal = (folder / SEAL).read_bytes()
    except OSError as error:
        raise ServingError(f"the release is not whole: {error.strerror}: {error.filename}", where=str(folder)) from error
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(_raw_seal(seal), content)
    except (InvalidSignature, ValueError) as error:
        raise ServingError("the manifest's signature does not verify; the release is refused", where=str(folder)) from error
    return content


def _raw_seal(seal: bytes) -> bytes:
    """64 raw bytes; the same as hex text is read too."""
    return seal if len(seal) == 64 else bytes.fromhex(seal.decode("ascii").strip())


def _verify_files(folder: Path, manifest: Manifest) -> None:
    if manifest.model.file not in manifest.files:
        raise ServingError(f"the manifest does not cover {manifest.model.file!r}", where=str(folder))
    for name, digest in manifest.files.items():
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise ServingError(f"the manifest names a file outside the bundle: {name!r}", where=str(folder))
        try:
            found = names.digest_file(folder / name)
        except OSError as error:
            raise ServingError(f"{name} cannot be read: {error.strerror}", where=str(folder)) from error
        if found != digest:
            raise ServingError(f"{name} does not match its digest; the release is refused", where=str(folder))
    _refuse_extras(folder, manifest)


def _refuse_extras(folder: Path, manifest: Manifest) -> None:
    """Code that was added beside the sealed tree would be importable: refuse it. Bytecode caches are never read by a host."""
    for path in (folder / "code").rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name not in manifest.files and "__pycache__" not in path.parts:
            raise ServingError(f"{name} is not part of the release; the release is refused", where=str(folder))
