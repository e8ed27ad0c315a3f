"""Workers that come and go under load, without a request that fails; and what is told about it."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, cast

import psutil
import pytest
from serving_alone import refused
from serving_bundles import PROJECT, RECORD, Seal, compiled, logged, wait_for
from serving_world import World

from noria.cli.status import _server
from noria.delivery import scaling_events
from noria.delivery.context import DeliveryContext
from noria.kernel.errors import ServingError
from noria.kernel.workers import Workers
from noria.serving import counts
from noria.serving.autoscaler import KEPT, Decisions, Scaler
from noria.serving.counts import counts_path
from noria.serving.environment import bind
from noria.serving.heartbeat import Pulse
from noria.serving.judge_scaling import UP_BUSY, ScalingDecision, ScalingRule
from noria.serving.route import Route
from noria.serving.usage import UsageMeter, cores
from noria.serving.worker_pool import WorkerPlan, WorkerPool
from noria.serving.worker_start import Start
from noria.storage.ledger import Ledger
from noria.views.runtime_status import ServerUse, StatusContext, surroundings

BODY = json.dumps(RECORD).encode()


class Strict:
    """A client that keeps its connection for as long as it may, never looks whether it still holds, and never tries again."""

    def __init__(self, port: int) -> None:
        self.statuses: list[int] = []
        self.ids: list[str] = []
        self.anew = 0  # times that it was told to connect anew
        self._link = http.client.HTTPConnection("127.0.0.1", port, timeout=10)

    def ask(self) -> int:
        """The status of one prediction. Raises what goes wrong with the connection."""
        self._link.request("POST", "/predict", BODY)
        answer = self._link.getresponse()
        said = json.loads(answer.read())
        self.statuses.append(answer.status)
        self.ids += [row["id"] for row in said.get("predictions", ())]
        self.anew += answer.will_close
        return answer.status

    def close(self) -> None:
        self._link.close()


class Clients:
    """So many of them in threads, each asking every few milliseconds."""

    def __init__(self, port: int, number: int = 8, every_s: float = 0.01) -> None:
        self.each = [Strict(port) for _ in range(number)]
        self.failures: list[str] = []
        self._every_s = every_s
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(client,)) for client in self.each]

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, client: Strict) -> None:
        while not self._stop.wait(self._every_s):
            try:
                client.ask()
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
        client.close()

    def ids(self) -> list[str]:
        return [name for client in self.each for name in client.ids]

    def statuses(self) -> list[int]:
        return [status for client in self.each for status in client.statuses]


@contextlib.asynccontextmanager
async def group_of(seal: Seal, digest: str, size: int) -> AsyncIterator[tuple[WorkerPool, int]]:
    """Real workers of a group in this process, and their port."""
    counts.create(counts_path(seal.state, "production"))
    listener = bind("production", "127.0.0.1", 0)

    def start(slot: int, listen_fd: int, channel_fd: int) -> Start:
        return Start(str(seal.state), "production", "127.0.0.1", slot, listen_fd, channel_fd, 1_000_000, 1000)

    group = WorkerPool(start, listener, size)
    plan = WorkerPlan((Route(PROJECT, "production", 1, digest, "v1"),), {digest: (seal.state / "releases" / digest, None)})
    try:
        await group.open()
        assert await group.load(plan) == {}
        await group.flip(plan)
        await group.accept()
        yield group, listener.getsockname()[1]
    finally:
        listener.close()
        await group.close(10.0)


async def until(condition: Callable[[], Any], timeout_s: float = 120.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        await asyncio.sleep(0.02)


def connected(pid: int) -> int:
    return sum(1 for link in psutil.Process(pid).net_connections("tcp") if link.status == psutil.CONN_ESTABLISHED)


def everywhere(port: int, pids: list[int]) -> list[Strict]:
    """Clients that asked once and keep their connections, so many that every worker holds one."""
    clients: list[Strict] = []
    while len(clients) < 12 or not all(connected(pid) for pid in pids):
        assert len(clients) < 300, "one worker takes none"
        clients.append(Strict(port))
        clients[-1].ask()
    return clients


def test_workers_come_and_go_under_load_and_no_request_fails(seal: Seal, tmp_path: Path) -> None:
    digest = compiled(seal, tmp_path / "scratch")
    told: dict[str, Any] = {}

    async def story() -> None:
        async with group_of(seal, digest, 1) as (group, port):
            with Clients(port) as clients:
                await until(lambda: len(clients.ids()) > 100)
                first = group.pids()
                assert await group.resize(3) == 3
                assert group.pids()[0] == first[0]
                await until(lambda: sum(client.anew for client in clients.each) >= 5)  # two thirds of the old one's clients
                three = group.slots()
                idle = await asyncio.to_thread(everywhere, port, group.pids())
                assert await group.resize(1) == 1
                assert group.pids() == first
                seen = len(clients.ids())
                await until(lambda: len(clients.ids()) > seen + 100)
                told["idle"] = {await asyncio.to_thread(client.ask) for client in idle}  # whoever holds them answers still
                for client in idle:
                    client.close()
                await until(lambda: group.slots().keys() == {0})
                await until(lambda: not any(psutil.pid_exists(pid) for slot, pid in three.items() if slot))
                assert await group.resize(2) == 2  # a slot that is free again
            told["clients"] = clients

    asyncio.run(story())
    clients: Clients = told["clients"]
    assert clients.failures == []
    assert set(clients.statuses()) == {200}
    assert told["idle"] == {200}
    ids = clients.ids()
    assert len(ids) == len(set(ids)) > 300
    assert set(ids) <= {row["id"] for row in logged(seal.state, "production")}


def test_a_worker_that_is_about_to_leave_follows_a_flip_and_is_not_replaced(seal: Seal, tmp_path: Path) -> None:
    digest, other = (compiled(seal, tmp_path / "scratch", seed=i) for i in range(2))

    async def story() -> None:
        async with group_of(seal, digest, 3) as (group, port):
            clients = await asyncio.to_thread(everywhere, port, group.pids())
            await group.resize(1)
            assert len(group.slots()) == 3
            route = Route(PROJECT, "production", 2, other, "v2")
            plan = WorkerPlan((route,), {other: (seal.state / "releases" / other, None)})
            assert await group.load(plan) == {}
            await group.flip(plan)
            assert {await asyncio.to_thread(client.ask) for client in clients} == {200}
            newest = [client.ids[-1] for client in clients]
            await until(lambda: set(newest) <= {row["id"] for row in logged(seal.state, "production")})
            assert {row["release"] for row in logged(seal.state, "production") if row["id"] in newest} == {"v2"}
            for client in clients:
                client.close()
            await until(lambda: group.slots().keys() == {0})
            assert group.restarts == 0

    asyncio.run(story())


def test_a_worker_that_dies_while_it_leaves_is_not_replaced(seal: Seal, tmp_path: Path) -> None:
    digest = compiled(seal, tmp_path / "scratch")

    async def story() -> None:
        async with group_of(seal, digest, 2) as (group, port):
            clients = await asyncio.to_thread(everywhere, port, group.pids())
            leaving = group.slots()[1]
            await group.resize(1)
            psutil.Process(leaving).kill()
            await until(lambda: group.slots().keys() == {0})
            assert group.restarts == 0
            for client in clients:
                client.close()

    asyncio.run(story())


def test_a_worker_that_does_not_start_leaves_the_others_as_they_are(seal: Seal, tmp_path: Path) -> None:
    digest = compiled(seal, tmp_path / "scratch")

    async def story() -> None:
        async with group_of(seal, digest, 1) as (group, port):
            (seal.state / "releases" / digest / "manifest.sig").unlink()
            with pytest.raises(ServingError, match="manifest"):
                await group.resize(2)
            assert group.size == 1
            assert group.slots().keys() == {0}
            client = Strict(port)
            assert await asyncio.to_thread(client.ask) == 200
            client.close()

    asyncio.run(story())


# -- the scaler, on a group that is played


class Played:
    """What a scaler sees of a group."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.busy = 0.1
        self.fails = False

    def pulses(self, now: float) -> list[Pulse]:
        return [Pulse(self.busy, 2.0, now)] * self.size

    async def resize(self, size: int) -> int:
        if self.fails:
            raise ServingError("no")
        self.size = size
        return size


