"""What works in the background goes on whatever it meets; a log goes on where no descriptor is left."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from noria import daemon
from noria.kernel import background, descriptors
from noria.kernel.background import Background
from noria.predictions import writer
from noria.predictions.writer import LogWriter, Prediction, read_all
from noria.serving import supervisor


def wait_for(condition: Callable[[], Any], timeout_s: float = 120.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.005)


class PanicError(BaseException):
    """What a library in Rust raises."""


@pytest.mark.parametrize("error", [OSError(24, "Too many open files"), PanicError("attempt to subtract"), SystemExit(1)])
def test_an_error_is_told_counted_and_tried_again(error: BaseException, capsys: pytest.CaptureFixture[str]) -> None:
    """Number 10: one error ended the thread that syncs the log, for good and with nobody to tell."""
    calls: list[int] = []

    def step() -> float:
        calls.append(1)
        if len(calls) < 3:
            raise error
        return 0.001

    thread = Background("work", step).start()
    wait_for(lambda: len(calls) > 5)
    assert (thread.errors, thread.has_ended, background.ended_threads()) == (2, False, [])
    assert background.errors()["work"] >= 2
    thread.stop()
    told = capsys.readouterr().err
    assert told.count(f"noria: work: {type(error).__name__}: {error}; it is tried again") == 1


def test_a_thread_that_ended_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Number 10: health said ready while nothing was synced any more."""
    thread = Background("gone", lambda: 0.0)
    monkeypatch.setattr(thread, "_run", lambda: None)
    thread._thread = threading.Thread(target=lambda: None)
    thread.start()
    wait_for(lambda: background.ended_threads() == ["gone"])
    thread.stop()
    assert background.ended_threads() == []


def test_a_record_is_synced_though_no_descriptor_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Number 10: the descriptor that syncing takes was not there, and no record was synced from then on."""
    synced: list[int] = []
    real = os.fdatasync
    monkeypatch.setattr(writer.os, "fdatasync", lambda fd: (synced.append(fd), real(fd)))
    log = LogWriter(tmp_path, "production")

    def none_left(_: int) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(writer.os, "dup", none_left)
    log.append(record("a"))
    wait_for(lambda: synced)
    synced.clear()
    monkeypatch.undo()
    monkeypatch.setattr(writer.os, "fdatasync", lambda fd: (synced.append(fd), real(fd)))
    log.append(record("b"))
    wait_for(lambda: synced)
    log.close()
    assert [entry.id for entry in read_all(tmp_path)] == ["a", "b"]


FULL = """
import os, resource, sys
from pathlib import Path
from noria.predictions.writer import LogWriter
from test_background import record
log = LogWriter(Path(sys.argv[1]), "production", segment_bytes=2000)
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
held = []
try:
    while True:
        held.append(os.open(os.devnull, os.O_RDONLY))
except OSError:
    pass
for number in range(40):
    log.append(record(f"p{number}"))
for fd in held:
    os.close(fd)
log.close()
"""


def test_a_new_segment_is_made_where_others_hold_all_descriptors(tmp_path: Path) -> None:
    """Number 10: descriptors are kept back for the log."""
    command = [sys.executable, "-c", FULL, str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert [entry.id for entry in read_all(tmp_path)] == [f"p{number}" for number in range(40)]
    assert len(list(tmp_path.glob("*.plog"))) > 2


def test_the_soft_limit_is_raised_and_leaves_room_for_files() -> None:
    """Number 10: 1,024 descriptors, systemd's soft limit, were all there were."""
    script = (
        "import json, resource\nfrom noria.kernel import descriptors\n"
        "soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (128, hard))\n"
        "print(json.dumps([descriptors.for_connections(), descriptors.raise_limit(), descriptors.for_connections()]))"
    )
    before, limit, after = json.loads(subprocess.check_output([sys.executable, "-c", script], timeout=120))
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert limit == (descriptors.MOST if hard == resource.RLIM_INFINITY else min(hard, descriptors.MOST))
    assert (before, after) == (64, max(limit // 2, limit - descriptors.KEPT))


def record(name: str) -> Prediction:
    return Prediction(
        id=name,
        at=1.0,
        project="p",
        release="v1",
        variant="champion",
        rollout=None,
        inputs={"a": 1.0},
        outputs={"prediction": 1},
        key=None,
        event_time=None,
        latency_ms=1.0,
    )


def test_a_console_that_ends_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Number 10: background threads of the daemon are supervised, the console's too."""
    made: list[Any] = []

    class Broken:
        should_exit = False

        def __init__(self, served: Any) -> None:
            made.append(served)

        def run(self, sockets: list[socket.socket]) -> None:
            sockets[0].close()
            if len(made) == 1:
                raise PanicError("no descriptor is left")

    monkeypatch.setattr(daemon.uvicorn, "Server", Broken)
    up = daemon.Daemon.__new__(daemon.Daemon)
    up.stopping = threading.Event()
    with socket.socket() as bound:
        thread = Background("console", lambda: up._run_console(cast(Any, "served"), bound)).start()
        wait_for(lambda: len(made) >= 2)
        up.stopping.set()
        thread.stop()
        assert bound.fileno() != -1


def test_a_server_that_cannot_follow_its_routes_serves_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Number 10: what works in the background of the server's parent goes on too, whatever it meets."""
    grown = supervisor.Supervisor(supervisor.Options(tmp_path, {}))
    tried: list[int] = []

    def aim(again: bool = False) -> None:
        tried.append(1)
        if len(tried) == 3:
            grown.stop()
        raise RuntimeError("no descriptor is left")

    async def story() -> None:
        grown._follow_routes = aim  # type: ignore[method-assign]
        await asyncio.wait_for(grown._poll(), 30)

    asyncio.run(story())
    assert len(tried) == 3
    assert capsys.readouterr().err.count("the routes cannot be applied: RuntimeError: no descriptor is left") == 1
