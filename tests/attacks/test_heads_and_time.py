"""Clients that send heads without end, speak too slowly, or say nothing: each is answered or let go of, and holds up nobody."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from noria.serving import fast_http
from noria.serving.arrivals import Arrivals
from noria.serving.fast_http import FastHttpProtocol, sweep
from noria.serving.gathering import Gathering
from noria.serving.http import GoneError, Reply, read_body

BODY = b'{"a": 1}'
HEAD = b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n"


class Echo:
    """An application in the edge's form: it says what it was asked."""

    def __init__(self, room: int = 100) -> None:
        self.room = room
        self.arrivals = Arrivals()
        self.gathering = Gathering(lambda wholes: [self.try_fast(w.head.path, w.head.headers, w.body, w.peer) for w in wholes])
        self.statuses: list[int] = []
        self.asked: list[bytes] = []
        self.long_way = False

    def try_fast(self, path: bytes, headers: Any, body: bytes, peer: Any) -> Reply | None:
        if self.long_way:
            return None
        self.asked.append(body)
        return Reply(200, body)

    def count_refusal(self, status: int) -> None:
        self.statuses.append(status)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        with contextlib.suppress(GoneError):
            await self._answer(scope, receive, send)

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        body = await read_body(receive, None, 1_000_000)
        self.asked.append(body)
        await Reply(200, body or scope["path"].encode()).send(send)


@contextlib.asynccontextmanager
async def served(app: Echo) -> AsyncIterator[Callable[[], Any]]:
    """Connections to an edge before the application."""
    config = uvicorn.Config(
        app, http=FastHttpProtocol, ws="none", lifespan="off", interface="asgi3", log_config=None, proxy_headers=False
    )  # type: ignore[arg-type]
    config.load()
    state = ServerState()
    server = await asyncio.get_running_loop().create_server(lambda: FastHttpProtocol(config, state, {}), "127.0.0.1", 0)
    sweeper = asyncio.create_task(sweep(state.connections))
    port = server.sockets[0].getsockname()[1]
    made: list[asyncio.StreamWriter] = []

    async def dial() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        made.append(writer)
        return reader, writer

    try:
        yield dial
    finally:
        sweeper.cancel()
        for writer in made:
            writer.close()
        server.close()


async def answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)).decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
    return int(head[0].split()[1]), headers, await reader.readexactly(int(headers["content-length"]))


def story(app: Echo, tell: Callable[[Callable[[], Any]], Any]) -> None:
    async def run() -> None:
        async with served(app) as dial:
            await asyncio.wait_for(tell(dial), 60)

    asyncio.run(run())


@pytest.mark.parametrize(
    "part",
    [b"X-A: " + b"a" * 70_000 + b"\r\n", b"".join(b"X-%d: a\r\n" % i for i in range(150)), b"X-A: " + b"a" * 2_000_000],
    ids=["long", "many", "endless"],
)
@pytest.mark.parametrize("path", [b"/predict", b"/v2/models/m/infer"])
def test_a_head_beyond_its_bounds_is_refused(part: bytes, path: bytes) -> None:
    """Number 49: 150 MB of headers took a worker from 85 to 233 MB, and made others wait for 128 s."""
    app = Echo()

    async def tell(dial: Callable[[], Any]) -> None:
        reader, writer = await dial()
        writer.write(HEAD.replace(b"/predict", path) % len(BODY) + part)
        if part.endswith(b"\r\n"):
            writer.write(b"\r\n" + BODY)
        status, headers, body = await answer(reader)
        assert (status, headers["connection"], app.statuses, app.asked) == (431, "close", [431], [])
        said = json.loads(body)["error"]
        assert "65536 bytes and 100 fields" in (said if path.startswith(b"/v2") else said["message"])
        assert await reader.read() == b""

    story(app, tell)


def test_a_head_within_its_bounds_is_taken_however_it_is_cut() -> None:
    async def tell(dial: Callable[[], Any]) -> None:
        reader, writer = await dial()
        head = HEAD % len(BODY) + b"".join(b"X-%d: %b\r\n" % (i, b"a" * 600) for i in range(90)) + b"\r\n" + BODY
        for _ in range(3):
            for start in range(0, len(head), 7000):
                writer.write(head[start : start + 7000])
                await writer.drain()
            assert await answer(reader) == (200, {"content-type": "application/json", "content-length": "8", "": ""}, BODY)
        writer.write((HEAD % len(BODY) + b"\r\n" + BODY) * 3000)  # more than a head may have, of whole requests
        for _ in range(3000):
            assert (await answer(reader))[0] == 200

    story(Echo(), tell)


