"""What waits for a hosted release is answered in one call, and only what is wrong in itself fails."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from serving_bundles import BINARY, PROJECT, RECORD, Seal, hosted, logged, wait_for
from serving_world import World

from noria.serving import frames
from noria.serving.child_process import CODE_ENDED
from noria.serving.host import BATCH_ROWS, HANG_S, WARNINGS, HostedModel, HostRequest, ModelThread, WarnOnce, serve
from noria.serving.runtime import AwayError, HostedRuntime, HostLostError


class Panic(BaseException):
    """As a Rust library raises it: no Exception."""


class Slow:
    """A model that begins when it is told to, and notes how many rows each call has. Negative numbers raise, far below zero
    it panics."""

    def __init__(self) -> None:
        self.calls: list[int] = []
        self.go = threading.Event()
        self.begun = threading.Event()

    def predict(self, columns: dict[str, list[Any]], n: int) -> list[Any]:
        self.begun.set()
        assert self.go.wait(10)
        self.calls.append(n)
        if min(columns["x"]) < 0:
            raise Panic("far below") if min(columns["x"]) < -100 else ValueError("negative")
        return [value * 2 for value in columns["x"]]


class Room:
    def __init__(self, together: bool) -> None:
        self.model = Slow()
        self.ended = threading.Event()
        self.desk = ModelThread(cast(HostedModel, self.model), Path("/nowhere"), together, self.ended.set)
        self.answers: queue.Queue[dict[str, Any]] = queue.Queue()

    def ask(self, number: int, *values: float, until_s: float = 10.0) -> None:
        job = HostRequest(number, {"x": list(values)}, len(values), time.monotonic() + until_s, self.answers.put)
        self.desk.put(job)

    def wait(self, count: int) -> dict[int, dict[str, Any]]:
        found = [self.answers.get(timeout=10) for _ in range(count)]
        return {answer["id"]: answer for answer in found}


@pytest.mark.parametrize("together", [True, False])
def test_what_came_meanwhile_shares_the_next_call(together: bool) -> None:
    room = Room(together)
    room.ask(0, 1.0)
    assert room.model.begun.wait(10)
    room.ask(1, 10.0, 11.0)
    room.ask(2, 20.0)
    room.ask(3, 30.0, until_s=-1.0)  # nobody waits for it any more
    room.ask(4, 40.0, 41.0)
    room.model.go.set()
    answers = room.wait(4)
    assert {number: answer["values"] for number, answer in answers.items()} == {
        0: [2.0],
        1: [20.0, 22.0],
        2: [40.0],
        4: [80.0, 82.0],
    }
    assert room.model.calls == ([1, 5] if together else [1, 2, 1, 2])


def test_one_that_fails_costs_no_other() -> None:
    room = Room(True)
    room.ask(0, 1.0)
    assert room.model.begun.wait(10)
    for number, value in enumerate((5.0, -1.0, 7.0), 1):
        room.ask(number, value)
    room.model.go.set()
    answers = room.wait(4)
    assert [answers[i]["ok"] for i in range(4)] == [True, True, False, True]
    assert answers[2]["error"].startswith("ValueError: negative")
    assert answers[3]["values"] == [14.0]


@pytest.mark.parametrize("together", [True, False])
def test_a_panic_is_the_failure_of_its_request_and_the_end_of_the_desk(together: bool) -> None:
    """Number 9: nobody waits for a thread that is gone. What was not asked yet is sent back, for the next process."""
    room = Room(together)
    room.ask(0, 1.0)
    assert room.model.begun.wait(10)
    for number, value in enumerate((5.0, -500.0, 7.0), 1):
        room.ask(number, value)
    room.model.go.set()
    answers = room.wait(4)
    assert [answers[i]["ok"] for i in range(4)] == [True, True, False, False]
    assert answers[2]["error"].startswith("Panic: far below")
    assert [answers[i].get("again", False) for i in range(4)] == [False, False, False, True]
    assert room.ended.wait(10)
    room.ask(5, 1.0)
    assert room.wait(1)[5]["again"] is True


def test_a_call_that_does_not_end_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Number 9: once nobody has been waiting for its answer for a minute."""
    room = Room(True)
    room.ask(0, 1.0, until_s=5.0)
    assert room.model.begun.wait(10)
    assert not room.desk.is_hanging()
    now = time.monotonic() + 5.0 + HANG_S
    monkeypatch.setattr("noria.serving.host.time.monotonic", lambda: now + 1)
    assert room.desk.is_hanging()
    monkeypatch.undo()
    room.model.go.set()
    room.wait(1)
    wait_for(lambda: not room.desk.is_hanging())


