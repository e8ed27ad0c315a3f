"""What the store asks of a disk: that a rename lasts, and that a full disk says so in words."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from noria.kernel import names
from noria.kernel.errors import DiskFullError, NoriaError, StoreError, UsageError

REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS}
UNWRITABLE = "Give this user the right to write there, or name another folder: NORIA_HOME=DIR, for `noria serve` --state DIR."
SHOWN = 40  # letters of a file's name in the name of its unfinished self: a file system takes at most 255 bytes
UNFINISHED = re.compile(r"\..+\.w-[0-9a-f]{12}-[0-9a-f]{8}")
RUST = re.compile(r"\(os error (\d+)\)")
LEDGER = "ledger.db"  # what a state folder that is in use has
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}  # EFBIG: the process's own file-size limit


def state_folder(home: Path) -> Path:
    """Where everything of the project in ``home`` is kept: NORIA_HOME, or ``.noria``, each from there. Raises UsageError."""
    chosen = os.environ.get("NORIA_HOME")
    try:
        said = Path(chosen or ".noria").expanduser()
        folder = (home / said).resolve()
        if chosen and os.path.exists(said / LEDGER) and not os.path.exists(folder / LEDGER):
            folder = said.resolve()  # of an earlier version, by which a relative one began where a command was called
    except (RuntimeError, OSError, ValueError) as error:  # a user that is not there; links in a circle
        raise UsageError(f"NORIA_HOME must name a folder, got {chosen!r}: {error}") from None
    if os.path.lexists(folder) and not os.path.isdir(folder):
        name = "NORIA_HOME" if chosen else "the state folder"
        raise UsageError(f"{name} must name a folder, got {chosen or str(folder)!r}, which is a file")
    return folder


def fix_state_folder(home: Path) -> None:
    """From here on NORIA_HOME is absolute, as for what this process starts: a step runs in another folder. Raises UsageError."""
    if os.environ.get("NORIA_HOME"):
        os.environ.update(NORIA_HOME=str(state_folder(home)))


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
    path: Path, mode: int = 0o644, *, replace: bool = True, fleeting: str = "", aside: Path | None = None
) -> Iterator[BinaryIO]:
    """A file to write that appears under its name once it is written to its end, and on disk: before, and after a crash, the old
    one is there, or none. It has its ``mode`` (less the process's umask) from its first byte on.

    Without ``replace``, a file that is there stays: raises FileExistsError. ``fleeting``: why a loss of power may take it; then
    nothing waits for the disk. ``aside``: a folder of the same file system for the bytes until then, where nobody counts files.

    Raises DiskFullError, and StoreError when the place cannot be written.
    """
    with full_disk(path):
        with _in_words(path):
            fresh, handle = _begin(aside or path.parent, path.name, mode)
        try:
            with open(handle, "wb") as file:  # and locked until it has its name
                yield file
                with _in_words(path):
                    file.flush()
                    if not fleeting:
                        os.fsync(handle)
                    os.replace(fresh, path) if replace else os.link(fresh, path)
                    if not fleeting:
                        sync_path(path.parent)
        finally:
            _forget(fresh)


def write_whole(
    path: Path, content: bytes, mode: int = 0o644, *, replace: bool = True, fleeting: str = "", aside: Path | None = None
) -> None:
    """Write a small file, as ``whole_file``: the old content is there, or the new one, never a part of it."""
    with whole_file(path, mode, replace=replace, fleeting=fleeting, aside=aside) as file:
        file.write(content)


@contextmanager
def whole_path(path: Path, mode: int | None = None) -> Iterator[Path]:
    """A name for a file that a library writes by its name, made with its ``mode``; without a mode, for a link, not made yet. It
    appears as ``path`` once it is written. A loss of power may take it: for what can be made again.

    Raises DiskFullError, and StoreError when the place cannot be written.
    """
    fresh = path.with_name(f".{path.name[:SHOWN]}.{names.new_id('p')}")
    with full_disk(path):
        try:
            with _in_words(path):
                if mode is not None:
                    fresh.touch(mode, exist_ok=False)
            yield fresh
            with _in_words(path):
                os.replace(fresh, path)
        finally:
            _forget(fresh)


def clear_unfinished(*folders: Path) -> None:
    """Remove what killed writers of ``whole_file`` left in folders. Whose writer lives is locked by it, and stays."""
    for folder in folders:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            for name in filter(UNFINISHED.fullmatch, os.listdir(folder)):
                with contextlib.suppress(OSError):  # it is locked, has its name by now, or is not ours
                    handle = os.open(folder / name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
                    try:
                        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        os.unlink(folder / name)
                    finally:
                        os.close(handle)


def _begin(folder: Path, name: str, mode: int) -> tuple[Path, int]:
    """A new file of a name that no other writer takes, locked: who clears the folder leaves it alone."""
    while True:
        fresh = folder / f".{name[:SHOWN]}.{names.new_id('w')}"
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with contextlib.suppress(OSError):  # a file system without locks: nobody clears there
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:
            return fresh, handle
        os.close(handle)  # cleared between the two calls


def _forget(fresh: Path) -> None:
    with contextlib.suppress(OSError):  # it has its name by now; or the folder cannot be written, which was said
        fresh.unlink()


@contextmanager
def _in_words(path: Path) -> Iterator[None]:
    """Turn the refusal to make a file, or to give it its name, into StoreError; a full disk, and a file that is there, pass."""
    try:
        yield
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno in FULL:
            raise
        why, hint = error.strerror, "Look at the disk and the folder, then try again."
        if error.errno in REFUSED:
            hint = UNWRITABLE
        elif error.errno == errno.EISDIR:
            why, hint = "a folder has this name", "Move it away, or choose another name."
        elif error.errno in (errno.ENOENT, errno.ENOTDIR):
            why, hint = f"there is no folder {path.parent}", "Make it, or choose another place."
        elif error.errno == errno.ENAMETOOLONG:
            hint = "Choose a shorter one."
        raise StoreError(f"cannot be written: {why}", where=str(path), hint=hint) from error


def sync_all(place: Path) -> bool:
    """Make everything last that was written to the file system of ``place``; False where the system cannot say whether it did."""
    call = _syncfs()
    if call is None:
        return False
    handle = os.open(place, os.O_RDONLY)
    try:
        number = call(handle)
        if number != 0:
            raise OSError(number, os.strerror(number), str(place))
    finally:
        os.close(handle)
    return True


@functools.cache
def _syncfs() -> Callable[[int], int] | None:
    """syncfs(2), which Python does not offer, as a function that returns the error's number, or 0.

    It tells of failed writes since Linux 5.8; before, each file is asked.
    """
    release = os.uname().release.split(".")
    if sys.platform != "linux" or (int(release[0]), int(release[1])) < (5, 8):
        return None
    import ctypes  # 2 ms to load, and most commands write no data

    call: Callable[[int], int] | None = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    return None if call is None else lambda handle: 0 if call(handle) == 0 else ctypes.get_errno()


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
    """Turn the operating system's "no space left" into DiskFullError, also where a library tells of it as an error of its own."""
    try:
        yield
    except Exception as error:  # whatever it is, it goes on, as what it is or in other words
        if _system_error(error) in FULL:
            raise disk_full("nothing was kept", where) from error
        raise


def _system_error(error: Exception) -> int | None:
    """The operating system's number of an error; libraries in Rust, Polars among them, have it in their text alone."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    found = None if isinstance(error, NoriaError) else RUST.search(str(error))
    return int(found[1]) if found else None


def disk_full(consequence: str, where: Path) -> DiskFullError:
    return DiskFullError(
        f"the disk is full: {consequence}", where=str(where), hint="Free some space; nothing is half written. Then try again."
    )
