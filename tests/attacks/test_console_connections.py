"""The console is met by the same clients as the model server."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from noria.console import idle_connections
from noria.console.idle_connections import IdleTimeoutProtocol


async def app(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


def test_the_console_bounds_heads_and_lets_go_of_who_asks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers 10, 49: what held for the model server held for the console."""
    monkeypatch.setattr(idle_connections, "WITHIN_S", 0.3)

    async def story() -> None:
        config = uvicorn.Config(app, http=IdleTimeoutProtocol, ws="none", lifespan="off", log_config=None)
        config.load()
        made = lambda: IdleTimeoutProtocol(config, ServerState(), {})  # noqa: E731 - one line of a test
        server = await asyncio.get_running_loop().create_server(made, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        large, writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.suppress(ConnectionError):
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nX-A: " + b"a" * 2_000_000)
            await writer.drain()
        with contextlib.suppress(ConnectionError):
            assert (await large.read()).startswith(b"HTTP/1.1 400")
        writer.close()
        slow, trickling = await asyncio.open_connection("127.0.0.1", port)
        trickling.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await slow.readuntil(b"ok")).startswith(b"HTTP/1.1 200")
        with contextlib.suppress(ConnectionError):
            while not slow.at_eof():
                trickling.write(b"G")
                await trickling.drain()
                await asyncio.sleep(0.05)
        trickling.close()
        server.close()

    asyncio.run(asyncio.wait_for(story(), 30))
