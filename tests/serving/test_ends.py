"""Ends of processes at moments when nobody expects them: they are told once, and whoever is wanted comes again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
from serving_bundles import BINARY, FEATURES, PROJECT, Seal, compiled, hosted, wait_for
from serving_world import World

from noria.kernel.errors import ServingError
from noria.serving import counts as counting
from noria.serving import host_pool
from noria.serving import worker_pool as grouping
from noria.serving.child_process import spawn
from noria.serving.counts import SharedCounters, counts_path
from noria.serving.crash_record import candidate_of
from noria.serving.crashes import CrashHistory
from noria.serving.environment import ServedEnvironment, bind
from noria.serving.out_of_memory import OutOfMemory
from noria.serving.route import Route
from noria.serving.runtime import HostedRuntime
from noria.serving.supervisor import Options, Supervisor
from noria.serving.worker_pool import WorkerGoneError, WorkerLink, WorkerPlan, WorkerPool
from noria.serving.worker_start import Start

Ends = list[tuple[int, int]]  # slot and exit code


async def until(condition: Callable[[], Any], timeout_s: float = 120.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        await asyncio.sleep(0.01)


def start_of(seal: Seal, slot: int, listen_fd: int, channel_fd: int) -> Start:
    return Start(str(seal.state), "production", "127.0.0.1", slot, listen_fd, channel_fd, 1_000_000, 1000)


@contextlib.asynccontextmanager
async def group_of(
    seal: Seal, size: int, on_end: Callable[[int, int], None], silent_s: float = 30.0
) -> AsyncIterator[tuple[WorkerPool, socket.socket]]:
    """Workers that accept and have no release."""
    counting.create(counts_path(seal.state, "production"))
    listener = bind("production", "127.0.0.1", 0)
    group = WorkerPool(lambda *fds: start_of(seal, *fds), listener, size, lambda slot, code, _: on_end(slot, code), silent_s)
    try:
        await group.open()
        await group.accept()
        yield group, listener
    finally:
        listener.close()
        await group.close(10.0)


# -- workers


def test_a_worker_that_hangs_before_its_first_pulse_is_replaced(seal: Seal) -> None:
    async def story() -> None:
        ends: Ends = []
        async with group_of(seal, 1, lambda *end: ends.append(end), silent_s=0.8) as (group, _):
            os.kill(group.slots()[0], signal.SIGSTOP)
            await until(lambda: ends == [(0, -signal.SIGABRT)])

    asyncio.run(story())


def test_an_end_is_told_wherever_it_comes_and_the_worker_comes_again(seal: Seal, capfd: pytest.CaptureFixture[str]) -> None:
    asyncio.run(_ends(seal))
    assert "nobody can be blamed: OSError: no room" in capfd.readouterr().err


async def _ends(seal: Seal) -> None:
    ends: Ends = []

    def ended(slot: int, code: int) -> None:
        ends.append((slot, code))
        if len(ends) == 1:
            raise OSError("no room")

    async with group_of(seal, 2, ended) as (group, listener):
        first = group.slots()[0]
        os.kill(first, signal.SIGKILL)
        await until(lambda: group.slots()[0] != first)  # though its end could not be dealt with
        starting = group.slots()[0]
        os.kill(starting, signal.SIGSEGV)
        await until(lambda: group.slots()[0] not in (first, starting))
        assert ends == [(0, -signal.SIGKILL), (0, -signal.SIGSEGV)]
        with socket.create_connection(listener.getsockname()[:2]) as client, contextlib.ExitStack() as others:
            leaving = psutil.Process(group.slots()[1])
            while not leaving.net_connections("tcp") or all(c.status != "ESTABLISHED" for c in leaving.net_connections("tcp")):
                others.enter_context(socket.create_connection(client.getpeername()))
                await asyncio.sleep(0.05)
            assert await group.resize(1) == 1
            leaving.send_signal(signal.SIGBUS)
            await until(lambda: group.slots().keys() == {0})
        assert ends[2:] == [(1, -signal.SIGBUS)]
        assert group.restarts == 2


def test_a_worker_that_is_being_started_when_the_server_stops_is_ended(seal: Seal, monkeypatch: pytest.MonkeyPatch) -> None:
    asyncio.run(_stop(seal, monkeypatch))


async def _stop(seal: Seal, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[asyncio.subprocess.Process] = []

    async def slow(*what: Any) -> asyncio.subprocess.Process:
        """As a machine that is busy; cancelled, it leaves no process behind, as asyncio's own."""
        process = await spawn(*what)
        started.append(process)
        try:
            await asyncio.sleep(0.3)
        except asyncio.CancelledError:
            process.kill()
            await process.wait()
            raise
        return process

    async with group_of(seal, 2, lambda *end: None) as (group, _):
        monkeypatch.setattr(grouping, "spawn", slow)
        first, second = group.slots().values()
        os.kill(second, signal.SIGSTOP)  # the other takes its time to end
        os.kill(first, signal.SIGKILL)
        await until(lambda: started)
        asyncio.get_running_loop().call_later(0.6, os.kill, second, signal.SIGCONT)
    assert started[0].returncode is not None


