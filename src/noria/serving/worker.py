"""One worker: `python -m noria.serving.worker SETTINGS`. Answers on the inherited listening socket and performs the parent's
orders.

The channel carries one JSON document a line. Down: ``load``, ``try``, ``routes``, ``accept``, ``shed``, ``retire``, each answered
by its ``id``, and ``drain``, ``usage``, ``waiting`` and ``recount``, which are not. Up, besides the answers:
``{"complaint": {digest, text}}`` when a release fails on a request, and a ``pulse`` once a second. When the parent ends, the
worker drains and ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import socket
import sys
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Generator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import uvicorn
import uvloop

from noria.kernel import logs
from noria.kernel.errors import NoriaError, ServingError
from noria.predictions.shadow_log import shadow_folder
from noria.predictions.writer import LogWriter
from noria.releases.bundle import open_bundle
from noria.releases.signing import known_keys
from noria.serving.access_control import AccessControl
from noria.serving.access_log import AccessLog
from noria.serving.app import App, Settings
from noria.serving.arrivals import Arrivals
from noria.serving.counts import SharedCounters, counts_path
from noria.serving.crashes import leave_last_words
from noria.serving.draining import drain_connections, shed_connections
from noria.serving.fast_http import FastHttpProtocol, sweep
from noria.serving.heartbeat import beat
from noria.serving.key_assignment import CountedBuckets, open_seen, seen_path
from noria.serving.project_apps import Apps
from noria.serving.rate_limits import RateLimits, rates_path
from noria.serving.recorder import Recorder, secret
from noria.serving.rehearsal import rehearse
from noria.serving.route import Route
from noria.serving.router import Router, table_of
from noria.serving.runtime import HostedRuntime, LoadedRelease, load
from noria.serving.shadow import ShadowScorer
from noria.serving.stderr import survive_full_disk
from noria.serving.worker_start import LINE_LIMIT, Start

COMPLAINT = 1000  # characters of one; the channel's lines have an end
COMPLAINTS = 20  # distinct messages of a release that are passed on
HOST_S = 10.0  # a release's host that died gets this long to be there again before the release is refused
DRAIN_S = 10  # requests in flight get this long when the worker ends
KEEP_ALIVE_S = 75
LEAVE_S = KEEP_ALIVE_S + 15.0  # a connection that is idle for longer is closed anyway
BACKLOG_BYTES = 65_536  # a parent that does not read so much of what it is told hears no pulse


class QuietServer(uvicorn.Server):
    """Signals are the worker's own business, and arrivals are accepted between answers too."""

    def __init__(self, config: uvicorn.Config, arrivals: Arrivals) -> None:
        super().__init__(config)
        self._arrivals = arrivals

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        assert sockets is not None
        self._arrivals.listen(sockets[0], lambda: FastHttpProtocol(self.config, self.server_state, self.lifespan.state))

    def accept_no_more(self) -> None:
        self._arrivals.close()
        for server in getattr(self, "servers", ()):  # none before it accepts
            server.close()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.accept_no_more()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


