"""A soak: many kinds of requests at a steady rate for minutes, while memory, handles and threads of every process are watched.

Growth is judged by a line through the second half of the samples of anonymous memory: what a process wrote itself. The
proportional memory (PSS) is shown beside it; it also moves when others on the machine begin or cease to share a library.
"""

from __future__ import annotations

import json
import math
import os
import re
import statistics
import struct
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import swaps
from benchmarks.clock import BenchError
from benchmarks.load import Shot, Told, load, percentile
from benchmarks.serving import Rates
from benchmarks.survival import processes
from benchmarks.table import Section

TITLE = "A soak"
MINUTES, SMALL_MINUTES = 10.0, 0.5
RATE, CONNECTIONS, SHARE = 300.0, 32, 0.3
SAMPLE_S, METRICS_S = 10.0, 5.0
MANY, FEW = 64, 2  # rows of a large request, and of one in the Open Inference Protocol
FLAT_MB = 1.0  # an hour: what is surely more is growth
NUDGES = 3000  # before it begins: 25 minutes of the parent's own rounds, in the first of which its pools fill (0.3 MB)
SURE = 2.05  # standard errors to either side: 95 % with some thirty samples (Student's t)


@dataclass(frozen=True, slots=True)
class Sample:
    """One process at one moment."""

    at: float
    pss_mb: float
    anonymous_mb: float
    handles: int
    threads: int


@dataclass(frozen=True, slots=True)
class Slope:
    """Growth in MB an hour, and how far the truth may be from it to either side."""

    mb_an_hour: float
    give_or_take: float

    @property
    def flat(self) -> bool:
        return self.mb_an_hour - self.give_or_take < FLAT_MB


@dataclass(slots=True)
class Watched:
    """All that was seen."""

    samples: dict[str, list[Sample]] = field(default_factory=dict)  # process -> its samples
    log_mb: list[float] = field(default_factory=list)
    told: Told = field(default_factory=Told)
    restarts: int = 0
    logged: Counter[str] = field(default_factory=Counter)  # "predictions", "feedback", "more than once"

    def answered(self, kind: str) -> int:
        return sum(call.kind == kind and call.status in (200, 202) for call in self.told.calls)

    def rows(self) -> int:
        """Predictions that clients were told."""
        return sum(self.answered(kind) * rows for kind, rows in ROWS.items())


ROWS = {"one row": 1, "64 rows": MANY, "v2, JSON": FEW, "v2, binary": FEW}


def shots(project: str, record: dict[str, Any]) -> list[Shot]:
    """What is sent, by its share."""
    infer = f"/v2/models/{project}/infer"
    columns = [("carrier", "BYTES", [record["carrier"]] * FEW), ("distance", "FP64", [record["distance"]] * FEW)]
    plain = {"inputs": [{"name": n, "shape": [FEW], "datatype": t, "data": data} for n, t, data in columns]}
    raw = {"carrier": _texts(columns[0][2]), "distance": struct.pack(f"<{FEW}d", *columns[1][2])}
    sizes = {n: {"binary_data_size": len(raw[n])} for n, _, _ in columns}
    packed = {"inputs": [{"name": n, "shape": [FEW], "datatype": t, "parameters": sizes[n]} for n, t, _ in columns]}
    head = json.dumps(packed).encode()
    binary = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
    broken = (
        b"{",
        b"[]",
        json.dumps(record | {"distance": "far"}).encode(),
        json.dumps(record | {"extra": 1}).encode(),
        b"\xff" * 99,
    )
    return [
        Shot("one row", "/predict", json.dumps(record).encode(), weight=60),
        Shot("64 rows", "/predict", json.dumps([record] * MANY).encode(), weight=5),
        Shot("v2, JSON", infer, json.dumps(plain).encode(), weight=10),
        Shot("v2, binary", infer, head + raw["carrier"] + raw["distance"], binary, weight=10),
        Shot("feedback", "/feedback", b'{"key": "f-1", "label": 1}', weight=10),
        *(Shot("bad", "/predict", body, weight=5 / len(broken)) for body in broken),
    ]


def _texts(values: Sequence[str]) -> bytes:
    return b"".join(struct.pack("<I", len(text)) + text.encode() for text in values)


