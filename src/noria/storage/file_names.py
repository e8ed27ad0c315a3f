"""Names of files that travel between machines: UTF-8, relative, and of a length that every file system takes."""

from __future__ import annotations

from pathlib import PurePosixPath

from noria.kernel.errors import DataError

PATH_MOST, PART_MOST = 4096, 255  # bytes


def is_text(name: str) -> bool:
    """Whether a name is UTF-8; one that is not comes from the file system with surrogates in it."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def safe_path(name: str) -> str:
    """The name, a path that stays inside the folder it is laid under. Raises DataError."""
    if not is_text(name):
        raise DataError(f"holds a file whose name is not UTF-8: {name[:200]!r}")
    parts = name.split("/")
    too_long = len(name.encode()) > PATH_MOST or any(len(part.encode()) > PART_MOST for part in parts)
    odd = "\0" in name or "\\" in name or any(part in ("", ".", "..") for part in parts)
    if odd or too_long or PurePosixPath(name).is_absolute():
        raise DataError(f"holds a file whose name leaves the folder, or cannot be one: {name[:200]!r}")
    return name
