"""Many connections that say nothing: others are answered, and when they are gone all is as it was."""

from __future__ import annotations

import contextlib
import http.client
import json
import resource
import socket
import time
from typing import Any

from served_case import RECORD, served


def walk(case: Any) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with served(case, (64, hard)) as port, silent(port, 150):
        assert ask(port, "POST", "/predict", RECORD)[0] == 200  # the soft limit was raised
    with served(case, (200, 200)) as port:
        with silent(port, 180):
            status, body = ask(port, "GET", "/health/live")
            assert (status, json.loads(body)["error"]["code"]) == (503, "crowded")  # told, not reset
        assert first_answer(port)[0] == 200
        assert ask(port, "GET", "/health/ready")[0] == 200


def first_answer(port: int) -> tuple[int, bytes]:
    """Of a server that may not have noticed yet who hung up: until then it says that it is crowded."""
    for _ in range(600):
        status, body = ask(port, "POST", "/predict", RECORD)
        if status != 503 or json.loads(body)["error"]["code"] != "crowded":
            return status, body
        time.sleep(0.1)
    raise AssertionError("the server is crowded though nobody is there")


@contextlib.contextmanager
def silent(port: int, number: int) -> Any:
    with contextlib.ExitStack() as held:
        for _ in range(number):
            held.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5))
        yield


def ask(port: int, method: str, path: str, record: Any = None) -> tuple[int, bytes]:
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    link.request(method, path, None if record is None else json.dumps(record))
    answer = link.getresponse()
    found = answer.status, answer.read()
    link.close()
    return found
