"""A request with a header of 20 MB is refused at once, and nobody waits for it."""

from __future__ import annotations

import contextlib
import http.client
import socket
import time
from typing import Any

from served_case import served


def walk(case: Any) -> None:
    with served(case) as port:
        for size in (300_000, 20_000_000):
            with socket.create_connection(("127.0.0.1", port), timeout=60) as link:
                began = time.monotonic()
                with contextlib.suppress(ConnectionError):  # it may be told before it has sent all
                    link.sendall(b"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: " + b"a" * size + b"\r\n\r\n")
                assert link.recv(100).startswith(b"HTTP/1.1 431 ")
                assert time.monotonic() - began < 10  # 20 MB took 0.8 s before, 150 MB 128 s
            other = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            other.request("GET", "/health/live")
            assert other.getresponse().status == 200
            other.close()