class Worker:
    """Loads, flips, drains."""

    def __init__(self, start: Start, writer: asyncio.StreamWriter) -> None:
        self._start = start
        self._state = Path(start.state)
        self._writer = writer
        self._loaded: dict[str, LoadedRelease] = {}
        self._complaints: dict[str, set[str]] = {}
        self._seen: dict[str, tuple[str, CountedBuckets]] = {}  # project -> rollout, and which keys were counted in it
        counts = counts_path(self._state, start.environment)
        self._counts = SharedCounters(counts, start.slot)
        self._counts.at_work.take()  # left by a tree that was killed
        leave_last_words(counts, start.slot)
        self._log = LogWriter(self._state / "log" / start.environment, start.environment, deleted=self._counts.count_deleted_log)
        self._access_log = AccessLog(self._state / "log" / start.environment) if start.access.log else None
        self._shadow = ShadowScorer(self._counts, self.complain, shadow_folder(self._state, start.environment), start.environment)
        self._apps = Apps(self._app_maker())
        self._server = QuietServer(_config(self._apps), self._apps.arrivals)
        self._serving: asyncio.Task[None] | None = None
        self._loading = defaultdict[str, asyncio.Lock](asyncio.Lock)  # by release: a slow one holds up no other
        self._running: set[asyncio.Task[None]] = set()

    def _app_maker(self) -> Callable[[], App]:
        start = self._start
        settings = Settings(start.environment, start.host, start.max_body_bytes, start.max_rows)
        rates = RateLimits(rates_path(self._state, start.environment), start.access.rate) if start.access.rate else None
        door = AccessControl(start.access, start.host, rates)
        policy = start.recording
        keyed = secret(self._state) if policy.redact or policy.sample < 1.0 else b""
        recorder = Recorder(self._log, policy, self._counts, keyed)
        router = Router(self._counts, self.complain)
        return lambda: App(settings, router, recorder, self._counts, door, self._access_log, self._shadow)

    async def perform_orders(self, reader: asyncio.StreamReader) -> None:
        """Performs orders until the parent says drain, or ends."""
        orders: dict[str, Callable[[dict[str, Any]], Awaitable[None]]] = {
            "load": self._load,
            "try": self._try,
            "routes": self._routes,
            "accept": self._accept,
            "shed": self._shed,
            "retire": lambda message: self._retire(reader),
        }
        with contextlib.suppress(ConnectionError):  # the parent was killed before it read all that it was told
            while line := await reader.readline():
                message = msgspec.json.decode(line)
                if message["op"] == "drain":
                    break
                if message["op"] == "usage":
                    self._apps.set_usage(message["usage"])
                elif message["op"] == "waiting":
                    self._apps.set_waiting(message["waiting"])
                elif message["op"] == "recount":
                    self._counts.reopen(counts_path(self._state, self._start.environment))
                else:
                    self._run(self._answer(message, orders[message["op"]]))
        await self._drain()

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    def complain(self, digest: str, text: str) -> None:
        """Pass on what a release failed with, once per text and never without bound."""
        known, text = self._complaints.setdefault(digest, set()), text[:COMPLAINT]
        if text not in known and len(known) < COMPLAINTS:
            known.add(text)
            self._send({"complaint": {"digest": digest, "text": text}})

    async def _answer(self, message: dict[str, Any], order: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
        try:
            await order(message)
        except NoriaError as error:
            self._send({"id": message["id"], "error": str(error)})
        except Exception as error:  # noqa: BLE001 - the parent must hear of any failure, else it waits for the answer
            self._send({"id": message["id"], "error": f"{type(error).__name__}: {error}"})
        else:
            self._send({"id": message["id"], "ok": True})

    def _send(self, message: dict[str, Any]) -> None:
        if not self._writer.is_closing():
            self._writer.write(msgspec.json.encode(message) + b"\n")

    async def _load(self, message: dict[str, Any]) -> None:
        digest = message["digest"]
        async with self._loading[digest]:
            if digest in self._loaded:
                return
            folder = Path(message["folder"])
            bundle = await asyncio.to_thread(open_bundle, folder, known_keys(self._state), digest)
            host = Path(message["host"]) if message["host"] else None
            try:
                release = await load(bundle, host, HOST_S if message["reach"] else 0.0)
            except ServingError:
                if host is None or message["reach"]:
                    raise
                release = LoadedRelease(bundle, HostedRuntime(host, bundle.signature))  # it connects when asked
            rehearse(release, self._start.max_rows)
            self._loaded[digest] = release

    async def _try(self, message: dict[str, Any]) -> None:
        """Builds everything that serving by these routes needs, without serving by them."""
        for route in self._named_routes(message):
            self._apps.try_out(table_of(route, self._loaded, self._start.max_rows))

    async def _routes(self, message: dict[str, Any]) -> None:
        routes = self._named_routes(message)
        self._apps.serve([table_of(route, self._loaded, self._start.max_rows, self._marks(route)) for route in routes])
        if not any(route.other for route in routes):
            await asyncio.to_thread(self._shadow.finish_segment)
        await self._unload({d for r in routes for d in (r.champion, r.candidate, r.previous)} | set(message["kept"]))

    def _named_routes(self, message: dict[str, Any]) -> list[Route]:
        """The routes that a message names. Raises ServingError when one's releases are not loaded."""
        routes = msgspec.convert(message["routes"], list[Route])
        missing = {d for r in routes for d in (r.champion, r.candidate) if d} - self._loaded.keys()
        if missing:
            raise ServingError(f"not loaded: {', '.join(sorted(missing))}")
        return routes

    def _marks(self, route: Route) -> CountedBuckets | None:
        """Which keys were counted in the route's rollout, where requests go by key."""
        if not (route.sticky and route.candidate and route.share and route.rollout_id):
            return None
        before = self._seen.get(route.project)
        if before is None or before[0] != route.rollout_id:
            path = seen_path(self._state, self._start.environment, route.project)
            before = self._seen[route.project] = (route.rollout_id, open_seen(path, route.rollout_id))
        return before[1]

    async def _unload(self, kept: set[str | None]) -> None:
        """Requests in flight hold their release; only hosted ones have a connection to close, a little later."""
        loop = asyncio.get_running_loop()
        for digest in self._loaded.keys() - kept:
            release = self._loaded.pop(digest)
            self._complaints.pop(digest, None)
            loop.call_later(DRAIN_S, _close, release)

    async def _accept(self, message: dict[str, Any]) -> None:
        if self._serving is None:
            gc.collect()
            gc.freeze()  # modules and the first release stay: collections under load need not walk them
            self._serving = asyncio.create_task(self._server.serve([socket.socket(fileno=self._start.listen_fd)]))
            self._run(beat(self._tell))
            self._run(sweep(self._server.server_state.connections))
        while not self._server.started:
            if self._serving.done():
                await self._serving
            await asyncio.sleep(0.001)

    def _tell(self, message: dict[str, Any]) -> None:
        """Sends a report that the parent may miss."""
        if self._writer.transport.get_write_buffer_size() < BACKLOG_BYTES:
            self._send(message)

    async def _shed(self, message: dict[str, Any]) -> None:
        """Asks some clients to reconnect, because there are more workers now."""
        shed_connections(self._server.server_state, message["share"])

    async def _retire(self, reader: asyncio.StreamReader) -> None:
        """Accepts no more, and ends when the clients are gone; until then it follows routes as before."""
        self._server.accept_no_more()
        self._run(self._leave(reader))

    async def _leave(self, reader: asyncio.StreamReader) -> None:
        await drain_connections(self._server.server_state, LEAVE_S)
        hang_up(reader, self._writer)

    async def _drain(self) -> None:
        self._apps.drain()
        self._server.should_exit = True
        if self._serving is not None:
            await self._serving
        if self._access_log is not None:
            self._access_log.close()
        self._log.close()
        self._shadow.close()


def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """As if the parent had. It may say "drain" all the same: when all of a container is told to end, both are."""
    writer.transport.pause_reading()  # type: ignore[attr-defined]  # a socket's transport reads
    reader.feed_eof()


def _close(release: LoadedRelease) -> None:
    asyncio.ensure_future(release.runtime.close())  # noqa: RUF006 - nothing waits for it


def _config(app: Apps) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        loop="uvloop",
        http=FastHttpProtocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=DRAIN_S,
    )


async def run(start: Start) -> None:
    channel = socket.socket(fileno=start.channel_fd)
    channel.setblocking(False)
    reader, writer = await asyncio.open_connection(sock=channel, limit=LINE_LIMIT)
    worker = Worker(start, writer)
    np.seterr(over="ignore")  # a number beyond float32 is the model's to answer, or told to the client; not to the log
    loop = asyncio.get_running_loop()

    def end() -> None:
        loop.remove_signal_handler(signal.SIGTERM)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        hang_up(reader, writer)

    loop.add_signal_handler(signal.SIGTERM, end)
    await worker.perform_orders(reader)


def main(arguments: list[str]) -> int:
    survive_full_disk()
    logs.take_all()
    for ignored in (signal.SIGINT, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    uvloop.run(run(msgspec.json.decode(arguments[0], type=Start)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
