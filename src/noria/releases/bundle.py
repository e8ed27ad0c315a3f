"""The bundle of a release: its one manifest, its one reader, its one writer.

Control plane and data plane both open a bundle here, before anything of it runs: signed, whole, and nothing in it that was not
sealed. A file that was added is as bad as one that was changed, since code may import it; a link would let bytes from elsewhere
pass for the sealed ones.

    manifest.json  manifest.sig    what the bundle holds (``files``: path -> digest; ``links``: path -> target), signed
    erased.json                    only after an erasure: which of the files are gone on purpose, signed inside

The model server imports this module, and nothing else of the releases but their record and the signing key.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from noria.kernel import names
from noria.kernel.errors import StoreError
from noria.kernel.judge_links import judge_links
from noria.kernel.pins import Pins
from noria.models import weights
from noria.models.signature import Signature
from noria.releases import signing
from noria.releases.release import Release, ServedForm
from noria.storage.disk import contents, write_whole

FORMAT = 1
MANIFEST, SEAL = "manifest.json", "manifest.sig"
ERASED = "erased.json"
OWN = frozenset({MANIFEST, SEAL, ERASED})  # they cannot list themselves
CODE = "code"
DAMAGED = "Restore the folder from a backup, or roll back."


class ModelFacts(msgspec.Struct, frozen=True):
    file: str
    runtime: str = "onnx"


class HostedFacts(msgspec.Struct, frozen=True):
    features: str | None = None  # "delays.features:build"
    paths: tuple[str, ...] = (".",)  # import paths inside code/
    frames: dict[str, str] = {}  # the kinds of table that features and model take: see models.python_model.TableKinds
    batch: bool = False  # rows of several requests may be answered in one call: no row's answer depends on the others


class FurtherTable(msgspec.Struct, frozen=True):
    """A table that the model needs to predict: its Parquet file in the bundle, and what it was made of."""

    file: str
    digest: str  # of the dataset's snapshot, or of the step's result


class ImportedFrom(msgspec.Struct, frozen=True):
    """The file that an imported release was made of."""

    file: str
    sha256: str


class Manifest(msgspec.Struct, frozen=True, omit_defaults=True):
    """manifest.json. Fields that this Noria does not know are left alone; what the release was measured by lies in evidence/.

    ``run``, ``pins`` and ``files`` are there once it is sealed.
    """

    format: int
    project: str
    form: ServedForm
    signature: Signature
    model: ModelFacts
    hosted: HostedFacts | None = None
    run: str = ""
    pins: Pins | None = None
    files: dict[str, str] = {}
    links: dict[str, str] = {}
    origin: ImportedFrom | None = None
    also: dict[str, FurtherTable] = {}  # by the name of the argument
    feature_params: dict[str, Any] = {}  # what `features` gets by name besides

    @property
    def features(self) -> str | None:
        return self.hosted.features if self.hosted is not None else None

    @property
    def frames(self) -> dict[str, str]:
        return self.hosted.frames if self.hosted is not None else {}


class ErasureNote(msgspec.Struct, frozen=True):
    """erased.json. ``release``: the digest of the manifest that it is about; ``signature``: of ``said``, as hex."""

    release: str
    files: tuple[str, ...]
    signature: str = ""

    @property
    def said(self) -> bytes:
        return msgspec.json.encode([ERASED, self.release, self.files])


class Bundle(msgspec.Struct, frozen=True):
    """A bundle that is whole. ``digest`` is that of its manifest: the release's identity."""

    folder: Path
    digest: str
    manifest: Manifest
    key: str = ""  # that it is sealed with, as hex
    erased: tuple[str, ...] = ()

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

    @property
    def files(self) -> dict[str, str]:
        """Path -> digest of all but those that were erased."""
        return {name: digest for name, digest in self.manifest.files.items() if name not in self.erased}

    @property
    def links(self) -> dict[str, str]:
        return self.manifest.links

    @property
    def pins(self) -> Pins:
        """What the release was made of. Raises StoreError where the manifest does not say."""
        if self.manifest.pins is None:
            raise _bad(self.folder, "its manifest does not say what the release was made of")
        return self.manifest.pins


# --- reading


