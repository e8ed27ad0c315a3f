"""A panic of a native library is no Exception: whatever thread meets it, its work is told as failed and goes on."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from noria.daemon import Daemon
from noria.data import files
from noria.kernel.errors import StoreError
from noria.pipeline.executors import pool
from noria.pipeline.executors.limits import PoolWork
from noria.storage import lease
from noria.storage.lease import HeldJob


class Panic(BaseException):
    """As a Rust library raises it."""


def test_a_loop_of_the_daemon_outlives_a_panic(tmp_path: Path) -> None:
    """Number 9: the daemon says so and looks again."""
    told: list[str] = []
    daemon = Daemon.__new__(Daemon)
    daemon.stopping = threading.Event()
    daemon.context = cast(Any, SimpleNamespace(state=tmp_path, event=lambda kind, subject, text: told.append(text)))
    rounds: list[int] = []

    def look() -> float:
        rounds.append(len(rounds))
        if len(rounds) == 1:
            raise Panic("out of range")
        daemon.stopping.set()
        return 0.0

    daemon._forever("watcher", look)
    assert rounds == [0, 1]
    assert told == ["watcher: Panic: out of range"]
    assert "Panic: out of range" in (tmp_path / "daemon.log").read_text()


def test_nobody_waits_for_ever_for_a_job_whose_thread_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Number 9: the job is told as failed."""

    def broken(*_: Any) -> Any:
        raise Panic("out of range")

    monkeypatch.setattr(pool, "Command", broken)
    made = pool.Pool(size=0)
    try:
        work = PoolWork(None, {}, tmp_path, (), {}, 60.0, None, tmp_path / "log", command="true")
        done = made.submit(work).wait()
    finally:
        made.close()
    assert (done.ok, done.error) == (False, "could not be run: Panic: out of range")


def test_a_lease_is_renewed_after_a_renewal_failed(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """Number 9: a busy ledger, or a full disk, for a moment does not end the thread that renews."""
    monkeypatch.setattr(lease, "LEASE_S", 0.03)
    renewed = threading.Event()
    answers = iter([StoreError("the ledger is busy"), Panic("out of range")])

    def renew(job: Any, seconds: float) -> Any:
        if (error := next(answers, None)) is not None:
            raise error
        renewed.set()
        return job

    job = SimpleNamespace(kind="turn", subject="demo", project="p")
    monkeypatch.setattr(lease, "JobStore", lambda *_: SimpleNamespace(renew=renew, finish=lambda job, outcome: None))
    with HeldJob(cast(Any, None), cast(Any, job)) as held:
        assert renewed.wait(10)
        held.finish("")
    assert "could not be renewed: the ledger is busy" in capfd.readouterr().err


def test_files_are_polled_when_the_watcher_panics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Number 9: the thread that watches files goes on."""

    def broken(*_: Any) -> None:
        raise Panic("out of range")

    monkeypatch.setattr(files, "POLL_S", 0.01)
    monkeypatch.setattr(files.FileWatcher, "_watch", broken)
    watcher = files.FileWatcher([tmp_path])
    try:
        for _ in range(3):
            assert watcher.changed.wait(10)
            watcher.changed.clear()
    finally:
        watcher.close()