def played(group: Played, workers: Workers, seconds: int, start: int = 0, machine: float = 8.0) -> list[ScalingDecision]:
    made: list[ScalingDecision] = []
    scaler = Scaler(cast(WorkerPool, group), workers, made.append)

    async def story() -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("noria.serving.autoscaler.cores", lambda: machine)
            for second in range(start, start + seconds):
                await scaler.look(float(second))

    asyncio.run(story())
    return made


def test_the_scaler_follows_the_judge() -> None:
    group = Played(1)
    group.busy = 0.9
    (made,) = played(group, Workers(1, 4), 7)
    assert (group.size, made.rule) == (2, ScalingRule.BUSY)
    group.busy = 0.1
    assert [d.size for d in played(group, Workers(1, 4), 70)] == [1]
    assert played(group, Workers(2, 2), 200) == []  # a fixed number is no matter of load


def test_what_stays_as_it_is_is_said_once() -> None:
    group = Played(2)
    group.busy = 0.95
    (made,) = played(group, Workers(1, 4), 60, machine=2.0)
    assert made.text.endswith("the machine has no core for another")
    (made,) = played(group, Workers(1, 2), 60)
    assert made.text.endswith("2 is the maximum")


def test_a_decision_that_cannot_be_done_is_not_told_as_done(capsys: pytest.CaptureFixture[str]) -> None:
    group = Played(1)
    group.busy, group.fails = 0.9, True
    assert played(group, Workers(1, 4), 30) == []
    assert capsys.readouterr().err.count("1 -> 2 workers") == 1  # said once, tried again and again


