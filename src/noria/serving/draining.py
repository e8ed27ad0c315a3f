"""Makes clients reconnect without failing a request: their next answer carries `Connection: close`.

Closing an idle connection would be quicker, but its client may be sending a request at that moment, and would see it fail.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from uvicorn.server import ServerState

CLOSE = (b"connection", b"close")
LOOK_S = 0.05


class DrainingState(ServerState):
    """What a connection that shall end takes for its server's state: the same, with one header more for each answer."""

    def __init__(self, whole: ServerState) -> None:
        self.total_requests = 0  # nobody reads it
        self.connections, self.tasks = whole.connections, whole.tasks
        self._whole = whole

    @property
    def default_headers(self) -> list[tuple[bytes, bytes]]:  # type: ignore[override]  # a list there: here it follows the other's
        return [*self._whole.default_headers, CLOSE]


def shed_connections(state: ServerState, share: float) -> int:
    """Asks this share of the clients to reconnect, so that another worker may take them; returns how many."""
    connections = _staying(state.connections)
    chosen = connections[: int(share * len(connections) + 0.5)]
    end_connections(state, chosen)
    return len(chosen)


async def drain_connections(state: ServerState, within_s: float) -> None:
    """Asks every client to reconnect; returns when all are gone, or after ``within_s`` seconds."""
    loop = asyncio.get_running_loop()
    until = loop.time() + within_s
    while state.connections and loop.time() < until:
        end_connections(state, _staying(state.connections))  # one may have connected just before the socket was closed
        await asyncio.sleep(LOOK_S)


def end_connections(state: ServerState, connections: Iterable[Any]) -> None:
    for connection in connections:
        connection.server_state = DrainingState(state)


def _staying(connections: Iterable[Any]) -> list[Any]:
    return [connection for connection in connections if not isinstance(connection.server_state, DrainingState)]
