"""Starts a command and takes its time, its processors' time and its memory."""

from __future__ import annotations

import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

LIMIT_S = 900.0
SAID = 2_000  # characters of a failed command's output that are shown
# With these set, an interpreter compiles its modules anew at each start: nobody's command is to be measured so.
UNSET = (
    "PYTHONDONTWRITEBYTECODE",
    "PYTHONUNBUFFERED",
    "PYTHONPATH",
    "VIRTUAL_ENV",
    "NORIA_HOME",
    "MAKEFLAGS",
    "MFLAGS",
    "MAKELEVEL",
)
SET = {
    "GIT_AUTHOR_NAME": "bench",
    "GIT_AUTHOR_EMAIL": "bench@localhost",
    "GIT_COMMITTER_NAME": "bench",
    "GIT_COMMITTER_EMAIL": "bench@localhost",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "DVC_NO_ANALYTICS": "1",
    "DO_NOT_TRACK": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


class BenchError(Exception):
    """A command failed, took too long, or did not do what is measured."""


@dataclass(frozen=True, slots=True)
class Took:
    wall_s: float
    cpu_s: float  # user and system, of the command and of all its descendants that were waited for
    peak_mb: float  # resident memory of its largest process, or this one's at the fork when that was more: at most that

    @property
    def cores(self) -> float:
        """How many cores were busy on average."""
        return self.cpu_s / self.wall_s if self.wall_s else 0.0


def surroundings() -> dict[str, str]:
    """The environment variables of every command that is measured."""
    return {name: value for name, value in os.environ.items() if name not in UNSET} | SET


def timed(command: Sequence[str | Path], cwd: Path, limit_s: float = LIMIT_S) -> Took:
    """Run it to its end. Raises BenchError with the end of its output when it fails or takes longer than ``limit_s``."""
    with tempfile.TemporaryFile() as said:
        begun = time.perf_counter()
        process = subprocess.Popen(
            [str(part) for part in command],
            cwd=cwd,
            env=surroundings(),
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        timer = threading.Timer(limit_s, os.killpg, (process.pid, signal.SIGKILL))
        timer.start()
        try:
            _, status, used = os.wait4(process.pid, 0)
        except BaseException:  # Ctrl-C: nothing goes on alone
            os.killpg(process.pid, signal.SIGKILL)
            raise
        finally:
            timer.cancel()
        wall_s = time.perf_counter() - begun
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            said.seek(0)
            end = said.read().decode(errors="replace")[-SAID:].strip()
            why = f"ended with {process.returncode}" if wall_s < limit_s else f"took longer than {limit_s:.0f} s"
            raise BenchError(f"`{' '.join(map(str, command))}` {why}\n{end}")
    return Took(wall_s, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def output(command: Sequence[str | Path], cwd: Path) -> str:
    """What it prints. Raises BenchError when it fails."""
    done = subprocess.run(
        [str(p) for p in command], cwd=cwd, env=surroundings(), stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    if done.returncode != 0:
        raise BenchError(f"`{' '.join(map(str, command))}` ended with {done.returncode}\n{done.stderr[-SAID:].strip()}")
    return done.stdout


def noria(*arguments: str) -> list[str]:
    """The command line as a person starts it."""
    script = Path(sys.executable).with_name("noria")
    return [str(script), *arguments] if script.exists() else [sys.executable, "-m", "noria", *arguments]


def commit(folder: Path, *ignored: str) -> None:
    """Make the folder a Git repository with everything in it committed, except what is ignored."""
    (folder / ".gitignore").write_text("".join(f"{name}\n" for name in (".noria", *ignored)))
    timed(["git", "init", "-q", "."], folder)
    timed(["git", "add", "-A"], folder)
    timed(["git", "commit", "-q", "-m", "the bench"], folder)


def settled() -> None:
    """Let what earlier work wrote reach the disk, so that it does not slow down what is measured next."""
    os.sync()


def in_turn(rounds: int, *ways: Callable[[int], Took]) -> list[list[Took]]:
    """Each way ``rounds`` times, one after the other in every round, so that other work on the machine meets all alike."""
    found: list[list[Took]] = [[] for _ in ways]
    for number in range(rounds):
        for took, way in zip(found, ways, strict=True):
            settled()
            took.append(way(number))
    return found


def wall(took: Sequence[Took]) -> float:
    """Median wall time in seconds."""
    return statistics.median(t.wall_s for t in took)


def peak(took: Sequence[Took]) -> float:
    """Largest peak in MB."""
    return max(t.peak_mb for t in took)


def cores(took: Sequence[Took]) -> float:
    return statistics.median(t.cores for t in took)


def remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
