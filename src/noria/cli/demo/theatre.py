"""What the demo's story is told with: a project in a Git repository, a daemon, the passengers, and the control API.

Everything here goes the way any user goes: `noria` commands, files renamed into place, Git commits, HTTP calls with the token.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import psutil
from rich.console import Console

from noria.kernel.errors import NoriaError
from noria.kernel.words import lasting

GIT_ENV = {
    "GIT_AUTHOR_NAME": "Ada",
    "GIT_AUTHOR_EMAIL": "ada@example.invalid",
    "GIT_COMMITTER_NAME": "Ada",
    "GIT_COMMITTER_EMAIL": "ada@example.invalid",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
}
QUIET = frozenset(
    {"clock.set", "trigger.seen", "turn.started", "turn.ended", "monitor.drift", "monitor.quality"}
)  # events that the story tells in its own words


NEWS_LENGTH = 220


class StoryError(NoriaError):
    """The demo cannot go on: something did not happen in time."""


class Answer(msgspec.Struct, frozen=True):
    """One line of the passengers' record."""

    asked: float
    answered: float
    flight: str
    status: int
    id: str | None
    release: str | None
    variant: str | None
    retried: bool
    error: Any = None


class ClientProcess:
    """The client process; steered by lines on its standard input."""

    def __init__(self, project: Path, data: Path, answers: Path, url: str, log: Path) -> None:
        self.answers = answers
        self.facts: dict[str, Any] = {}
        command = [sys.executable, "-m", "noria.cli.demo.traffic", str(project), str(data), str(answers), url]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log.open("ab"), text=True)
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.facts = json.loads(line)

    def steer(self, at: datetime, speed: float, rate: float) -> None:
        self._tell({"at": at.isoformat(), "speed": speed, "rate": rate})

    def stop(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._tell({"stop": True})
        self.process.wait(timeout=30)

    def _tell(self, order: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()

    @property
    def now(self) -> datetime:
        return datetime.fromisoformat(self.facts["now"])

    @property
    def sent(self) -> int:
        return int(self.facts.get("sent", 0))

    def read(self) -> list[Answer]:
        lines = self.answers.read_text().splitlines() if self.answers.exists() else []
        return [Answer(**json.loads(line)) for line in lines if line.endswith("}")]


class DemoStage:
    """The stage of the demo, under one folder."""

    def __init__(self, folder: Path, example: Path, console: Console) -> None:
        self.folder, self.example, self.console = folder, example, console
        self.home = folder / "flights"
        self.months = folder / "months"  # the year's files, waiting for their day
        self.state = self.home / ".noria"
        self.begun = time.monotonic()
        self.daemon: subprocess.Popen[bytes] | None = None
        self.passengers: ClientProcess | None = None
        self.addresses: dict[str, str] = {}
        self.seen = 0  # newest event that was printed
        self.daemon_log = folder / "up.log"

    # -- what is said ----------------------------------------------------------------------------------------------------

    def scene(self, number: int, title: str) -> None:
        self.console.print(
            f"\n[bold]{number}. {title}[/]  [dim]{time.monotonic() - self.begun:.0f} s[/]", highlight=False, soft_wrap=True
        )

    def say(self, text: str, style: str = "") -> None:
        self.console.print(
            f"   {text}", style=style or None, highlight=False, markup=False, soft_wrap=not self.console.is_terminal
        )

    def hush(self) -> None:
        """Skip what the ledger recorded since the last time."""
        while events := self.get(f"/api/events?after={self.seen}")["events"]:
            self.seen = events[-1]["seq"]

    def news(self) -> None:
        """Print what the ledger recorded since the last time."""
        with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
            for event in self.get(f"/api/events?after={self.seen}")["events"]:
                self.seen = event["seq"]
                if event["kind"] not in QUIET:
                    self.say(
                        f"· {shorten(event['text'].splitlines()[0])}",
                        style="dim" if event["kind"].startswith("data.") else "cyan",
                    )

    # -- files and commits -----------------------------------------------------------------------------------------------

    def set_up(self) -> None:
        """The example as a fresh Git repository, and the year's files beside it."""
        if self.folder.exists():
            shutil.rmtree(self.folder)
        self.folder.mkdir(parents=True)
        shutil.copytree(self.example, self.home, ignore=shutil.ignore_patterns("__pycache__", ".noria", "data"))
        (self.home / "data").mkdir()
        (self.home / ".gitignore").write_text(".noria/\ndata/\n__pycache__/\n")
        self.git("init", "-q", "-b", "main")
        self.commit("The flights example")
        self._call([sys.executable, str(self.home / "prepare.py"), str(self.months)])

    def git(self, *arguments: str) -> str:
        return self._call(["git", *arguments])

    def commit(self, message: str) -> str:
        self.git("add", "-A")
        self.git("commit", "-q", "-m", message)
        return self.git("rev-parse", "HEAD").strip()

    def edit(self, name: str, old: str, new: str) -> None:
        path = self.home / name
        text = path.read_text()
        if text.count(old) != 1:
            raise StoryError(f"{name} has {text.count(old)} places that read {old!r}, not one", where=str(path))
        path.write_text(text.replace(old, new))

    def _call(self, command: list[str]) -> str:
        environment = {**os.environ, **GIT_ENV, "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(command, cwd=self.home, env=environment, capture_output=True, text=True, timeout=120, check=False)
        if done.returncode:
            raise StoryError(f"`{' '.join(command[:3])}` failed: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def arrive(self, *paths: Path) -> None:
        """Files arrive: written beside, then renamed into place. Those of one arrival come within milliseconds."""
        fresh = []
        for path in paths:
            part = self.home / "data" / f".{path.name}.part"
            shutil.copy2(path, part)
            fresh.append((part, self.home / "data" / path.name))
        for part, target in fresh:
            part.rename(target)

    def month(self, number: int) -> tuple[Path, Path]:
        return self.months / f"weather-2013-{number:02d}.parquet", self.months / f"flights-2013-{number:02d}.parquet"

    # -- processes -------------------------------------------------------------------------------------------------------

    def up(self) -> None:
        """`noria up`; a server that outlived an earlier daemon is adopted."""
        with self.daemon_log.open("ab") as log:
            self.daemon = subprocess.Popen(
                [sys.executable, "-m", "noria", "up", "--serve", "127.0.0.1:0", "--console", "127.0.0.1:0"],
                cwd=self.home,
                stdout=log,
                stderr=log,
            )
        self.wait_until("the daemon answers", self._answers, 40)

    def _answers(self) -> bool:
        assert self.daemon is not None
        if self.daemon.poll() is not None:
            raise StoryError("`noria up` ended", where=str(self.daemon_log), hint=self.daemon_log.read_text()[-800:])
        facts = self.state / "daemon.json"
        with contextlib.suppress(OSError, ValueError, urllib.error.URLError):
            found = json.loads(facts.read_text())
            if found["pid"] != self.daemon.pid:
                return False
            self.addresses = found["addresses"]
            return bool(self.get("/api/status"))
        return False

    def board(self) -> None:
        """The passengers' process."""
        log = self.folder / "passengers.log"
        self.passengers = ClientProcess(self.home, self.months, self.folder / "answers.jsonl", self.addresses["production"], log)
        self.wait_until("the passengers are ready", lambda: bool(self.passengers and self.passengers.facts), 40)

    def workers(self) -> list[int]:
        """Process ids of the server's workers."""
        server = json.loads((self.state / "server.json").read_text())["pid"]
        found = []
        for process in psutil.Process(server).children():
            with contextlib.suppress(psutil.Error):  # one that is just ending
                if "noria.serving.worker" in " ".join(process.cmdline()):
                    found.append(process.pid)
        return found

    def down(self) -> None:
        """Stop what this demo started, and nothing else."""
        if self.passengers is not None and self.passengers.process.poll() is None:
            self.passengers.stop()
        self.daemon_stop()

    def daemon_stop(self) -> None:
        """As Ctrl-C does: the daemon and the server end."""
        if self.daemon is not None and self.daemon.poll() is None:
            self.daemon.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.daemon.wait(timeout=30)

    def noria(self, *arguments: str, timeout_s: float = 120) -> dict[str, Any]:
        """A `noria` command with --json; its document, whatever the exit code."""
        command = [sys.executable, "-m", "noria", *arguments, "--json"]
        done = subprocess.run(command, cwd=self.home, capture_output=True, text=True, timeout=timeout_s, check=False)
        try:
            document = dict(json.loads(done.stdout))
        except ValueError:
            raise StoryError(f"`noria {' '.join(arguments)}` said: {done.stdout.strip()} {done.stderr.strip()}") from None
        if "error" in document:
            raise StoryError(f"`noria {' '.join(arguments)}`: {document['error']['message']}")
        return document

    # -- the control API -------------------------------------------------------------------------------------------------

    def get(self, path: str) -> dict[str, Any]:
        return self._http(path, None)

    def post(self, path: str, document: dict[str, Any]) -> dict[str, Any]:
        return self._http(path, document)

    def _http(self, path: str, document: dict[str, Any] | None) -> dict[str, Any]:
        token = (self.state / "token").read_text().strip()
        request = urllib.request.Request(  # noqa: S310 - an address on loopback that our own daemon told
            self.addresses["console"] + path,
            data=None if document is None else json.dumps(document).encode(),
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - the same
            return dict(json.loads(answer.read()))

    def turns(self) -> list[dict[str, Any]]:
        """The turns so far, oldest first."""
        found: list[dict[str, Any]] = self.get("/api/turns")["turns"]
        return sorted(found, key=lambda t: int(t["number"]))

    def serving(self) -> dict[str, Any]:
        """What serves in production: release, candidate, share."""
        for environment in self.get("/api/status")["environments"]:
            if environment["name"] == "production":
                return dict(environment)
        return {}

    # -- waiting ---------------------------------------------------------------------------------------------------------

    def wait_until(self, what: str, holds: Callable[[], Any], within_s: float, *, news: bool = False) -> Any:
        """Wait for a condition, printing news meanwhile; StoryError when it does not come."""
        deadline = time.monotonic() + within_s
        while True:
            found = holds()
            if news:
                self.news()
            if found:
                return found
            if time.monotonic() > deadline:
                raise StoryError(f"waited {lasting(within_s)} in vain: {what}", where=str(self.daemon_log))
            time.sleep(0.05)

    def wait_for_turn(self, number: int, within_s: float = 120, *, decided: bool = True) -> dict[str, Any]:
        """The first turn after ``number``, once it has ended (``decided``: also its rollout)."""
        open_states = {"running", "rolling out"} if decided else {"running"}

        def ended() -> dict[str, Any] | None:
            newer = [t for t in self.turns() if t["number"] > number]
            return newer[0] if newer and newer[0]["outcome"] not in open_states else None

        return dict(self.wait_until(f"turn {number + 1} ends", ended, within_s, news=True))

    @property
    def last_turn(self) -> int:
        turns = self.turns()
        return int(turns[-1]["number"]) if turns else 0

    # -- the replay ------------------------------------------------------------------------------------------------------

    def replay(self, at: datetime, speed: float, rate: float) -> None:
        """Anchor the project clock and the passengers at the same moment, with the same speed."""
        self.post("/api/clock", {"at": at.isoformat(), "speed": speed})
        if self.passengers is not None:
            self.passengers.steer(at, speed, rate)

    def pace(self, speed: float, rate: float) -> None:
        """Go on from where the replay stands, at another speed."""
        assert self.passengers is not None
        self.replay(self.passengers.now, speed, rate)

    def travel(self, to: datetime, within_s: float, rate: float, after: tuple[float, float]) -> None:
        """Replay until ``to`` in so many seconds, then go on at ``after`` (speed, rate). A slow machine may be beyond it
        already: what a scene takes, the replay runs on."""
        assert self.passengers is not None
        passengers = self.passengers
        left_s = (to - passengers.now).total_seconds()
        if left_s <= 0:
            self.pace(*after)
            return
        self.pace(left_s / within_s, rate)
        self.wait_until(f"the replay reaches {to:%d %B}", lambda: passengers.now >= to, 120, news=True)
        self.replay(to, *after)


def shorten(text: str, length: int = NEWS_LENGTH) -> str:
    """What fits two lines; the whole sentence is in the ledger."""
    return text if len(text) <= length else text[:length].rsplit(" ", 1)[0] + " ..."


@contextlib.contextmanager
def closing(theatre: DemoStage) -> Iterator[DemoStage]:
    """Whatever happens, nothing that was started is left behind."""
    try:
        yield theatre
    finally:
        theatre.down()
