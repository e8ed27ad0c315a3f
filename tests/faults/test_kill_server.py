"""The model server ends under a running daemon, a reader of the daemon ends, signals come by the hundred."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing

import psutil
from small_project import ASK, Small, Up, address_of, alive, end_server, post, server_pids, surroundings, until

from noria.serving.client import Server


def answers(address: str) -> bool:
    try:
        return post(address, "/predict", ASK)[0] == 200
    except OSError:
        return False


def test_a_model_server_that_was_killed_is_started_again_and_everybody_is_told(small: Small) -> None:
    """Number 46: at the same address, by the last routes, also while a worker of the old one hangs and noria.yaml is broken."""
    with small.up().ready() as up:
        address, (old,) = address_of(small), server_pids(small)
        assert answers(address)
        small.edit("noria.yaml", "project:", "project")
        workers = psutil.Process(old).children()
        workers[0].suspend()
        os.kill(old, signal.SIGKILL)
        (new,) = until(lambda: [pid for pid in server_pids(small) if pid != old], "there is a new server")
        until(lambda: answers(address), "it answers")
        until(lambda: small.happened("server.restarted"), "it is written down")
        until(lambda: "the model server had ended; a new one serves" in up.output, "it is said")
        assert not any(alive(worker.pid) for worker in workers)
        small.edit("noria.yaml", "project", "project:")
        found = {check["name"]: check for check in small.noria("doctor", "--json").facts["checks"]}
        assert found["server"]["state"] == "warn"
        assert "restarted once" in found["server"]["text"]
    until(lambda: not alive(new), "a person ended the daemon, and so the server")


def test_a_server_that_cannot_come_back_is_told_by_the_doctor(small: Small) -> None:
    """Number 46: the daemon runs, and nothing answers: that is not at ease."""
    with small.up().ready() as up:
        (old,) = server_pids(small)
        up.process.send_signal(signal.SIGSTOP)
        os.kill(old, signal.SIGKILL)
        until(lambda: not Server(small.state).is_running(), "the server is gone")
        found = {check["name"]: check for check in small.noria("doctor", "--json").facts["checks"]}
        assert found["server"]["state"] == "fail"
        assert "though the daemon runs" in found["server"]["text"]
        up.process.send_signal(signal.SIGCONT)


def test_a_reader_that_ends_ends_neither_daemon_nor_server(small: Small) -> None:
    """Number 59: `noria up | head -1`."""
    with subprocess.Popen(
        [sys.executable, "-m", "noria", "up"],
        cwd=small.home,
        env=surroundings(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as daemon:
        try:
            assert daemon.stdout is not None
            assert daemon.stdout.readline().startswith(b"production")
            daemon.stdout.close()
            address = address_of(small)
            before = small.latest_event()
            small.git("commit", "-q", "--allow-empty", "-m", "something to tell")
            until(lambda: small.happened("turn.ended", before), "the daemon goes on")
            assert daemon.poll() is None
            assert answers(address)
            daemon.send_signal(signal.SIGTERM)
            assert daemon.wait(60) == 0
        finally:
            daemon.kill()
            end_server(small)


def test_a_daemon_that_dies_of_an_error_leaves_the_server(small: Small) -> None:
    """Number 57: the daemon's end never takes the server along; only a person's word does."""
    script = (
        "import sys\n"
        "from noria import cli, daemon\n"
        "def broken(*_):\n    raise MemoryError('no room')\n"
        "daemon._safely = broken\n"
        "sys.exit(cli.execute(['up']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=small.home,
        env=surroundings(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    try:
        assert done.returncode != 0
        assert answers(address_of(small))
    finally:
        end_server(small)


def test_a_storm_of_signals_ends_the_daemon(small: Small) -> None:
    """Number 54: the handler takes no lock that the thread it interrupts may hold."""
    with Up(small).ready() as up:
        sent = threading.Event()

        def storm() -> None:
            while up.process.poll() is None and not sent.wait(0.0005):
                up.process.send_signal(signal.SIGTERM)

        thread = threading.Thread(target=storm)
        thread.start()
        try:
            assert up.process.wait(60) == 0
        finally:
            sent.set()
            thread.join()
        assert server_pids(small) == []


def test_a_daemon_does_not_go_on_over_a_changed_audit_log(small: Small) -> None:
    """Number 34: it says so and ends; the server that was there answers on."""
    with small.up().ready() as up:
        up.kill()
        with closing(sqlite3.connect(small.state / "ledger.db")) as ledger, ledger:
            ledger.execute("UPDATE events SET text = 'all was well' WHERE seq = 3")
        refused = small.noria("up", "--json")
        assert refused.code != 0
        assert "the audit log was changed: event 3" in refused.error
        assert "noria audit verify" in refused.error
        assert answers(address_of(small))
