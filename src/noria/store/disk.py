"""What the store asks of a disk: that a rename lasts, and that a full disk says so in words."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from noria.errors import DiskFullError

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}  # EFBIG: the process's own file-size limit


def sync_folder(folder: Path) -> None:
    """Make names that were added to a folder last through a loss of power."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(folder: Path) -> None:
    """Make a folder, and make its name last; nothing when it is there."""
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        sync_folder(folder.parent)


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
