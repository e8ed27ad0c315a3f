"""The prediction log: what was answered, and what came back, in append-only segments (see segments.py), one writer each.

A record is handed to the operating system before `append` returns, so it survives the death of any process; it is synced to
the disk in groups (every 50 ms) or, with ``sync="each"``, before `append` returns.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from noria.kernel import logs, names
from noria.kernel.background import Background
from noria.kernel.errors import DiskFullError, StoreError
from noria.predictions.reader import LogReader, read_all
from noria.predictions.records import Feedback, Prediction, Predictions, Record, Written, frame
from noria.predictions.segments import MAGIC, recover
from noria.storage.disk import FULL, disk_full, full_disk, make_folder, sync_path

_log = logs.get_logger("noria.predictions")

__all__ = ["Feedback", "LogReader", "LogWriter", "Prediction", "Predictions", "Record", "frame", "read_all", "recover"]

GROUP_S = 0.05
SEGMENT_S = 6 * 3600.0  # a segment is finished at that age, so that it can be compacted and, once it is old, deleted
NO_SEGMENT = -1  # the handle while none could be made: the disk was full
SPARE = 3  # descriptors: what making a segment takes at once
LOOK_S = 1.0  # between two looks at the segment: whether it is old, or gone


class LogWriter:
    """The one writer of its segments; threads may share it."""

    def __init__(
        self,
        folder: Path,
        environment: str,
        *,
        sync: Literal["group", "each"] = "group",
        segment_bytes: int = 64 << 20,
        segment_s: float = SEGMENT_S,
        deleted: Callable[[], object] = lambda: None,
    ) -> None:
        self._folder = folder
        self._name = names.new_id(environment)
        self._each = sync == "each"
        self._deleted = deleted  # called when the segment in hand was deleted by somebody else
        self._limit = segment_bytes
        self._age_limit = segment_s
        self._number = -1
        self._lock = threading.Lock()
        self._dirty = threading.Event()
        self._closed = False
        self._spare: list[int] = []  # descriptors for the next segment, where others take all
        self._spoilt = False  # a part of a record could not be cut off again: nothing may follow it
        self._unsynced: OSError | None = None
        self._fd = NO_SEGMENT
        self._path = folder  # of the segment in hand
        self._size = 0
        self._begun = time.monotonic()
        self._put_spare_by()
        with contextlib.suppress(DiskFullError):  # the first append tries again, and says so
            with full_disk(folder):
                make_folder(folder)
            recover(folder)
            self._rotate()
        self._syncer = Background("log-sync", self._sync_group).start()

    def append(self, *records: Written) -> None:
        """Write all records at once, in one call of the operating system.

        Raises DiskFullError, and StoreError after a group sync failed (once for each failure); then none of them is in the log.
        """
        data = frame(records[0]) if len(records) == 1 else b"".join([frame(record) for record in records])
        with self._lock:
            self._ready(len(data))
            self._write(data)
        if not self._dirty.is_set():
            self._dirty.set()

    def _ready(self, size: int) -> None:
        """An open segment with room for ``size`` bytes."""
        if self._closed:
            raise StoreError("the prediction log is closed", where=str(self._folder))
        if self._unsynced is not None:
            failed, self._unsynced = self._unsynced, None
            raise StoreError("the disk did not keep records that were already written", where=str(self._folder)) from failed
        if self._fd == NO_SEGMENT or self._spoilt or (self._size + size > self._limit and self._size > len(MAGIC)):
            self._rotate()

    def _write(self, data: bytes) -> None:
        try:
            if os.write(self._fd, data) != len(data):
                raise OSError(errno.ENOSPC, "short write")
            if self._each:
                os.fdatasync(self._fd)
        except OSError as error:
            self._undo(error)
        self._size += len(data)

    def _undo(self, error: OSError) -> None:
        """Cut off what was written of records that do not fit, and say so."""
        try:
            os.ftruncate(self._fd, self._size)
        except OSError:
            self._spoilt = True
        if error.errno in FULL:
            raise disk_full("the record was not written", self._folder) from error
        raise error

    def _open(self) -> tuple[int, int]:
        """A new segment, locked; its handle and size. Nothing is left behind when the disk is full."""
        path = self._folder / f"{self._name}-{self._number:04d}.plog"
        with full_disk(self._folder):
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX)
                if os.write(handle, MAGIC) != len(MAGIC):
                    raise OSError(errno.ENOSPC, "short write")
                sync_path(self._folder)
            except OSError:
                os.close(handle)
                path.unlink()
                raise
        self._path = path
        return handle, len(MAGIC)

    def _open_somehow(self) -> tuple[int, int]:
        """A new segment, also where connections have taken all descriptors: some are kept for it."""
        try:
            return self._open()
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE) or not self._spare:
                raise
        while self._spare:
            os.close(self._spare.pop())
        try:
            return self._open()
        finally:
            self._put_spare_by()

    def _put_spare_by(self) -> None:
        with contextlib.suppress(OSError):  # none is left at present: tried again at the next segment
            while len(self._spare) < SPARE:
                self._spare.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))

    def _rotate(self) -> None:
        """Go on in a new segment; the old one stays in use when the new one cannot be made."""
        with full_disk(self._folder):
            make_folder(self._folder)
        self._number += 1
        made = self._open_somehow()
        self._finish()
        self._fd, self._size = made
        self._begun = time.monotonic()
        self._spoilt = False

    def _rotate_by_age(self) -> None:
        """Finish a segment that holds something for long enough; with no room for a new one it stays in use."""
        if self._size > len(MAGIC) and time.monotonic() - self._begun >= self._age_limit:
            with contextlib.suppress(OSError, StoreError):
                self._rotate()

    def _follow(self) -> None:
        """Go on in a new segment, in a folder that is made again, where somebody deleted the one in hand: what is written to that
        one is read by nobody. What was in it is not brought back: it may have been deleted on purpose."""
        if self._fd == NO_SEGMENT or self._closed:
            return
        path, lost = self._path, self._size - len(MAGIC)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.stat(path), os.fstat(self._fd)):
                return
        self._rotate()
        self._deleted()
        text = f"{path} was deleted with {lost:,} bytes of records: they are lost, the log goes on in {self._path.name}"
        _log.error(text, extra=logs.facts(file=str(path), lost_bytes=lost))

    def _finish(self) -> None:
        """Sync and close the segment; it is finished, and read-only, when it holds exactly what was written."""
        if self._fd == NO_SEGMENT:
            return
        try:
            os.fdatasync(self._fd)
            if os.fstat(self._fd).st_size == self._size:
                os.fchmod(self._fd, 0o400)
        except OSError as error:
            self._unsynced = error
        finally:
            os.close(self._fd)

    def _sync_group(self) -> float:
        """Sync what was written since the last time; the seconds to wait until the next."""
        self._dirty.wait(min(LOOK_S, self._age_limit))
        self._dirty.clear()
        try:
            self._sync_written()
        except BaseException:  # whatever it was: told by the thread
            self._dirty.set()  # tried again, though nothing more may be written
            raise
        return GROUP_S

    def _sync_written(self) -> None:
        with self._lock:
            self._follow()
            self._rotate_by_age()
            if self._closed or self._fd == NO_SEGMENT:
                return
            try:
                handle = os.dup(self._fd)  # synced outside the lock: appending goes on meanwhile
            except OSError:  # no descriptor is left: appending waits
                self._sync(self._fd)
                return
        try:
            self._sync(handle)
        finally:
            os.close(handle)

    def _sync(self, handle: int) -> None:
        try:
            os.fdatasync(handle)
        except OSError as error:
            self._unsynced = error  # the next append says so

    def close(self) -> None:
        """Sync and close; a second call does nothing."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._finish()
            while self._spare:
                os.close(self._spare.pop())
        self._syncer.stopping.set()
        self._dirty.set()
        self._syncer.stop()
