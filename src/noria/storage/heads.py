"""The signed head: which event is the newest, kept beside the ledger, so that a chain that lost its end is found out.

A hash chain alone holds when its last events are gone, or all of them. `audit.head` says how long it was, signed with the
installation's key. It is written anew after each transaction that appended events, in place and in one sector; whoever finds one
that the chain does not bear out leaves it as it is: it is the evidence.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Callable

import msgspec

from noria.kernel.errors import NoriaError, StoreError
from noria.storage.connection import Database

FILE = "audit.head"
SIZE = 512  # bytes: a disk writes them at once
KEPT = ("", "audit")  # the mark that says that a head was kept: from then on one that is missing was taken away

Sign = Callable[[bytes], bytes]
Verify = Callable[[bytes, bytes], bool]  # of what was said, and a signature


class AuditHead(msgspec.Struct, frozen=True):
    """audit.head: one JSON object, filled up with blanks. ``signature``: of ``said``, as hex."""

    seq: int
    hash: str
    at: float  # when it was signed
    signature: str = ""

    @property
    def said(self) -> bytes:
        return msgspec.json.encode([FILE, self.seq, self.hash, self.at])


class HeadStore:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._path = database.path.with_name(FILE)
        self._sign: Sign | None = None
        self._last: AuditHead | None = None  # that this process wrote
        self._local = threading.local()

    def keep(self, sign: Sign) -> None:
        """From now on sign the newest event after each transaction that appends one."""
        self._sign = sign
        self._database.committed = self._after

    def note_append(self) -> None:
        """An event was appended in the transaction that is open."""
        self._local.fresh = True

    def _after(self) -> None:
        if self._sign is not None and getattr(self._local, "fresh", False):
            self._local.fresh = False
            with contextlib.suppress(OSError, NoriaError):  # the work was done: a verification tells what is not signed
                self._write(self._sign)

    def _write(self, sign: Sign, *, anyway: bool = False) -> None:
        newest = self._database.row("SELECT seq, hash FROM events ORDER BY seq DESC LIMIT 1")
        if newest is None:
            return
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "r+b", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            before = _read(os.pread(handle, SIZE, 0))
            if not anyway and not self._goes_on(before, int(newest["seq"])):
                return
            head = AuditHead(int(newest["seq"]), str(newest["hash"]), time.time())
            head = msgspec.structs.replace(head, signature=sign(head.said).hex())
            os.pwrite(handle, msgspec.json.encode(head).ljust(SIZE - 1) + b"\n", 0)
            if anyway or before is None:
                os.fsync(handle)
        self._last = head
        if before is None:
            sql = "INSERT INTO marks (project, place, name, seen, digest) VALUES (?, ?, ?, 'kept', '') ON CONFLICT DO NOTHING"
            self._database.execute(sql, (*KEPT, FILE))

    def _goes_on(self, before: AuditHead | str | None, newest: int) -> bool:
        """Whether a head may take the place of what is there: of nothing, the first time; of one that the chain bears out."""
        if before is None:
            return not self._has_entry()
        if isinstance(before, str) or (before != self._last and not self._holds(before)):
            return False
        return before.seq < newest

    def _has_entry(self) -> bool:
        sql = "SELECT 1 FROM marks WHERE project = ? AND place = ? AND name = ?"
        return self._database.row(sql, (*KEPT, FILE)) is not None

    def _holds(self, head: AuditHead) -> bool:
        row = self._database.row("SELECT hash FROM events WHERE seq = ?", (head.seq,))
        return row is not None and row["hash"] == head.hash

    def accept(self, sign: Sign) -> None:
        """Sign the chain as it stands now, whatever was signed before. Raises StoreError."""
        self._write(sign, anyway=True)

    def sync(self) -> None:
        """Make what this process wrote last through a loss of power."""
        if self._last is not None:
            with contextlib.suppress(OSError), self._path.open("rb") as file:
                os.fsync(file.fileno())

    def problem(self, verify: Verify, events: int) -> str:
        """What the head says against the chain, which has so many events; empty where it bears the head out."""
        try:
            head = self._signed()
        except FileNotFoundError:
            head = None
        except OSError as error:
            raise StoreError(f"the signed head cannot be read: {error.strerror}", where=str(self._path)) from error
        if head is None:
            return "the signed head of the chain is missing: it was taken away" if self._has_entry() else ""
        if isinstance(head, str):
            return f"the signed head of the chain is damaged: {head}"
        if not verify(head.said, bytes.fromhex(head.signature)):
            return "the signature of the chain's head does not verify"
        if self._holds(head):  # asked first: events may have come since they were counted
            return ""
        if head.seq > events:
            gone = "all" if not events else f"the last {head.seq - events:,}"
            return f"{gone} of {head.seq:,} events are gone: so many were signed"
        return f"event {head.seq:,} is another one than was signed"

    def _signed(self) -> AuditHead | str | None:
        """What the file holds; not while another process writes it."""
        with self._path.open("rb") as file:
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(file, fcntl.LOCK_SH)
            return _read(file.read())

    def unsigned(self, events: int) -> int:
        """How many events came after the head; all where there is none."""
        with contextlib.suppress(OSError):
            head = _read(self._path.read_bytes())
            if isinstance(head, AuditHead):
                return events - head.seq
        return events


def _read(content: bytes) -> AuditHead | str | None:
    """A head, why it is none, or None where nothing was written."""
    if not content:
        return None
    try:
        head = msgspec.json.decode(content, type=AuditHead)
        bytes.fromhex(head.signature)
    except (msgspec.DecodeError, ValueError) as error:
        return str(error)
    return head
