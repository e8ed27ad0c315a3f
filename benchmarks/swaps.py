"""Swaps under load: flips between resident releases, and loads of releases that the server never saw, while requests come in.

Every flip gives its release a version of its own, so that each answer tells which flip it belongs to: an answer from before its
flip was ordered, or from after the next one was acknowledged, is a wrong one. The ledger's row is written before the clock
starts; the order is the nudge of the server. Two workers; the load is a process of its own; all share the machine's cores.
"""

from __future__ import annotations

import json
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks import serving
from benchmarks.clock import BenchError
from benchmarks.load import Call, Shot, Told, load, percentile
from benchmarks.peers import Peers
from benchmarks.serving import Rates
from benchmarks.table import Section

TITLE = "Swaps under load"
SOURCES = Path(__file__).parents[1] / "tests" / "serving"
FLIPS, COLD, RATE, PACE_S = 1000, 30, 500.0, 0.02
SMALL = (60, 3, 200.0)
GOAL_MS = 50.0
RELOADS = 10  # of the peer


@dataclass(frozen=True, slots=True)
class Swap:
    """One change of the champion, in seconds of the monotonic clock."""

    version: str
    cold: bool  # the server never saw this release before
    written: float  # when writing the route began: from now on the server may find it
    ordered: float  # the nudge
    acknowledged: float


@dataclass(slots=True)
class Story:
    """What was ordered, and what clients saw of it."""

    swaps: list[Swap] = field(default_factory=list)
    told: Told = field(default_factory=Told)

    def wrong(self) -> list[Call]:
        """Answers of a release that was not routed while the request was under way."""
        begins = {swap.version: swap.written for swap in self.swaps}
        ends = {old.version: new.acknowledged for old, new in pairwise(self.swaps)}
        answered = [call for call in self.told.calls if call.status == 200]
        return [c for c in answered if not begins[c.release] <= c.done or c.sent > ends.get(c.release, c.sent)]

    def delays_ms(self, cold: bool) -> list[float]:
        """From the order of each swap to the first answer of its release, or of a later one where nobody asked in between."""
        first: dict[str, float] = {}
        for call in self.told.calls:
            if call.status == 200:
                first[call.release] = min(call.done, first.get(call.release, call.done))
        found, seen = [], float("inf")
        for swap in reversed(self.swaps[1:]):
            seen = min(seen, first.get(swap.version, seen))
            if swap.cold is cold:
                found.append((seen - swap.ordered) * 1000)
        return found

    def during(self, cold: bool) -> list[Call]:
        """Requests that were due while such swaps went on."""
        among = [swap for swap in self.swaps[1:] if swap.cold is cold]
        if not among:
            return []
        return [call for call in self.told.calls if among[0].ordered <= call.due <= among[-1].acknowledged]


def swap(world: Any, flips: int, cold: int, rate: float, scratch: Path, pace_s: float = PACE_S) -> Story:
    """All swaps on a running server (the tests' ``World``) under load; ``swaps[0]`` is the one in force when the load began."""
    from serving_bundles import RECORD, compiled

    resident = [compiled(world.seal, scratch / "warm", seed=i) for i in range(2)]
    fresh = [compiled(world.seal, scratch / "cold", seed=100 + i) for i in range(cold)]
    story = Story()
    _order(world, story, resident[0], "first", None)
    _order(world, story, resident[1], "second", resident[0])
    del story.swaps[:-1]
    now, body = resident[1], json.dumps(RECORD).encode()
    with load(world.url, [Shot("predict", "/predict", body)], rate, scratch / "calls") as story.told:
        for number in range(flips):
            now, before = resident[number % 2], now
            _order(world, story, now, f"flip-{number}", before)
            time.sleep(max(0.0, story.swaps[-1].ordered + pace_s - time.monotonic()))  # no faster than that
        for number, digest in enumerate(fresh):
            now, before = digest, now
            _order(world, story, now, f"cold-{number}", before, cold=True)
            time.sleep(pace_s)
    return story


def _order(world: Any, story: Story, digest: str, version: str, previous: str | None, cold: bool = False) -> None:
    written = time.monotonic()
    world.publish(digest, version, previous=previous, previous_version=previous and "previous")
    ordered = time.monotonic()
    synced = world.server.sync()
    if synced.failed:
        raise BenchError(f"a release was refused: {synced.failed}")
    story.swaps.append(Swap(version, cold, written, ordered, time.monotonic()))


# --- the section


def measure(folder: Path, peers: Peers, rounds: int, small: bool) -> Section:
    flips, cold, rate = SMALL if small else (FLIPS, COLD, RATE)
    world = started(folder)
    try:
        story = swap(world, flips, cold, rate, folder)
    finally:
        world.close()
    lines = [*_lines(story), "", *_peers(folder, peers, rate, 2 if small else RELOADS)]
    said = (
        f"Two workers, {rate:.0f} requests a second with one row each over 32 kept connections, the loop open: the time of a "
        f"request counts from when it was due. {flips:,} flips between two resident releases, at most {1 / PACE_S:.0f} a second; "
        f"then {cold} loads of releases that the server never saw, each tried in a process of its own before. Every swap has a "
        "version of its own, so each answer is known to be routed right or wrong."
    )
    return Rates("swaps", TITLE, (), 1, said, lines=tuple(lines))