def test_what_follows_a_body_without_end_is_bounded_too() -> None:
    """Number 49: the fields behind a body in chunks are a head as well."""
    app = Echo()
    app.long_way = True

    async def tell(dial: Callable[[], Any]) -> None:
        reader, writer = await dial()
        writer.write(b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nX: ")
        await writer.drain()
        for _ in range(40):
            writer.write(b"a" * 10_000)
            with contextlib.suppress(ConnectionError):
                await writer.drain()
            await asyncio.sleep(0)
        assert (await answer(reader))[0] == 431
        assert (app.statuses, app.asked) == ([431], [])

    story(app, tell)


@pytest.mark.parametrize("long_way", [False, True])
def test_a_wish_for_another_protocol_is_not_heard_and_the_body_is_the_requests(long_way: bool) -> None:
    """Number 49: Java's default client (`Upgrade: h2c`) was told that the body is empty; its body was the next request."""
    app = Echo()
    app.long_way = long_way
    wish = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\r\n"
    smuggled = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"

    async def tell(dial: Callable[[], Any]) -> None:
        reader, writer = await dial()
        for body in (BODY, smuggled, b"x" * 100_000):
            writer.write(HEAD % len(body) + wish + b"\r\n" + body)
            status, headers, said = await answer(reader)
            assert (status, said, headers.get("connection")) == (200, body, None)
        writer.write((HEAD % len(BODY) + wish + b"\r\n" + BODY) * 2000)
        for _ in range(2000):
            assert (await answer(reader))[2] == BODY
        writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
        assert (await answer(reader))[2] == b"/health"
        writer.write(b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n" + wish + b"\r\n2\r\n{}\r\n0\r\n\r\n")
        assert (await answer(reader))[2] == b"{}"
        writer.write(HEAD % len(BODY) + wish + b"\r\n")
        await writer.drain()
        await asyncio.sleep(0)
        writer.write(BODY)
        assert (await answer(reader))[2] == BODY
        writer.write(b"CONNECT evil.example:443 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await answer(reader))[0] == 405

    story(app, tell)
    assert b"GET /smuggled" not in b"".join(body for body in app.asked if body != smuggled)


def test_who_speaks_too_slowly_is_told_and_who_says_nothing_is_let_go_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers 10, 59: 1,100 connections that say nothing, or trickle their headers, held their places for ever."""
    for name, value in (("HEAD_S", 0.5), ("SILENT_S", 0.5), ("LOOK_S", 0.05), ("LINGER_S", 0.2)):
        monkeypatch.setattr(fast_http, name, value)
    app = Echo()

    async def tell(dial: Callable[[], Any]) -> None:
        silent, _ = await dial()
        slow, writer = await dial()
        kept, asking = await dial()
        asking.write(HEAD % len(BODY) + b"\r\n" + BODY)
        assert (await answer(kept))[0] == 200
        writer.write(b"POST /predict HTTP/1.1\r\n")

        async def trickle() -> None:
            with contextlib.suppress(ConnectionError):
                while True:
                    writer.write(b"X-A: a\r\n")
                    await writer.drain()
                    await asyncio.sleep(0.02)

        trickling = asyncio.create_task(trickle())
        status, headers, body = await answer(slow)
        assert (status, headers["connection"], json.loads(body)["error"]["code"]) == (408, "close", "slow_head")
        assert await silent.read() == b""
        with contextlib.suppress(ConnectionError):
            assert await slow.read() == b""
        trickling.cancel()
        asking.write(HEAD % len(BODY) + b"\r\n" + BODY)  # one that has asked may wait for longer
        assert (await answer(kept))[0] == 200
        assert app.statuses == [408]

    story(app, tell)


def test_a_client_that_does_not_read_its_answers_is_let_go_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """Number 10: its place, and what it did not read, were held for as long as it liked."""
    monkeypatch.setattr(fast_http, "LOOK_S", 0.05)
    monkeypatch.setattr(fast_http, "STALLED_S", 0.5)
    body = b"x" * 60_000

    async def tell(dial: Callable[[], Any]) -> None:
        reader, writer = await dial()
        reader._transport.pause_reading()  # type: ignore[attr-defined]  # it takes nothing
        writer.write((HEAD % len(body) + b"\r\n" + body) * 500)

        async def until_cut() -> None:
            while True:
                writer.write(b"\r\n")
                await writer.drain()
                await asyncio.sleep(0.05)

        with pytest.raises(ConnectionError):
            await until_cut()

    story(Echo(), tell)


def test_more_connections_than_there_is_room_for_are_told_to_come_again() -> None:
    """Number 10: connections took the descriptors that the log needs."""
    app = Echo(room=3)

    async def tell(dial: Callable[[], Any]) -> None:
        places = [await dial() for _ in range(3)]
        for reader, writer in places:
            writer.write(HEAD % len(BODY) + b"\r\n" + BODY)
            assert (await answer(reader))[0] == 200
        reader, _ = await dial()
        status, headers, _ = await answer(reader)
        assert (status, headers["retry-after"], app.statuses) == (503, "1", [503])
        places[0][1].close()
        await asyncio.sleep(0.05)
        reader, writer = await dial()
        writer.write(HEAD % len(BODY) + b"\r\n" + BODY)
        assert (await answer(reader))[0] == 200

    story(app, tell)
