"""The one verifier of a release's bundle: signed, whole, and nothing in it that was not sealed.

Control plane and data plane both ask it before anything of a bundle runs. A file that was added is as bad as one that was
changed, since code may import it; a link would let bytes from elsewhere pass for the sealed ones.

    manifest.json  manifest.sig    what the bundle holds (``files``: path -> digest; ``links``: path -> target), signed
    erased.json                    only after an erasure: which of the files are gone on purpose, signed inside
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from noria.kernel import names
from noria.kernel.errors import StoreError
from noria.releases import signing
from noria.releases.judge_links import judge_links

MANIFEST, SEAL = "manifest.json", "manifest.sig"
ERASED = "erased.json"
OWN = frozenset({MANIFEST, SEAL, ERASED})  # they cannot list themselves
CODE = "code"


class BundleListing(msgspec.Struct, frozen=True):
    """The part of a manifest that says what the bundle holds."""

    files: dict[str, str]
    links: dict[str, str] = {}


class ErasureNote(msgspec.Struct, frozen=True):
    """erased.json. ``release``: the digest of the manifest that it is about; ``signature``: of ``said``, as hex."""

    release: str
    files: tuple[str, ...]
    signature: str = ""

    @property
    def said(self) -> bytes:
        return msgspec.json.encode([ERASED, self.release, self.files])


class VerifiedBundle(msgspec.Struct, frozen=True):
    """A bundle that is whole. ``content`` is that of the manifest, ``digest`` the release's identity."""

    digest: str
    content: bytes
    key: str  # that it is sealed with, as hex
    files: dict[str, str]  # without those that were erased
    links: dict[str, str]
    erased: tuple[str, ...] = ()


def verify(folder: Path, keys: Sequence[str], digest: str | None = None) -> VerifiedBundle:
    """Read everything in a bundle that must be sealed with one of ``keys`` (hex), and be the release ``digest`` if one is named.

    Raises StoreError, which says what is missing, was changed, was added, is a link, or is not signed.
    """
    content, key = _signed(folder, keys, MANIFEST, SEAL)
    found = names.digest_bytes(content)
    if digest is not None and found != digest:
        raise _bad(folder, f"its manifest is that of release {names.short(found)}, not of {names.short(digest)}")
    listed = _listed(folder, content)
    erased = _erased(folder, keys, found)
    kept = {name: known for name, known in listed.files.items() if name not in erased}
    _only(folder, listed)
    for name, known in listed.files.items():
        if name not in kept and not os.path.lexists(folder / name):
            continue
        try:
            same = names.digest_file(folder / name) == known
        except OSError as error:
            raise _bad(folder, f"{name} is missing or cannot be read: {error.strerror}") from error
        if not same:
            raise _bad(folder, f"{name} was changed: it does not match its digest")
    return VerifiedBundle(found, content, key, kept, listed.links, erased)


def make_links(folder: Path, links: Mapping[str, str]) -> None:
    """Make the links of a bundle whose files are laid out. Raises StoreError for one that would leave the code."""
    _inside(folder, links)
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


def links_of(content: bytes) -> dict[str, str]:
    """The links that a manifest lists; none when it cannot be read."""
    try:
        return msgspec.json.decode(content, type=BundleListing).links
    except msgspec.DecodeError:
        return {}


def contents(folder: Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Every file, link and other thing below a folder that is no folder itself, by its path there. No link is followed."""
    waiting = [""]
    while waiting:
        below = waiting.pop()
        with os.scandir(folder / below) as entries:
            for entry in entries:
                path = f"{below}{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(f"{path}/")
                else:
                    yield path, entry


def listing(folder: Path) -> dict[str, dict[str, str]]:
    """What the manifest says the bundle holds: all that is in it but the manifest itself."""
    files, links = {}, {}
    for path, entry in sorted(contents(folder)):
        if entry.is_symlink():
            links[path] = os.readlink(folder / path)
        elif path not in OWN:
            files[path] = names.digest_file(folder / path)
    return {"files": files, **({"links": links} if links else {})}


def _signed(folder: Path, keys: Sequence[str], name: str, seal: str) -> tuple[bytes, str]:
    """The bytes of a file, and which key signed them."""
    try:
        content, signature = _bytes(folder / name), _bytes(folder / seal)
    except OSError as error:
        what = Path(error.filename or name).name
        raise _bad(folder, f"the release is not whole: {what} cannot be read: {error.strerror}") from error
    if len(signature) != signing.SIGNATURE_BYTES:  # as hex text
        signature = _unhex(signature)
    for key in keys:
        if signing.verify(key, content, signature):
            return content, key
    raise _bad(folder, f"the signature of its {name} does not verify: it is not the one that was sealed")


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


def _listed(folder: Path, content: bytes) -> BundleListing:
    try:
        listed = msgspec.json.decode(content, type=BundleListing)
    except msgspec.DecodeError as error:
        raise _bad(folder, f"its manifest is not understood: {error}") from error
    for name in listed.files:
        if name in OWN or any(part in ("", ".", "..") for part in name.split("/")) or "\0" in name:
            raise _bad(folder, f"the manifest names a file outside the bundle: {name!r}")
    _inside(folder, listed.links)
    return listed


def _inside(folder: Path, links: Mapping[str, str]) -> None:
    """Links stand in the code, and lead to the code."""
    for path in links:
        if not path.startswith(f"{CODE}/") or any(part in ("", ".", "..") for part in path.split("/")) or "\0" in path:
            raise _bad(folder, f"the manifest names a link outside the code: {path!r}")
    bad = judge_links({path.removeprefix(f"{CODE}/"): target for path, target in links.items()})
    for path, why in bad.items():
        raise _bad(folder, f"{CODE}/{path} is a link that {why}")


def _erased(folder: Path, keys: Sequence[str], digest: str) -> tuple[str, ...]:
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


def erase(folder: Path, state: Path, files: Sequence[str]) -> None:
    """Take files out of a bundle; it is whole without them. Interrupted, it is whole too, and done by doing it again."""
    content = _bytes(folder / MANIFEST)
    before = _erased(folder, signing.known_keys(state), names.digest_bytes(content))
    told = ErasureNote(names.digest_bytes(content), tuple(sorted({*before, *files})))
    told = msgspec.structs.replace(told, signature=signing.sign(state, told.said).hex())
    fresh = folder.with_name(f".{folder.name}.{names.new_id('e')}")
    with fresh.open("xb") as file:
        file.write(msgspec.json.encode(told))
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(folder / ERASED)
    for name in files:
        (folder / name).unlink(missing_ok=True)


def _only(folder: Path, listed: BundleListing) -> None:
    """Nothing is there that was not sealed; what is there is a file, or a link that was sealed as one."""
    files, links = {*listed.files, *OWN}, dict(listed.links)
    for path, entry in contents(folder):
        if entry.is_symlink():
            if links.pop(path, None) != os.readlink(folder / path):
                raise _bad(folder, f"{path} is a link and was not sealed as one")
        elif path not in files:
            raise _bad(folder, f"{path} is not part of the release: it was added")
        elif not stat.S_ISREG(entry.stat(follow_symlinks=False).st_mode):
            raise _bad(folder, f"{path} is no regular file")
    for path in links:
        raise _bad(folder, f"the link {path} is missing or was changed")


def _bad(folder: Path, what: str) -> StoreError:
    return StoreError(what, where=str(folder))


def facts(verified: VerifiedBundle) -> dict[str, Any]:
    """The whole manifest."""
    found: dict[str, Any] = msgspec.json.decode(verified.content)
    return found
