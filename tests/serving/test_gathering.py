"""Requests that come in one turn of the loop are answered together, and each as it would be alone."""

from __future__ import annotations

import asyncio
import errno
import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import uvicorn
import uvloop
from served_in_process import InProcess, one_project
from serving_bundles import PROJECT, RECORD, Seal, compiled
from uvicorn.server import ServerState

from noria.kernel.errors import DiskFullError, StoreError
from noria.predictions.writer import Prediction, read_all
from noria.serving import gathering
from noria.serving.arrivals import Arrivals
from noria.serving.fast_http import FastHttpProtocol
from noria.serving.gathering import Gathering, Head, Whole
from noria.serving.http import Reply, read_body

HEADERS = [(b"host", b"127.0.0.1"), (b"content-type", b"application/json")]


# -- the edge


class Echo:
    """An application in the edge's form, which answers with what it was asked, and keeps how many were asked together."""

    room = 100

    def __init__(self) -> None:
        self.arrivals = Arrivals()
        self.gathering = Gathering(self.answer_all)
        self.together: list[int] = []
        self.alone = 0
        self.parsed = 0

    def try_fast(self, path: bytes, headers: Any, body: bytes, peer: Any) -> Reply | None:
        self.parsed += 1
        return Reply(200, body)

    def answer_all(self, wholes: Sequence[Whole]) -> list[Reply | None]:
        self.together.append(len(wholes))
        return [None if w.body == b"slow" else Reply(200, w.body) for w in wholes]

    def count_refusal(self, status: int) -> None:
        self.alone -= status

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.alone += 1
        await Reply(200, b"long " + await read_body(receive, None, 1_000_000)).send(send)


def wire(body: bytes, *more: bytes) -> bytes:
    return b"".join(
        (b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n" % len(body), *(m + b"\r\n" for m in more), b"\r\n", body)
    )


Dial = Callable[[], Any]


def tell(app: Echo, story: Callable[[Dial, ServerState], Any]) -> None:
    async def bounded() -> None:
        config = uvicorn.Config(
            app, http=FastHttpProtocol, ws="none", lifespan="off", interface="asgi3", log_config=None, proxy_headers=False
        )
        config.load()
        state, loop = ServerState(), asyncio.get_running_loop()
        server = await loop.create_server(lambda: FastHttpProtocol(config, state, {}), "127.0.0.1", 0)
        made: list[asyncio.StreamWriter] = []

        async def dial() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.sockets[0].getsockname()[1])
            made.append(writer)
            return reader, writer

        try:
            await asyncio.wait_for(story(dial, state), 60)
        finally:
            for writer in made:
                writer.close()
            server.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(bounded())


async def answer(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), head
    length = re.search(rb"content-length: (\d+)", head)
    assert length is not None
    return await reader.readexactly(int(length.group(1)))


