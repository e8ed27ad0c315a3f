"""By which version of its library a model was saved, as its file says: another one may load it otherwise, or not at all."""

from __future__ import annotations

import importlib.metadata
import json
import lzma
import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from noria.models.frameworks.file_kinds import open_unpacked

SKLEARN = "scikit-learn"
READ_MOST = 512 << 20  # bytes of a pickle that are searched
CHUNK = 1 << 20
OVERLAP = 64  # longer than what is searched for
_KEY = rb"_sklearn_version(?:\x94|q.|r.{4})?"
_VALUE = rb"(?:\x8c(?P<short>.)|X(?P<long>.{4})|U(?P<old>.)|\np?\d*\n?V)(?P<text>[0-9][0-9A-Za-z.+]{0,40})"
IN_PICKLE = re.compile(_KEY + _VALUE, re.DOTALL)


def versions(path: Path, kind: str) -> dict[str, str]:
    """Library -> version. Nothing is loaded; empty where the file does not say."""
    try:
        found = {"pickle": _of_pickle, "skops": _of_skops}[kind](path) if kind in ("pickle", "skops") else None
    except (OSError, EOFError, ValueError, TypeError, KeyError, RuntimeError, zlib.error, lzma.LZMAError, zipfile.BadZipFile):
        return {}
    return {SKLEARN: found} if found else {}


def differing(written: dict[str, str]) -> dict[str, str]:
    """Of the libraries that are installed in another version: the installed one."""
    found = {}
    for library, version in written.items():
        try:
            installed = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
        if installed != version:
            found[library] = installed
    return found


def sentence(written: dict[str, str], differs: dict[str, str]) -> str:
    """``it was saved by scikit-learn 1.2.2, and 1.9.1 is installed``."""
    return "; ".join(
        f"it was saved by {library} {written[library]}, and {installed} is installed" for library, installed in differs.items()
    )


def cure(written: dict[str, str], differs: dict[str, str]) -> str:
    """The command that installs what the file was saved by."""
    return "pip install " + " ".join(f"{library}=={written[library]}" for library in differs)


def _of_pickle(path: Path) -> str | None:
    """scikit-learn's estimators keep the version as ``_sklearn_version``; the opcode before the value tells its length."""
    for piece in _pieces(path):
        match = IN_PICKLE.search(piece)
        if match:
            length = match["short"] or match["old"] or match["long"]
            text = match["text"][: int.from_bytes(length, "little")] if length else match["text"]
            return text.decode()
    return None


def _pieces(path: Path) -> Iterator[bytes]:
    with open_unpacked(path) as file:
        kept, read = b"", 0
        while read < READ_MOST and (piece := file.read(CHUNK)):
            read += len(piece)
            yield kept + piece
            kept = piece[-OVERLAP:]


def _of_skops(path: Path) -> str | None:
    with zipfile.ZipFile(path) as archive:
        waiting: list[Any] = [json.loads(archive.read("schema.json"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            said = node.get("_sklearn_version")
            if isinstance(said, dict):
                return str(json.loads(said["content"]))
            waiting.extend(node.values())
        elif isinstance(node, list):
            waiting.extend(node)
    return None