def test_a_silent_worker_is_a_busy_one() -> None:
    pulse = Pulse(0.2, 1.0, 100.0)
    assert pulse.as_of(101.5) == pulse
    assert pulse.as_of(104.0) == Pulse(1.0, 3000.0, 100.0)


# -- what is remembered and told


DECISION = ScalingDecision(1, 2, ScalingRule.BUSY, 0.87, 8.0, 5.0, 4)


def test_decisions_are_numbered_kept_and_bounded(tmp_path: Path) -> None:
    decisions = Decisions(tmp_path / "scaling.json")
    made = [decisions.add("production", PROJECT, DECISION) for _ in range(KEPT + 5)]
    numbers = [scaled.number for scaled in made]
    assert numbers == sorted(set(numbers))
    again = Decisions(tmp_path / "scaling.json")
    assert again.after(0) == made[-KEPT:]
    assert again.after(numbers[-3]) == made[-2:]
    assert again.last("production") == made[-1]
    assert again.last("staging") is None
    assert made[0].text == "production: 1 -> 2 workers: busy 0.87 of the time over 5 s (more than 0.75); a request waits 8 ms"
    (tmp_path / "scaling.json").write_text("{")
    anew = Decisions(tmp_path / "scaling.json")
    time.sleep(0.2)  # numbers are of the clock: a lost file does not begin them again
    assert anew.after(0) == []
    assert anew.add("production", PROJECT, DECISION).number > numbers[-1]


