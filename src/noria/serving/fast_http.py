"""The fast path for common requests: one that arrived completely is answered before the parser returns, in one write. A request
whose head is known is not even parsed, and is answered together with those of others (`gathering.py`).

uvicorn's protocol does everything else. It makes a task, an event and several dictionaries for each request, and sends head and
body apart, which costs a small model more than its own work. Whatever is not a whole `POST /predict` on an idle connection, or
may have to wait, goes uvicorn's way from its headers on. So does what a client sent behind a request that was answered this way:
it waits for its turn, which comes after that of the others.

A head has a most of bytes and fields, and each part of a request a time: `sweep` looks once a second who is beyond his.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection
from typing import Any

import httptools
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from noria.kernel import logs
from noria.kernel.words import lasting
from noria.serving.arrivals import Arrivals
from noria.serving.gathering import Gathering, Head, Whole
from noria.serving.http import Headers, Reply, json_reply
from noria.serving.v2 import in_form

_log = logs.get_logger("noria.serving")

ENDS = (b"/predict", b"/infer")
WHOLE_BYTES = 65_536  # a larger body is read piece by piece
HEAD_BYTES = 65_536  # of a request's line and headers
HEAD_FIELDS = 100
HEAD_S = 10.0  # a client gets this long to send a head, once it has begun
SILENT_S = 30.0  # before the first one begins; later the connection is kept for `timeout_keep_alive`
REST_S = 10.0  # what is left of a body when its answer is there
STALLED_S = 75.0  # a client that does not read its answers is let go of after that
LINGER_S = 2.0  # a client that is refused while it sends gets this long to read why
LOOK_S = 1.0
UPGRADE = frozenset({b"upgrade", b"http2-settings"})
_OK, _LENGTH = STATUS_LINE[200] + b"content-type: ", b"\r\ncontent-length: "
TryFast = Callable[[bytes, Headers, bytes, tuple[str, int] | None], Reply | None]


class WriteFlow(FlowControl):
    """Stops reading from a client that does not read its answers, which would fill the memory."""

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


class _RefusedError(Exception):
    """Stops the parser: the connection is refused, and nothing more of it is parsed."""


class FastHttpProtocol(HttpToolsProtocol):
    """``app.try_fast`` answers at once, or says that it cannot; ``app.room`` is how many connections there may be, and
    ``app.arrivals`` accepts those that wait."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._try_fast: TryFast = self.app.try_fast  # the app is ours
        self._arrivals: Arrivals = self.app.arrivals
        self._gathering: Gathering = self.app.gathering
        self._gathered = False  # whether its request waits to be answered with those of others
        self._slow = False  # whether the data at hand is not for the short way
        self._learnt: Head | None = None  # of the one request of the data at hand, when it was answered well
        self._answered = False  # whether a request of the data at hand was answered
        self._held: bytearray | None = None  # the body so far of a request that may take the fast path
        self._keep_alive = True
        self._heard = 0.0  # loop time of the last answer, or of the connection's beginning
        self._began: float | None = None  # loop time at which a head began that is not whole
        self._body_due = False  # its head is whole, its body is not
        self._body_seen = False  # whether the data at hand held a part of a body
        self._fed = 0  # bytes that came for a head that is not whole, or behind a body that does not end
        self._wide = False  # whether the head may be longer than it may
        self._upgrading = False  # its client would like another protocol
        self._deaf = False  # it is refused; what still comes is thrown away
        self._stuck: float | None = None  # loop time since when the client takes nothing, or does not hang up

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.flow = WriteFlow(transport)
        self._heard = self.loop.time()
        self._arrivals.note_connection()
        if len(self.connections) > self.app.room:
            self._refuse(503, "crowded", "too many connections at once", (b"retry-after", b"1"))
            transport.close()  # at once: its descriptor is needed

    # -- what comes in

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        if self._gathered:
            self._gathering.answer()  # what came before has its answer before
        known = self._gathering.head_of(data)
        if known is not None and self._is_idle:
            (head, end), self._gathered = known, True
            self._gathering.add(Whole(self, head, data[end:], data, self.client, time.monotonic()), self.loop)
        else:
            self._parse(data)

    @property
    def _is_idle(self) -> bool:
        """Whether nothing of a request is there, and an answer could be written."""
        at_rest = self._began is None and not self._body_due and not self.pipeline and not self._is_busy
        return at_rest and not self.flow.write_paused and not self.transport.is_closing()

    def tell(self, whole: Whole, reply: Reply | None) -> None:
        """Tell what was gathered its answer; None: it goes the long way."""
        self._gathered = False
        if self.transport.is_closing():
            return
        self.url, self._keep_alive = whole.head.path, True
        if reply is not None:
            self._send(reply)
            return
        self._slow = True
        self._parse(whole.data)
        self._slow = False

    def _parse(self, data: bytes) -> None:
        began, due, self._body_seen, self._answered = self._began, self._body_due, False, False
        self._learnt = None
        self._wide = began is not None or len(data) > HEAD_BYTES
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as stop:
            if not self._go_on_without_upgrade(memoryview(data)[stop.args[0] :]):
                return
        except httptools.HttpParserError:
            if not self._deaf:
                self._refuse(400, "bad_request", "the data is not an HTTP request")
            return
        if (began is not None and self._began is not None) or (due and self._body_due):
            self._fed = 0 if self._body_seen else self._fed + len(data)
            if self._fed > HEAD_BYTES:
                self._refuse_head()
                return
        if began is None and not due:
            self._remember(data)
        if self._held is None:
            return
        if self.transport.is_closing():
            self._held = None
        else:
            self._hand_to_uvicorn()  # its rest may take its time

    def _remember(self, data: bytes) -> None:
        """Remember the head of the one request that the data was, where it was answered well."""
        if self._learnt is not None:
            self._gathering.remember(data, self._learnt)

    def _go_on_without_upgrade(self, rest: memoryview) -> bool:
        """A server that does not speak the protocol that a client would like goes on in the present one (RFC 9110, 7.8).

        The parser takes what follows such a head for the other protocol's: a new one reads the head without the wish for it.
        """
        while True:
            if self.parser.get_method() == b"CONNECT":
                self._refuse(405, "method", "this server is not a proxy")
                return False
            head = self._plain_head()
            self._upgrading = False
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
            try:
                self.parser.feed_data(head)
                self.parser.feed_data(rest)
            except httptools.HttpParserUpgrade as stop:
                rest = rest[stop.args[0] :]
            except httptools.HttpParserError:
                if not self._deaf:
                    self._refuse(400, "bad_request", "the data is not an HTTP request")
                return False
            else:
                return True

    def _plain_head(self) -> bytes:
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())]
        for name, value in self.headers:
            if name == b"connection":
                value = b", ".join(t for t in map(bytes.strip, value.split(b",")) if t.lower() not in UPGRADE)
            if name not in UPGRADE and (value or name != b"connection"):
                lines.append(name + b": " + value)
        return b"\r\n".join((*lines, b"", b""))

    def on_message_begin(self) -> None:
        self.url = b""
        self.expect_100_continue = False
        self.headers = []
        self._began = self.loop.time()
        self._fed = 0
        self._learnt = None  # there is more than one

    def on_headers_complete(self) -> None:
        self._began = None
        if len(self.headers) > HEAD_FIELDS or (self._wide and self._head_size() > HEAD_BYTES):
            self._refuse_head()
            raise _RefusedError
        if self.parser.should_upgrade():
            self._upgrading = True
            return
        self._body_due = True
        if self._may_take_fast_path():
            self._held, self._keep_alive = bytearray(), self.parser.should_keep_alive()
        else:
            self._begin()

    def on_body(self, body: bytes) -> None:
        self._body_seen = True
        if self._held is None:
            super().on_body(body)
        else:
            self._held += body

    def on_message_complete(self) -> None:
        if self._upgrading:
            return
        self._body_due = False
        if self._held is None:
            super().on_message_complete()
            return
        body = bytes(self._held)
        reply = self._try_fast(self.url, self.headers, body, self.client)
        if reply is None:
            self._hand_to_uvicorn()
            super().on_message_complete()
            return
        self._held = None
        self._answered = True
        if reply.status == 200 and self._keep_alive:
            self._learnt = Head(self.url, self.headers, len(body))
        self._send(reply)

    def _head_size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) for name, value in self.headers)

    def _may_take_fast_path(self) -> bool:
        if not self.url.endswith(ENDS) or self.parser.get_method() != b"POST" or self.parser.get_http_version() != "1.1":
            return False
        busy = self._slow or self._answered or self.pipeline or self._is_busy or self.flow.write_paused
        if busy or self.expect_100_continue or self.transport.is_closing():
            return False
        length = next((value for name, value in self.headers if name == b"content-length"), b"")
        return length.isdigit() and int(length[:9]) <= WHOLE_BYTES

    @property
    def _is_busy(self) -> bool:
        """Whether uvicorn is answering a request of this connection."""
        return self.cycle is not None and not self.cycle.response_complete

    def _begin(self) -> None:
        """Does what uvicorn does from a message's beginning to the end of its headers."""
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.headers.extend(headers)
        self.url, self.expect_100_continue = url, expects
        super().on_headers_complete()

    def _hand_to_uvicorn(self) -> None:
        body, self._held = self._held, None
        self._begin()
        if body:
            super().on_body(bytes(body))

    def eof_received(self) -> None:
        if self._gathered:
            self._gathering.answer()  # who says no more may still listen

    def shutdown(self) -> None:
        if self._gathered:
            self._gathering.answer()
        super().shutdown()

    # -- what goes out

    def _send(self, reply: Reply) -> None:
        if reply.status == 200 and self._keep_alive and not reply.headers and not self.server_state.default_headers:
            self.transport.write(b"".join((_OK, reply.kind, _LENGTH, str(len(reply.body)).encode(), b"\r\n\r\n", reply.body)))
        else:
            self._write(reply)
        self.server_state.total_requests += 1
        if self._arrivals.waiting:
            self._arrivals.accept_more()
        if not self._keep_alive:
            self.transport.close()
            return
        self._heard = self.loop.time()

    def _write(self, reply: Reply) -> None:
        lines = [STATUS_LINE[reply.status]]
        fixed = ((b"content-type", reply.kind), (b"content-length", b"%d" % len(reply.body)))
        for name, value in (*self.server_state.default_headers, *fixed, *reply.headers):
            lines += (name, b": ", value, b"\r\n")
        lines.append(b"\r\n" if self._keep_alive else b"connection: close\r\n\r\n")
        lines.append(reply.body)
        self.transport.write(b"".join(lines))

    def _refuse_head(self) -> None:
        self._refuse(431, "head_too_large", f"a request's head may have at most {HEAD_BYTES} bytes and {HEAD_FIELDS} fields")

    def _refuse(self, status: int, code: str, text: str, *headers: tuple[bytes, bytes]) -> None:
        """Answers with an error and reads no more; a client that is still sending can still read the answer.

        Where an earlier request waits for its answer, that is the last one.
        """
        alone = self._body_due and not self.pipeline  # it is the request that is under way which cannot be taken
        self._deaf, self._held, self._began, self._body_due = True, None, None, False
        self._stuck = self.loop.time()
        self.app.count_refusal(status)
        if self.transport.is_closing():
            return
        if self._is_busy and alone and not self.cycle.response_started:
            self.cycle.disconnected = True  # whoever answers it is told that nobody listens
            self.cycle.message_event.set()
        elif self._is_busy:
            self.cycle.keep_alive = False
            return
        reply = json_reply({"error": {"code": code, "message": text}}, status)
        if getattr(self, "url", b"").startswith(b"/v2"):
            reply = in_form(reply)
        self._keep_alive = False
        self._write(Reply(status, reply.body, headers=headers))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self.transport.close()

    def on_response_complete(self) -> None:
        self._heard = self.loop.time()
        self.server_state.total_requests += 1
        if self._arrivals.waiting:
            self._arrivals.accept_more()
        if self.transport.is_closing():
            return
        if self._began is not None:
            self._began = self._heard  # until now it was not read on
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
        if self.pipeline:
            self.flow.pause_reading()  # until those that came already are answered: else they would fill the memory

    # -- time

    def check_times(self, now: float) -> None:
        """Ends connections whose time is up; ``now`` in loop time."""
        if self._gathered:
            return  # its answer is due in this turn
        if self.transport.is_closing() or self._deaf:
            if not self._is_busy and not self._is_reading(now, LINGER_S if self._deaf else STALLED_S):
                self.transport.abort()
        elif self._is_busy:
            if not self.flow.write_paused:
                self._stuck = None
            elif not self._is_reading(now, STALLED_S):
                self.transport.abort()
        elif self._began is not None:
            if now - self._began > HEAD_S:
                self._refuse(408, "slow_head", f"the head of the request did not arrive within {lasting(HEAD_S)}")
        elif self.transport.get_write_buffer_size():
            if not self._is_reading(now, STALLED_S):
                self.transport.abort()
        else:
            self._stuck = None
            if now - self._heard > self._patience():
                self.transport.close()

    def _is_reading(self, now: float, patience_s: float) -> bool:
        """Whether it is not too long ago that the client was seen to be stuck."""
        if self._stuck is None:
            self._stuck = now
        return now - self._stuck <= patience_s

    def _patience(self) -> float:
        if not hasattr(self, "url"):  # no request ever began
            return SILENT_S
        return REST_S if self._body_due else float(self.timeout_keep_alive)


async def sweep(connections: Collection[Any]) -> None:
    """Checks the times of all connections once a second, until cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(LOOK_S)
        for connection in list(connections):
            try:
                connection.check_times(loop.time())
            except Exception as error:  # noqa: BLE001 - one connection's trouble is not that of the others
                _log.error(f"a connection cannot be ended: {type(error).__name__}: {error}", exc_info=error)
