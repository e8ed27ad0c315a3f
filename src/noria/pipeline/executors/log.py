"""A step's log: bounded, with its beginning and its end kept."""

from __future__ import annotations

from collections import deque
from pathlib import Path

HEAD_BYTES = 8_000_000  # written as it comes
TAIL_BYTES = 2_000_000  # of what follows, the last is kept in memory and written at the end
SHOWN_LINES = 20
SHOWN_CHARACTERS = 4_000


class Log:
    """Takes what a process tree prints. Open it as a context manager; the file is whole once that is left."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._written = 0
        self._late: deque[bytes] = deque()
        self._late_bytes = 0
        self._dropped = 0
        self._last = b""

    def __enter__(self) -> Log:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._path.open("wb", buffering=0)
        return self

    def __exit__(self, *_: object) -> None:
        if self._dropped:
            self._file.write(f"\n... {self._dropped:,} bytes left out ...\n".encode())
        for part in self._late:
            self._file.write(part)
        self._file.close()

    def write(self, data: bytes) -> None:
        """Append; past the first 8 MB only the newest 2 MB are kept."""
        if not data:
            return
        self._last = (self._last + data)[-SHOWN_CHARACTERS:]
        room = max(0, HEAD_BYTES - self._written)
        if room:
            self._file.write(data[:room])
            self._written += len(data[:room])
        if data[room:]:
            self._keep(data[room:])

    def tail(self) -> str:
        """The last lines, for a person."""
        lines = self._last.decode(errors="replace").strip().splitlines()
        return "\n".join(lines[-SHOWN_LINES:])

    def _keep(self, data: bytes) -> None:
        self._late.append(data)
        self._late_bytes += len(data)
        while self._late_bytes > TAIL_BYTES:
            gone = self._late.popleft()
            self._late_bytes -= len(gone)
            self._dropped += len(gone)
