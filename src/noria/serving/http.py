"""The HTTP edge: replies, limits on bodies, and the checks of Host and Origin."""

from __future__ import annotations

import asyncio
import math
import zlib
from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache
from typing import Any

import msgspec

from noria.kernel.error_table import row_of
from noria.kernel.errors import (
    BadBodyError,
    EncodingError,
    ForbiddenError,
    NoriaError,
    SlowBodyError,
    TooLargeError,
    TooOftenError,
)
from noria.kernel.words import lasting

Scope = dict[str, Any]
Headers = Sequence[tuple[bytes, bytes]]  # names in lower case
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Told = tuple[int, str, str] | tuple[int, str, str, int]  # rows, release, variant, and rows without an answer where there are any

BODY_SECONDS = 10.0  # a client gets this long to send its body
TOLD = 4000  # characters of an error's message, and of its hint
DISCARD_BYTES = 32 * 1024 * 1024  # how much of a refused body is read, so that the client can hear the refusal
JSON = b"application/json"
LOOPBACK = frozenset({b"127.0.0.1", b"localhost", b"[::1]"})

_encode = msgspec.json.Encoder().encode


class GoneError(Exception):
    """The client left before its body was complete; there is nobody to answer."""


class Reply(msgspec.Struct, frozen=True):  # one is made for each answer
    status: int
    body: bytes
    kind: bytes = JSON
    headers: tuple[tuple[bytes, bytes], ...] = ()
    told: Told | None = None  # of a prediction, for the access log

    async def send(self, send: Send) -> None:
        fixed = [(b"content-type", self.kind), (b"content-length", b"%d" % len(self.body))]
        await send({"type": "http.response.start", "status": self.status, "headers": [*fixed, *self.headers]})
        await send({"type": "http.response.body", "body": self.body})


def json_reply(value: Any, status: int = 200, told: Told | None = None) -> Reply:
    return Reply(status, _encode(value), told=told)


def error_reply(error: NoriaError) -> Reply:
    """An error as its row in the table of errors says."""
    row = row_of(type(error))
    facts = {"code": row.code, "message": error.message[:TOLD]} | ({"hint": error.hint[:TOLD]} if error.hint else {})
    return Reply(row.status, _encode({"error": facts}), headers=_advice(error, row.status))


def _advice(error: NoriaError, status: int) -> tuple[tuple[bytes, bytes], ...]:
    """Headers that advise the client: when to retry, how to authenticate."""
    if isinstance(error, TooOftenError):
        return ((b"retry-after", b"%d" % math.ceil(error.wait_s)),)
    if status == 408:
        return ((b"connection", b"close"),)
    if status == 401:
        return ((b"www-authenticate", b"Bearer"),)
    return ((b"retry-after", b"1"),) if status in (503, 507) else ()


def method_reply(allowed: tuple[str, ...]) -> Reply:
    allow = ", ".join(allowed)
    body = {"error": {"code": "method", "message": f"this path takes {allow}"}}
    return Reply(405, _encode(body), headers=((b"allow", allow.encode()),))


def internal_reply(number: str) -> Reply:
    return json_reply(
        {"error": {"code": "internal", "message": f"an internal error; the server's log has it under {number}"}}, 500
    )


def guard(headers: Headers, hosts: frozenset[bytes] | None) -> int | None:
    """The declared length of the body. Raises ForbiddenError for a foreign Host or Origin (DNS rebinding, other sites).

    ``hosts`` None: any will do, for no page of another site knows the key that is asked for then.
    """
    host = origin = length = None
    for name, value in headers:
        if name == b"host":
            host = value
        elif name == b"origin":
            origin = value
        elif name == b"content-length":
            length = value
    if hosts is not None:
        _demand_own(host, origin, hosts)
    return int(length) if length is not None and length.isdigit() else None


def _demand_own(host: bytes | None, origin: bytes | None, hosts: frozenset[bytes]) -> None:
    if host is None or _name_of(host) not in hosts:
        raise ForbiddenError("the Host header names another server", hint="Call the server by the address it listens on.")
    if origin is not None and origin.lower() not in (b"http://" + host.lower(), b"https://" + host.lower()):
        raise ForbiddenError("the Origin header names another site")


@lru_cache(maxsize=256)
def _name_of(host: bytes) -> bytes:
    """``LocalHost:8000`` -> ``localhost``."""
    name, colon, port = host.rpartition(b":")
    return (name if colon and port.isdigit() else host).lower()


async def read_body(receive: Receive, declared: int | None, limit_bytes: int, headers: Headers = ()) -> bytes:
    """The whole body, unpacked where it is packed. ``limit_bytes`` holds before and after that.

    Raises TooLargeError (declared or found), SlowBodyError, EncodingError, BadBodyError, GoneError.
    """
    encoding = next((value.strip().lower() for name, value in headers if name == b"content-encoding"), b"")
    body = await _body(receive, declared, limit_bytes)
    if encoding in (b"", b"identity"):
        return body
    if encoding not in (b"gzip", b"x-gzip", b"deflate"):
        raise EncodingError("Content-Encoding may be gzip, deflate or identity")
    return unpack_body(body, limit_bytes)


async def _body(receive: Receive, declared: int | None, limit_bytes: int) -> bytes:
    if declared is not None and declared > limit_bytes:
        await _discard(receive)
        raise _too_large(limit_bytes)
    try:
        async with asyncio.timeout(BODY_SECONDS):
            message = await receive()
            body: bytes = message.get("body", b"")
            if message.get("more_body", False) or message["type"] != "http.request":
                body = await _rest(receive, message, limit_bytes)
    except TimeoutError as error:
        raise SlowBodyError(f"the body did not arrive within {lasting(BODY_SECONDS)}") from error
    if len(body) > limit_bytes:
        raise _too_large(limit_bytes)
    return body


def unpack_body(body: bytes, limit_bytes: int) -> bytes:
    """A gzip or zlib body, never more than ``limit_bytes``. Raises BadBodyError, TooLargeError."""
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # either header
    try:
        found = unpacker.decompress(body, limit_bytes + 1)
    except zlib.error as error:
        raise BadBodyError("the body is not what its Content-Encoding says") from error
    if len(found) > limit_bytes:
        raise TooLargeError(f"the unpacked body exceeds {limit_bytes} bytes", hint="Send the rows in several requests.")
    if not unpacker.eof or unpacker.unused_data:
        raise BadBodyError("the compressed body is cut short, or something follows it")
    return found


async def _rest(receive: Receive, message: dict[str, Any], limit_bytes: int) -> bytes:
    body = bytearray()
    while True:
        if message["type"] != "http.request":
            raise GoneError
        body += message.get("body", b"")
        if len(body) > limit_bytes:
            if message.get("more_body", False):
                await _discard(receive)
            raise _too_large(limit_bytes)
        if not message.get("more_body", False):
            return bytes(body)
        message = await receive()


async def _discard(receive: Receive) -> None:
    """Keeps reading for a while: a client that is still sending would see a reset instead of the answer."""
    seen = 0
    try:
        async with asyncio.timeout(BODY_SECONDS / 2):
            while seen < DISCARD_BYTES:
                message = await receive()
                seen += len(message.get("body", b""))
                if not message.get("more_body", False):
                    return
    except TimeoutError:
        return


def _too_large(limit_bytes: int) -> TooLargeError:
    return TooLargeError(f"the body exceeds {limit_bytes} bytes", hint="Send the records in several requests.")
