"""Requests that come in one turn of the event loop are answered together, step by step: all are read, then all are computed,
written to the log in one call, and told.

A request on its own passes through more code than the processor's first cache holds, and so does the next one: each waits for all
of it again. Step by step the code of a step is there from the second request on, which takes half the time. Of 64 clients none
waits longer than before: the loop answered all of them in a turn anyhow.

Only a request whose head was seen before is gathered, byte by byte the same; it is not parsed again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from noria.kernel import logs
from noria.serving.access_control import Peer
from noria.serving.http import Headers, Reply

_log = logs.get_logger("noria.serving")

MOST = 64  # requests that are answered together
MOST_BYTES = 32_768  # and their bytes: of more, the data would fall out of the cache
HEADS = 512  # that are remembered
HEAD_BYTES = 2048  # a longer one is not
SECRETS = {b"authorization", b"x-api-key", b"proxy-authorization", b"cookie"}
UNREMEMBERED = frozenset(SECRETS | {b"content-encoding", b"inference-header-content-length"})  # the latter are no plain JSON


class Head(msgspec.Struct, frozen=True):
    """A request's head as it was parsed, when a request with it was answered well at once."""

    path: bytes
    headers: Headers
    body_bytes: int


class Asker(Protocol):
    """Who waits for the answer of a gathered request."""

    def tell(self, whole: Whole, reply: Reply | None) -> None:
        """None: not at once."""


class Whole(msgspec.Struct, frozen=True, gc=False):
    """A POST that came whole."""

    asker: Asker
    head: Head
    body: bytes
    data: bytes  # all of it
    peer: Peer
    began: float  # monotonic seconds


class Gathering:
    """``answer_all`` is told the requests in the order in which they came, and tells the reply to each."""

    def __init__(self, answer_all: Callable[[Sequence[Whole]], Sequence[Reply | None]]) -> None:
        self._answer_all = answer_all
        self._wholes: list[Whole] = []
        self._bytes = 0
        self._heads: dict[bytes, Head] = {}

    def head_of(self, data: bytes) -> tuple[Head, int] | None:
        """The known head of a request, and where its body begins; None unless ``data`` is one whole request."""
        end = data.find(b"\r\n\r\n", 0, HEAD_BYTES) + 4
        head = self._heads.get(data[:end])
        return (head, end) if head is not None and len(data) - end == head.body_bytes else None

    def remember(self, data: bytes, head: Head) -> None:
        """``data`` is one request, which was answered well."""
        end = len(data) - head.body_bytes
        if end > HEAD_BYTES or data.find(b"\r\n\r\n") != end - 4 or not UNREMEMBERED.isdisjoint(name for name, _ in head.headers):
            return
        if len(self._heads) >= HEADS:
            self._heads.clear()
        self._heads[data[:end]] = head

    def add(self, whole: Whole, loop: asyncio.AbstractEventLoop) -> None:
        """To be answered as the next turn begins, or now that they are many."""
        if not self._wholes:
            loop.call_soon(self.answer)
        self._wholes.append(whole)
        self._bytes += len(whole.data)
        if len(self._wholes) >= MOST or self._bytes >= MOST_BYTES:
            self.answer()

    def forget(self) -> None:
        """Other paths are served from now on: answer those that wait, and remember no head."""
        self.answer()
        self._heads.clear()

    def answer(self) -> None:
        """Answer those that wait, now."""
        if not self._wholes:
            return
        wholes, self._wholes, self._bytes = self._wholes, [], 0
        replies: Sequence[Reply | None]
        try:
            replies = self._answer_all(wholes)
        except Exception as error:  # noqa: BLE001 - a defect: else these clients would wait for ever
            _log.error("requests cannot be answered together", exc_info=error)
            replies = [None] * len(wholes)
        for whole, reply in zip(wholes, replies, strict=True):
            try:
                whole.asker.tell(whole, reply)
            except Exception as error:  # noqa: BLE001 - one connection's trouble is not that of the others
                _log.error("a connection cannot be answered", exc_info=error)