def started(folder: Path, workers: int = 2) -> Any:
    """A server without a release, as the tests of the data plane start it."""
    if str(SOURCES) not in sys.path:
        sys.path.append(str(SOURCES))
    from serving_bundles import Seal
    from serving_world import World

    world = World(Seal(folder / "state"), folder / "scratch")
    world.server.start({"production": ("127.0.0.1", 0)}, workers=workers)
    return world


def _lines(story: Story) -> Iterator[str]:
    yield "| swaps | requests | failed | routed wrong | p50 | p99 | slowest | order to first answer, median | p99 | slowest |"
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for name, cold in (("flips", False), ("loads", True)):
        calls, delays = story.during(cold), story.delays_ms(cold)
        failed = sum(call.status != 200 for call in calls)
        wrong = len({id(c) for c in story.wrong()} & {id(c) for c in calls})
        took = [*_three([c.ms for c in calls]), *_three(delays)]
        yield f"| {len(delays):,} {name} | {len(calls):,} | {failed} | {wrong} | " + " | ".join(took) + " |"
    failed, worst = len(story.told.failed()), max(story.delays_ms(False))
    yield ""
    yield "| goal | measured | reached |"
    yield "|---|---|---|"
    yield f"| no request fails | {failed} of {len(story.told.calls):,} | {'no' if failed else 'yes'} |"
    reached = "yes" if worst < GOAL_MS else "no"
    yield f"| first new answer within {GOAL_MS:.0f} ms of a flip | {worst:.1f} ms at worst | {reached} |"


def _three(ms: Sequence[float]) -> tuple[str, str, str]:
    """Median, 99th percentile and the greatest."""
    return f"{percentile(ms, 0.5):.1f} ms", f"{percentile(ms, 0.99):.1f} ms", f"{max(ms, default=float('nan')):.1f} ms"


# --- the same of a peer


def _peers(folder: Path, peers: Peers, rate: float, reloads: int) -> Iterator[str]:
    """What a new model means elsewhere: MLServer loads the model again by its repository's interface, LitServe is restarted."""
    found = []
    if peers.command("mlserver"):
        found.append(_mlserver(folder, peers, rate, reloads))
    if peers.command("litserve", "python"):
        found.append(_litserve(folder, peers, rate))
    if found:
        yield "| a new model elsewhere, same load | requests | failed | longest time without an answer | p99 | slowest |"
        yield "|---|---|---|---|---|---|"
        yield from found


def _mlserver(folder: Path, peers: Peers, rate: float, reloads: int) -> str:
    serving.train(peers, "mlserver", folder / "models" / "mlserver")
    with serving.mlserver(folder / "mlserver", peers, folder / "models" / "mlserver") as targets:
        url, _, path = targets[0].url.partition("/v2/")
        shot = Shot("other", f"/v2/{path}", targets[0].body)
        with load(url, [shot], rate, folder / "mlserver-calls") as told:
            time.sleep(1.0)
            for _ in range(reloads):
                request = urllib.request.Request(f"{url}/v2/repository/models/linear/load", b"", method="POST")
                with urllib.request.urlopen(request, timeout=60):
                    pass
                time.sleep(0.2)
    return _other(f"{peers.version('mlserver')}, {reloads} loads of the same model", told)


def _litserve(folder: Path, peers: Peers, rate: float) -> str:
    serving.train(peers, "litserve", folder / "models" / "litserve")
    port, model = serving.free_port(), folder / "models" / "litserve" / "linear.joblib"
    command = [str(peers.command("litserve", "python")), str(serving.SERVERS / "litserve_app.py"), str(model), str(port)]
    target = serving.Target("LitServe", f"http://127.0.0.1:{port}/predict", json.dumps({"rows": [serving.ROW]}).encode())
    with ExitStack() as stack:
        first = stack.enter_context(ExitStack())
        first.enter_context(serving.process(command, serving.SERVERS, target))
        shot = Shot("other", "/predict", target.body)
        with load(f"http://127.0.0.1:{port}", [shot], rate / 2, folder / "litserve-calls") as told:
            time.sleep(1.0)
            first.close()
            stack.enter_context(serving.process(command, serving.SERVERS, target))
            time.sleep(1.0)
    return _other(f"{peers.version('litserve')}, 1 restart, half the load", told)


def _other(name: str, told: Told) -> str:
    good = sorted(call.done for call in told.calls if call.status == 200)
    gap = max((b - a for a, b in pairwise(good)), default=float("nan"))
    _, p99, slowest = _three([call.ms for call in told.calls])
    failed = f"{len(told.failed()) + told.unsent}; {len(told.refused)} connections refused"
    return f"| {name} | {len(told.calls):,} | {failed} | {gap:.2f} s | {p99} | {slowest} |"
