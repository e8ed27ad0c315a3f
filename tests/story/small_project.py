"""A small project of its own, driven through the command line in real processes: what the end-to-end tests share."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
HEAD = ("id", "a", "b", "y")
CONFIG = """\
project: small

data:
  points: {source: data/points-*.csv, contract: contracts/points.yaml, settle: 500ms}

model:
  rows: points
  key: id
  task: binary
  inputs: [a, b]
  label: y
  train: "model:train"
  holdout: {fraction: 0.3}

gates:
  - roc_auc >= 0.6

environments:
  production: {rollout: direct}

serving: {port: 0}
console: {port: 0}
"""
CONTRACT = """\
columns:
  id: {type: int, nulls: never}
  a: {type: float, nulls: never, range: [-10, 10]}
  b: {type: float}
  y: {type: int, nulls: never, values: [0, 1]}
unique: [id]
"""
MODEL = """\
from sklearn.linear_model import LogisticRegression


def train(features, label):
    return LogisticRegression().fit(features, label.to_numpy())
"""
ASK = {"a": 1.5, "b": 0.2}


def rows(month: int, count: int = 300) -> list[list[object]]:
    """``y`` follows ``a``, with noise; ids never repeat between months."""
    chance = random.Random(f"small {month}")
    made: list[list[object]] = []
    for number in range(count):
        a, b = chance.gauss(0, 1.5), chance.gauss(0, 1)
        made.append([month * 100_000 + number, round(a, 3), round(b, 3), int(a + chance.gauss(0, 1) > 0)])
    return made


def csv_text(table: Sequence[Sequence[object]], head: Sequence[str] = HEAD) -> str:
    return "".join(",".join(str(v) for v in line) + "\n" for line in [head, *table])


def surroundings(**more: str) -> dict[str, str]:
    """The environment of every process here: a Git identity, nothing of the developer's own.

    No step process waits for work: each takes two processor seconds to start, and most tests need few."""
    known = {k: v for k, v in os.environ.items() if not k.startswith(("NORIA_", "GIT_", "PYTEST"))}
    who = {f"GIT_{role}_{what}": value for role in ("AUTHOR", "COMMITTER") for what, value in (("NAME", "t"), ("EMAIL", "t@t"))}
    plain = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "OMP_NUM_THREADS": "1", "NORIA_WARM": "0"}
    return {**known, **who, **plain, **more}


@dataclass(frozen=True)
class Ran:
    """A finished command. Every test that makes one checks, by making it, that no traceback reached the person."""

    code: int
    out: str
    err: str

    @property
    def facts(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.out)
        return found

    @property
    def error(self) -> str:
        """Everything an error says: message, place and hint."""
        error = self.facts["error"]
        return " | ".join(str(error[k]) for k in ("message", "where", "hint"))


def until(condition: Callable[[], T | None], what: str, within_s: float = 180.0) -> T:
    """Poll until ``condition`` gives something true."""
    deadline = time.monotonic() + within_s
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {within_s:g} s: {what}"
        time.sleep(0.01)


class Small:
    """A folder with the project, its repository and its store."""

    def __init__(self, home: Path) -> None:
        self.home, self.state = home, home / ".noria"

    @classmethod
    def make(cls, home: Path) -> Small:
        made = cls(home)
        made.write("noria.yaml", CONFIG)
        made.write("contracts/points.yaml", CONTRACT)
        made.write("model.py", MODEL)
        made.write(".gitignore", ".noria/\ndata/\n__pycache__/\n")
        made.deliver("points-01.csv", csv_text(rows(1)))
        made.git("init", "-q", "-b", "main")
        made.commit("first")
        return made

    def copy(self, home: Path) -> Small:
        shutil.copytree(self.home, home, symlinks=True)
        return Small(home)

    def write(self, name: str, text: str | bytes) -> Path:
        path = self.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    def edit(self, name: str, old: str, new: str) -> None:
        text = (self.home / name).read_text()
        assert old in text, f"{old!r} is not in {name}"
        self.write(name, text.replace(old, new))

    def deliver(self, name: str, text: str | bytes) -> Path:
        """A data file that appears whole, by a rename, as the documentation asks for."""
        partial = self.write(f"data/.{name}.partial", text)
        time.sleep(0.005)  # the kernel's clock ticks every 4 ms: a rename in the tick of the write is not told apart
        return partial.rename(self.home / "data" / name)

    def git(self, *arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=self.home, env=surroundings(), capture_output=True, text=True, check=True, timeout=120
        )
        return done.stdout.strip()

    def commit(self, subject: str) -> str:
        self.git("add", "-A")
        self.git("commit", "-q", "-m", subject)
        return self.git("rev-parse", "HEAD")

    def noria(self, *arguments: str, timeout_s: float = 300.0, preexec: Callable[[], None] | None = None) -> Ran:
        done = subprocess.run(
            [sys.executable, "-m", "noria", *arguments],
            cwd=self.home, env=surroundings(), capture_output=True, text=True, timeout=timeout_s, preexec_fn=preexec, check=False,
        )  # fmt: skip
        assert "Traceback" not in done.stderr, done.stderr
        assert re.search(r"File .*noria/.*\.py", done.stdout) is None, f"a traceback of Noria's own: {done.stdout}"
        return Ran(done.returncode, done.stdout, done.stderr)

    def run(self) -> Ran:
        return self.noria("run", "--json")

    def champion(self) -> str | None:
        environments = self.noria("status", "--json").facts["environments"]
        return environments[0]["release"] if environments else None

    def ledger(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Read the ledger beside its writers; nothing while there is none yet."""
        path = self.state / "ledger.db"
        if not path.is_file():
            return []
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as database:
            return database.execute(sql, values).fetchall()

    def happened(self, kind: str, after: int = 0) -> bool:
        return bool(self.ledger("SELECT 1 FROM events WHERE kind = ? AND seq > ?", kind, after))

    def latest_event(self) -> int:
        return int(self.ledger("SELECT COALESCE(max(seq), 0) FROM events")[0][0])

    def turns(self) -> list[dict[str, Any]]:
        """Newest first."""
        found: list[dict[str, Any]] = self.noria("runs", "--json").facts["turns"]
        return found

    def up(self, *arguments: str, env: Mapping[str, str] | None = None) -> Up:
        return Up(self, *arguments, env=env)


