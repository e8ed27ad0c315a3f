"""Connections that come while requests are answered.

The event loop accepts one connection a turn, and in a turn it answers every connection that has a request. Of 64 clients that
come at once, the last would so wait for two thousand answers to the others. Therefore a turn that has many answers to give
accepts one more with each, for as long as some wait. A worker with few clients takes one a turn, which leaves some to the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable

ANSWERS = 8  # of a turn, until each accepts one more


class Arrivals:
    """Accepts waiting connections. While ``waiting``, whoever answers a request calls ``accept_more``."""

    def __init__(self) -> None:
        self.waiting = False
        self._listener: socket.socket | None = None
        self._make: Callable[[], asyncio.Protocol] | None = None
        self._answers = 0
        self._taken: set[asyncio.Task[None]] = set()

    def listen(self, listener: socket.socket, make: Callable[[], asyncio.Protocol]) -> None:
        """Accept from a socket on which the loop listens too; ``make`` is called for each connection."""
        self._listener, self._make = listener, make

    def note_connection(self) -> None:
        """Notes a new connection at the start of a loop turn: more may wait."""
        self.waiting, self._answers = self._listener is not None, 0

    def accept_more(self) -> None:
        self._answers += 1
        if self._answers > ANSWERS:
            self._accept()

    def close(self) -> None:
        """Stops accepting."""
        self._listener, self.waiting = None, False

    def _accept(self) -> None:
        if self._listener is None:
            return
        try:
            connection, _ = self._listener.accept()
        except OSError:  # none waits, or it cannot be taken: the loop finds out in its turn
            self.waiting = False
            return
        connection.setblocking(False)
        task = asyncio.get_running_loop().create_task(self._take(connection))
        self._taken.add(task)
        task.add_done_callback(self._taken.discard)

    async def _take(self, connection: socket.socket) -> None:
        assert self._make is not None
        with contextlib.suppress(OSError):  # its client is gone again
            await asyncio.get_running_loop().connect_accepted_socket(self._make, connection)
