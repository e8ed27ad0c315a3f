"""Makes standard error safe: on a full disk, messages are lost and the server continues."""

from __future__ import annotations

import contextlib
import io
import sys
from typing import TextIO


class Lossy(io.TextIOBase):
    """A text stream whose failures nobody hears of."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()

    def fileno(self) -> int:
        return self._stream.fileno()


def survive_full_disk() -> None:
    """From here on, telling something on standard error raises nothing."""
    sys.stderr = Lossy(sys.stderr)
