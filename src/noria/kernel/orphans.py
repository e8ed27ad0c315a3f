"""What a job started ends with it, also what went into a session of its own or changed its parent (nohup, setsid, a daemon).

A process is known by the job's session, and by a mark in the environment that it was started with. One that has both changed its
session and cleared its environment is found only while it descends from the job's process.

Where the engine itself is killed, its keeper does this (``keeper``); and where that was killed too, the next engine of this user:
a mark ends with the engine that made it, by its number, the moment at which it began, and the namespace that its number is of.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from noria.kernel import orphan_keeper
from noria.kernel.names import new_id

MARK = "NORIA_STEP"  # names the job to what it starts
ROUNDS = 20  # processes that start others while they are ended are looked for again, so many times
ENVIRON_BYTES = 1 << 16
PROC = Path("/proc/self/environ").exists()
SUBREAPER = 36  # Linux: PR_SET_CHILD_SUBREAPER
DEATH_SIGNAL = 1  # Linux: PR_SET_PDEATHSIG


def new_mark() -> str:
    """A mark that no other job has."""
    return f"{new_id('step')}.{_engine(os.getpid())}"


@functools.cache
def _engine(pid: int) -> str:
    """This process, ``pid``, as no other is named: NUMBER-BEGUN-NAMESPACE."""
    return f"{pid}-{orphan_keeper.start_ticks(pid)}-{_namespace()}"


def _namespace() -> str:
    try:
        return str(os.stat("/proc/self/ns/pid").st_ino)
    except OSError:
        return ""


class Keeper:
    """A process that ends the jobs of this one when this one is killed. Where it cannot be started, there is none."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        with contextlib.suppress(OSError):
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", orphan_keeper.__file__, _engine(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )

    def note_start(self, session: int) -> None:
        self._tell(f"+{session}")

    def note_end(self, session: int) -> None:
        self._tell(f"-{session}")

    def close(self) -> None:
        """All jobs ended; so does it."""
        self._tell("q")
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
            self._process.wait()

    def _tell(self, line: str) -> None:
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError, ValueError):  # it was killed, or closed
                os.write(self._process.stdin.fileno(), line.encode() + b"\n")


def end_orphans() -> int:
    """End what is left of steps whose engine is gone; how many processes that were."""
    ended = 0
    for pid, mark in orphan_keeper.marks():
        number, begun, namespace = [*mark.rpartition(".")[2].split("-"), "", ""][:3]
        if not begun or namespace != _namespace() or not number.isdigit() or orphan_keeper.start_ticks(int(number)) == begun:
            continue
        if pid != os.getpid() and orphan_keeper.mark(pid) == mark:
            ended += _kill(pid)
    return ended


def die_with_parent() -> None:
    """End when the thread that started this process does, where the system has that."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # a C library without prctl
            ctypes.CDLL(None).prctl(DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)


def end(session: int, mark: str) -> None:
    """End every process of a job's session, and every one that carries its mark."""
    wanted = f"{MARK}={mark}".encode()
    for _ in range(ROUNDS):
        own = os.getpid()
        found = [pid for pid in _pids() if pid != own and (_session(pid) == session or wanted in _environment(pid))]
        alive = [pid for pid in found if _kill(pid)]
        if not alive:
            return


def adopt() -> None:
    """Become the parent of what this process's descendants leave behind, where the system has that: so they stay descendants."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # a C library without prctl
            ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)


def inside() -> bool:
    """Whether this process, or one that it descends from, is a step's."""
    if MARK in os.environ:
        return True
    return any(f"{MARK}=".encode() in _environment(pid) for pid in _ancestors())


def _pids() -> list[int]:
    if PROC:
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]
    import psutil  # where jobs are watched; an interpreter of recorded packages, in which they run, may not have it

    return psutil.pids()


def _ancestors() -> Iterator[int]:
    """The processes that this one descends from, the nearest first."""
    if PROC:
        pid, seen = os.getppid(), set()
        while pid > 0 and pid not in seen:
            seen.add(pid)
            yield pid
            pid = orphan_keeper.parent(pid)
        return
    import psutil  # 10 ms to load: only where there is no /proc

    with contextlib.suppress(psutil.Error):
        yield from (parent.pid for parent in psutil.Process().parents())


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:
        return None


def _environment(pid: int) -> bytes:
    """What a process was started with; empty where that is hidden."""
    if PROC:
        return _read_environ(pid)
    import psutil

    try:
        return "\0".join(f"{name}={value}" for name, value in psutil.Process(pid).environ().items()).encode()
    except (OSError, psutil.Error):
        return b""


def _read_environ(pid: int) -> bytes:
    """By plain calls: after each command every process of the machine is looked at."""
    try:
        handle = os.open(f"/proc/{pid}/environ", os.O_RDONLY)
    except OSError:
        return b""
    found = b""
    try:
        while part := os.read(handle, ENVIRON_BYTES):
            found += part
    except OSError:  # it ended meanwhile
        pass
    finally:
        os.close(handle)
    return found


def _kill(pid: int) -> bool:
    """Whether there was something to end: a process that ended already waits for its parent."""
    import psutil

    try:
        if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return False
        os.kill(pid, signal.SIGKILL)
    except (OSError, psutil.Error):
        return False
    return True
