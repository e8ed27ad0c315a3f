"""What an exported release says of itself: release.json, the first member of its file.

The file is a tar with equal bytes for equal releases. Its first member names every other with its digest and size; the second is
the signature of the first, with the key that sealed the bundle. So nothing is believed before it is verified:

    release.json  release.sig
    bundle/       the sealed bundle: model, code (the commit's tree), evidence (environment record, parameters, measurements)
    snapshots/    the manifest of each dataset, by its digest
    blobs/        the files of those datasets, and what each step left in digests, by their digests
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from pathlib import PurePosixPath

import msgspec

from noria import __version__
from noria.kernel import names
from noria.kernel.errors import DataError, RefusedError
from noria.releases import signing
from noria.releases.release import Release
from noria.storage.archive import ArchiveMember
from noria.storage.file_names import safe_path
from noria.storage.listed_archive import LIST_MOST, RELEASE_HEAD, ExportFile, small

FORMAT = 1
FACTS, SEAL = RELEASE_HEAD, "release.sig"
SEAL_BYTES = 64
SMALL_MOST = 256 << 20  # bytes of a snapshot's manifest
KINDS = ("bundle", "snapshots", "blobs")  # in this order: what is small and tells most comes first
COMMIT = re.compile(r"[0-9a-f]{7,64}")


class LeftOutDataset(msgspec.Struct, frozen=True):
    """A dataset that was left out."""

    snapshot: str
    files: int
    size_bytes: int


class ExportFacts(msgspec.Struct, frozen=True):
    """release.json."""

    format: int
    noria: str  # the version that wrote it
    key: str  # the public key it is signed with, as hex
    release: Release
    pieces: dict[str, ExportFile]  # every other file, by its path
    snapshots: dict[str, str]  # dataset -> digest of its manifest; empty without data
    left_out: dict[str, LeftOutDataset] = {}
    lock: str = ""  # the commit's lock file, within bundle/code; empty where it has none
    sealed_with: str = ""  # the key of the bundle's own signature, where it is an older one of the same installation

    @property
    def sealed_by(self) -> str:
        """The public key that the bundle is sealed with, as hex."""
        return self.sealed_with or self.key

    @property
    def size_bytes(self) -> int:
        return sum(piece.size_bytes for piece in self.pieces.values())


def facts_of(members: Iterator[ArchiveMember], keys: Collection[str]) -> ExportFacts:
    """What an export says of itself, once its signature verified: with one of ``keys`` where any are named.

    Raises DataError, RefusedError.
    """
    otherwise = f"is not an export of a release: it does not begin with {FACTS} and {SEAL}"
    content, seal = small(members, FACTS, LIST_MOST, otherwise), small(members, SEAL, SEAL_BYTES, otherwise)
    try:
        facts = msgspec.json.decode(content, type=ExportFacts)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{FACTS} is not the beginning of an export: {error}") from error
    if not signing.verify(facts.key, content, seal):
        raise RefusedError(f"its signature is not of its {FACTS}: it was changed, or never signed")
    if keys and facts.key not in keys:
        raise RefusedError(
            f"it is signed with the key {facts.key}, not with {' or '.join(keys)}",
            hint="Ask the sender for their public key (.noria/signing.pub).",
        )
    _check(facts)
    return facts


def _check(facts: ExportFacts) -> None:
    """What becomes a path or a name is one."""
    if facts.format != FORMAT:
        raise DataError(f"is of format {facts.format}, this Noria ({__version__}) reads {FORMAT}", hint="Use a newer Noria.")
    release = facts.release
    sealed = facts.pieces.get("bundle/manifest.json")
    wrong = [
        not names.is_name(release.project),
        names.VERSION.fullmatch(release.version) is None,
        names.DIGEST.fullmatch(release.digest) is None,
        not (release.imported and release.commit is None) and COMMIT.fullmatch(release.commit or "") is None,
        sealed is None or sealed.digest != release.digest,
    ]
    if any(wrong):
        raise DataError(f"{FACTS} does not describe a release")
    folders = {str(parent) for name in facts.pieces for parent in PurePosixPath(name).parents}
    for name, piece in facts.pieces.items():
        kind, _, rest = safe_path(name).partition("/")
        misnamed = kind == "blobs" and rest != piece.digest
        if kind not in KINDS or not rest or piece.size_bytes < 0 or misnamed or name in folders:
            raise DataError(f"names a file that cannot be in an export: {name!r}")
        if kind == "snapshots" and piece.size_bytes > SMALL_MOST:
            raise DataError(f"{name} has {piece.size_bytes:,} bytes: more than the manifest of a dataset")
