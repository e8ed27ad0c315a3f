"""Whose lease may be taken: of a process that is gone from this machine at once, of any other when it has run out."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from noria.kernel.errors import LeaseLostError
from noria.storage.jobs import JobStore
from noria.storage.lease import HeldJob, is_holder_gone
from noria.storage.ledger import Ledger

CLAIM = """\
import sys, time
from pathlib import Path
from noria.storage.lease import HeldJob
from noria.storage.ledger import Ledger

ledger = Ledger.open(Path(sys.argv[1]))
held = HeldJob.claim(ledger, "p", "rollout", "r")
print(held.job.fence, flush=True)
time.sleep(60)
"""


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger.open(tmp_path)
    made.projects.ensure("p", str(tmp_path))
    yield made
    made.close()


def test_the_lease_of_a_killed_engine_is_not_waited_for(tmp_path: Path, ledger: Ledger) -> None:
    command = [sys.executable, "-c", CLAIM, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "1\n"
        assert HeldJob.claim(ledger, "p", "rollout", "r") is None  # it lives
        os.kill(other.pid, signal.SIGKILL)
        other.wait()
    held = HeldJob.claim(ledger, "p", "rollout", "r")
    assert held is not None
    assert held.job.fence == 2


def test_an_owner_elsewhere_or_alive_keeps_its_lease(ledger: Ledger) -> None:
    here = socket.gethostname()
    assert not is_holder_gone(f"{here}:{os.getpid()}")
    assert not is_holder_gone(f"{here}:1")
    assert not is_holder_gone("elsewhere:999999999")
    assert not is_holder_gone("nonsense")
    JobStore(ledger, "p").add("rollout", "r", dedupe="rollout:r")
    assert JobStore(ledger, "p").claim(("rollout",), "elsewhere:999999999", 60.0, "r") is not None
    assert HeldJob.claim(ledger, "p", "rollout", "r") is None


def test_who_was_wrongly_taken_for_dead_changes_nothing_any_more(ledger: Ledger) -> None:
    JobStore(ledger, "p").add("rollout", "r", dedupe="rollout:r")
    first = JobStore(ledger, "p").claim(("rollout",), "one:1", 60.0, "r")
    assert first is not None
    assert JobStore(ledger, "p").claim(("rollout",), "two:2", 60.0, "r", gone="one:1") is not None
    with pytest.raises(LeaseLostError):
        JobStore(ledger, "p").check(first)