def open_bundle(folder: Path, keys: Sequence[str], digest: str | None = None) -> Bundle:
    """Read everything in a bundle that must be sealed with one of ``keys`` (hex), and be the release ``digest`` if one is named.

    Raises StoreError, which says what is missing, was changed, was added, is a link, or is not signed.
    """
    content, key = _read_signed_manifest(folder, keys)
    found = _check_digest(folder, content, digest)
    manifest = _manifest(folder, content)
    _demand_sealed(folder, manifest)
    erased = _erased_files(folder, keys, found)
    _demand_nothing_else(folder, manifest)
    for name, known in manifest.files.items():
        if name in erased and not os.path.lexists(folder / name):
            continue
        try:
            same = names.digest_file(folder / name) == known
        except OSError as error:
            raise _bad(folder, f"{name} is missing or cannot be read: {error.strerror}") from error
        if not same:
            raise _bad(folder, f"{name} was changed: it does not match its digest")
    return Bundle(folder, found, manifest, key, erased)


def open_release(folder: Path, release: Release, keys: Sequence[str]) -> Bundle:
    """As ``open_bundle``, of the bundle of a release. Raises StoreError, which names the release."""
    try:
        return open_bundle(folder, keys, release.digest)
    except StoreError as error:
        raise StoreError(f"{release.version} is damaged: {error.message}", where=str(folder), hint=DAMAGED) from error


def stored_bundle(state: Path, release: Release) -> Bundle:
    """As ``open_release``, of a release of this state folder, sealed with a key of its own."""
    return open_release(state / signing.RELEASES / release.digest, release, signing.known_keys(state))


def read_manifest(folder: Path, digest: str | None = None) -> Manifest:
    """What a manifest says, for who runs nothing of the bundle: no signature and no file is read.
    With ``digest`` it is the manifest of that release, whose digest the ledger vouches for; one that is not sealed yet has none.

    Raises StoreError when it cannot be read, or is another one's.
    """
    try:
        content = _bytes(folder / MANIFEST)
    except OSError as error:
        raise _bad(folder, f"the release is incomplete: {MANIFEST} cannot be read: {error.strerror}") from error
    _check_digest(folder, content, digest)
    return _manifest(folder, content)


def _check_digest(folder: Path, content: bytes, digest: str | None) -> str:
    found = names.digest_bytes(content)
    if digest is not None and found != digest:
        raise _bad(folder, f"its manifest is that of release {names.short(found)}, not of {names.short(digest)}")
    return found


