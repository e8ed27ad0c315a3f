"""Steps that want to outlive their turn, or to say yes to their own release."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import psutil
import pytest

from noria.cli.context import actor
from noria.delivery.context import DeliveryContext
from noria.engine.action_table import ACTIONS
from noria.kernel import orphans
from noria.kernel.errors import RefusedError
from noria.pipeline.executors.limits import JobEnd, PoolWork
from noria.pipeline.executors.pool import Pool

MODULE = """
import os, subprocess, time

def detaches(job):
    "A daemon as the textbooks make it, with nothing left of the environment it came from."
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            if job["bare"]:
                os.execve("/bin/sleep", ["sleep", job["seconds"]], {})
            open("pid", "w").write(str(os.getpid()))
            time.sleep(300)
        os._exit(0)
    os.wait()
    while job["bare"] is False and not os.path.exists("pid"):
        time.sleep(0.01)
    return {"session": os.getsid(0)}
"""
WAIT = "while [ ! -f pid ]; do sleep 0.01; done"
COMMANDS = {
    "in the background": "sleep 300 & echo $! > pid",
    "with a group of its own": "bash -c 'set -m; sleep 300 & echo $! > pid'",
    "in a session of its own": f"setsid sh -c 'sleep 300 & echo $! > pid.new; mv pid.new pid; wait' & {WAIT}",
    "without a parent": f"(setsid nohup sh -c 'echo $$ > pid.new; mv pid.new pid; exec sleep 300' &) ; {WAIT}",
}


@pytest.fixture(scope="module")
def executor() -> Iterator[Pool]:
    with Pool(size=1, preload=()) as made:
        yield made


@pytest.fixture
def ran(executor: Pool, tmp_path: Path) -> Callable[..., JobEnd]:
    (tmp_path / "proj.py").write_text(MODULE)

    def run(target: str | None, command: str | None = None, **job: Any) -> JobEnd:
        log = tmp_path / "step.log"
        return executor.submit(
            PoolWork(target, job, tmp_path, (tmp_path,), dict(os.environ), 60, None, log, command=command)
        ).wait()

    return run


def until_gone(pid: int) -> None:
    deadline = time.monotonic() + 120
    with contextlib.suppress(psutil.NoSuchProcess):
        while psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline, f"{pid} lives on"
            time.sleep(0.01)


@pytest.mark.parametrize("how", COMMANDS)
def test_what_a_command_leaves_running_ends_with_it(ran: Callable[..., JobEnd], tmp_path: Path, how: str) -> None:
    """Number 52: a step ends with its whole session, and with what went into another one."""
    assert ran(None, COMMANDS[how]).ok
    until_gone(int((tmp_path / "pid").read_text()))


@pytest.mark.parametrize("bare", [True, False])
def test_a_daemon_that_a_function_starts_ends_with_it(ran: Callable[..., JobEnd], tmp_path: Path, bare: bool) -> None:
    """Number 52: whether it forked alone, or cleared its environment as well."""
    seconds = f"300.{os.getpid()}"  # nobody else sleeps so long
    assert ran("proj:detaches", bare=bare, seconds=seconds).ok
    if bare:
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):  # it ended
                if process.name() == "sleep" and process.cmdline()[1:] == [seconds]:
                    until_gone(process.pid)
    else:
        until_gone(int((tmp_path / "pid").read_text()))


def test_what_is_not_the_steps_lives_on(ran: Callable[..., JobEnd]) -> None:
    """Number 52: other processes of the same person are none of its business."""
    with psutil.Popen(["sleep", "300"], start_new_session=True) as other:
        assert ran(None, "true").ok
        assert other.is_running()
        assert other.status() != psutil.STATUS_ZOMBIE
        other.kill()


def test_no_variable_makes_another_person_and_a_step_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Number 52: who approves is the account that the system knows; a step may neither approve nor promote."""
    mine = actor()
    monkeypatch.setenv("USER", "somebody-else")
    monkeypatch.setenv("LOGNAME", "somebody-else")
    assert actor() == mine
    monkeypatch.setenv(orphans.MARK, "step-1")
    assert actor().startswith("step:")
    line = cast(DeliveryContext, SimpleNamespace())
    with pytest.raises(RefusedError, match="a step cannot approve or promote"):
        ACTIONS["approve"].perform(line, actor(), {"release": "v2", "environment": None})
