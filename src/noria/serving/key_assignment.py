"""Assigns keys to releases in a rollout, and remembers which keys were counted: requests of one key are not independent evidence.

A key falls into one of 65,536 buckets by a keyed hash; a bucket belongs to the candidate from some share on, and stays its own as
the share grows. What is randomised is the bucket, so each is counted once in a rollout: by the first request of any of its keys.
Workers share the marks in a memory-mapped file, without a lock: two that meet in the same microsecond may count a bucket twice.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from hashlib import blake2b
from pathlib import Path

from noria.kernel import logs
from noria.kernel.errors import NoriaError
from noria.storage.disk import full_disk, whole_file

_log = logs.get_logger("noria.serving")

BUCKETS = 65_536
HEAD_BYTES = 32  # a hash of the rollout's id
SIZE_BYTES = HEAD_BYTES + BUCKETS  # a byte for each bucket: a bit could be lost when two workers change one byte


def bucket(rollout_id: str, key: str) -> int:
    """Where a key falls, in [0, 65536): the same in every worker and at every step of a rollout, another in another rollout."""
    return int.from_bytes(blake2b(key.encode(), digest_size=2, key=_name(rollout_id)).digest(), "little")


class CountedBuckets:
    """The buckets that were counted in one rollout."""

    def __init__(self, cells: memoryview | bytearray) -> None:
        self._cells = cells

    def first(self, bucket: int) -> bool:
        """Whether nothing of a bucket was counted before; from now on it is."""
        if self._cells[HEAD_BYTES + bucket]:
            return False
        self._cells[HEAD_BYTES + bucket] = 1
        return True


def seen_path(state: Path, environment: str, project: str) -> Path:
    """``.noria/serving/production.delays.seen``."""
    return state / "serving" / f"{environment}.{project}.seen"


def open_seen(path: Path, rollout_id: str) -> CountedBuckets:
    """The marks of a rollout, begun anew when the file is another's; workers that still hold that one keep it to themselves.

    Without room on the disk, marks of this process alone: then each worker may count a bucket once.
    """
    try:
        with full_disk(path.parent):
            return CountedBuckets(_map_file(path, _name(rollout_id)))
    except OSError as error:
        reason = error.strerror
    except NoriaError as error:
        reason = error.message
    _log.warning(f"counted keys are remembered by each worker alone: {reason}", extra=logs.facts(rollout=rollout_id))
    return CountedBuckets(bytearray(SIZE_BYTES))


def _map_file(path: Path, name: bytes) -> memoryview:
    """Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)  # of several workers one begins the file
        if not _is(path, name):
            _begin(path, name)
        with path.open("r+b") as file:
            return memoryview(mmap.mmap(file.fileno(), SIZE_BYTES))
    finally:
        os.close(folder)


def _is(path: Path, name: bytes) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(HEAD_BYTES) == name and os.fstat(file.fileno()).st_size == SIZE_BYTES
    except FileNotFoundError:
        return False


def _begin(path: Path, name: bytes) -> None:
    """A new file in the old one's place, whole and with all of its blocks: a write into a mapped hole could end the process."""
    with whole_file(path, 0o600, fleeting="the marks in it are not synced either") as file:
        os.posix_fallocate(file.fileno(), 0, SIZE_BYTES)
        file.write(name)


def _name(rollout_id: str) -> bytes:
    return blake2b(rollout_id.encode(), digest_size=HEAD_BYTES).digest()