def test_a_disk_without_room_loses_no_decision_of_this_process(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    decisions = Decisions(tmp_path / "missing" / "scaling.json")
    scaled = decisions.add("production", None, DECISION)
    assert decisions.after(0) == [scaled]
    assert "scaling.json: cannot be written" in capsys.readouterr().err


def test_the_meter_measures_processes_and_forgets_those_that_ended() -> None:
    meter = UsageMeter()
    own = psutil.Process()
    (found,) = meter.read({"parent": own.pid})
    assert found.name == "parent"
    assert abs(found.cpu_s - sum(own.cpu_times()[:2])) < 2
    assert 0.5 < found.rss / own.memory_info().rss < 2
    assert (found.pss, found.cpu) == (None, 0.0)
    wait_for(lambda: meter.read({"parent": own.pid})[0].pss)
    begun = own.cpu_times().user
    while own.cpu_times().user <= begun + 0.05:  # the clock of processes ticks in hundredths
        sum(range(10_000))
    (found,) = meter.read({"parent": own.pid})
    assert found.pss is not None
    assert 0 < found.pss <= found.rss * 1.5
    assert 0.01 < found.cpu < 8  # it asked all the time
    assert meter.read({"gone": 2**22 + 1}) == []
    assert meter._known.keys() == set()


@pytest.mark.parametrize(
    ("limits", "most"),
    [
        ({}, 64.0),
        ({"a/b": "max 100000"}, 64.0),
        ({"a/b": "150000 100000"}, 1.5),
        ({"a": "50000 100000", "a/b": "200000 100000"}, 0.5),
        ({"": "100000 100000"}, 1.0),
        ({"a/b": "nonsense"}, 64.0),
    ],
)
def test_a_machine_has_the_cores_that_its_groups_leave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limits: dict[str, str], most: float
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(64)))
    groups, own = tmp_path / "groups", tmp_path / "cgroup"
    own.write_text("1:name=systemd:/x\n0::/a/b\n")
    for folder, text in limits.items():
        (groups / folder).mkdir(parents=True, exist_ok=True)
        (groups / folder / "cpu.max").write_text(text)
    assert cores(groups, own) == most
    assert cores(groups, tmp_path / "none") == 64.0


def test_status_says_it_in_one_line() -> None:
    use = ServerUse({"production": 2}, 3, 0.314, 214_400_000)
    assert _server(StatusContext(server=True, use=use)) == "answers: 2 workers, 0.31 of a core, 214 MB"
    use = ServerUse({"staging": 1, "production": 3}, 5, 0.0, 1_214_400_000)
    assert _server(StatusContext(server=True, use=use)) == "answers: staging 1, production 3 workers, 0.00 of a core, 1.2 GB"
    assert _server(StatusContext(server=True)) == "answers"
    assert _server(StatusContext()) == "stopped"


def test_serve_takes_a_range_and_says_what_is_none(tmp_path: Path) -> None:
    code, said = refused(tmp_path, "v3.noria.tar", "--workers", "4:1")
    assert code == 2
    assert "--workers '4:1' is neither a number from 1 to 64" in said
    assert "1:4" in said


# -- a whole server


@pytest.fixture
def scaled_world(seal: Seal, tmp_path: Path) -> Iterator[World]:
    made = World(seal, tmp_path / "scratch")
    made.server.start({"production": ("127.0.0.1", 0)}, workers=Workers(1, 2))
    try:
        yield made
    finally:
        made.close()


