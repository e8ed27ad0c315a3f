"""The host processes of hosted releases: one for each, restarted when it dies, ended when no route names it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from glob import escape
from pathlib import Path

from noria.kernel import logs, names
from noria.kernel.errors import ServingError
from noria.kernel.words import lasting
from noria.serving.child_process import PROVE, Backoff, send_signal, spawn
from noria.serving.preflight import ending
from noria.serving.worker_start import LINE_LIMIT

_log = logs.get_logger("noria.serving")

COPY = ".code"
LOAD_S = 60.0  # importing the project's libraries and unpickling its model, where another release serves meanwhile
BACK_S = 600.0  # the same of one that served already: nothing is won by ending it when the machine is busy


class Host:
    """One release's host process, kept alive."""

    def __init__(self, state: Path, folder: Path, socket: Path, on_end: Callable[[int], None] = lambda code: None) -> None:
        self._on_end = on_end
        self.socket = socket
        self.process: asyncio.subprocess.Process | None = None
        self._arguments = [str(state), str(folder), str(socket)]
        self._keeper: asyncio.Task[None] | None = None
        self.ready = False  # it said that it listens

    async def start(self, patience_s: float | None = None) -> None:
        """Raises ServingError when the release cannot be loaded, within LOAD_S seconds unless told otherwise."""
        await self._launch(LOAD_S if patience_s is None else patience_s, PROVE)
        self._keeper = asyncio.create_task(self._keep())

    async def stop(self) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
        if self.process is not None:
            await _end(self.process)
        self.socket.unlink(missing_ok=True)
        await asyncio.to_thread(clear_copies, self.socket)

    async def _launch(self, patience_s: float, *more: str) -> None:
        self.ready = False
        ours, theirs = os.pipe()
        try:
            self.process = await spawn("noria.serving.host", [*self._arguments, str(theirs), *more], (theirs,))
        except BaseException:  # whatever it was, the pipe has no other end now
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        try:
            await self._wait_until_ready(ours, self.process, patience_s)
        except BaseException:  # cancelled, too: no host stays behind
            await _end(self.process)
            raise

    async def _wait_until_ready(self, pipe: int, process: asyncio.subprocess.Process, patience_s: float) -> None:
        """Wait for its first word, a line. A process that the project's code forked may hold the pipe open for longer."""
        said = asyncio.StreamReader(LINE_LIMIT)
        protocol = asyncio.StreamReaderProtocol(said)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, os.fdopen(pipe, "rb", 0))
        try:
            word = await asyncio.wait_for(said.readline(), patience_s)
        except TimeoutError as error:
            raise ServingError(f"it did not load and answer its golden rows within {lasting(patience_s)}") from error
        finally:
            transport.close()
        if not word:
            raise ServingError(f"it ended the host process that loaded it: {ending(await process.wait())}")
        answer = json.loads(word)
        if "error" in answer:
            raise ServingError(answer["error"])
        self.ready = True

    async def _keep(self) -> None:
        backoff = Backoff()
        while True:
            ended = self.process
            assert ended is not None
            code = await ended.wait()
            told = logs.facts(host=self.socket.name, code=code)
            _log.warning(f"host {self.socket.name} ended with {code}; restarting it", extra=told)
            self._on_end(code)
            while self.process is ended:  # also when no process could be started: it ended once
                await asyncio.sleep(backoff.next_pause_s())
                with contextlib.suppress(ServingError, OSError):  # said in the log by the host; tried again
                    backoff.note_start()
                    await self._launch(BACK_S)


def copy_of(socket: Path) -> Path:
    """Where the host process that asks has its copy of the release's code: beside its socket."""
    return socket.with_name(f"{socket.stem}.{os.getpid()}{COPY}")


def clear_copies(socket: Path) -> None:
    """Take away what earlier host processes of a socket worked in."""
    for left in socket.parent.glob(f"{escape(socket.stem)}.*{COPY}"):
        shutil.rmtree(left, ignore_errors=True)


async def _end(process: asyncio.subprocess.Process) -> None:
    """SIGKILL: a host has nothing to finish, its clients fail over."""
    send_signal(process)
    await process.wait()


class Hosts:
    """Hosts by release digest."""

    def __init__(
        self,
        state: Path,
        bundle_folder: Callable[[str], Path],
        on_end: Callable[[str, int], None] = lambda digest, code: None,
    ) -> None:
        self._on_end = on_end  # (digest, exit code) of a host that ended unasked
        self._state = state
        self._folder = bundle_folder
        self._hosts: dict[str, Host] = {}
        self._starting = defaultdict[str, asyncio.Lock](asyncio.Lock)

    async def ensure(self, digest: str, patience_s: float | None = None) -> Path:
        """Returns the socket of the release's host, starting the host if needed. Raises ServingError."""
        async with self._starting[digest]:  # it may be tried while a route begins to name it
            if digest not in self._hosts:
                socket = self._state / "serving" / f"host-{names.short(digest)}.sock"
                host = Host(self._state, self._folder(digest), socket, partial(self._on_end, digest))
                await host.start(patience_s)
                self._hosts[digest] = host
            return self._hosts[digest].socket

    async def keep_only(self, digests: set[str]) -> None:
        for digest in self._hosts.keys() - digests:
            await self._hosts.pop(digest).stop()

    def start_unreachable_again(self) -> list[str]:
        """End the hosts whose socket was deleted: their keepers start them with a new one."""
        gone = [digest for digest, host in self._hosts.items() if host.process is not None and not host.socket.exists()]
        for digest in gone:
            if (process := self._hosts[digest].process) is not None and self._hosts[digest].ready:
                self._hosts[digest].ready = False
                send_signal(process)
        return gone

    def pids(self) -> dict[str, int]:
        return {digest: host.process.pid for digest, host in self._hosts.items() if host.process is not None}