def _manifest(folder: Path, content: bytes) -> Manifest:
    try:
        manifest = msgspec.json.decode(content, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _bad(folder, f"its manifest cannot be read: {error}") from error
    if manifest.format != FORMAT:
        raise _bad(folder, f"its manifest is of format {manifest.format}, this Noria reads {FORMAT}")
    return manifest


def _demand_sealed(folder: Path, manifest: Manifest) -> None:
    """What the manifest names lies in the bundle, and the model is among it."""
    for name in manifest.files:
        if name in OWN or any(part in ("", ".", "..") for part in name.split("/")) or "\0" in name:
            raise _bad(folder, f"the manifest names a file outside the bundle: {name!r}")
    if manifest.model.file not in manifest.files:
        raise _bad(folder, f"the manifest does not cover {manifest.model.file!r}")
    for table in manifest.also.values():
        if table.file not in manifest.files:
            raise _bad(folder, f"the manifest does not cover {table.file!r}")
    _demand_inside(folder, manifest.links)


def _demand_inside(folder: Path, links: Mapping[str, str]) -> None:
    """Links stand in the code, and lead to the code."""
    for path in links:
        if not path.startswith(f"{CODE}/") or any(part in ("", ".", "..") for part in path.split("/")) or "\0" in path:
            raise _bad(folder, f"the manifest names a link outside the code: {path!r}")
    bad = judge_links({path.removeprefix(f"{CODE}/"): target for path, target in links.items()})
    for path, why in bad.items():
        raise _bad(folder, f"{CODE}/{path} is a link that {why}")


def _demand_nothing_else(folder: Path, manifest: Manifest) -> None:
    """Nothing is there that was not sealed; what is there is a file, or a link that was sealed as one."""
    files, links = {*manifest.files, *OWN}, dict(manifest.links)
    for path, entry in contents(folder):
        if entry.is_symlink():
            if links.pop(path, None) != os.readlink(folder / path):
                raise _bad(folder, f"{path} is a link and was not sealed as one")
        elif path not in files:
            raise _bad(folder, f"{path} is not part of the release: it was added")
        elif not stat.S_ISREG(entry.stat(follow_symlinks=False).st_mode):
            raise _bad(folder, f"{path} is not a regular file")
    for path in links:
        raise _bad(folder, f"the link {path} is missing or was changed")


def _read_signed_manifest(folder: Path, keys: Sequence[str]) -> tuple[bytes, str]:
    """The bytes of the manifest, and which key signed them."""
    try:
        content, signature = _bytes(folder / MANIFEST), _bytes(folder / SEAL)
    except OSError as error:
        what = Path(error.filename or MANIFEST).name
        raise _bad(folder, f"the release is incomplete: {what} cannot be read: {error.strerror}") from error
    if len(signature) != signing.SIGNATURE_BYTES:  # as hex text
        signature = _unhex(signature)
    for key in keys:
        if signing.verify(key, content, signature):
            return content, key
    raise _bad(folder, f"the signature of its {MANIFEST} does not verify: it is not the one that was sealed")


def _bytes(path: Path) -> bytes:
    """The bytes of a regular file. Raises OSError, for a link too."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        return file.read()


def _unhex(text: bytes) -> bytes:
    try:
        return bytes.fromhex(text.decode("ascii").strip())
    except ValueError:
        return b""


def _erased_files(folder: Path, keys: Sequence[str], digest: str) -> tuple[str, ...]:
    """The files that an erasure took, by a signed word; none where there is no such word."""
    if not os.path.lexists(folder / ERASED):
        return ()
    try:
        told = msgspec.json.decode(_bytes(folder / ERASED), type=ErasureNote)
    except (OSError, msgspec.DecodeError) as error:
        raise _bad(folder, f"its {ERASED} cannot be read: {error}") from error
    if told.release != digest or not any(signing.verify(key, told.said, _unhex(told.signature.encode())) for key in keys):
        raise _bad(folder, f"its {ERASED} is not what was signed for it")
    return told.files


def _bad(folder: Path, what: str) -> StoreError:
    return StoreError(what, where=str(folder))


# --- writing


def complete_manifest(folder: Path, manifest: Manifest) -> Manifest:
    """The manifest with all that is in a folder but the manifest itself."""
    files, links = {}, {}
    for path, entry in sorted(contents(folder)):
        if entry.is_symlink():
            links[path] = os.readlink(folder / path)
        elif path not in OWN:
            files[path] = names.digest_file(folder / path)
    return replace(manifest, files=files, links=links)


def write_manifest(folder: Path, manifest: Manifest) -> bytes:
    """Write it down, not signed yet; its bytes, the same for equal manifests."""
    content = msgspec.json.format(msgspec.json.encode(manifest, order="sorted"), indent=1)
    (folder / MANIFEST).write_bytes(content)
    return content


def seal(folder: Path, state: Path, manifest: Manifest) -> str:
    """Write and sign the manifest of a bundle; the release's digest."""
    content = write_manifest(folder, manifest)
    (folder / SEAL).write_bytes(signing.sign(state, content))
    return names.digest_bytes(content)


def erase(folder: Path, state: Path, files: Sequence[str]) -> None:
    """Take files out of a bundle; it is whole without them. Interrupted, it is whole too, and done by doing it again."""
    digest = names.digest_bytes(_bytes(folder / MANIFEST))
    before = _erased_files(folder, signing.known_keys(state), digest)
    told = ErasureNote(digest, tuple(sorted({*before, *files})))
    told = replace(told, signature=signing.sign(state, told.said).hex())
    write_whole(folder / ERASED, msgspec.json.encode(told), aside=folder.parent)  # a kill adds nothing to the bundle
    for name in files:
        (folder / name).unlink(missing_ok=True)


def make_links(folder: Path) -> None:
    """Make the links that the manifest of a bundle lists, whose files are laid out.

    Raises StoreError for one that would leave the code, and where the manifest cannot be read.
    """
    links = read_manifest(folder).links
    _demand_inside(folder, links)
    for path, target in links.items():
        place = folder / path
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(target)
        except OSError as error:
            raise _bad(folder, f"the link {path} cannot be made: {error.strerror}") from error


def lay_out_code(folder: Path, place: Path) -> None:
    """Make ``place`` a copy of a bundle's code to work in: what code leaves beside itself makes the bundle no less whole."""
    shutil.copytree(folder / CODE, place, symlinks=True)
