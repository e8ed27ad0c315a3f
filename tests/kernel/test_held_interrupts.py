"""Ctrl-C is held back for the length of a block, and raised at its end."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest

from noria.kernel.interrupts import held_interrupts


@pytest.fixture(autouse=True)
def python_handles_it() -> Iterator[None]:
    """A shell that starts the tests in the background has them ignore Ctrl-C; then nobody would raise it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def press(done: list[str], error: Exception | None = None) -> None:
    with held_interrupts():
        signal.raise_signal(signal.SIGINT)
        if error is not None:
            raise error
        done.append("all of it")


def test_an_interrupt_waits_for_the_end_of_the_block() -> None:
    done: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        press(done)
    assert done == ["all of it"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_error_of_the_block_stands_above_the_interrupt() -> None:
    with pytest.raises(ValueError, match="mine"):
        press([], ValueError("mine"))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_another_thread_and_another_handler_are_left_alone() -> None:
    found = []

    def elsewhere() -> None:
        with held_interrupts():
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert found == [signal.default_int_handler]
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with held_interrupts():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
