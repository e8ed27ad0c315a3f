"""Starts child processes: no fork after threads, one thread per numerics library, backoff when a child dies."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Sequence

from noria.kernel.threads import ONE_THREAD
from noria.serving.client import PARENT

FIRST_WAIT_S = 0.05
LONGEST_WAIT_S = 5.0
PROVE = "prove"  # told to the first host of a release in a server tree: it asks the golden rows before it is ready
CODE_ENDED = 70  # exit code of a host whose thread was ended by the project's code, or is in a call that never ends
HEALTHY_S = 10.0  # a child that lived this long is restarted without waiting


class Backoff:
    """How long to wait before a child is restarted."""

    def __init__(self) -> None:
        self._wait_s = 0.0
        self._born = time.monotonic()

    def note_start(self) -> None:
        self._born = time.monotonic()

    def next_pause_s(self) -> float:
        """Returns the seconds to wait now that the child died."""
        if time.monotonic() - self._born > HEALTHY_S:
            self._wait_s = 0.0
        wait, self._wait_s = self._wait_s, min(LONGEST_WAIT_S, max(FIRST_WAIT_S, self._wait_s * 2))
        return wait


async def spawn(module: str, arguments: Sequence[str], fds: Sequence[int]) -> asyncio.subprocess.Process:
    """``python -m MODULE ARGUMENTS`` with ``fds`` inherited. Raises OSError."""
    environment = os.environ | dict.fromkeys(ONE_THREAD, "1") | {PARENT: str(os.getpid())}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, *arguments, stdin=asyncio.subprocess.DEVNULL, pass_fds=fds, env=environment
    )


def send_signal(process: asyncio.subprocess.Process, number: signal.Signals = signal.SIGKILL) -> None:
    """Signal a child, which may end at this moment. Its own methods look whether it ended first, and take its exit code away
    from who waits for it (CPython 3.11; mended there later, gh-127049): a crash would pass for an end of unknown cause."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)
