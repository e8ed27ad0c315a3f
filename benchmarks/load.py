"""Steady load on one address by a process of its own, which writes down every request: `python -m benchmarks.load PLAN`.

The loop is open: a request is due at its moment whether or not the server keeps up, and its time counts from then; while no
connection is free it waits here. Connections are kept alive, and made again when the server ends them. Nothing is tried twice:
what a kill interrupts is written down as interrupted.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import random
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

ROOT = Path(__file__).parents[1]
ANSWER_S = 30.0  # a request that is not answered for so long is given up
AGAIN_S = 0.02  # between two tries to connect
INTERRUPTED, LATE = 0, -2  # in place of a status: the connection ended, or no answer in time


@dataclass(frozen=True, slots=True)
class Shot:
    """One kind of request, chosen ``weight`` times among all."""

    kind: str
    path: str
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})
    method: str = "POST"
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Call:
    """One request as it went; moments in seconds of the machine's monotonic clock."""

    kind: str
    due: float
    sent: float
    done: float
    status: int
    release: str
    variant: str
    ids: tuple[str, ...]

    @property
    def ms(self) -> float:
        return (self.done - self.due) * 1000


@dataclass(slots=True)
class Told:
    """What the load met."""

    calls: list[Call] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)  # moments at which no connection could be made
    unsent: int = 0  # requests that were due and still waited for a connection at the end

    def failed(self) -> list[Call]:
        return [call for call in self.calls if call.status != 200]


