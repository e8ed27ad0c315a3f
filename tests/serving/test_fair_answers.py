"""Requests are answered in the order in which they came, over all connections: none waits for many answers to another."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import uvicorn
import uvloop

from noria.serving.arrivals import ANSWERS, Arrivals
from noria.serving.fast_http import FastHttpProtocol
from noria.serving.gathering import Gathering
from noria.serving.http import Reply, read_body
from noria.serving.worker import QuietServer

CLIENTS = 40


class Echo:
    """An application in the edge's form, which answers with what it was asked, and keeps that in order."""

    room = 1000

    def __init__(self) -> None:
        self.arrivals = Arrivals()
        self.gathering = Gathering(lambda wholes: [self.try_fast(w.head.path, w.head.headers, w.body, w.peer) for w in wholes])
        self.asked: list[bytes] = []

    def try_fast(self, path: bytes, headers: Any, body: bytes, peer: Any) -> Reply | None:
        self.asked.append(body)
        return Reply(200, body)

    def count_refusal(self, status: int) -> None:
        raise AssertionError(status)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = await read_body(receive, None, 1_000_000)
        self.asked.append(body)
        await Reply(200, body).send(send)


class Client:
    """A connection whose client never waits: what it sends is with the kernel at once."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.link = socket.create_connection(address)
        self.link.setblocking(False)
        self.got = b""

    def ask(self, *bodies: bytes) -> None:
        self.link.sendall(
            b"".join(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(b), b) for b in bodies)
        )

    def answers(self) -> int:
        """How many came until now."""
        with contextlib.suppress(BlockingIOError):
            self.got += self.link.recv(1_000_000)
        return self.got.count(b"HTTP/1.1 200 OK")


def listening() -> socket.socket:
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    listener.setblocking(False)
    return listener


@contextlib.asynccontextmanager
async def served(app: Echo, listener: socket.socket) -> AsyncIterator[None]:
    config = uvicorn.Config(
        app, http=FastHttpProtocol, ws="none", lifespan="off", interface="asgi3", log_config=None, proxy_headers=False
    )  # type: ignore[arg-type]
    server = QuietServer(config, app.arrivals)
    serving = asyncio.create_task(server.serve([listener]))
    try:
        yield
    finally:
        server.should_exit = True
        await serving


def tell(story: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(story, 60)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # the workers' loop, which accepts one connection a turn
        runner.run(bounded())


def test_of_many_clients_that_come_at_once_none_waits_for_the_others_again_and_again() -> None:
    """The last of 64 waited for 2,000 answers: 0.5 s where the median was 17 ms."""
    app, listener = Echo(), listening()

    async def story() -> None:
        clients = [Client(listener.getsockname()) for _ in range(CLIENTS)]
        for client in clients:
            client.ask(b"{}")
        sent = [1] * CLIENTS
        async with served(app, listener):
            while not all(client.answers() for client in clients):
                for number, client in enumerate(clients):
                    if client.answers() == sent[number]:  # its next request is always there
                        client.ask(b"{}")
                        sent[number] += 1
                await asyncio.sleep(0)
            for client in clients:
                client.link.close()

    tell(story())
    assert len(app.asked) < 6 * CLIENTS  # 820 where the loop alone accepts


def test_what_a_client_sends_at_once_waits_for_the_requests_of_others() -> None:
    app, listener = Echo(), listening()
    bodies = [b"%d" % number for number in range(500)]

    async def story() -> None:
        async with served(app, listener):
            clients = [Client(listener.getsockname()) for _ in range(3)]
            for client in clients:
                client.ask(b"first")
            while not all(client.answers() for client in clients):
                await asyncio.sleep(0)
            await asyncio.sleep(0)  # so that the loop begins with whoever speaks first
            clients[1].ask(*bodies)
            for other in (clients[0], clients[2]):
                other.ask(b"other")
            while [client.answers() for client in clients] != [2, 501, 2]:
                await asyncio.sleep(0)
            for client in clients:
                client.link.close()

    tell(story())
    assert [body for body in app.asked[3:] if body != b"other"] == bodies
    del app.asked[app.asked.index(b"other")]
    assert app.asked.index(b"other") < 25  # of those before it, three are the first ones


def test_who_accepts_no_more_leaves_connections_to_other_workers() -> None:
    async def story() -> None:
        listener, arrivals = listening(), Arrivals()
        arrivals.listen(listener, asyncio.Protocol)
        with listener, socket.create_connection(listener.getsockname()), socket.create_connection(listener.getsockname()):
            arrivals.note_connection()
            assert arrivals.waiting
            for _ in range(ANSWERS + 1):
                arrivals.accept_more()
            arrivals.close()
            arrivals.note_connection()
            assert not arrivals.waiting
            for _ in range(ANSWERS + 1):
                arrivals.accept_more()
            connection, _ = listener.accept()  # the second one is left
            connection.close()
            await asyncio.sleep(0)

    tell(story())
