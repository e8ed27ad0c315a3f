"""The short way of the common request, over real sockets: however it is cut or pipelined, it answers as the long way does."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from urllib.parse import urlsplit

import psutil
import pytest
from msgspec.structs import replace
from serving_bundles import BINARY, RECORD, Seal, compiled, logged, wait_for
from serving_world import World

from noria.kernel.task import Task

BODY = json.dumps(RECORD).encode()


def request(body: bytes = BODY, *headers: bytes, path: bytes = b"/predict", method: bytes = b"POST") -> bytes:
    lines = [method + b" " + path + b" HTTP/1.1", b"Host: 127.0.0.1", b"Content-Length: %d" % len(body), *headers, b"", b""]
    return b"\r\n".join(lines) + body


class Wire:
    """One connection, bytes in and answers out."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.link = socket.create_connection(address, timeout=10)
        self.link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._read = b""

    def send(self, data: bytes) -> None:
        self.link.sendall(data)

    def answer(self, method: str = "POST") -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the next one."""
        head = self._until(b"\r\n\r\n").decode("ascii").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
        length = 0 if method == "HEAD" else int(headers["content-length"])
        while len(self._read) < length:
            self._more()
        body, self._read = self._read[:length], self._read[length:]
        return int(head[0].split()[1]), headers, body

    def _until(self, end: bytes) -> bytes:
        while end not in self._read:
            self._more()
        found, _, self._read = self._read.partition(end)
        return found

    def _more(self) -> None:
        data = self.link.recv(65536)
        assert data, f"the server hung up after {self._read!r}"
        self._read += data

    def closed(self) -> bool:
        return self._read == b"" and self.link.recv(1) == b""


@pytest.fixture
def dial(world: World, seal: Seal) -> Iterator[Callable[[], Wire]]:
    """Connections to a server with a compiled release."""
    world.serve(compiled(seal, world.scratch))
    parts = urlsplit(world.url)
    made: list[Wire] = []

    def one() -> Wire:
        made.append(Wire((str(parts.hostname), int(parts.port or 0))))
        return made[-1]

    yield one
    for wire in made:
        wire.link.close()


def prediction(body: bytes) -> dict[str, object]:
    (row,) = json.loads(body)["predictions"]
    return {name: value for name, value in row.items() if name != "id"}


def test_one_answer_for_one_request_however_it_is_cut(dial: Callable[[], Wire]) -> None:
    whole = dial()
    whole.send(request())
    status, headers, body = whole.answer()
    assert status == 200
    expected = prediction(body)
    assert headers["content-type"] == "application/json"
    chance = random.Random(4)
    data = request(BODY, b"X-Long: " + b"x" * 500)
    for _ in range(60):
        cuts = sorted({0, len(data), *(chance.randrange(len(data)) for _ in range(chance.randrange(4)))})
        wire = whole if chance.random() < 0.7 else dial()
        for start, end in pairwise(cuts):
            wire.send(data[start:end])
            if chance.random() < 0.5:
                time.sleep(0.002)  # so that the parts arrive apart; the answer is the same if they do not
        status, _, body = wire.answer()
        assert (status, prediction(body)) == (200, expected)


def test_requests_in_a_row_are_answered_in_their_order(dial: Callable[[], Wire]) -> None:
    wire = dial()
    parts = [
        (request(), 200, "POST"),
        (request(b"", path=b"/v2/health/live", method=b"GET"), 200, "GET"),
        (request(b"{}"), 422, "POST"),
        (request(json.dumps([RECORD] * 100).encode()), 200, "POST"),
        (request(b"not json"), 400, "POST"),
        (request(b"", path=b"/v2/health/live", method=b"HEAD"), 200, "HEAD"),
        (request(), 200, "POST"),
        (request(path=b"/nowhere"), 404, "POST"),
        (request(), 200, "POST"),
    ]
    wire.send(b"".join(data for data, _, _ in parts))
    assert [wire.answer(method)[0] for _, _, method in parts] == [status for _, status, _ in parts]
    chunked = b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunked += b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
    wire.send(chunked + request())
    assert [wire.answer()[0], wire.answer()[0]] == [200, 200]


def test_what_the_headers_ask_for_is_kept(dial: Callable[[], Wire]) -> None:
    wire = dial()
    wire.send(request(BODY, b"Expect: 100-continue"))
    assert wire.link.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert wire.answer()[0] == 200
    wire.send(request(BODY, b"Connection: close"))
    status, headers, _ = wire.answer()
    assert (status, headers["connection"]) == (200, "close")
    assert wire.closed()
    old = dial()
    old.send(request().replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert old.answer()[0] == 200
    assert old.closed()
    foreign = dial()
    foreign.send(request().replace(b"127.0.0.1", b"evil.example"))
    assert foreign.answer()[0] == 403
    foreign.send(request(BODY, b"Origin: http://evil.example"))
    assert foreign.answer()[0] == 403
    short = dial()
    short.send(request()[:-5])  # and hangs up in the middle of the body
    short.link.close()
    whole = dial()
    whole.send(request())
    assert whole.answer()[0] == 200


def test_every_answer_is_in_the_log_before_it_leaves(dial: Callable[[], Wire], world: World) -> None:
    wire = dial()
    ids = []
    for _ in range(50):
        wire.send(request())
        ids.append(json.loads(wire.answer()[2])["predictions"][0]["id"])
        assert ids[-1] in [record.get("id") for record in logged(world.state, "production")]
    assert len(set(ids)) == 50


def test_a_client_that_sends_and_never_reads_does_not_fill_the_memory(dial: Callable[[], Wire], world: World) -> None:
    before = sum(psutil.Process(pid).memory_info().rss for pid in world.workers())
    wire = dial()
    wire.link.settimeout(1.0)
    sent, data = 0, request() * 100
    with contextlib.suppress(TimeoutError):  # the server stops reading
        while sent < 200_000_000:
            wire.send(data)
            sent += len(data)
    assert sent < 200_000_000
    assert sum(psutil.Process(pid).memory_info().rss for pid in world.workers()) < before + 60_000_000
    other = dial()
    other.send(request())
    assert other.answer()[0] == 200


def test_a_worker_that_is_told_to_end_beside_its_parent_ends_in_silence(
    dial: Callable[[], Wire], world: World, capfd: pytest.CaptureFixture[str]
) -> None:
    """As systemd and containers do: each process of the service gets the signal."""
    wire = dial()
    wire.send(request())
    assert wire.answer()[0] == 200
    capfd.readouterr()
    for pid in world.workers():
        os.kill(pid, signal.SIGTERM)
    world.server.stop()
    told = capfd.readouterr().err + "".join(path.read_text() for path in world.state.glob("*.log"))
    assert "Fatal error" not in told
    assert "Traceback" not in told


def test_a_number_beyond_the_model_is_the_requests_trouble(world: World, seal: Seal) -> None:
    """A compiled model computes with float32. What does not fit is told, and is no evidence against a candidate."""
    signature = replace(BINARY, task=Task.REGRESSION, classes=())
    champion = compiled(seal, world.scratch, 0, signature)
    candidate = compiled(seal, world.scratch, 1, signature)
    world.serve(champion)
    client = world.client()
    refused = client.post("/predict", json=RECORD | {"distance": 1e272})
    assert refused.status_code == 422
    assert "records[0].distance is beyond what this release computes with (float32): 1e+272" in refused.text
    synced = world.serve(champion, candidate=candidate, candidate_version="v2", share=1.0, rollout_id="r-1")
    revision = synced.applied["production"]
    for _ in range(20):
        assert client.post("/predict", json=RECORD | {"distance": -1e300}).status_code == 422
    assert client.post("/predict", json=RECORD).json()["variant"] == "candidate"
    tallies = wait_for(lambda: found if (found := world.tallies(revision)).candidate.requests else None)
    assert (tallies.candidate.requests, tallies.candidate.errors) == (1, 0)
