"""Ctrl-C: it ends a command from wherever it arrives, and with words, never with a trace.

One press can raise twice: Polars raises KeyboardInterrupt out of its own work, and Python's handler raises a second one a moment
later. Python throws away, with a trace, what is raised while it finalizes an object, such as a generator that is left half read.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import click

AGAIN_S = 0.1  # the finalizer has ended by then


@contextmanager
def heard_interrupts() -> Iterator[None]:
    """Raise an interrupt that a finalizer swallowed once more, instead of printing its trace."""
    before = sys.unraisablehook
    timers: list[threading.Timer] = []
    ended = threading.Event()

    def hook(unraisable: sys.UnraisableHookArgs) -> None:
        if ended.is_set() or not issubclass(unraisable.exc_type, KeyboardInterrupt):
            before(unraisable)
            return
        timer = threading.Timer(AGAIN_S, os.kill, (os.getpid(), signal.SIGINT))  # the signal also ends a wait
        timer.daemon = True
        timers.append(timer)
        timer.start()

    sys.unraisablehook = hook
    try:
        yield
    finally:
        ended.set()
        if sys.unraisablehook is hook:  # else somebody put another one before it, which stays
            sys.unraisablehook = before
        for timer in timers:
            timer.cancel()


def say_interrupted() -> None:
    """Print it, also when Ctrl-C is pressed again meanwhile."""
    try:
        click.echo("interrupted", err=True)
    except KeyboardInterrupt:
        return
