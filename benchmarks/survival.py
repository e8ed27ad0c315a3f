"""`kill -9` in a loop under load: what was answered is in the log, once, and nobody but those in flight is interrupted.

The first way kills workers and the host of a candidate of a server alone; the second kills workers, host and daemon of a project
that runs by `noria up`, while the daemon is started again at once and takes the server over. The load is a process of its own.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks import swaps
from benchmarks.clock import BenchError
from benchmarks.load import INTERRUPTED, Call, Shot, Told, load
from benchmarks.peers import Peers
from benchmarks.serving import Rates
from benchmarks.table import Section

TITLE = "Killed under load"
STORY = Path(__file__).parents[1] / "tests" / "story"
RATE, CONNECTIONS, SECONDS, SMALL_S = 150.0, 16, 60.0, 6.0
AGAIN_S = {"worker": 1.0, "daemon": 2.0, "host": 3.0}  # before a process of the same kind is killed
WAITS_S = (0.2, 0.9)  # between two kills
WAKES_S = 0.5  # a process that is killed holds its connections until the kernel has taken it down
SHARE = 0.3  # of the requests that the candidate answers

Victims = Callable[[], dict[str, list[int]]]


@dataclass(frozen=True, slots=True)
class Kill:
    kind: str
    at: float  # monotonic seconds


@dataclass(slots=True)
class Account:
    """What clients were told, what the log holds, and who was killed when."""

    told: Told = field(default_factory=Told)
    kills: list[Kill] = field(default_factory=list)
    logged: Counter[str] = field(default_factory=Counter)  # id -> times that it is in the log

    def answered(self) -> list[str]:
        return [name for call in self.told.calls for name in call.ids]

    def missing(self) -> list[str]:
        return [name for name in self.answered() if name not in self.logged]

    def doubled(self) -> list[str]:
        """Ids that stand in the log, or were told to clients, more than once."""
        return [n for times in (self.logged, Counter(self.answered())) for n, often in times.items() if often > 1]

    def unheard(self) -> int:
        """Predictions in the log that no client got: their connection ended between the record and the answer."""
        return len(self.logged.keys() - set(self.answered()))

    def interrupted(self) -> list[Call]:
        return [call for call in self.told.calls if call.status == INTERRUPTED]

    def unexplained(self) -> list[Call]:
        """Failed requests, except those that were in flight when a worker was killed."""
        ends = [kill.at for kill in self.kills if kill.kind == "worker"]
        return [c for c in self.told.failed() if c.status != INTERRUPTED or not _met(c, ends)]

    def killed(self, kind: str) -> int:
        return sum(kill.kind == kind for kill in self.kills)

    def silence_s(self) -> float:
        """The longest time without any answer."""
        good = sorted(call.done for call in self.told.calls if call.status == 200)
        return max((b - a for a, b in pairwise(good)), default=float("inf"))


def _met(call: Call, ends: Iterable[float]) -> bool:
    """Whether the request was under way at one of these moments, or was sent to a process that was just being taken down."""
    return any(call.sent - WAKES_S <= end <= call.done for end in ends)


def rampage(under: Any, account: Account, seconds: float, victims: Victims, after: Callable[[str], object], seed: int) -> None:
    """Kill at random for ``seconds``, ``under`` a load (a context that gives `Told`); ``after`` each kill, its kind."""
    chance, latest = random.Random(seed), dict[str, float]()
    with under as account.told:
        until = time.monotonic() + seconds
        while True:
            time.sleep(chance.uniform(*WAITS_S))  # the pace of the kills
            if (now := time.monotonic()) >= until:
                break
            ready = {k: pids for k, pids in victims().items() if pids and now - latest.get(k, 0.0) >= AGAIN_S[k]}
            if ready:
                kind = chance.choice(sorted(ready))
                with suppress(ProcessLookupError):  # it ended meanwhile
                    at = time.monotonic()
                    os.kill(chance.choice(ready[kind]), signal.SIGKILL)
                    account.kills.append(Kill(kind, at))
                    latest[kind] = at
                    after(kind)


def count(folder: Path) -> Counter[str]:
    """Ids of an environment's log, each with how often it is there."""
    from noria.predictions.writer import Prediction, read_all

    return Counter(record.id for record in read_all(folder) if isinstance(record, Prediction))


def processes(state: Path) -> dict[str, list[int]]:
    """Workers and hosts of a server; none while it does not answer."""
    from noria.kernel.errors import ServingError
    from noria.serving.client import Server

    with suppress(ServingError):
        status = Server(state).status()
        return {"worker": status["environments"]["production"]["workers"], "host": list(status["hosts"].values())}
    return {}


