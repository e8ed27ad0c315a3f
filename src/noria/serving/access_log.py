"""The access log: one JSON line for each request, written in batches by a thread of its own. It holds no row and no key."""

from __future__ import annotations

import time
from collections import deque
from pathlib import Path
from typing import Any

import msgspec

from noria.kernel import logs
from noria.kernel.background import Background
from noria.serving.http import Reply
from noria.storage.rotating_files import RotatingFile

_log = logs.get_logger("noria.serving")

NAME = "access.log"
BATCH_S = 0.2
BATCH = 256  # lines that are encoded at a time: longer would hold up requests
WAITING_MOST = 65_536  # lines; more are counted, not kept
TEXT_MOST = 200  # characters of a path


class AccessLog:
    """Whoever answers calls ``note``, which costs a tuple; ``close`` writes what is left."""

    def __init__(self, folder: Path) -> None:
        self._file = RotatingFile(folder / NAME)
        self._waiting: deque[tuple[Any, ...]] = deque()
        self._encode = msgspec.json.Encoder().encode
        self._dropped = 0
        self._trouble = ""
        self._thread = Background("access-log", lambda: self._flush()).start()

    def note(self, method: str, path: str, reply: Reply, began: float, caller: str) -> None:
        """Notes an answered request; ``began`` in monotonic seconds, ``caller``: the name of its key, or empty."""
        if len(self._waiting) < WAITING_MOST:
            self._waiting.append((time.time(), method, path, reply.status, time.monotonic() - began, reply.told, caller))
        else:
            self._dropped += 1

    def close(self) -> None:
        self._thread.stop()
        self._flush()
        self._file.close()

    def _flush(self) -> float:
        """Writes the waiting lines; returns the seconds until the next time."""
        while self._waiting:
            taken = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
            self._write([_line(entry) for entry in taken])
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            self._write([{"at": time.time(), "dropped": dropped}])
        return BATCH_S

    def _write(self, lines: list[dict[str, Any]]) -> None:
        """Writes lines. On a full disk, lines of this log are lost, never an answer; that is reported once."""
        try:
            self._file.append(b"".join(self._encode(line) + b"\n" for line in lines))
            self._trouble = ""
        except OSError as error:
            if not self._trouble:
                _log.error(f"the access log cannot be written: {error}", extra=logs.facts(file=NAME))
            self._trouble = str(error)


def _line(entry: tuple[Any, ...]) -> dict[str, Any]:
    at, method, path, status, seconds, told, caller = entry
    line = {"at": round(at, 6), "method": method, "path": path[:TEXT_MOST], "status": status, "ms": round(seconds * 1000, 3)}
    if told is not None:
        line |= dict(zip(("rows", "release", "variant", "failed"), told, strict=False))
    return line | ({"key": caller} if caller else {})
