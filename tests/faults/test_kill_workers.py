"""`kill -9` of a step and of server workers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
from small_project import Asking, Small, address_of, server_pids, surroundings, until

SLOW = """\
import os
import time
from pathlib import Path

from sklearn.linear_model import LogisticRegression


def train(features, label):
    Path("{gate}.entered").write_text(f"{{os.getpid()}}\\n")
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
        os.kill(until(lambda: entered(gate), "the step runs"), signal.SIGKILL)
        out, _ = running.communicate(timeout=300)
    assert running.returncode == 1, out
    for word in ("step failed", "step train", "signal 9"):
        assert word in out
    assert small.champion() == "v1"
    gate.unlink()
    ran = small.run()
    assert ran.code == 0, ran
    assert ran.facts["release"] == "v2"


def entered(gate: Path) -> int | None:
    """The process that is inside the project's function. One that dies before it got there is replaced, and fails nothing."""
    mark = gate.with_name(f"{gate.name}.entered")
    text = mark.read_text() if mark.exists() else ""
    return int(text) if text.endswith("\n") else None


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
