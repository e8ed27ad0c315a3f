"""The workers of one environment: on one listening socket, brought to the route before they accept, replaced when they die."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from noria.domain.rollout import Route
from noria.errors import NoriaError, ServingError
from noria.serving.channel import LINE_LIMIT, Start
from noria.serving.child import Backoff, spawn

ANSWER_S = 30.0  # a worker that does not answer an order for so long is replaced


class WorkerGoneError(NoriaError):
    """The worker ended before it answered; its successor starts from the newest route."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A route and where its releases lie: digest -> (folder, host socket or None)."""

    route: Route | None = None
    releases: dict[str, tuple[Path, Path | None]] = field(default_factory=dict)


class WorkerLink:
    """The parent's end of one worker's channel."""

    def __init__(self, process: asyncio.subprocess.Process, on_complaint: Callable[[str, str], None]) -> None:
        self.process = process
        self._on_complaint = on_complaint
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._order = asyncio.Lock()
        self._loaded: set[str] = set()
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None

    async def open(self, channel: socket.socket) -> None:
        channel.setblocking(False)
        reader, self._writer = await asyncio.open_connection(sock=channel, limit=LINE_LIMIT)
        self._reading = asyncio.create_task(self._read(reader))

    async def load(self, plan: Plan) -> dict[str, str]:
        """Load what is not there yet; the releases that failed, with their reasons. Raises WorkerGoneError."""
        async with self._order:
            return await self._load(plan)

    async def apply(self, plan: Plan, accept: bool = False) -> None:
        """Load, flip, and begin to accept. Raises WorkerGoneError, ServingError when champion or candidate do not load."""
        async with self._order:
            failed = await self._load(plan)
            if plan.route is not None and (plan.route.champion in failed or (plan.route.candidate or "") in failed):
                raise ServingError("; ".join(failed.values()))
            await self._ask({"op": "routes", "route": msgspec.to_builtins(plan.route)})
            self._loaded &= plan.releases.keys()
            if accept:
                await self._ask({"op": "accept"})

    def drain(self) -> None:
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(b'{"op":"drain"}\n')

    def close(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
        if self._writer is not None:
            self._writer.close()
        self._lost()

    async def _load(self, plan: Plan) -> dict[str, str]:
        failed: dict[str, str] = {}
        for digest, (folder, host) in plan.releases.items():
            if digest not in self._loaded:
                order = {"op": "load", "digest": digest, "folder": str(folder), "host": str(host) if host else None}
                try:
                    await self._ask(order)
                    self._loaded.add(digest)
                except ServingError as error:
                    failed[digest] = error.message
        return failed

    async def _ask(self, order: dict[str, Any]) -> None:
        number = next(self._ids)
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        if self._writer is None or self._writer.is_closing() or self.process.returncode is not None:
            raise WorkerGoneError("the worker ended")
        self._writer.write(msgspec.json.encode(order | {"id": number}) + b"\n")
        try:
            await asyncio.wait_for(answer, ANSWER_S)
        except TimeoutError:
            self.process.kill()
            raise WorkerGoneError(f"the worker did not answer within {ANSWER_S:g} s and was killed") from None
        finally:
            self._waiting.pop(number, None)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while line := await reader.readline():
                self._hear(msgspec.json.decode(line))
        except (OSError, ValueError, msgspec.DecodeError):
            self.process.kill()
        self._lost()

    def _hear(self, message: dict[str, Any]) -> None:
        if "complaint" in message:
            self._on_complaint(message["complaint"]["digest"], message["complaint"]["text"])
            return
        answer = self._waiting.get(message["id"])
        if answer is None or answer.done():
            return
        if "error" in message:
            answer.set_exception(ServingError(message["error"]))
        else:
            answer.set_result(None)

    def _lost(self) -> None:
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(WorkerGoneError("the worker ended"))


class Group:
    """N workers that answer by one plan."""

    def __init__(self, start: Callable[[int, int, int], Start], listener: socket.socket, size: int) -> None:
        self.plan = Plan()
        self.complaints: dict[str, list[str]] = {}
        self.restarts = 0
        self._start = start  # (slot, listening fd, channel fd) -> Start
        self._listener = listener
        self._size = size
        self._links: dict[int, WorkerLink] = {}
        self._keepers: list[asyncio.Task[None]] = []
        self._accepting = False
        self._stopping = False

    async def open(self) -> None:
        """Spawn all workers; returns when each obeys. They do not accept yet. Raises ServingError when one cannot start."""
        links = await asyncio.gather(*(self._launch(slot) for slot in range(self._size)))
        self._keepers = [asyncio.create_task(self._keep(slot, link)) for slot, link in enumerate(links)]

    async def accept(self) -> None:
        """Begin to answer; returns when every worker does."""
        self._accepting = True
        await self._everywhere(lambda link: link.apply(self.plan, accept=True))

    async def load(self, plan: Plan) -> dict[str, str]:
        """Load a plan's releases everywhere while requests go on; digest -> reason of those that failed."""
        failed: dict[str, str] = {}
        for outcome in await self._everywhere(lambda link: link.load(plan)):
            failed |= outcome or {}
        return failed

    async def flip(self, plan: Plan) -> None:
        """Returns when every worker answers by ``plan``. A worker that dies meanwhile starts with it."""
        self.plan = plan
        kept = plan.releases.keys()
        self.complaints = {digest: texts for digest, texts in self.complaints.items() if digest in kept}
        await self._everywhere(lambda link: _flip(link, plan))

    def pids(self) -> list[int]:
        return [link.process.pid for link in self._links.values()]

    async def close(self, timeout_s: float) -> None:
        """Drain every worker, then make sure that it ended."""
        self._stopping = True
        for link in self._links.values():
            link.drain()
        await asyncio.gather(*(_ended(link, timeout_s) for link in self._links.values()))
        for keeper in self._keepers:
            keeper.cancel()

    async def _everywhere(self, order: Callable[[WorkerLink], Awaitable[Any]]) -> list[Any]:
        async def one(link: WorkerLink) -> Any:
            try:
                return await order(link)
            except WorkerGoneError:
                return None  # its successor begins with the newest plan

        return await asyncio.gather(*(one(link) for link in list(self._links.values())))

    async def _launch(self, slot: int) -> WorkerLink:
        ours, theirs = socket.socketpair()
        with theirs:
            start = self._start(slot, self._listener.fileno(), theirs.fileno())
            fds = (start.listen_fd, start.channel_fd)
            process = await spawn("noria.serving.worker", [msgspec.json.encode(start).decode()], fds)
        link = self._links[slot] = WorkerLink(process, self._complain)
        await link.open(ours)
        await link.apply(self.plan, self._accepting)
        return link

    async def _keep(self, slot: int, link: WorkerLink) -> None:
        backoff = Backoff()
        while True:
            code = await link.process.wait()
            link.close()
            if self._stopping:
                return
            print(f"noria.serving: worker {slot} (pid {link.process.pid}) ended with {code}", file=sys.stderr, flush=True)
            link = await self._revive(slot, backoff)

    async def _revive(self, slot: int, backoff: Backoff) -> WorkerLink:
        while True:
            await asyncio.sleep(backoff.died())
            backoff.born()
            self.restarts += 1
            try:
                return await self._launch(slot)
            except (NoriaError, OSError) as error:
                print(f"noria.serving: worker {slot} does not start: {error}", file=sys.stderr, flush=True)
                await _ended(self._links[slot], 0.0)

    def _complain(self, digest: str, text: str) -> None:
        known = self.complaints.setdefault(digest, [])
        if text not in known and len(known) < 20:
            known.append(text)
            print(f"noria.serving: release {digest[:12]} failed on a request: {text}", file=sys.stderr, flush=True)


async def _flip(link: WorkerLink, plan: Plan) -> None:
    """A worker that was just replaced may fail to load what its siblings hold: it is replaced again, and starts with the plan."""
    try:
        await link.apply(plan)
    except ServingError as error:
        print(f"noria.serving: worker (pid {link.process.pid}) does not follow: {error}", file=sys.stderr, flush=True)
        with contextlib.suppress(ProcessLookupError):
            link.process.kill()


async def _ended(link: WorkerLink, timeout_s: float) -> None:
    until = time.monotonic() + timeout_s
    try:
        await asyncio.wait_for(link.process.wait(), max(0.01, until - time.monotonic()))
    except TimeoutError:
        if link.process.returncode is None:
            link.process.kill()
        await link.process.wait()
    link.close()
