"""The console's connections: heads are bounded (h11 does that), and one on which no request comes to be is closed."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

WITHIN_S = 10.0  # a request begins and its head is whole


class IdleTimeoutProtocol(H11Protocol):
    """uvicorn's own protocol waits for ever for a first request, and for one that comes a byte at a time."""

    _looking: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._look_later(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._looking is not None:
            self._looking.cancel()
        super().connection_lost(exc)

    def _look_later(self, cycle: object) -> None:
        self._looking = self.loop.call_later(WITHIN_S, self._look, cycle)

    def _look(self, before: object) -> None:
        """``before``: the request that was the last one at the look before."""
        if self.cycle is before and (self.cycle is None or self.cycle.response_complete):
            self.transport.close()
        else:
            self._look_later(self.cycle)
