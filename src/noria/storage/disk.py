"""What the store asks of a disk: that a rename lasts, and that a full disk says so in words."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from noria.kernel import names
from noria.kernel.errors import DiskFullError, StoreError, UsageError

REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS}
UNWRITABLE = "Give this user the right to write there, or name another folder: NORIA_HOME=DIR, for `noria serve` --state DIR."
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}  # EFBIG: the process's own file-size limit


def state_folder(home: Path) -> Path:
    """Where everything of the project in ``home`` is kept: NORIA_HOME, or ``.noria`` in it. Raises UsageError."""
    chosen = os.environ.get("NORIA_HOME")
    try:
        folder = (Path(chosen).expanduser() if chosen else home / ".noria").resolve()
    except (RuntimeError, OSError, ValueError) as error:  # a user that is not there; links in a circle
        raise UsageError(f"NORIA_HOME must name a folder, got {chosen!r}: {error}") from None
    if os.path.lexists(folder) and not os.path.isdir(folder):
        name = "NORIA_HOME" if chosen else "the state folder"
        raise UsageError(f"{name} must name a folder, got {chosen or str(folder)!r}, which is a file")
    return folder


def sync_path(path: Path) -> None:
    """Make the bytes of a file, or the names in a folder, last through a loss of power."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_below(folder: Path) -> None:
    """Make everything in a folder last: files, and the names in it and in the folders below."""
    if sync_all(folder):
        return
    folders = {folder}
    for path, entry in contents(folder):
        folders.update((folder / path).parents)
        if not entry.is_symlink():
            sync_path(folder / path)
    for below in folders:
        if below.is_relative_to(folder):
            sync_path(below)


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


@contextmanager
def whole_file(
    path: Path, mode: int = 0o644, *, replace: bool = True, lasting: bool = True, aside: Path | None = None
) -> Iterator[BinaryIO]:
    """A file to write that appears under its name once it is written to its end, and on disk: before, and after a crash, the old
    one is there, or none. It has its ``mode`` (less the process's umask) from its first byte on.

    Without ``replace``, a file that is there stays: raises FileExistsError. Without ``lasting``, a loss of power may take it: for
    what means nothing after one. ``aside``: a folder of the same file system for the bytes until then, where nobody counts files.
    """
    fresh = (aside or path.parent) / f".{path.name}.{names.new_id('w')}"
    try:
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "wb") as file:
            yield file
            if lasting:
                file.flush()
                os.fsync(file.fileno())
        if replace:
            os.replace(fresh, path)
        else:
            os.link(fresh, path)
        if lasting:
            sync_path(path.parent)
    finally:
        fresh.unlink(missing_ok=True)


def write_whole(
    path: Path, content: bytes, mode: int = 0o644, *, replace: bool = True, lasting: bool = True, aside: Path | None = None
) -> None:
    """Write a small file, as ``whole_file``: the old content is there, or the new one, never a part of it."""
    with whole_file(path, mode, replace=replace, lasting=lasting, aside=aside) as file:
        file.write(content)


def sync_all(place: Path) -> bool:
    """Make everything last that was written to the file system of ``place``; False where the system cannot say whether it did."""
    call = _syncfs()
    if call is None:
        return False
    handle = os.open(place, os.O_RDONLY)
    try:
        if call(handle) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(place))
    finally:
        os.close(handle)
    return True


@functools.cache
def _syncfs() -> Callable[[int], int] | None:
    """syncfs(2), which Python does not offer. It tells of failed writes since Linux 5.8; before, each file is asked."""
    release = os.uname().release.split(".")
    modern = sys.platform == "linux" and (int(release[0]), int(release[1])) >= (5, 8)
    found: Callable[[int], int] | None = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None) if modern else None
    return found


def make_folder(folder: Path) -> None:
    """Make a folder, and make its name last; nothing when it is there."""
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        sync_path(folder.parent)


def make_state(folder: Path) -> None:
    """A state folder, for its owner alone. It protects itself: Git does not add what is in it, keys among that."""
    with writable(folder):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    own = folder / ".gitignore"  # a folder that cannot be written has it already, or is none of ours
    if not own.exists() and not any((folder / name).exists() for name in ("noria.yaml", ".git")):
        with contextlib.suppress(OSError), own.open("x") as file:
            file.write("*\n")


@contextmanager
def writable(where: Path) -> Iterator[None]:
    """Turn the operating system's refusal to write into words."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise disk_full("nothing was kept", where) from error
        raise unwritable(error, where) or error from error


def unwritable(error: BaseException, where: Path | None = None) -> StoreError | None:
    """What a person should read instead of a refusal to write; None for any other error."""
    if not isinstance(error, OSError) or error.errno not in REFUSED:
        return None
    place = error.filename if isinstance(error.filename, str) else str(where or "")
    return StoreError(f"cannot be written: {error.strerror}", where=place or None, hint=UNWRITABLE)


@contextmanager
def full_disk(where: Path) -> Iterator[None]:
    """Turn the operating system's "no space left" into DiskFullError."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise disk_full("nothing was kept", where) from error
        raise


def disk_full(consequence: str, where: Path) -> DiskFullError:
    return DiskFullError(
        f"the disk is full: {consequence}", where=str(where), hint="Free some space; nothing is half written. Then try again."
    )
