"""Ends what the steps of an engine left running once the engine is gone: ``python -I -S orphan_keeper.py ENGINE``, by its path.

Standard input is a pipe that the engine alone holds open: ``+SESSION`` and ``-SESSION`` say which jobs begin and end, ``q`` that
all is done. When it ends without that, the engine was killed. Nothing but the standard library is loaded: it starts at once.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable

MARK = b"NORIA_STEP="  # in the environment of all that a step starts, up to ``.ENGINE``
ROUNDS = 20  # processes that start others while they are ended are looked for again, so many times
IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main(engine: str) -> None:
    for ignored in IGNORED:
        signal.signal(ignored, signal.SIG_IGN)
    sessions: dict[int, str] = {}
    for line in sys.stdin.buffer:
        if line == b"q\n":
            return
        number = int(line[1:])
        if line[:1] == b"+":
            sessions[number] = start_ticks(number)
        else:
            sessions.pop(number, None)
    # A number may be somebody else's by now.
    same = {number for number, begun in sessions.items() if start_ticks(number) in ("", begun)}
    if not os.path.isdir("/proc/self"):
        for session in same:
            _end(-session)
    for _ in range(ROUNDS):
        if not sum(_end(pid) for pid in _of(f".{engine}".encode(), same)):
            return


def start_ticks(pid: int) -> str:
    """When a process began, in ticks since the machine did; empty for one that is not there, or only waits for its parent."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in (b"Z", b"X") else fields[19].decode()


def parent(pid: int) -> int:
    """The number of the process that started another, or that took it over; 0 where that is not told."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[1])
    except OSError:
        return 0


def marks() -> Iterable[tuple[int, str]]:
    """Each process that may be looked into, with the mark of the step that it comes from, if any."""
    for name in os.listdir("/proc") if os.path.isdir("/proc/self") else ():
        if name.isdigit() and start_ticks(int(name)):
            yield int(name), mark(int(name))


def mark(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            found = [entry for entry in file.read().split(b"\0") if entry.startswith(MARK)]
    except OSError:
        return ""
    return found[0].removeprefix(MARK).decode(errors="replace") if found else ""


def _of(engine: bytes, sessions: set[int]) -> list[int]:
    end = engine.decode()
    return [pid for pid, found in marks() if pid != os.getpid() and (found.endswith(end) or _session(pid) in sessions)]


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except OSError:
        return 0


def _end(pid: int) -> bool:
    """Of a group where it is negative; whether there was something to end."""
    try:
        os.kill(pid, signal.SIGKILL)
    except OSError:
        return False
    return True


if __name__ == "__main__":
    main(sys.argv[1])
