"""Ctrl-C while Python finalizes an object, where it cannot be raised: the command ends all the same, and without a trace."""

from __future__ import annotations

import subprocess
import sys

import pytest

from noria.cli.interrupts import heard_interrupts

PROGRAM = """
import signal, sys, time
import click
from noria import cli

class Left:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)
        for _ in range(1000):  # the handler runs in here
            pass

def command():
    Left()
    time.sleep(60)

cli.group.add_command(click.Command("linger", callback=command))
sys.exit(cli.execute(["linger"]))
"""


def test_an_interrupt_that_a_finalizer_swallows_ends_the_command() -> None:
    ended = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=300)
    assert (ended.returncode, ended.stderr) == (130, "\ninterrupted\n")


def test_a_hook_that_came_meanwhile_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader of text files has one, for as long as the process lives."""
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    with heard_interrupts():
        inner = sys.unraisablehook

        def theirs(trace: object) -> None:
            inner(trace)  # type: ignore[arg-type]

        sys.unraisablehook = theirs
    assert sys.unraisablehook is theirs
    before = sys.unraisablehook
    with heard_interrupts():
        assert sys.unraisablehook is not before
    assert sys.unraisablehook is before