def test_a_call_has_its_bound() -> None:
    room = Room(True)
    room.ask(0, 0.0)
    assert room.model.begun.wait(10)
    for number in range(1, 2 * BATCH_ROWS + 2):
        room.ask(number, float(number))
    room.model.go.set()
    answers = room.wait(2 * BATCH_ROWS + 2)
    assert all(answer["values"] == [number * 2.0] for number, answer in answers.items())
    assert room.model.calls == [1, BATCH_ROWS, BATCH_ROWS, 1]


def test_many_at_once_get_their_own_answers(seal: Seal, tmp_path: Path) -> None:
    """Against a real host: each answer is that of its own record, whoever shared the call; a wrong one fails alone."""
    world = World(seal, tmp_path / "scratch")
    world.server.start({"production": ("127.0.0.1", 0)}, workers=1)
    try:
        world.serve(hosted(world.seal, world.scratch))
        records = [RECORD | {"carrier": "XX" if i % 10 == 9 else ("AA", "UA")[i % 2], "distance": i / 10} for i in range(120)]

        def ask(record: dict[str, Any]) -> httpx.Response:
            return httpx.post(f"{world.url}/predict", json=record, timeout=30)

        one_by_one = [ask(record) for record in records[:20]]
        with ThreadPoolExecutor(12) as pool:
            answers = list(pool.map(ask, records))
        assert [a.status_code for a in answers] == [503 if r["carrier"] == "XX" else 200 for r in records]
        for alone, shared in zip(one_by_one, answers, strict=False):
            if alone.status_code == 200:
                mine, other = (a.json()["predictions"][0]["probability"] for a in (alone, shared))
                assert mine == pytest.approx(other, abs=1e-12)
        rows = logged(world.state, "production")
        assert len({row["id"] for row in rows}) == len(rows) == 18 + 108
        assert {row["project"] for row in rows} == {PROJECT}
    finally:
        world.close()


def test_a_warning_of_every_call_is_logged_once(capsys: pytest.CaptureFixture[str]) -> None:
    once = WarnOnce()
    for number in range(5):
        once("X has feature names", UserWarning, "base.py", 10)
        once(f"different {number}", UserWarning, "base.py", 10)
    said = capsys.readouterr().err
    assert said.count("X has feature names") == 1
    assert said.count("different") == 5
    for number in range(2 * WARNINGS):
        once(f"many {number}", UserWarning, "base.py", 10)
    assert capsys.readouterr().err.count("many") == WARNINGS - 6


def test_a_host_that_ends_says_so_behind_its_last_answer(tmp_path: Path) -> None:
    """A request that reaches it as it ends was not asked: it waits for the next process, and does not fail."""

    async def story() -> list[dict[str, Any]]:
        path, model = tmp_path / "host.sock", Slow()
        model.go.set()
        listening = asyncio.Event()
        serving = asyncio.create_task(
            serve(lambda on_end: ModelThread(cast(HostedModel, model), Path("/nowhere"), on_end=on_end), path, listening.set)
        )
        await listening.wait()
        reader, writer = await asyncio.open_unix_connection(path)
        job = {"id": 1, "columns": {"x": [-1000.0]}, "n": 1, "until": time.monotonic() + 60}
        writer.write(frames.pack(job))
        found = [await frames.read(reader), await frames.read(reader)]
        with pytest.raises(EOFError):
            await frames.read(reader)
        writer.close()
        assert await serving == CODE_ENDED
        return found

    answer, last = asyncio.run(story())
    assert (answer["id"], answer["ok"], last) == (1, False, {frames.OVER: True})


@pytest.mark.parametrize(("says", "error"), [(True, AwayError), (False, HostLostError)])
def test_what_an_ended_host_did_not_read_was_not_asked(tmp_path: Path, says: bool, error: type[Exception]) -> None:
    async def host(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await frames.read(reader)
        if says:
            writer.write(frames.pack({frames.OVER: True}))
        writer.close()

    async def story() -> type[Exception]:
        server = await asyncio.start_unix_server(host, tmp_path / "host.sock")
        runtime = HostedRuntime(tmp_path / "host.sock", BINARY)
        with pytest.raises(HostLostError) as found:
            await runtime.predict({}, 1, time.monotonic() + 60)
        await runtime.close()
        server.close()
        return type(found.value)

    assert asyncio.run(story()) is error
