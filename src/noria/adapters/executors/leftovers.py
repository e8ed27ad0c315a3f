"""What a job started ends with it, also what went into a session of its own or changed its parent (nohup, setsid, a daemon).

A process is known by the job's session, and by a mark in the environment that it was started with. One that has both changed its
session and cleared its environment is found only while it descends from the job's process.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from pathlib import Path

from noria.names import new_id

MARK = "NORIA_STEP"  # names the job to what it starts
ROUNDS = 20  # processes that start others while they are ended are looked for again, so many times
PROC = Path("/proc/self/environ").exists()
SUBREAPER = 36  # Linux: PR_SET_CHILD_SUBREAPER


def new_mark() -> str:
    """A mark that no other job has."""
    return new_id("step")


def end(session: int, mark: str) -> None:
    """End every process of a job's session, and every one that carries its mark."""
    import psutil  # where jobs are watched; an interpreter of recorded packages, in which they run, may not have it

    wanted = f"{MARK}={mark}".encode()
    for _ in range(ROUNDS):
        found = [pid for pid in psutil.pids() if pid != os.getpid() and (_session(pid) == session or wanted in _environment(pid))]
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
    import psutil

    with contextlib.suppress(psutil.Error):
        return any(f"{MARK}=".encode() in _environment(parent.pid) for parent in psutil.Process().parents())
    return False


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:
        return None


def _environment(pid: int) -> bytes:
    """What a process was started with; empty where that is hidden."""
    import psutil

    try:
        if PROC:
            return Path(f"/proc/{pid}/environ").read_bytes()
        return "\0".join(f"{name}={value}" for name, value in psutil.Process(pid).environ().items()).encode()
    except (OSError, psutil.Error):
        return b""


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