def test_a_worker_drains_though_its_parent_was_killed_before_it_read_all(seal: Seal) -> None:
    """The kernel says "reset" then, and not "end"."""
    counting.create(counts_path(seal.state, "production"))
    listener = bind("production", "127.0.0.1", 0)
    ours, theirs = socket.socketpair()
    with listener, ours:
        with theirs:
            fds = (listener.fileno(), theirs.fileno())
            settings = msgspec.json.encode(start_of(seal, 0, *fds)).decode()
            process = subprocess.Popen([sys.executable, "-m", "noria.serving.worker", settings], pass_fds=fds)
        ours.sendall(b'{"op": "accept", "id": 1}\n')
        assert select.select([ours], [], [], 30)[0]
    assert process.wait(15) == 0


# -- hosts


def test_a_host_ends_once_however_often_its_successor_cannot_be_started(
    seal: Seal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a process that the project's code forked, which holds all that is open, keeps nobody waiting."""
    monkeypatch.setattr(host_pool, "LOAD_S", 20.0)
    helper = """import os, time
if (parent := os.getpid()) and os.fork() == 0:
    while os.getppid() == parent:
        time.sleep(0.05)
    os._exit(0)
"""
    asyncio.run(_host(seal, hosted(seal, tmp_path, features=helper + FEATURES), monkeypatch))


async def _host(seal: Seal, digest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    codes: list[int] = []
    failures = iter([BlockingIOError(11, "no more processes")] * 3)

    async def scarce(*what: Any) -> asyncio.subprocess.Process:
        if (error := next(failures, None)) is not None:
            raise error
        return await spawn(*what)

    def open_files() -> int:
        return len(os.listdir("/proc/self/fd"))

    host = host_pool.Host(seal.state, seal.state / "releases" / digest, seal.state / "host.sock", codes.append)
    await host.start()
    try:
        first, before = host.process, open_files()
        assert first is not None
        monkeypatch.setattr(host_pool, "spawn", scarce)
        os.kill(first.pid, signal.SIGSEGV)
        runtime = HostedRuntime(host.socket, BINARY)
        await until(lambda: codes)
        with pytest.raises(ServingError, match="cannot be reached"):
            await runtime.connect(time.monotonic())
        await runtime.connect(time.monotonic() + 20)  # it waits for the successor
        await runtime.close()
        assert codes == [-signal.SIGSEGV]
        await until(lambda: open_files() <= before)
    finally:
        await host.stop()


# -- who is told


def test_a_flip_is_not_undone_by_a_candidate_that_is_suspended_at_that_moment(seal: Seal) -> None:
    tree = Supervisor(Options(seal.state, {}))
    path = counts_path(seal.state, "production")
    counting.create(path)
    old = Route(PROJECT, "production", 1, "a", "v1", "b", "v2", share=0.5, rollout_id="r")
    new = Route(PROJECT, "production", 2, "c", "v3")

    async def story() -> None:
        with bind("production", "127.0.0.1", 0) as listener:
            group = WorkerPool(lambda *fds: start_of(seal, *fds), listener, 0)
            unused: Any = None
            place = ServedEnvironment(listener, group, SharedCounters(path), CrashHistory(path, OutOfMemory(())), unused)
            await group.flip(WorkerPlan((old,)))
            for _ in range(2):
                place.deaths._blame("b", candidate_of("r"), "SIGSEGV")
            tree._suspend(place)
            await group.flip(WorkerPlan((new,)))
            await until(lambda: not tree._suspending)
            assert group.plan.routes == (new,)
            place.counts.close()

    asyncio.run(story())


def test_a_champion_is_not_blamed_when_a_worker_dies_of_loading(seal: Seal, tmp_path: Path) -> None:
    champion = compiled(seal, tmp_path)
    path = counts_path(seal.state, "production")
    counting.create(path)
    deaths = CrashHistory(path, OutOfMemory(()))
    route = Route(PROJECT, "production", 1, champion, "v1")
    for lines, requests in (("", 0), ("runtime.ort.InferenceSession = real", 1)):
        assert _abort(seal, champion, path, lines) == -signal.SIGABRT
        deaths.note_worker_end(0, -signal.SIGABRT, [route], {champion})
        assert [tale.deaths for tale in deaths.facts().values()] == [1] * requests
        reader = SharedCounters(path)
        assert [arms[0].errors for arms in reader.tallies().values()] == [1] * requests
        reader.close()


def test_who_was_being_loaded_is_blamed_for_what_it_ended(seal: Seal, tmp_path: Path) -> None:
    """Want of memory leaves no last words: what the worker was told to load is known all the same."""
    path, counter = counts_path(seal.state, "production"), tmp_path / "memory.events"
    counting.create(path)
    counter.write_text("oom_kill 0\n")
    route = Route(PROJECT, "production", 1, "champion", "v1", "candidate", "v2", share=0.5, rollout_id="r")
    kills = 0
    for code in (-signal.SIGKILL, -signal.SIGSEGV):
        for loading, blamed in (("candidate", ["candidate"]), ("champion", ["champion"]), ("another", [])):
            deaths = CrashHistory(path, OutOfMemory((counter,)))
            kills += 1
            counter.write_text(f"oom_kill {kills}\n")
            deaths.note_worker_end(0, code, [route], {"champion", "candidate"}, loading)
            assert list(deaths.facts()) == blamed
    reader = SharedCounters(path)
    assert reader.tallies() == {}  # it was in no request
    reader.close()


def test_what_a_worker_is_loading_is_known_until_it_has_answered() -> None:
    async def story() -> None:
        ours, theirs = socket.socketpair()
        process = await asyncio.create_subprocess_exec("sleep", "60")
        link = WorkerLink(process, lambda digest, text: None)
        await link.open(ours)
        plan = WorkerPlan((), {"a": (Path("a"), None), "b": (Path("b"), None)})
        loading = asyncio.create_task(link.load(plan))
        await until(lambda: link.loading == "a")
        theirs.sendall(b'{"id": 1, "error": "it is no model"}\n')
        await until(lambda: link.loading == "b")
        theirs.close()
        with pytest.raises(WorkerGoneError):
            await loading
        assert link.loading == "b"
        process.kill()
        await process.wait()
        link.close()

    asyncio.run(story())


def _abort(seal: Seal, digest: str, path: Path, before: str) -> int:
    """A process that leaves its last words: in the middle of loading a release, or else of asking it."""
    script = f"""
import asyncio, os, time
from pathlib import Path
from noria.serving import runtime
from noria.releases.bundle import open_bundle
from noria.releases.signing import known_keys
from noria.serving.crashes import leave_last_words
state = Path({str(seal.state)!r})
leave_last_words(Path({str(path)!r}), 0)
real = runtime.ort.InferenceSession
runtime.ort.InferenceSession = lambda *a, **k: os.abort()
{before}
async def story():
    release = await runtime.load(open_bundle(state / "releases" / {digest!r}, known_keys(state)), None)
    runtime.check_answers = lambda *a: os.abort()
    await release.runtime.predict({{"carrier": ["AA"], "distance": [3.5]}}, 1, time.monotonic() + 5)
asyncio.run(story())
"""
    return subprocess.run([sys.executable, "-c", script], check=False, capture_output=True).returncode


def test_a_server_hears_how_its_workers_end_also_when_its_starter_would_not(seal: Seal, tmp_path: Path) -> None:
    world = World(seal, tmp_path)
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # a child inherits that
    try:
        world.server.start({"production": ("127.0.0.1", 0)}, workers=1)
    finally:
        signal.signal(signal.SIGCHLD, before)
    try:
        (worker,) = world.workers()
        os.kill(worker, signal.SIGSEGV)
        wait_for(lambda: f"(pid {worker}) ended with -11" in (seal.state / "server.log").read_text())
    finally:
        world.close()
