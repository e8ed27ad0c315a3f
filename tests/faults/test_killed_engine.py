"""An engine that is killed leaves no step behind that goes on with its environment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

sys.path.append(str(Path(__file__).parents[1] / "serving"))

from serving_bundles import wait_for

from noria.kernel import orphan_keeper, orphans
from noria.pipeline.executors.limits import PoolWork
from noria.pipeline.executors.pool import Pool

ENGINE = """
import os, sys
from pathlib import Path
from noria.pipeline.executors.limits import PoolWork
from noria.pipeline.executors.pool import Pool

folder = Path(sys.argv[1])
with Pool(size=0, preload=(), running=3) as pool:
    def submit(name, target, command):
        env, log = dict(os.environ), folder / name
        return pool.submit(PoolWork(target, {"seconds": 300}, folder, (folder,), env, 600, None, log, command=command))
    jobs = [
        submit("1.log", None, "echo $$ > shell; setsid sh -c 'echo $$ > away; exec sleep 300' & wait"),
        submit("2.log", None, "exec env -i sh -c 'echo $$ > bare; exec sleep 300'"),
        submit("3.log", "proj:waits", None),
    ]
    for job in jobs:
        job.wait()
"""
STEP = """
import os, subprocess, time

def waits(job):
    subprocess.Popen(["setsid", "sh", "-c", "echo $$ > child; exec sleep 300"])
    open("function", "w").write(str(os.getpid()))
    time.sleep(job["seconds"])
    return {}
"""
NAMES = ("shell", "away", "bare", "function", "child")


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    (tmp_path / "proj.py").write_text(STEP)
    process = subprocess.Popen([sys.executable, "-c", ENGINE, str(tmp_path)])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def pids(folder: Path) -> dict[str, int]:
    """The processes of the steps, once all of them run."""
    wait_for(lambda: all((folder / name).exists() and (folder / name).read_text().strip() for name in NAMES), 40)
    return {name: int((folder / name).read_text()) for name in NAMES}


def living(found: dict[str, int]) -> list[str]:
    return [name for name, pid in found.items() if orphan_keeper.start_ticks(pid)]


def keepers(engine: subprocess.Popen[bytes]) -> list[psutil.Process]:
    return [child for child in psutil.Process(engine.pid).children() if orphan_keeper.__file__ in child.cmdline()]


pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are looked for under /proc")


def test_steps_end_with_an_engine_that_is_killed(engine: subprocess.Popen[bytes], tmp_path: Path) -> None:
    """Number 52: a command, a function, and what they started in a session of its own or without an environment."""
    found = pids(tmp_path)
    assert living(found) == list(NAMES)
    engine.kill()
    wait_for(lambda: not living(found), 60)


def test_the_next_engine_ends_what_is_left_where_the_keeper_was_killed_too(
    engine: subprocess.Popen[bytes], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Number 52: by the mark of the engine, its number and its beginning; what a living engine started is left alone."""
    found = pids(tmp_path)
    del found["bare"]  # it carries no mark
    bare = int((tmp_path / "bare").read_text())
    mine = {orphans.MARK: orphans.new_mark()}
    elsewhere = {orphans.MARK: f"step-1.{engine.pid}-{orphan_keeper.start_ticks(engine.pid)}-1"}  # of another container
    with (
        subprocess.Popen(["sleep", "300"], env=os.environ | mine) as own,
        subprocess.Popen(["sleep", "300"], env=os.environ | elsewhere) as foreign,
    ):
        try:
            for process in keepers(engine):
                process.kill()
            assert orphans.end_orphans() == 0
            engine.kill()
            engine.wait()
            assert set(living(found)) >= {"shell", "away", "child"}
            with Pool(size=0, preload=()) as pool:
                assert (
                    pool.submit(PoolWork(None, {}, tmp_path, (), dict(os.environ), 60, None, tmp_path / "4.log", command="true"))
                    .wait()
                    .ok
                )
            wait_for(lambda: not living(found), 60)
            assert "processes were left by steps whose engine was killed; they were ended" in capfd.readouterr().err
            assert own.poll() is None
            assert foreign.poll() is None
        finally:
            own.kill()
            foreign.kill()
            os.kill(bare, signal.SIGKILL)


def test_a_number_that_is_somebody_elses_by_now_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Number 52: a session is ended by its leader's number and beginning."""
    with subprocess.Popen(["sleep", "300"], start_new_session=True) as other:
        try:
            lines = iter([b"+%d\n" % other.pid])
            begun = iter(["12345"])  # when the one that had the number began
            first = orphan_keeper.start_ticks
            monkeypatch.setattr(orphan_keeper, "start_ticks", lambda pid: next(begun, None) or first(pid))
            monkeypatch.setattr(sys, "stdin", type("Input", (), {"buffer": lines}))
            monkeypatch.setattr(signal, "signal", lambda *_: None)
            orphan_keeper.main("0-0-0")
            assert other.poll() is None
        finally:
            other.kill()
