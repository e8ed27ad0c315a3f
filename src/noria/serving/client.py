"""The client of the model server: starts it, adopts it, notifies it, reads its counts, stops it.

The server is a process tree of its own (`python -m noria.serving`) that outlives whoever started it. This side talks to it over
the Unix socket `server.sock` in the state folder: one JSON document a line, one answer a line.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from noria.kernel.access import MAX_BODY_BYTES, MAX_ROWS, UNGUARDED, Access
from noria.kernel.descriptors import readable
from noria.kernel.errors import PortInUseError, ServingError, StoppedError
from noria.kernel.policy import RECORD_ALL, LogPolicy
from noria.kernel.words import lasting
from noria.kernel.workers import TWO, Workers
from noria.serving.crash_record import Crashes
from noria.serving.tallies import Tally

if TYPE_CHECKING:
    import socket

SOCKET = "server.sock"
FACTS = "server.json"
LOCK = "server.lock"
PARENT = "NORIA_PARENT"  # the process that starts a child, by its id: one that is gone before the child looks is noticed too
ANSWER_LIMIT = 16 * 1024 * 1024  # bytes of one answer on the control socket
SETTLE_S = 15.0  # how long to wait for the releases of a server that answers; it then continues by itself
SILENT_S = 120.0  # a starting server that reports nothing for this long hangs
LOOK_S = 0.2
ORPHANS_S = 3.0  # processes of a server that was killed get this long to finish their requests


class SyncResult(msgspec.Struct, frozen=True):
    """The result of a sync. ``failed`` names releases that could not be loaded; their routes were not applied."""

    applied: dict[str, int]  # environment -> revision that every worker answers by
    failed: dict[str, str] = {}  # digest -> reason
    ms: float = 0.0


class ArmTallies(msgspec.Struct, frozen=True):
    """Cumulative counts of one route revision."""

    champion: Tally = msgspec.field(default_factory=Tally)  # requests that were assigned to the champion
    candidate: Tally = msgspec.field(default_factory=Tally)  # requests assigned to the candidate, whoever answered in the end


class Health(msgspec.Struct, frozen=True):
    """By digest: releases that were refused, with the reason, and releases that crashed their processes."""

    failed: dict[str, str] = {}
    crashes: dict[str, Crashes] = {}


@contextlib.contextmanager
def short_path(path: Path) -> Any:
    """A name for ``path`` that fits a Unix socket address (107 bytes) however deep the folder lies."""
    if len(os.fsencode(path)) <= 100:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def connect(path: Path, timeout_s: float | None) -> socket.socket:
    """A connected Unix stream socket. Raises OSError when nobody listens."""
    import socket  # 2 ms to load, and a turn where nothing changed talks to no server

    link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    link.settimeout(timeout_s)
    try:
        with short_path(path) as name:
            link.connect(name)
    except OSError:
        link.close()
        raise
    return link


class Server:
    """One installation's model server. Cheap to make; holds no connection."""

    def __init__(self, state: Path) -> None:
        self.state = state

    def is_alive(self) -> bool:
        """Whether a server of this state folder answers."""
        try:
            self._call({"op": "ping"}, timeout_s=2.0)
        except ServingError:
            return False
        return True

    def is_running(self) -> bool:
        """Whether this state folder has a server, even one that is busy, hangs or is starting."""
        with contextlib.suppress(OSError):
            connect(self.state / SOCKET, 1.0).close()
            return True
        try:
            with (self.state / LOCK).open("a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:  # no folder
            return False
        return False

    def start(
        self,
        environments: dict[str, tuple[str, int]],
        workers: int | Workers = TWO,
        max_body_bytes: int = MAX_BODY_BYTES,
        max_rows: int = MAX_ROWS,
        access: Access = UNGUARDED,
        recording: LogPolicy = RECORD_ALL,
        log: Path | None = None,
        stopped: Callable[[], bool] = lambda: False,
        leash: int | None = None,
    ) -> dict[str, Any]:
        """Returns the status of the running server; starts one unless one runs, which is then adopted.

        With a ``leash``, the reading end of a pipe, it ends as soon as nobody holds the other end any more.

        Returns when every release was tried, or earlier if that takes long: the server answers by then, and lists under
        ``waiting`` what it still waits for. Waits as long as the server gives signs of life and ``stopped`` is false. Raises
        PortInUseError when an address is taken, ServingError when it ends or falls silent, StoppedError.
        """
        began = time.monotonic()
        while self.is_running():  # it may be busy, or somebody else has just started it
            if self.is_alive():
                return self.status()
            if stopped():
                raise StoppedError("stopped while waiting for the model server")
            if time.monotonic() - began > SILENT_S:
                raise ServingError(
                    f"the model server has not answered for {lasting(SILENT_S)}", where=str(self.state / "server.log")
                )
            time.sleep(LOOK_S)
        self.state.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "noria.serving", "--state", str(self.state.resolve()), "--workers", str(workers)]
        command += ["--max-body", str(max_body_bytes), "--max-rows", str(max_rows)]
        command += ["--access", msgspec.json.encode(access).decode()]
        command += ["--recording", msgspec.json.encode(recording).decode()]
        for name, (host, port) in environments.items():
            command += ["--environment", f"{name}={host}:{port}"]
        sink = (log or self.state / "server.log").resolve()
        self._end_orphans()
        self._spawn([*command, "--log", str(sink)], sink, stopped, leash)
        return self.status()

    def sync(self, timeout_s: float = 120.0) -> SyncResult:
        """Makes the server apply the newest routes of the ledger; returns when every worker answers by them."""
        answer = self._call({"op": "sync"}, timeout_s)
        return SyncResult({k: int(v) for k, v in answer["applied"].items()}, dict(answer["failed"]), float(answer["ms"]))

    def load(self, digest: str, timeout_s: float = 60.0) -> str:
        """Tries a release in a separate process; returns why it cannot be served, or an empty text.

        What serves does not change.
        """
        return str(self._call({"op": "load", "digest": digest}, timeout_s)["failed"])

    def stats(self, project: str, environment: str) -> dict[int, ArmTallies]:
        """Returns counts by route revision over all workers, including dead ones; they survive a server restart."""
        answer = self._call({"op": "stats", "project": project, "environment": environment}, 5.0)
        return {
            int(revision): ArmTallies(Tally(*arms["champion"]), Tally(*arms["candidate"]))
            for revision, arms in answer["revisions"].items()
        }

    def status(self) -> dict[str, Any]:
        """``pid``, ``started_at``, ``addresses``, ``environments`` (route, workers, usage ...), ``failed``."""
        return self._call({"op": "status"}, 5.0)

    def scaling(self, after: int = 0) -> list[dict[str, Any]]:
        """Decisions about the number of workers with a ``number`` above ``after``, oldest first."""
        return list(self._call({"op": "scaling", "after": after}, 5.0)["decisions"])

    def health(self, environment: str) -> Health:
        """Returns which releases the server refused or saw crash. Raises ServingError."""
        status = self.status()
        crashes = status["environments"].get(environment, {}).get("crashes", {})
        return Health(dict(status["failed"]), {digest: Crashes(**facts) for digest, facts in crashes.items()})

    def addresses(self) -> dict[str, str]:
        """``{"production": "http://127.0.0.1:8000"}`` of the running server; empty when none runs."""
        try:
            return dict(self.status()["addresses"])
        except ServingError:
            return {}

    def stop(self, timeout_s: float = 15.0) -> None:
        """Drains and stops the server; after ``timeout_s`` the tree is killed. Does nothing when no server runs."""
        try:
            pid = int(self._call({"op": "stop"}, 5.0)["pid"])
        except ServingError:
            return
        if not self._wait_until_gone(timeout_s):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
            if not self._wait_until_gone(5.0):
                raise ServingError(f"the model server (pid {pid}) does not end", where=str(self.state))

    def _spawn(self, command: list[str], log: Path, stopped: Callable[[], bool], leash: int | None) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        held = () if leash is None else (leash,)
        command += [] if leash is None else ["--leash-fd", str(leash)]
        ours, theirs = os.pipe()
        try:
            with log.open("ab") as sink:
                process = subprocess.Popen(
                    [*command, "--ready-fd", str(theirs)],
                    stdin=subprocess.DEVNULL,
                    stdout=sink,
                    stderr=sink,
                    start_new_session=True,
                    pass_fds=(theirs, *held),
                )
        finally:
            os.close(theirs)
        threading.Thread(target=process.wait, name="reap-server", daemon=True).start()  # no zombie when it ends first
        try:
            _await_ready(ours, process, log, stopped)
        finally:
            os.close(ours)

    def _end_orphans(self) -> None:
        """Ends the workers of a killed server: they end by themselves, but one that hangs would keep the address."""
        try:
            group = int(json.loads((self.state / FACTS).read_bytes())["pid"])
        except (OSError, ValueError, KeyError, TypeError):
            return
        deadline = time.monotonic() + ORPHANS_S
        while not self.is_running() and (left := _of_group(group)):
            if time.monotonic() > deadline:
                for pid in left:
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)
            if time.monotonic() > deadline + ORPHANS_S:
                return

    def _wait_until_gone(self, timeout_s: float) -> bool:
        """Waits until the tree releases its lock; returns whether it did in time."""
        deadline = time.monotonic() + timeout_s
        with (self.state / LOCK).open("a") as lock:
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return True
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        return False
                    time.sleep(0.01)

    def _call(self, request: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        try:
            with connect(self.state / SOCKET, timeout_s) as link:
                link.sendall(json.dumps(request).encode() + b"\n")
                answer = json.loads(_read_line(link))
        except (OSError, ValueError) as error:
            raise ServingError(
                f"the model server does not answer: {error or type(error).__name__}", where=str(self.state)
            ) from error
        if "error" in answer:
            raise ServingError(str(answer["error"]))
        return dict(answer)


def _await_ready(pipe: int, process: subprocess.Popen[bytes], log: Path, stopped: Callable[[], bool]) -> None:
    """Reads a starting server's reports, one JSON document on each line, until it is ready. Raises as `Server.start`."""
    began = heard = time.monotonic()
    answers, pending = False, b""
    while True:
        spoke = readable(pipe, LOOK_S)
        now = time.monotonic()
        if spoke:
            said, heard = os.read(pipe, 65536), now
            if not said:
                raise ServingError("the model server ended while starting", where=str(log), hint=_tail(log))
            *lines, pending = (pending + said).split(b"\n")
            for message in map(json.loads, lines):
                if "error" in message:
                    kind = PortInUseError if message.get("kind") == "PortInUseError" else ServingError
                    raise kind(message["error"], hint=message.get("hint"))
                if "ok" in message:
                    return
                answers = answers or message["answers"]
        if answers and now - began > SETTLE_S:
            return
        if stopped():
            process.terminate()
            raise StoppedError("stopped while the model server was starting")
        if now - heard > SILENT_S:
            process.kill()
            raise ServingError(f"the model server gave no sign of life for {lasting(SILENT_S)}", where=str(log), hint=_tail(log))


def _of_group(group: int) -> list[int]:
    """The model server's processes in a process group (Linux; elsewhere none is found)."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            fields = (folder / "stat").read_text().rpartition(")")[2].split()  # behind the name: state, parent, group ...
            if int(fields[2]) == group and fields[0] != "Z" and b"noria.serving" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
    return found


def _read_line(link: socket.socket) -> bytes:
    parts = bytearray()
    while not parts.endswith(b"\n"):
        part = link.recv(65536)
        if not part or len(parts) > ANSWER_LIMIT:
            raise ValueError("the connection ended in the middle of an answer")
        parts += part
    return bytes(parts)


def _tail(log: Path) -> str:
    with contextlib.suppress(OSError):
        lines = log.read_text(errors="replace").strip().splitlines()
        return "\n  ".join(lines[-3:])
    return ""
