"""A worker that hangs is ended and replaced, and who was at work in it is blamed; a parent that was late itself ends nobody."""

from __future__ import annotations

import asyncio
import http.client
import os
import signal
import socket
import time
from collections import Counter
from pathlib import Path

import msgspec
import psutil
from serving_bundles import PROJECT, RECORD, Seal, compiled

from noria.serving import counts as counting
from noria.serving.counts import SharedCounters, counts_path
from noria.serving.crashes import CrashHistory
from noria.serving.environment import bind
from noria.serving.out_of_memory import OutOfMemory
from noria.serving.route import Route
from noria.serving.tallies import Tally
from noria.serving.worker_pool import WorkerLink, WorkerPlan, WorkerPool
from noria.serving.worker_start import Start

SILENT_S = 2.5  # a pulse comes every second


def ask(port: int) -> str:
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    link.request("POST", "/predict", msgspec.json.encode(RECORD))
    variant: str = msgspec.json.decode(link.getresponse().read())["variant"]
    link.close()
    return variant


def test_a_worker_that_hangs_is_replaced_and_its_candidate_blamed(seal: Seal, tmp_path: Path) -> None:
    asyncio.run(_hang(seal, tmp_path))


async def _hang(seal: Seal, scratch: Path) -> None:
    good, tried = (compiled(seal, scratch, seed) for seed in (0, 1))
    route = Route(PROJECT, "production", 1, good, "v1", tried, "v2", share=0.5, rollout_id="r")
    path = counts_path(seal.state, "production")
    counting.create(path)
    deaths, ends = CrashHistory(path, OutOfMemory(())), list[tuple[int, int]]()

    def ended(slot: int, code: int, loading: str | None) -> None:
        ends.append((slot, code))
        deaths.note_worker_end(slot, code, [route], {good, tried})

    def start(slot: int, listen_fd: int, channel_fd: int) -> Start:
        return Start(str(seal.state), "production", "127.0.0.1", slot, listen_fd, channel_fd, 1_000_000, 1000)

    listener = bind("production", "127.0.0.1", 0)
    port = listener.getsockname()[1]
    group = WorkerPool(start, listener, 2, ended, SILENT_S)
    plan = WorkerPlan((route,), {digest: (seal.state / "releases" / digest, None) for digest in (good, tried)})
    try:
        await group.open()
        await group.flip(plan)
        await group.accept()
        while group.pulses(time.monotonic()) is None:
            await asyncio.sleep(0.02)
        before = group.slots()
        for number in (signal.SIGSTOP, signal.SIGCONT):  # all of a container is frozen for a while, the parent too
            for pid in before.values():
                os.kill(pid, number)
            time.sleep(SILENT_S + 0.2 if number == signal.SIGSTOP else 0.0)
        await asyncio.sleep(0.8)
        assert (ends, group.slots()) == ([], before)

        shared = SharedCounters(path, 1)
        shared.at_work.__enter__()  # as if it were in a call of the candidate
        os.kill(before[1], signal.SIGSTOP)
        stopped = time.monotonic()
        while not ends:
            await asyncio.sleep(0.02)
        assert SILENT_S - 1.5 < time.monotonic() - stopped < 15
        assert ends == [(1, -signal.SIGABRT)]
        assert not psutil.pid_exists(before[1])
        assert deaths.facts()[tried].how == "SIGABRT in worker 1"
        assert shared.tallies()[route.tally_key] == (Tally(), Tally(1, 1))
        shared.close()
        while group.slots()[1] == before[1]:
            await asyncio.sleep(0.02)
        assert group.slots()[0] == before[0]
        assert await asyncio.to_thread(ask, port) in ("champion", "candidate")
        assert len(ends) == 1
    finally:
        listener.close()
        await group.close(10.0)


def test_how_a_worker_ended_is_known_also_when_orders_that_it_never_read_went_with_it() -> None:
    """Its end of the channel breaks with them unread, at the moment that the process may be looked after or not yet."""
    assert asyncio.run(_unread()) == {-signal.SIGSEGV: 40}


async def _unread() -> Counter[int]:
    codes: Counter[int] = Counter()
    for _ in range(40):
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec("sleep", "60", pass_fds=[theirs.fileno()])
        link = WorkerLink(process, lambda digest, text: None)
        await link.open(ours)
        link.tell("usage", usage=[])
        process_ended = asyncio.create_task(process.wait())
        os.kill(process.pid, signal.SIGSEGV)
        codes[await process_ended] += 1
        link.close()
    return codes
