"""The workers of one environment: on one listening socket, given the route before they accept, replaced when they die."""

from __future__ import annotations

import asyncio
import itertools
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Container, Set
from pathlib import Path
from typing import Any

import msgspec

from noria.kernel import logs
from noria.kernel.errors import NoriaError, ServingError
from noria.kernel.words import lasting
from noria.kernel.workers import MOST
from noria.serving.child_process import Backoff, send_signal, spawn
from noria.serving.heartbeat import Pulse
from noria.serving.route import Route
from noria.serving.worker_start import LINE_LIMIT, Start

_log = logs.get_logger("noria.serving")

ANSWER_S = 30.0  # a worker that does not answer an order for so long is replaced
FIRST_S = 120.0  # the same of its first order: it has to start, on a machine that may be busy
LOAD_S = 600.0  # the same where it is to load a release: that one hangs which has no pulse
SILENT_S = 30.0  # a worker whose pulse was not heard for so long hangs, and is replaced
LOOK_S = 1.0  # between two looks at the pulses
GRACE_S = 2.0  # to leave its last words


class WorkerGoneError(NoriaError):
    """The worker ended before it answered; its replacement starts from the newest route."""


class UnservedError(ServingError):
    """A worker cannot serve a plan. ``failed``: release -> why."""

    def __init__(self, failed: dict[str, str]) -> None:
        super().__init__("; ".join(failed.values()))
        self.failed = failed


class WorkerPlan(msgspec.Struct, frozen=True):
    """A route for each project, and where their releases lie: digest -> (folder, host socket or None)."""

    routes: tuple[Route, ...] = ()
    releases: dict[str, tuple[Path, Path | None]] = {}

    def without(self, digests: Container[str]) -> WorkerPlan:
        """The same routes, with fewer releases."""
        return WorkerPlan(self.routes, {digest: where for digest, where in self.releases.items() if digest not in digests})


def route_releases(route: Route) -> list[str]:
    """The releases of a route."""
    return [d for d in (route.champion, route.candidate, route.previous) if d is not None]


def required_releases(route: Route) -> list[str]:
    """The releases without which a route is not served."""
    return [d for d in (route.champion, route.candidate) if d is not None]