class Up:
    """`noria up` as a process; use it as a context manager, and nothing is left running."""

    def __init__(self, project: Small, *arguments: str, env: Mapping[str, str] | None = None) -> None:
        self.project = project
        self._log = (project.home.parent / f"{project.home.name}-up-{time.time_ns()}.log").open("w+")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "noria", "up", *arguments],
            cwd=project.home, env=surroundings(**(env or {})), stdout=self._log, stderr=subprocess.STDOUT,
        )  # fmt: skip

    @property
    def output(self) -> str:
        return Path(self._log.name).read_text()

    def ready(self) -> Up:
        """Until it says that it watches."""

        def up() -> bool:
            assert self.process.poll() is None, self.output
            return "watching code and data" in self.output

        until(up, "noria up is ready")
        return self

    def demand_alive(self) -> None:
        """A daemon that has ended would be waited for in vain."""
        assert self.process.poll() is None, f"the daemon ended with {self.process.returncode}: {self.output}"

    def kill(self) -> None:
        """`kill -9`: the daemon alone; the server stays."""
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait(timeout=120)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(timeout=120)

    def __enter__(self) -> Up:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.stop()
        finally:
            if self.process.poll() is None:
                self.kill()
            end_server(self.project)
            self._log.close()


def address_of(project: Small) -> str:
    """Where production answers."""
    return str(project.noria("status", "--json").facts["addresses"]["production"])


def end_server(project: Small) -> None:
    """End the model server of this project, where a killed daemon left it."""
    for pid in server_pids(project):
        try:
            os.kill(pid, signal.SIGTERM)
        except ProcessLookupError:
            continue
        until(lambda pid=pid: not alive(pid), f"server process {pid} is gone")


def server_pids(project: Small) -> list[int]:
    path = project.state / "server.json"
    try:
        return [int(json.loads(path.read_text())["pid"])]
    except (FileNotFoundError, ValueError, KeyError):
        return []


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


class Asking:
    """Asks for a prediction all the time, until it is left; ``wrong`` holds every answer that was not one."""

    def __init__(self, address: str, ask: Callable[[int], object] = lambda _: ASK) -> None:
        self.address, self.ask = address, ask
        self.right, self.wrong, self.releases = 0, [], set[str]()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Asking:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        number = 0
        while not self._stop.wait(0.003):
            number += 1
            try:
                status, answer = post(self.address, "/predict", self.ask(number))
            except OSError as error:
                status, answer = 0, repr(error)
            if status == 200:
                self.right += 1
                self.releases.add(answer["release"])
            else:
                self.wrong.append((status, answer))


def post(address: str, path: str, body: object) -> tuple[int, Any]:
    """Status and decoded answer; one broken connection is tried again, as an HTTP client does."""
    request = urllib.request.Request(f"{address}{path}", json.dumps(body).encode(), {"content-type": "application/json"})
    for attempt in (1, 2):
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read() or b"null")
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            if attempt == 2:
                raise
    raise AssertionError("unreachable")