def soak(world: Any, minutes: float) -> Watched:
    """Load and watch the server of the tests' ``World``."""
    from serving_bundles import PROJECT, RECORD, compiled, hosted

    champion, candidate = compiled(world.seal, world.scratch), hosted(world.seal, world.scratch)
    world.serve(champion, candidate=candidate, candidate_version="v2", share=SHARE)
    for _ in range(NUDGES):
        world.server.sync()
    watched, began = Watched(), processes(world.state)
    with load(world.url, shots(PROJECT, RECORD), RATE, world.scratch / "calls", CONNECTIONS) as watched.told:
        _watch(world, watched, time.monotonic() + minutes * 60)
    status = world.server.status()
    same = processes(world.state) == began
    watched.restarts = int(status["environments"]["production"]["restarts"]) + (not same)
    watched.logged = _logged(world.state / "log" / "production")
    return watched


def _watch(world: Any, watched: Watched, until: float) -> None:
    pids, number = _named(world), 0
    begun = time.monotonic()
    while (at := begun + number * METRICS_S) < until:
        time.sleep(max(0.0, at - time.monotonic()))  # the pace of the samples
        if number % round(SAMPLE_S / METRICS_S) == 0:
            for name, pid in pids.items():
                with suppress(OSError):
                    watched.samples.setdefault(name, []).append(_sample(pid))
            watched.log_mb.append(sum(p.stat().st_size for p in (world.state / "log").rglob("*") if p.is_file()) / 1e6)
        with urllib.request.urlopen(f"{world.url}/metrics", timeout=10) as answer:
            answer.read()
        number += 1


def _named(world: Any) -> dict[str, int]:
    found = processes(world.state)
    names = {f"worker {number}": pid for number, pid in enumerate(found["worker"])}
    return {"parent": world.server.status()["pid"]} | names | {"host": found["host"][0]}


def _sample(pid: int) -> Sample:
    """Raises OSError when the process is gone."""
    place = Path(f"/proc/{pid}")
    memory = dict(re.findall(r"^(Pss|Pss_Anon):\s+(\d+) kB", (place / "smaps_rollup").read_text(), re.MULTILINE))
    threads = re.search(r"^Threads:\s+(\d+)", (place / "status").read_text(), re.MULTILINE)
    assert threads is not None
    pss, own = (int(memory[name]) / 1000 for name in ("Pss", "Pss_Anon"))
    return Sample(time.monotonic(), pss, own, len(os.listdir(place / "fd")), int(threads.group(1)))


def _logged(folder: Path) -> Counter[str]:
    from noria.predictions.writer import LogReader, Prediction

    reader, found, ids = LogReader(folder), Counter[str](), set[str]()
    while part := reader.poll():
        for record in part:
            if not isinstance(record, Prediction):
                found["feedback"] += 1
                continue
            found["predictions"] += 1
            found["more than once"] += record.id in ids
            ids.add(record.id)
    return found


def slope(times: Sequence[float], values: Sequence[float]) -> Slope:
    """Least squares; ``times`` in seconds, ``values`` in MB. The error is that of independent residuals."""
    if len(times) < 4:
        return Slope(float("nan"), float("nan"))
    line = statistics.linear_regression(times, values)
    left = [v - line.intercept - line.slope * t for t, v in zip(times, values, strict=True)]
    spread = sum((t - statistics.fmean(times)) ** 2 for t in times)
    error = math.sqrt(sum(r * r for r in left) / (len(left) - 2) / spread)
    return Slope(line.slope * 3600, SURE * error * 3600)


# --- the section


def measure(folder: Path, minutes: float, small: bool) -> Section:
    minutes = SMALL_MINUTES if small else minutes
    world = swaps.started(folder)
    try:
        watched = soak(world, minutes)
    finally:
        world.close()
    if not watched.told.calls:
        raise BenchError("nothing was asked")
    said = (
        f"{minutes:g} minutes, {RATE:.0f} requests a second over {CONNECTIONS} kept connections, the loop open; a compiled "
        f"champion and a hosted candidate at {SHARE:.0%}; `/metrics` is read every {METRICS_S:.0f} s, the processes every "
        f"{SAMPLE_S:.0f} s. Growth is that of anonymous memory in the second half, in MB an hour with its 95 % bound; PSS also "
        f"moves with what others share. Handles and threads: medians of the halves. {NUDGES:,} nudges beforehand bring the "
        "parent past its first minutes, in which its pools fill."
    )
    return Rates("soak", TITLE, (), 1, said, lines=tuple(_lines(watched)))