class WorkerLink:
    """The parent's end of one worker's channel."""

    def __init__(self, process: asyncio.subprocess.Process, on_complaint: Callable[[str, str], None]) -> None:
        self.process = process
        self.pulse: Pulse | None = None  # what it said of itself last
        self.heard_at: float | None = None  # seconds, monotonic, of its last sign of life since it accepts
        self._on_complaint = on_complaint
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._order = asyncio.Lock()
        self._loaded: set[str] = set()
        self._tried: tuple[Route, ...] = ()
        self._loads: list[str] = []  # what it was told to load, and has not answered about: also when it ended
        self._spoke = False
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None

    @property
    def accepts(self) -> bool:
        return self.heard_at is not None and self.process.returncode is None

    @property
    def loading(self) -> str | None:
        """The release that it loads, or loaded when it ended; None also where there are several: nobody knows which it was."""
        return self._loads[0] if len(set(self._loads)) == 1 else None

    async def open(self, channel: socket.socket) -> None:
        channel.setblocking(False)
        reader, self._writer = await asyncio.open_connection(sock=channel, limit=LINE_LIMIT)
        self._reading = asyncio.create_task(self._read(reader))

    async def load(self, plan: WorkerPlan) -> dict[str, str]:
        """Load what is not there yet, and try the routes; releases that failed, with their reasons. Other orders wait for none
        of it. Raises WorkerGoneError."""
        failed = await self._load(plan)
        if any(digest in failed for route in plan.routes for digest in required_releases(route)):
            return failed
        return failed | await self._try(plan)

    async def apply(self, plan: WorkerPlan, accept: bool = False, reach: bool = True, kept: Set[str] = frozenset[str]()) -> None:
        """Load, flip, and begin to accept. Raises WorkerGoneError, ServingError when champion or candidate do not load.

        ``kept``: releases that another route is about to name: they stay in memory.
        ``reach``: whether the host of a hosted release must be there at this moment.
        """
        async with self._order:
            failed = await self._load(plan, reach)
            if any(digest in failed for route in plan.routes for digest in required_releases(route)):
                raise UnservedError(failed)
            failed = await self._try(plan)
            if failed:
                raise UnservedError(failed)
            await self._ask({"op": "routes", "routes": msgspec.to_builtins(plan.routes), "kept": sorted(kept)})
            self._loaded &= plan.releases.keys() | kept
            if accept:
                await self._ask({"op": "accept"})
                self.heard_at = time.monotonic()  # it may hang before its first pulse

    async def order(self, op: str, **more: Any) -> None:
        """Any other order. Raises WorkerGoneError."""
        await self._ask({"op": op, **more})

    def tell(self, op: str, **more: Any) -> None:
        """What needs no answer."""
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(msgspec.json.encode({"op": op, **more}) + b"\n")

    def drain(self) -> None:
        self.tell("drain")

    def close(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
        if self._writer is not None:
            self._writer.close()
        self._fail_waiting()

    async def _load(self, plan: WorkerPlan, reach: bool = True) -> dict[str, str]:
        failed: dict[str, str] = {}
        for digest, (folder, host) in plan.releases.items():
            if digest not in self._loaded:
                self._loads.append(digest)
                order = {"op": "load", "digest": digest, "folder": str(folder), "host": str(host) if host else None}
                try:
                    await self._ask(order | {"reach": reach}, LOAD_S)
                    self._loaded.add(digest)
                except ServingError as error:
                    failed[digest] = error.message
                self._loads.remove(digest)
        return failed

    async def _try(self, plan: WorkerPlan) -> dict[str, str]:
        """Routes that cannot be served though their releases are loaded; told of the release that is new in them."""
        failed: dict[str, str] = {}
        for route in plan.routes:
            if route not in self._tried and plan.releases.keys() >= set(required_releases(route)):
                try:
                    await self._ask({"op": "try", "routes": msgspec.to_builtins([route])})
                    self._tried = (*(known for known in self._tried if known.project != route.project), route)
                except ServingError as error:
                    failed[route.candidate or route.champion] = error.message
        return failed

    async def _ask(self, order: dict[str, Any], patience_s: float | None = None) -> None:
        if self._writer is None or self._writer.is_closing() or self.process.returncode is not None:
            raise WorkerGoneError("the worker ended")
        number = next(self._ids)
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        self._writer.write(msgspec.json.encode(order | {"id": number}) + b"\n")
        patience_s = patience_s or (ANSWER_S if self._spoke else FIRST_S)
        try:
            await asyncio.wait_for(answer, patience_s)
        except TimeoutError:
            send_signal(self.process)
            raise WorkerGoneError(f"the worker did not answer within {lasting(patience_s)} and was killed") from None
        finally:
            self._waiting.pop(number, None)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while line := await reader.readline():
                self._hear(msgspec.json.decode(line))
        except (OSError, ValueError, msgspec.DecodeError):
            send_signal(self.process)
        self._fail_waiting()

    def _hear(self, message: dict[str, Any]) -> None:
        self._spoke = True
        if "complaint" in message:
            self._on_complaint(message["complaint"]["digest"], message["complaint"]["text"])
            return
        if "pulse" in message:
            self.heard_at = time.monotonic()
            self.pulse = Pulse(heard_at=self.heard_at, **message["pulse"])
            return
        answer = self._waiting.get(message["id"])
        if answer is None or answer.done():
            return
        if "error" in message:
            answer.set_exception(ServingError(message["error"]))
        else:
            answer.set_result(None)

    def _fail_waiting(self) -> None:
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(WorkerGoneError("the worker ended"))


class WorkerPool:
    """N workers that answer by one plan."""

    def __init__(
        self,
        start: Callable[[int, int, int], Start],
        listener: socket.socket,
        size: int,
        on_end: Callable[[int, int, str | None], None] = lambda slot, code, loading: None,
        silent_s: float = SILENT_S,
        on_unserved: Callable[[int, dict[str, str]], None] = lambda slot, failed: None,
    ) -> None:
        self.plan = WorkerPlan()
        self.complaints: dict[str, list[str]] = {}
        self.restarts = 0
        self.coming: Callable[[], Set[str]] = frozenset  # releases that a route is about to name
        self._start = start  # (slot, listening fd, channel fd) -> Start
        self._on_end = on_end  # (slot, exit code, what it was loading) of a worker that ended unasked
        self._on_unserved = on_unserved  # (slot, release -> why) of a worker that cannot start with the plan
        self._listener = listener
        self._size = size
        self._silent_s = silent_s
        self._watching: asyncio.Task[None] | None = None
        self._links: dict[int, WorkerLink] = {}
        self._keepers: dict[int, asyncio.Task[None]] = {}
        self._leaving: set[int] = set()  # slots whose workers end when their clients are gone
        self._resizing = asyncio.Lock()
        self._accepting = False
        self._stopping = False

    async def open(self) -> None:
        """Spawn all workers; returns when each obeys. They do not accept yet. Raises ServingError when one cannot start."""
        links = await asyncio.gather(*(self._launch(slot) for slot in range(self._size)))
        for slot, link in enumerate(links):
            self._keepers[slot] = asyncio.create_task(self._keep(slot, link))

    async def accept(self) -> None:
        """Begin to answer; returns when every worker does."""
        self._accepting = True
        await self._order_all(lambda link: link.apply(self.plan, accept=True, kept=self.coming()))
        self._watching = asyncio.create_task(self._watch())

    async def load(self, plan: WorkerPlan) -> dict[str, str]:
        """Load a plan's releases everywhere while requests go on; digest -> reason of those that failed."""
        failed: dict[str, str] = {}
        for outcome in await self._order_all(lambda link: link.load(plan)):
            failed |= outcome or {}
        return failed

    async def flip(self, plan: WorkerPlan) -> None:
        """Returns when every worker answers by ``plan``. A worker that dies meanwhile starts with it."""
        self.plan = plan
        kept = plan.releases.keys()
        self.complaints = {digest: texts for digest, texts in self.complaints.items() if digest in kept}
        await self._order_all(lambda link: _flip(link, plan, self.coming()))

    async def resize(self, size: int) -> int:
        """Come to ``size`` workers that accept; how many there are now, fewer when no slot was free. Fails no request.

        New ones hold the plan before they accept. Those that go finish what their clients began, within LEAVE_S seconds.
        Raises NoriaError, OSError when a new worker cannot start; the others stay.
        """
        async with self._resizing:
            if self._stopping:
                return self.size
            before, free = self._staying_links(), [slot for slot in range(MOST) if slot not in self._links]
            if size > len(before):
                await self._grow(free[: size - len(before)])
                share = 1 - len(before) / self.size
                await self._order_all(lambda link: link.order("shed", share=share), before)
            for slot in sorted(self._links.keys() - self._leaving)[max(1, size) :]:
                self._leaving.add(slot)
                await self._order_all(lambda link: link.order("retire"), [self._links[slot]])
            return self.size

    @property
    def size(self) -> int:
        """Workers that accept, or will as soon as they are replaced."""
        return len(self._links.keys() - self._leaving)

    def pulses(self, now: float) -> list[Pulse] | None:
        """Returns the newest report of each accepting worker; None while one has not reported yet."""
        found = [link.pulse.as_of(now) for link in self._staying_links() if link.pulse is not None]
        return found if len(found) == self.size else None

    def tell(self, op: str, **more: Any) -> None:
        """Sends every worker an order that needs no answer."""
        for link in self._links.values():
            link.tell(op, **more)

    def pids(self) -> list[int]:
        """Of the workers that accept at present; one that is only being started does not."""
        return [link.process.pid for link in self._staying_links() if link.accepts]

    def slots(self) -> dict[int, int]:
        """Slot -> process id, of all workers, also those that are about to end."""
        return {slot: link.process.pid for slot, link in self._links.items()}

    def _staying_links(self) -> list[WorkerLink]:
        return [link for slot, link in sorted(self._links.items()) if slot not in self._leaving]

    async def _grow(self, slots: list[int]) -> None:
        """Those that start stay, also when another does not; then its error is raised."""
        links = await asyncio.gather(*(self._launch(slot) for slot in slots), return_exceptions=True)
        for slot, link in zip(slots, links, strict=True):
            if isinstance(link, WorkerLink):
                self._keepers[slot] = asyncio.create_task(self._keep(slot, link))
            elif slot in self._links:
                await self._give_up(slot, self._links[slot])
                del self._links[slot]
        for error in links:
            if isinstance(error, BaseException):
                raise error

    async def close(self, timeout_s: float) -> None:
        """Drain every worker, then make sure that it ended."""
        self._stopping = True
        if self._watching is not None:
            self._watching.cancel()
        keepers = list(self._keepers.values())
        for keeper in keepers:
            keeper.cancel()
        await asyncio.gather(*keepers, return_exceptions=True)  # a worker that one was starting is among the links now, or gone
        for link in self._links.values():
            link.drain()
        await asyncio.gather(*(_ended(link, timeout_s) for link in self._links.values()))

    async def _order_all(self, order: Callable[[WorkerLink], Awaitable[Any]], among: list[WorkerLink] | None = None) -> list[Any]:
        async def one(link: WorkerLink) -> Any:
            try:
                return await order(link)
            except WorkerGoneError:
                return None  # its successor begins with the newest plan

        return await asyncio.gather(*(one(link) for link in (list(self._links.values()) if among is None else among)))

    async def _launch(self, slot: int) -> WorkerLink:
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                start = self._start(slot, self._listener.fileno(), theirs.fileno())
                fds = (start.listen_fd, start.channel_fd)
                process = await spawn("noria.serving.worker", [msgspec.json.encode(start).decode()], fds)
        except BaseException:  # cancelled, too
            ours.close()
            raise
        link = self._links[slot] = WorkerLink(process, self._complain)
        await link.open(ours)
        await link.apply(self.plan, self._accepting, reach=False)  # a host that is just started again holds no worker up
        return link

    async def _keep(self, slot: int, link: WorkerLink) -> None:
        backoff = Backoff()
        while True:
            code = await link.process.wait()
            link.close()
            if self._stopping:
                return
            if code or slot not in self._leaving:
                self._tell_end(slot, link, code)
            if self._forget_ended(slot):
                return
            revived = await self._restart(slot, backoff)
            if revived is None:
                return
            link = revived

    def _tell_end(self, slot: int, link: WorkerLink, code: int) -> None:
        told = logs.facts(slot=slot, worker_pid=link.process.pid, code=code)
        _log.warning(f"worker {slot} (pid {link.process.pid}) ended with {code}", extra=told)
        try:
            self._on_end(slot, code, link.loading)
        except Exception as error:  # noqa: BLE001 - whatever keeps it from being blamed, its successor must come
            _log.error(f"nobody can be blamed: {type(error).__name__}: {error}", extra=logs.facts(slot=slot))

    def _tell_unserved(self, slot: int, error: Exception) -> None:
        if isinstance(error, UnservedError):
            try:
                self._on_unserved(slot, error.failed)
            except Exception as why:  # noqa: BLE001 - as above
                _log.error(f"nobody can be blamed: {type(why).__name__}: {why}", extra=logs.facts(slot=slot))

    async def _give_up(self, slot: int, link: WorkerLink) -> None:
        """End a worker that did not come so far as to be kept. One that ended by itself is told of: it may have answered."""
        await _ended(link, 0.0)
        code = link.process.returncode
        if code is not None and code != -signal.SIGKILL:
            self._tell_end(slot, link, code)

    def _forget_ended(self, slot: int) -> bool:
        """Forgets a worker that ended as ordered."""
        if slot not in self._leaving:
            return False
        self._leaving.discard(slot)
        del self._links[slot], self._keepers[slot]
        return True

    async def _restart(self, slot: int, backoff: Backoff) -> WorkerLink | None:
        """Starts a replacement; None when it is no longer wanted."""
        while True:
            await asyncio.sleep(backoff.next_pause_s())
            if self._forget_ended(slot):
                return None
            backoff.note_start()
            self.restarts += 1
            before = self._links[slot]
            try:
                link = await self._launch(slot)
                if slot in self._leaving:
                    await link.order("retire")
                return link
            except Exception as error:  # noqa: BLE001 - whatever it is, the slot must not stay empty
                _log.error(f"worker {slot} does not start: {error}", extra=logs.facts(slot=slot, restarts=self.restarts))
                if self._links[slot] is not before:  # else no process could be started
                    await self._give_up(slot, self._links[slot])
                self._tell_unserved(slot, error)

    async def _watch(self) -> None:
        """End workers that hang, for ever. Silence counts from when this process itself was last late: it may be what hung."""
        forgiven = looked = time.monotonic()
        while True:
            await asyncio.sleep(min(LOOK_S, self._silent_s / 4))
            now = time.monotonic()
            forgiven = now if now - looked > 2 * LOOK_S else forgiven
            looked = now
            for slot, link in list(self._links.items()):
                if link.heard_at is not None and now - max(link.heard_at, forgiven) > self._silent_s:
                    who = f"worker {slot} (pid {link.process.pid})"
                    told = logs.facts(slot=slot, worker_pid=link.process.pid, silent_s=self._silent_s)
                    _log.error(f"{who} hangs: no sign of life for {lasting(self._silent_s)}", extra=told)
                    await _struck(link)

    def _complain(self, digest: str, text: str) -> None:
        known = self.complaints.setdefault(digest, [])
        if text not in known and len(known) < 20:
            known.append(text)
            _log.warning(f"release {digest[:12]} failed on a request: {text}", extra=logs.facts(release=digest))


async def _flip(link: WorkerLink, plan: WorkerPlan, kept: Set[str]) -> None:
    """A worker that was just replaced may fail to load what its siblings hold: it is replaced again, and starts with the plan."""
    try:
        await link.apply(plan, kept=kept)
    except ServingError as error:
        told = logs.facts(worker_pid=link.process.pid)
        _log.warning(f"worker (pid {link.process.pid}) does not follow: {error}", extra=told)
        send_signal(link.process)


async def _struck(link: WorkerLink) -> None:
    """End a worker that hangs with a signal at which it leaves its trace, which tells who was at work; stopped or not."""
    link.pulse = link.heard_at = None
    send_signal(link.process, signal.SIGABRT)
    send_signal(link.process, signal.SIGCONT)
    await _ended(link, GRACE_S)


async def _ended(link: WorkerLink, timeout_s: float) -> None:
    until = time.monotonic() + timeout_s
    try:
        await asyncio.wait_for(link.process.wait(), max(0.01, until - time.monotonic()))
    except TimeoutError:
        send_signal(link.process)
        await link.process.wait()
    link.close()