@contextmanager
def load(url: str, shots: Sequence[Shot], rate: float, out: Path, connections: int = 32, seed: int = 1) -> Iterator[Told]:
    """Load from the first request on until the block is left; then all that happened is in the `Told`."""
    wires = [(shot.kind, base64.b64encode(_wire(url, shot)).decode(), shot.weight) for shot in shots]
    plan = {"url": url, "rate": rate, "connections": connections, "out": str(out), "seed": seed, "shots": wires}
    told = Told()
    command = [sys.executable, "-m", "benchmarks.load", json.dumps(plan)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            if process.stdout.readline() != b"begun\n":
                raise RuntimeError("the load did not begin")
            yield told
        finally:
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(ANSWER_S + 5)
            process.kill()
    if process.returncode != 0:
        raise RuntimeError(f"the load ended with {process.returncode}")
    _fill(told, out)


def percentile(values: Sequence[float], share: float) -> float:
    """The value that ``share`` of them do not exceed; NaN of none."""
    found = sorted(values)
    return found[min(len(found) - 1, int(share * len(found)))] if found else float("nan")


def _fill(told: Told, out: Path) -> None:
    with out.open() as lines:
        for line in lines:
            kind, *rest = json.loads(line)
            if kind == "refused":
                told.refused.append(rest[0])
            elif kind == "unsent":
                told.unsent = rest[0]
            else:
                due, sent, done, status, release, variant, ids = rest
                told.calls.append(Call(kind, due, sent, done, status, release, variant, tuple(ids)))


def _wire(url: str, shot: Shot) -> bytes:
    host = url.removeprefix("http://").partition("/")[0]
    lines = [f"{shot.method} {shot.path} HTTP/1.1", f"Host: {host}"]
    lines += [f"{name}: {value}" for name, value in shot.headers.items()]
    if shot.method == "POST":
        lines.append(f"Content-Length: {len(shot.body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + shot.body


# --- the process


@dataclass(slots=True)
class Flight:
    """A request from the moment it is due."""

    kind: str
    wire: bytes
    due: float
    sent: float = 0.0


class Connection(asyncio.Protocol):
    """One connection; it carries one request at a time."""

    def __init__(self, pool: Pool) -> None:
        self.flight: Flight | None = None
        self._pool = pool
        self._transport: asyncio.Transport | None = None
        self._read = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._pool.free(self)

    def send(self, flight: Flight) -> None:
        assert self._transport is not None
        self.flight = flight
        flight.sent = time.monotonic()
        self._transport.write(flight.wire)

    def data_received(self, data: bytes) -> None:
        self._read += data
        head, found, rest = self._read.partition(b"\r\n\r\n")
        if not found:
            return
        length = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
        if len(rest) < length or self.flight is None:
            return
        flight, self.flight, self._read = self.flight, None, bytearray()
        self._pool.answered(flight, int(head[9:12]), bytes(rest[:length]))
        if b"\r\nconnection: close" in head.lower():
            self.close()
        else:
            self._pool.free(self)

    def connection_lost(self, error: Exception | None) -> None:
        if self.flight is not None:
            self._pool.broken(self.flight, INTERRUPTED)
        self._pool.lost(self)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()


class Pool:
    """The connections, what waits for one, and the record of it all."""

    def __init__(self, plan: dict[str, Any]) -> None:
        host, _, port = plan["url"].removeprefix("http://").rstrip("/").rpartition(":")
        self._address = (host, int(port))
        self._shots = [(kind, base64.b64decode(wire)) for kind, wire, _ in plan["shots"]]
        self._weights = [weight for _, _, weight in plan["shots"]]
        self._chance = random.Random(plan["seed"])
        self._rate = plan["rate"]
        self._size = plan["connections"]
        self._out = Path(plan["out"]).open("w", buffering=1 << 16)  # noqa: SIM115 - closed at the end of `run`
        self._waiting: deque[Flight] = deque()
        self._idle: deque[Connection] = deque()
        self._open: set[Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stop = asyncio.Event()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stop.set)
        for _ in range(self._size):
            self._connect()
        while len(self._open) < self._size:
            await asyncio.sleep(0.005)
        print("begun", flush=True)
        await self._fire(time.monotonic())
        until = time.monotonic() + ANSWER_S
        while (self._waiting or any(c.flight for c in self._open)) and time.monotonic() < until:
            await asyncio.sleep(0.005)
        for connection in list(self._open):
            if connection.flight is not None:
                self.broken(connection.flight, LATE)
        self._write(["unsent", len(self._waiting)])
        self._out.close()

    async def _fire(self, begun: float) -> None:
        number, swept = 0, begun
        while not self._stop.is_set():
            now = time.monotonic()
            while (due := begun + number / self._rate) <= now:
                kind, wire = self._chance.choices(self._shots, self._weights)[0]
                self._waiting.append(Flight(kind, wire, due))
                number += 1
            self._dispatch()
            if now > swept + 1.0:
                swept = now
                self._sweep(now)
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    def _dispatch(self) -> None:
        while self._waiting and self._idle:
            self._idle.popleft().send(self._waiting.popleft())

    def _sweep(self, now: float) -> None:
        for connection in list(self._open):
            if connection.flight is not None and now - connection.flight.sent > ANSWER_S:
                self.broken(connection.flight, LATE)
                connection.flight = None
                connection.close()

    def free(self, connection: Connection) -> None:
        self._open.add(connection)
        self._idle.append(connection)
        self._dispatch()

    def lost(self, connection: Connection) -> None:
        self._open.discard(connection)
        with contextlib.suppress(ValueError):
            self._idle.remove(connection)
        self._connect()

    def _connect(self) -> None:
        task = asyncio.get_running_loop().create_task(self._connected())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connected(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                await loop.create_connection(lambda: Connection(self), *self._address)
                return
            except OSError:
                if self._stop.is_set():
                    return
                self._write(["refused", time.monotonic()])
                await asyncio.sleep(AGAIN_S)

    def answered(self, flight: Flight, status: int, body: bytes) -> None:
        done = time.monotonic()
        release, variant, ids = "", "", []
        if status == 200 and flight.kind == "predict":
            answer = json.loads(body)
            release, variant = answer.get("release", ""), answer.get("variant", "")
            ids = [row["id"] for row in answer.get("predictions", ())]
        self._write([flight.kind, flight.due, flight.sent, done, status, release, variant, ids])

    def broken(self, flight: Flight, status: int) -> None:
        self._write([flight.kind, flight.due, flight.sent, time.monotonic(), status, "", "", []])

    def _write(self, line: list[Any]) -> None:
        self._out.write(json.dumps(line) + "\n")


def main(plan: str) -> int:
    try:
        from uvloop import run
    except ImportError:
        from asyncio import run  # type: ignore[assignment]
    run(Pool(json.loads(plan)).run())
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