def _lines(watched: Watched) -> Iterator[str]:
    yield "| asked | requests | as it should be | p50 | p99 | slowest |"
    yield "|---|---|---|---|---|---|"
    for kind in dict.fromkeys(shot.kind for shot in shots("", {"carrier": "", "distance": 0.0})):
        calls = [call for call in watched.told.calls if call.kind == kind]
        good = sum(_as_due(call.kind, call.status) for call in calls)
        took = [call.ms for call in calls]
        times = f"{percentile(took, 0.5):.1f} ms | {percentile(took, 0.99):.1f} ms | {max(took, default=float('nan')):.0f} ms"
        yield f"| {kind} | {len(calls):,} | {good:,} | {times} |"
    yield ""
    yield "| process | PSS at first, half-way, at last | anonymous memory | growth an hour | handles | threads |"
    yield "|---|---|---|---|---|---|"
    for name, samples in watched.samples.items():
        found = _slope(samples)
        sizes = " | ".join(_thrice([getattr(s, what) for s in samples]) for what in ("pss_mb", "anonymous_mb"))
        counts = " | ".join(_range([getattr(s, what) for s in samples]) for what in ("handles", "threads"))
        yield f"| {name} | {sizes} | {found.mb_an_hour:+.1f} ± {found.give_or_take:.1f} MB | {counts} |"
    yield ""
    yield "| goal | measured | reached |"
    yield "|---|---|---|"
    yield from (f"| {goal} | {found} | {'yes' if reached else 'no'} |" for goal, found, reached in _goals(watched))


def _goals(watched: Watched) -> Iterator[tuple[str, str, bool]]:
    slopes = {name: _slope(samples) for name, samples in watched.samples.items()}
    worst = max(slopes.values(), key=lambda s: s.mb_an_hour - s.give_or_take)
    grown = f"{worst.mb_an_hour:+.1f} ± {worst.give_or_take:.1f} MB an hour at worst"
    yield f"no process surely grows by {FLAT_MB:g} MB an hour", grown, all(s.flat for s in slopes.values())
    more = {name: _later(samples, "handles") + _later(samples, "threads") for name, samples in watched.samples.items()}
    yield "no more handles and threads in the second half", f"{max(more.values()):+g} at most", max(more.values()) <= 0
    yield "no process was started again", str(watched.restarts), watched.restarts == 0
    wrong = sum(not _as_due(call.kind, call.status) for call in watched.told.calls)
    yield "every request is answered as it should be", f"{wrong} were not", not (wrong or watched.told.unsent)
    rows, notes = watched.rows(), watched.answered("feedback")
    logged = watched.logged["predictions"], watched.logged["feedback"]
    exact = logged == (rows, notes) and not watched.logged["more than once"]
    told = f"{rows:,} predictions and {notes:,} labels told; {logged[0]:,} and {logged[1]:,} logged, {watched.log_mb[-1]:.0f} MB"
    yield "what was answered is what is in the log", told, exact


def _as_due(kind: str, status: int) -> bool:
    if kind == "bad":
        return 400 <= status < 500
    return status == (202 if kind == "feedback" else 200)


def _slope(samples: Sequence[Sample]) -> Slope:
    later = samples[len(samples) // 2 :]
    return slope([s.at for s in later], [s.anonymous_mb for s in later])


def _later(samples: Sequence[Sample], what: str) -> float:
    """How much more there was in the second half than in the first, in the median: a sync of the log holds one for a moment."""
    half = len(samples) // 2
    first, second = ([getattr(s, what) for s in part] for part in (samples[:half], samples[half:]))
    return statistics.median(second) - statistics.median(first) if first else 0.0


def _thrice(values: Sequence[float]) -> str:
    return ", ".join(f"{values[at]:.1f}" for at in (0, len(values) // 2, -1)) + " MB"


def _range(values: Sequence[int]) -> str:
    return f"{min(values)} to {max(values)}" if min(values) < max(values) else str(values[0])
