"""How long the project's own code took: the step process counts it, the parent subtracts it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class _Stopwatch:  # no Struct: a step's process imports this file, and msgspec takes it 10 ms
    """Of this process: a step process runs one job, in its main thread."""

    def __init__(self) -> None:
        self.total_s = 0.0
        self.depth = 0
        self.listener: Callable[[bool], None] | None = None


_stopwatch = _Stopwatch()


@contextmanager
def user_code() -> Iterator[None]:
    """Count the wall time inside as the project's own. Nested use counts once."""
    _stopwatch.depth += 1
    if _stopwatch.depth > 1:
        try:
            yield
        finally:
            _stopwatch.depth -= 1
        return
    _tell(True)
    begun = time.perf_counter()
    try:
        yield
    finally:
        _stopwatch.total_s += time.perf_counter() - begun
        _stopwatch.depth -= 1
        _tell(False)


def user_seconds() -> float:
    """Seconds inside ``user_code`` since this process began."""
    return _stopwatch.total_s


def listen(listener: Callable[[bool], None] | None) -> None:
    """Be told when project code is entered (True) and left (False): a parent that kills a job still knows its share."""
    _stopwatch.listener = listener


def _tell(entered: bool) -> None:
    if _stopwatch.listener is not None:
        _stopwatch.listener(entered)