def test_a_server_under_load_gets_a_worker_and_says_why(scaled_world: World, tmp_path: Path) -> None:
    world = scaled_world
    world.serve(compiled(world.seal, world.scratch))
    assert len(world.workers()) == 1
    many = json.dumps([RECORD] * 1000).encode()
    stop, failed = threading.Event(), list[str]()

    def press() -> None:
        link = http.client.HTTPConnection(world.url.removeprefix("http://"), timeout=20)
        while not stop.is_set():
            try:
                link.request("POST", "/predict", many)
                answer = link.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException) as error:
                failed.append(repr(error))
            else:
                failed.extend([str(answer.status)] if answer.status != 200 else [])
        link.close()

    threads = [threading.Thread(target=press) for _ in range(4)]
    for thread in threads:
        thread.start()
    before = _ran_and_waited(world.workers()[0])
    try:
        wait_for(lambda: any(d["size"] == 2 for d in world.server.scaling()) or _starved(world, before), 120)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    if not world.server.scaling() and (starved := _starved(world, before)):
        pytest.skip(starved)
    assert failed == []
    (said,) = [d for d in world.server.scaling() if d["size"] == 2]
    assert (said["environment"], said["project"], said["before"]) == ("production", PROJECT, 1)
    assert said["text"].startswith("production: 1 -> 2 workers: ")
    assert said["text"] in (world.state / "server.log").read_text()
    assert world.server.scaling(said["number"]) == []
    facts = world.server.status()["environments"]["production"]
    assert (facts["bounds"], facts["scaled"]["number"]) == ("1:2", said["number"])
    rates = facts["rates"]
    assert rates["requests_per_s"] > 1
    assert 0 < rates["served"][PROJECT]["requests"] <= rates["requests_per_s"] * rates["over_s"] * 1.1
    assert (rates["served"][PROJECT]["errors"], rates["labels_per_s"]) == (0, 0)
    _heard(world, said, tmp_path)
    _metrics(world)
    use = surroundings(world.state).use
    assert use is not None
    assert (use.workers, use.processes) == ({"production": 2}, 3)
    assert 50e6 < use.memory_bytes < 2e9


def _ran_and_waited(pid: int) -> tuple[float, float]:
    """The seconds that a process had a core, and those that it waited for one."""
    ran_ns, waited_ns, _ = Path(f"/proc/{pid}/schedstat").read_text().split()
    return int(ran_ns) / 1e9, int(waited_ns) / 1e9


def _starved(world: World, before: tuple[float, float]) -> str:
    """Why there cannot be a reason for a second worker: others have the cores, as they had them for long; else nothing."""
    ran, waited = (now - then for now, then in zip(_ran_and_waited(world.workers()[0]), before, strict=True))
    starved = ran + waited > 30 and ran < UP_BUSY * (ran + waited)
    return f"the worker had a core for {ran:.0f} s and waited {waited:.0f} s for one: it is not the busy one" if starved else ""


def _heard(world: World, said: dict[str, Any], home: Path) -> None:
    """The audit log has the decision once, however often one looks, and whoever looks."""
    ledger = Ledger.open(world.state)
    unused = cast(Any, None)
    line = DeliveryContext(
        PROJECT, home, world.state, ledger, unused, unused,
        executor=unused, places=unused, server=world.server, driver=unused,
    )  # fmt: skip
    try:
        assert scaling_events.hear(line) == len(world.server.scaling())
        assert scaling_events.hear(line) == 0
        scaling_events._append(line, said)  # as an engine that looked at the same time
        events = [event for event in ledger.events.tail(PROJECT, kinds=[scaling_events.KIND]) if event.facts["size"] == 2]
        (event,) = [event for event in events if event.facts["before"] == 1]
        assert (event.subject, event.text, event.facts["number"]) == ("production", said["text"], said["number"])
        assert ledger.events.verify().ok
    finally:
        ledger.close()


def _metrics(world: World) -> None:
    """Any worker answers for all processes."""
    client = world.client()
    text = wait_for(lambda: (t := client.get("/metrics").text) and 'process="worker-1"' in t and t)
    for name in ("cpu_seconds_total", "resident_memory_bytes"):
        values = {
            line.split('process="')[1].split('"')[0]: float(line.rsplit(" ", 1)[1])
            for line in text.splitlines()
            if line.startswith(f"noria_process_{name}{{")
        }
        assert values.keys() == {"parent", "worker-0", "worker-1"}
        assert all(value > 0 for value in values.values())
    assert 'noria_workers{environment="production"} 2' in text
    assert 0 <= float(text.split('noria_worker_busy_ratio{environment="production"} ')[1].split("\n")[0]) <= 1
    assert float(text.split('noria_workers_wanted{environment="production"} ')[1].split("\n")[0]) >= 0