def alone(world: Any, seconds: float, seed: int = 1) -> Account:
    """Workers and the candidate's host, of a server that the tests' ``World`` has started."""
    from serving_bundles import RECORD, compiled, hosted

    champion, candidate = compiled(world.seal, world.scratch), hosted(world.seal, world.scratch)
    world.serve(champion, candidate=candidate, candidate_version="v2", share=SHARE)
    shots = [Shot("predict", "/predict", json.dumps(RECORD).encode())]
    world.scratch.mkdir(exist_ok=True)
    account = Account()
    under = load(world.url, shots, RATE, world.scratch / "calls", CONNECTIONS)
    rampage(under, account, seconds, lambda: processes(world.state), lambda kind: None, seed)
    account.logged = count(world.state / "log" / "production")
    return account


# --- a project, with its daemon


CANARY = "{rollout: {steps: [30%, 100%], guard: {errors: 1%, latency: {over: 5s, by: 30%}}}}"
HOSTED = "\n\ndef same(rows):\n    return rows\n"


def of_project(project: Any, seconds: float, seed: int = 1) -> Account:
    """Workers, host and daemon of the tests' small project, which has v1 in production; v2, hosted, becomes its candidate."""
    from small_project import ASK, address_of, until

    project.edit("noria.yaml", "{rollout: direct}", CANARY)
    project.edit("noria.yaml", "  train:", '  features: "model:same"\n  train:')
    project.write("model.py", (project.home / "model.py").read_text() + HOSTED)
    project.commit("a hosted candidate")
    daemons = [project.up()]
    try:
        daemons[-1].ready()
        until(lambda: processes(project.state).get("host"), "the candidate is served")
        shots = [Shot("predict", "/predict", json.dumps(ASK).encode())]
        account = Account()

        def victims() -> dict[str, list[int]]:
            return processes(project.state) | {"daemon": [daemons[-1].process.pid]}

        def after(kind: str) -> None:
            if kind == "daemon":
                daemons[-1].process.wait(20)
                daemons.append(project.up())

        under = load(address_of(project), shots, RATE, project.home.parent / "calls", CONNECTIONS)
        rampage(under, account, seconds, victims, after, seed)
        daemons[-1].ready()
    finally:
        for daemon in reversed(daemons):  # the last one ends the server
            daemon.__exit__()
    account.logged = count(project.state / "log" / "production")
    return account


# --- the section


def measure(folder: Path, peers: Peers, rounds: int, small: bool) -> Section:
    seconds = SMALL_S if small else SECONDS
    found: dict[str, Account] = {}
    world = swaps.started(folder / "alone")
    try:
        found["a server alone, a hosted candidate at 30 %"] = alone(world, seconds)
    finally:
        world.close()
    found["a project under `noria up`, a hosted canary at 30 %"] = of_project(_project(folder / "project"), seconds)
    worker, daemon, host = AGAIN_S.values()
    said = (
        f"{RATE:.0f} requests a second, the loop open, {CONNECTIONS} connections that come again, {seconds:.0f} s each; every "
        f"{WAITS_S[0]} to {WAITS_S[1]} s a process chosen by chance is killed, at most one worker in {worker:.0f} s, the daemon "
        f"in {daemon:.0f} s, the host in {host:.0f} s; a killed daemon is started again at once. Workers that die again and "
        "again are started again later and later, up to 5 s: requests wait. A request is interrupted when its worker is "
        "killed; one that was logged and not heard of is among them."
    )
    return Rates("survival", TITLE, (), 1, said, lines=tuple(_lines(found)))


def _project(home: Path) -> Any:
    if str(STORY) not in sys.path:
        sys.path.append(str(STORY))
    from small_project import Small

    project = Small.make(home)
    ran = project.run()
    if ran.code != 0:
        raise BenchError(f"the project's first run: {ran}")
    return project


def _lines(found: dict[str, Account]) -> Iterator[str]:
    kinds = ("workers", "hosts", "daemons")
    yield from _head(("killed", *kinds, "requests", "answered", "interrupted", "failed otherwise", "refused connections"))
    for name, a in found.items():
        kills = " | ".join(str(a.killed(kind)) for kind in ("worker", "host", "daemon"))
        good = sum(call.status == 200 for call in a.told.calls)
        cells = [len(a.told.calls), good, len(a.interrupted()), len(a.unexplained()), len(a.told.refused)]
        yield f"| {name} | {kills} | " + " | ".join(f"{cell:,}" for cell in cells) + " |"
    yield ""
    yield from _head(("the log", "answered and missing", "more than once", "logged, not heard", "longest time without an answer"))
    for name, a in found.items():
        yield f"| {name} | {len(a.missing())} | {len(a.doubled())} | {a.unheard()} | {a.silence_s():.1f} s |"


def _head(cells: tuple[str, ...]) -> tuple[str, str]:
    return "| " + " | ".join(cells) + " |", "|---" * len(cells) + "|"
