"""The short way for the common request: one that came whole is answered before the parser returns, in one write.

uvicorn's protocol does everything else. It makes a task, an event and several dictionaries for each request, and sends head and
body apart, which costs a small model more than its own work. Whatever is not a whole `POST /predict` on an idle connection, or
may have to wait, goes uvicorn's way from its headers on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from noria.serving.http import Headers, Reply

ENDS = (b"/predict", b"/infer")
WHOLE_BYTES = 65_536  # a larger body is read piece by piece
_OK, _LENGTH = STATUS_LINE[200] + b"content-type: ", b"\r\ncontent-length: "
Quick = Callable[[bytes, Headers, bytes, tuple[str, int] | None], Reply | None]


class Flow(FlowControl):
    """Nothing is read from a client that does not read its answers: they would fill the memory."""

    def pause_writing(self) -> None:
        super().pause_writing()
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.read_paused:
            self._transport.resume_reading()

    def resume_reading(self) -> None:
        if self.write_paused:
            self.read_paused = False  # as soon as it may be
        else:
            super().resume_reading()


class Edge(HttpToolsProtocol):
    """``app.quick`` answers at once, or says that it cannot."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._quick: Quick = self.app.quick  # the app is ours
        self._held: bytearray | None = None  # the body so far of a request that may go the short way
        self._keep_alive = True
        self._heard = 0.0  # loop time of the last whole request

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.flow = Flow(transport)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._held is None:
            return
        if self.transport.is_closing():
            self._held = None
        else:
            self._go_the_long_way()  # its rest may take its time

    def on_message_begin(self) -> None:
        self.url = b""
        self.expect_100_continue = False
        self.headers = []

    def on_headers_complete(self) -> None:
        if self._may_be_quick():
            self._held, self._keep_alive = bytearray(), self.parser.should_keep_alive()
        else:
            self._begin()

    def on_body(self, body: bytes) -> None:
        if self._held is None:
            super().on_body(body)
        else:
            self._held += body

    def on_message_complete(self) -> None:
        if self._held is None:
            super().on_message_complete()
            return
        reply = self._quick(self.url, self.headers, bytes(self._held), self.client)
        if reply is None:
            self._go_the_long_way()
            super().on_message_complete()
            return
        self._held = None
        self._send(reply)

    def _may_be_quick(self) -> bool:
        if not self.url.endswith(ENDS) or self.parser.get_method() != b"POST" or self.parser.get_http_version() != "1.1":
            return False
        busy = self.pipeline or (self.cycle is not None and not self.cycle.response_complete) or self.flow.write_paused
        if busy or self.expect_100_continue or self.parser.should_upgrade() or self.transport.is_closing():
            return False
        length = next((value for name, value in self.headers if name == b"content-length"), b"")
        return length.isdigit() and int(length[:9]) <= WHOLE_BYTES

    def _begin(self) -> None:
        """What uvicorn does from a message's beginning to the end of its headers."""
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.headers.extend(headers)
        self.url, self.expect_100_continue = url, expects
        super().on_headers_complete()

    def _go_the_long_way(self) -> None:
        body, self._held = self._held, None
        self._begin()
        if body:
            super().on_body(bytes(body))

    def _send(self, reply: Reply) -> None:
        if reply.status == 200 and self._keep_alive and not reply.headers and not self.server_state.default_headers:
            self.transport.write(b"".join((_OK, reply.kind, _LENGTH, str(len(reply.body)).encode(), b"\r\n\r\n", reply.body)))
            self._sent()
            return
        lines = [STATUS_LINE[reply.status]]
        fixed = ((b"content-type", reply.kind), (b"content-length", b"%d" % len(reply.body)))
        for name, value in (*self.server_state.default_headers, *fixed, *reply.headers):
            lines += (name, b": ", value, b"\r\n")
        lines.append(b"\r\n" if self._keep_alive else b"connection: close\r\n\r\n")
        lines.append(reply.body)
        self.transport.write(b"".join(lines))
        self._sent()

    def _sent(self) -> None:
        self.server_state.total_requests += 1
        if not self._keep_alive:
            self.transport.close()
            return
        self._heard = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def _unset_keepalive_if_required(self) -> None:
        """One timer for many requests: when it fires, it looks how long nobody was heard."""
        if self.transport.is_closing() and self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
            self.timeout_keep_alive_task = None

    def on_response_complete(self) -> None:
        self._heard = self.loop.time()
        before = self.timeout_keep_alive_task
        super().on_response_complete()
        if before is not None and before is not self.timeout_keep_alive_task:
            before.cancel()
        if self.pipeline:
            self.flow.pause_reading()  # until those that came already are answered: else they would fill the memory

    def timeout_keep_alive_handler(self) -> None:
        self.timeout_keep_alive_task = None
        if self.transport.is_closing():
            return
        rest = self._heard + self.timeout_keep_alive - self.loop.time()
        if self.cycle is not None and not self.cycle.response_complete:
            rest = self.timeout_keep_alive  # a request is under way
        if rest <= 0.001:
            self.transport.close()
        else:
            self.timeout_keep_alive_task = self.loop.call_later(rest, self.timeout_keep_alive_handler)
