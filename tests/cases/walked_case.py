"""What a walk has in its hands: the case's input files, a home of its own, Git, the command line, and `noria up` as a process.

A command runs in this process, and its steps too (`inner_noria`): what is due is what it says of the input. Where the process
counts, a walk says ``case.processes = True`` or gives ``env`` or ``cwd``, and the command has a process of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import inner_noria


class Case:
    """One case: ``inputs`` are its files, ``home`` is an empty folder that the walk fills."""

    def __init__(self, inputs: Path, home: Path) -> None:
        self.inputs = inputs
        self.home = home
        self.processes = False  # whether each command has a process of its own
        home.mkdir(parents=True)

    def copy(self, *names: str, to: str = ".") -> None:
        """Copies files or folders of the case into the home (or a folder in it)."""
        target = self.home / to
        target.mkdir(parents=True, exist_ok=True)
        for name in names:
            source = self.inputs / name
            if source.is_dir():
                shutil.copytree(source, target / source.name)
            else:
                shutil.copy(source, target)

    def write(self, name: str, text: str) -> Path:
        """Writes a file of the home, with the folders above it."""
        path = self.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def run(self, *command: str, code: int | None = 0, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> str:
        """Runs a command in the home; returns what it printed (both streams). ``code=None`` accepts every exit code."""
        done = subprocess.run(
            command,
            cwd=cwd or self.home,
            env=environment() | dict(env or {}),
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=500,
            check=False,
        )
        said = done.stdout + done.stderr
        assert code is None or done.returncode == code, f"{' '.join(command)} ended with {done.returncode}:\n{said}"
        return said

    def noria(self, *words: str, code: int | None = 0, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> str:
        """Runs `noria WORDS` in the home; returns what it printed (both streams)."""
        if env is None and cwd is None:
            return "".join(self._inside(*words, code=code))
        return self.run(sys.executable, "-m", "noria", *words, code=code, env=env, cwd=cwd)

    def noria_json(self, *words: str, code: int | None = 0) -> Any:
        """Runs `noria WORDS --json`; returns the document on its standard output."""
        return json.loads(self._inside(*words, "--json", code=code)[0])

    def _inside(self, *words: str, code: int | None) -> tuple[str, str]:
        if self.processes:
            command = [sys.executable, "-m", "noria", *words]
            done = subprocess.run(
                command, cwd=self.home, env=environment(), capture_output=True, text=True, timeout=500, check=False
            )
            found, out, err = done.returncode, done.stdout, done.stderr
        else:
            found, out, err = inner_noria.noria(self.home, *words, env=environment())
        assert code is None or found == code, f"{words} ended with {found}:\n{out}{err}"
        return out, err

    @contextlib.contextmanager
    def up(self, env: Mapping[str, str] | None = None) -> Iterator[dict[str, Any]]:
        """`noria up` on free ports, for as long as the block lasts: its process (``process``), and its addresses by name."""
        command = [sys.executable, "-m", "noria", "up", "--serve", "127.0.0.1:0", "--console", "127.0.0.1:0", "--json"]
        log = self.home.parent / "up.txt"  # what it said on standard error
        with log.open("w") as errors:
            process = subprocess.Popen(
                command, cwd=self.home, env=environment() | dict(env or {}), stdout=subprocess.PIPE, stderr=errors, text=True
            )
        assert process.stdout is not None
        try:
            said = ""
            for line in process.stdout:
                said += line
                if line.startswith("}"):
                    break
            assert said.startswith("{"), f"`noria up` ended with {process.wait(10)}:\n{said}{log.read_text()}"
            drained = threading.Thread(target=process.stdout.read, daemon=True)
            drained.start()
            yield {"process": process, **json.loads(said)["addresses"]}
        finally:
            process.terminate()
            process.wait(60)
            drained.join(10)
            process.stdout.close()

    def commit(self, message: str = "work") -> str:
        """Commits all that Git does not ignore (a repository is made where there is none); returns the commit."""
        if not (self.home / ".git").exists():
            self.run("git", "init", "-q", "-b", "main")
        self.run("git", "add", "-A")
        self.run("git", "commit", "-q", "--allow-empty", "-m", message)
        return self.run("git", "rev-parse", "HEAD").strip()


def wait_for(condition: Callable[[], Any], timeout_s: float = 300.0) -> Any:
    """The first true answer of ``condition``."""
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.05)
    return found


def environment() -> dict[str, str]:
    """The process's environment, with a Git that knows one author and no settings of the machine."""
    who = {"NAME": "Ada", "EMAIL": "ada@example.org"}
    names = {f"GIT_{role}_{what}": value for role in ("AUTHOR", "COMMITTER") for what, value in who.items()}
    return os.environ | names | {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null", "NORIA_WARM": "0"}
