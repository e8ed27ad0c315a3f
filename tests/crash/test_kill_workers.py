"""`kill -9` of a step and of server workers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import psutil
from small_project import Asking, Small, address_of, server_pids, surroundings, until

SLOW = """\
import time
from pathlib import Path

from sklearn.linear_model import LogisticRegression


def train(features, label):
    while Path("{gate}").exists():
        time.sleep(0.01)
    return LogisticRegression(C=0.3).fit(features, label.to_numpy())
"""


def test_a_killed_step_fails_in_words_and_the_next_run_works(small: Small) -> None:
    gate = small.home.parent / "gate"
    gate.touch()
    small.write("model.py", SLOW.format(gate=gate))
    small.commit("slow")
    running = subprocess.Popen(
        [sys.executable, "-m", "noria", "run", "--json"], cwd=small.home, env=surroundings(), stdout=subprocess.PIPE, text=True
    )
    with running:
        os.kill(until(lambda: busy(running.pid, small), "the step runs"), signal.SIGKILL)
        out, _ = running.communicate(timeout=60)
    assert running.returncode == 1, out
    for word in ("step failed", "step train", "signal 9"):
        assert word in out
    assert small.champion() == "v1"
    gate.unlink()
    ran = small.run()
    assert ran.code == 0, ran
    assert ran.facts["release"] == "v2"


def busy(pid: int, small: Small) -> int | None:
    """The process below ``pid`` that works inside the project's tree: the others wait elsewhere."""
    for process in psutil.Process(pid).children(recursive=True):
        try:
            step = "noria.adapters.executors.child" in process.cmdline()
            if step and process.cwd().startswith(str(small.state / "worktrees")):
                return process.pid
        except psutil.Error:
            continue
    return None


def test_killed_workers_are_replaced_and_answers_go_on(small: Small) -> None:
    with small.up().ready(), Asking(address_of(small)) as asking:
        until(lambda: asking.right > 20, "answers")
        (server,) = server_pids(small)
        for _ in range(2):
            worker = psutil.Process(server).children()[0].pid
            os.kill(worker, signal.SIGKILL)
            seen = asking.right
            until(lambda worker=worker: not psutil.pid_exists(worker), "the worker is gone")
            until(lambda seen=seen: asking.right > seen + 50, "answers go on")
        until(lambda: len(psutil.Process(server).children()) >= 2, "workers are replaced")
    assert asking.wrong == []
    assert asking.releases == {"v1"}