async def know(dial: Dial, *bodies: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection, after the heads for such bodies were answered once."""
    reader, writer = await dial()
    for body in bodies:
        writer.write(wire(body))
        assert await answer(reader) == body
    return reader, writer


def test_requests_of_a_turn_are_answered_together_once_their_head_is_known() -> None:
    app = Echo()

    async def story(dial: Dial, state: ServerState) -> None:
        clients = [await know(dial, b"0"), *[await dial() for _ in range(9)]]
        while len(state.connections) < 10:
            await asyncio.sleep(0)
        for number, (_, writer) in enumerate(clients):
            writer.write(wire(b"%d" % number))
        assert [await answer(reader) for reader, _ in clients] == [b"%d" % number for number in range(10)]

    tell(app, story)
    assert app.parsed == 1
    assert sum(app.together) == 10
    assert max(app.together) > 1


def test_who_gets_no_answer_at_once_goes_the_long_way_and_what_follows_waits() -> None:
    app = Echo()

    async def story(dial: Dial, state: ServerState) -> None:
        reader, writer = await know(dial, b"slow", b"1")
        writer.write(wire(b"slow"))
        assert await answer(reader) == b"long slow"
        writer.write(wire(b"slow") + wire(b"1"))  # at once: parsed, and answered in order
        assert [await answer(reader) for _ in range(2)] == [b"slow", b"long 1"]
        writer.write(wire(b"1"))
        assert await answer(reader) == b"1"

    tell(app, story)
    assert app.together == [1, 1]


def test_what_comes_behind_a_gathered_request_is_answered_behind_it() -> None:
    app = Echo()

    async def story(dial: Dial, state: ServerState) -> None:
        reader, _ = await know(dial, b"slow", b"1")
        (connection,) = state.connections
        for body in (b"slow", b"1", b"slow"):  # three readings of the socket in one turn of the loop
            connection.data_received(wire(body))
        assert [await answer(reader) for _ in range(3)] == [b"long slow", b"long 1", b"long slow"]

    tell(app, story)


@pytest.mark.parametrize("end", ["eof", "shutdown"])
def test_a_gathered_request_is_answered_before_its_connection_ends(end: str) -> None:
    app = Echo()

    async def story(dial: Dial, state: ServerState) -> None:
        reader, _ = await know(dial, b"1")
        (connection,) = state.connections
        connection.data_received(wire(b"1"))
        if end == "eof":
            connection.eof_received()
            connection.transport.close()  # as the loop does then
        else:
            connection.shutdown()
        assert await answer(reader) == b"1"
        assert await reader.read() == b""

    tell(app, story)


def test_a_part_of_a_head_is_no_head() -> None:
    """Else who knows how another's head was cut could have requests answered that are none."""
    app = Echo()

    async def story(dial: Dial, state: ServerState) -> None:
        reader, _ = await dial()
        while not state.connections:
            await asyncio.sleep(0)
        (connection,) = state.connections
        whole = wire(b"1")
        connection.data_received(whole[:30])
        connection.data_received(whole[30:])
        assert await answer(reader) == b"1"
        other, writer = await dial()
        writer.write(whole[30:])
        assert (await other.readline()).startswith(b"HTTP/1.1 400")

    tell(app, story)
    assert app.together == []


@pytest.mark.parametrize("header", [b"Connection: close", b"X-API-Key: a-key-of-this-server", b"Authorization: Bearer abc"])
def test_what_ends_a_connection_or_holds_a_secret_is_not_remembered(header: bytes) -> None:
    app = Echo()

    async def story(dial: Dial, state: ServerState) -> None:
        for _ in range(2):
            reader, writer = await dial()
            writer.write(wire(b"1", header))
            assert await answer(reader) == b"1"

    tell(app, story)
    assert (app.parsed, app.together) == (2, [])


def test_heads_are_remembered_within_bounds() -> None:
    kept = Gathering(lambda wholes: [])
    for number in range(gathering.HEADS + 1):
        data = wire(b"12", b"X-Number: %d" % number)
        kept.remember(data, Head(b"/predict", [(b"x-number", b"1")], 2))
    assert kept.head_of(data) == (Head(b"/predict", [(b"x-number", b"1")], 2), len(data) - 2)
    assert kept.head_of(data[:-1]) is kept.head_of(data + b"3") is None
    assert kept.head_of(wire(b"12", b"X-Number: 0")) is None  # it made room
    long = wire(b"12", b"X-Long: " + b"a" * gathering.HEAD_BYTES)
    kept.remember(long, Head(b"/predict", [], 2))
    assert kept.head_of(long) is None
    kept.forget()
    assert kept.head_of(data) is None


def test_a_defect_leaves_no_client_without_an_answer() -> None:
    app = Echo()

    async def story(dial: Dial, state: ServerState) -> None:
        reader, writer = await know(dial, b"1")
        app.together = None  # type: ignore[assignment]
        writer.write(wire(b"1"))
        assert await answer(reader) == b"long 1"

    tell(app, story)


# -- the application


@pytest.fixture
def served(tmp_path: Path) -> Iterator[InProcess]:
    seal = Seal(tmp_path / "state")
    with one_project(seal, compiled(seal, tmp_path / "scratch")) as found:
        yield found


def asked(served: InProcess, *bodies: Any, path: bytes = b"/predict") -> list[Reply | None]:
    texts = [body if isinstance(body, bytes) else json.dumps(body).encode() for body in bodies]
    wholes = [Whole(None, Head(path, HEADERS, len(t)), t, b"", None, 0.0) for t in texts]  # type: ignore[arg-type]
    return list(served.apps._answer_all(wholes))


def logged(served: InProcess) -> list[Prediction]:
    return [r for r in read_all(served.log_folder) if isinstance(r, Prediction)]


def test_together_each_is_answered_recorded_and_counted_as_alone(served: InProcess) -> None:
    bodies = [RECORD, [RECORD] * 3, RECORD | {"distance": "far"}, RECORD | {"carrier": "UA"}, b"{", RECORD | {"flight_id": "f1"}]
    alone = [served.try_fast("/predict", body) for body in bodies]
    before, counted = logged(served), served.counts.codes()[200]
    together = asked(served, *bodies)
    assert [r and re.sub(rb"p-[-0-9a-f]+", b"", r.body) for r in together] == [
        r and re.sub(rb"p-[-0-9a-f]+", b"", r.body) for r in alone
    ]
    assert [r and r.status for r in together] == [200, 200, None, 200, None, 200]
    records = logged(served)[len(before) :]
    assert [(r.inputs, r.key, r.outputs, r.variant) for r in records] == [(r.inputs, r.key, r.outputs, r.variant) for r in before]
    told = [p["id"] for r in together if r is not None for p in json.loads(r.body)["predictions"]]
    assert [r.id for r in records] == told
    assert served.counts.codes()[200] == 2 * counted
    assert sum(arm.requests for arms in served.counts.tallies().values() for arm in arms) == 8


def test_a_record_that_cannot_be_written_costs_each_its_answer(served: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*records: Any) -> None:
        raise DiskFullError("full") from OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(served.log, "append", full)
    assert [r and r.status for r in asked(served, RECORD, RECORD)] == [507, 507]
    assert served.counts.rows() == 0


def test_one_record_at_fault_costs_the_others_nothing(served: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    append = served.log.append

    def picky(*records: Any) -> None:
        if any(record.inputs["carrier"] == "UA" for record in records):
            raise DiskFullError("this one does not fit")
        append(*records)

    monkeypatch.setattr(served.log, "append", picky)
    found = asked(served, RECORD, RECORD | {"carrier": "UA"}, RECORD)
    assert [r and r.status for r in found] == [200, 507, 200]
    assert len(logged(served)) == 2


def test_a_sync_that_failed_is_told_to_somebody(served: InProcess) -> None:
    served.log._unsynced = OSError("gone")
    first, second = asked(served, RECORD, RECORD)
    assert first is not None
    assert second is not None
    assert (first.status >= 500, second.status, len(logged(served))) == (True, 200, 1)
    assert StoreError.__name__ not in first.body.decode()


def test_a_path_that_is_no_more_is_not_answered_by_a_known_head(served: InProcess) -> None:
    served.apps.gathering.remember(wire(b"{}"), Head(b"/predict", [], 2))
    served.apps.serve([])
    assert served.apps.gathering.head_of(wire(b"{}")) is None


def test_a_project_named_in_the_path_is_asked_together_too(served: InProcess) -> None:
    found = asked(served, RECORD, RECORD | {"distance": "far"}, path=f"/{PROJECT}/predict".encode())
    assert [r and r.status for r in found] == [200, None]


def test_the_inference_protocol_is_answered_together_too(served: InProcess) -> None:
    tensors = [
        {"name": "carrier", "shape": [1], "datatype": "BYTES", "data": ["AA"]},
        {"name": "distance", "shape": [1], "datatype": "FP64", "data": [3.5]},
    ]
    found = asked(served, {"inputs": tensors}, {"inputs": tensors}, path=f"/v2/models/{PROJECT}/infer".encode())
    assert [r and r.status for r in found] == [200, 200]
    assert len(logged(served)) == 2
