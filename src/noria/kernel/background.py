"""Threads that work for as long as their process does: an error is told, counted and tried again, and never the end of one."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable

from noria.kernel import logs

_log = logs.get_logger("noria")

FIRST_PAUSE_S = 0.1  # after an error; twice as long after each further one
LONGEST_PAUSE_S = 5.0
TOLD_S = 60.0  # an error that comes again is told again after this long

_begun: weakref.WeakSet[Background] = weakref.WeakSet()


class Background:
    """Calls ``step`` in a thread until it is stopped; ``step`` returns the seconds to wait before the next call."""

    def __init__(self, name: str, step: Callable[[], float]) -> None:
        self.name = name
        self.errors = 0
        self.stopping = threading.Event()
        self._step = step
        self._told: dict[str, float] = {}
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> Background:
        self._thread.start()
        _begun.add(self)
        return self

    def stop(self, timeout_s: float = 5.0) -> None:
        """It ends after the call that is under way."""
        self.stopping.set()
        if self._thread is not threading.current_thread():
            self._thread.join(timeout_s)

    @property
    def has_ended(self) -> bool:
        """Whether the thread is gone though nobody stopped it."""
        return not self._thread.is_alive() and not self.stopping.is_set()

    def _run(self) -> None:
        pause = FIRST_PAUSE_S
        while not self.stopping.is_set():
            try:
                wait, pause = self._step(), FIRST_PAUSE_S
            except BaseException as error:  # noqa: BLE001 - also a panic of a library: the work must go on
                self.errors += 1
                self._tell(f"{type(error).__name__}: {error}")
                wait, pause = pause, min(pause * 2, LONGEST_PAUSE_S)
            self.stopping.wait(wait)

    def _tell(self, text: str) -> None:
        now = time.monotonic()
        if now - self._told.get(text, -TOLD_S) >= TOLD_S:
            self._told = {known: at for known, at in self._told.items() if now - at < TOLD_S} | {text: now}
            _log.error(f"{self.name}: {text}; it is tried again", extra=logs.facts(thread=self.name, errors=self.errors))


def ended_threads() -> list[str]:
    """Threads of this process that ended though nobody stopped them: what they did is not done any more."""
    return sorted(thread.name for thread in list(_begun) if thread.has_ended)


def errors() -> dict[str, int]:
    """Name -> how many errors a thread of this process has met."""
    found: dict[str, int] = {}
    for thread in list(_begun):
        found[thread.name] = found.get(thread.name, 0) + thread.errors
    return found
