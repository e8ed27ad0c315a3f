"""`kill -9` of workers, of a canary's host and of the daemon, by chance and again and again, under steady load."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest
from small_project import Small


def test_every_answer_is_in_the_log_once_and_the_port_is_never_closed(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))
    account = import_module("benchmarks.survival").of_project(small, seconds=7)
    assert (account.missing(), account.doubled(), account.unexplained()) == ([], [], [])
    assert (account.told.refused, account.told.unsent) == ([], 0)
    for kind in ("worker", "daemon"):
        assert account.killed(kind) >= 2, account.kills
    assert len(account.told.calls) > 700
    assert len(account.interrupted()) <= account.killed("worker") * 16  # each connection carries one request at a time
    assert account.unheard() <= len(account.interrupted())
    assert small.noria("audit", "verify", "--json").facts["ok"] is True
