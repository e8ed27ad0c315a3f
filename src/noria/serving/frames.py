"""Messages on a Unix socket: a length (unsigned, 32 bits, big-endian), then MessagePack."""

from __future__ import annotations

import asyncio
import struct
from typing import Any

import msgspec

LIMIT_BYTES = 64 * 1024 * 1024
OVER = "over"  # a host's last message has it: what it did not answer until then it was not asked, or did not read
_LENGTH = struct.Struct("!I")


def pack(message: Any) -> bytes:
    body = msgspec.msgpack.encode(message)
    return _LENGTH.pack(len(body)) + body


async def read(reader: asyncio.StreamReader) -> Any:
    """The next message. Raises EOFError at the end, ValueError for a frame over the limit."""
    (length,) = _LENGTH.unpack(await reader.readexactly(4))
    if length > LIMIT_BYTES:
        raise ValueError(f"a frame of {length} bytes exceeds {LIMIT_BYTES}")
    return msgspec.msgpack.decode(await reader.readexactly(length))
