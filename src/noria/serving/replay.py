"""The replay: `python -m noria.serving.replay WORD_FD`. It asks champion and candidate the newest logged requests, one after
another, in a separate process: a candidate that breaks here harms no client.

The order comes as JSON on stdin. On WORD_FD it says, a line each, whose turn it is (CHAMPION or CANDIDATE), what is known so far
(``{"partial": ...}``) and at last ``{"facts": ...}`` or ``{"error": ...}``: whoever reads can blame an end, and keep a part.
No row and no answer ever leaves it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from noria.kernel.errors import RequestError, ServingError, StoreError
from noria.predictions.newest import newest
from noria.predictions.records import Prediction
from noria.releases.bundle import Bundle, open_bundle
from noria.releases.release import ServedForm
from noria.releases.signing import known_keys
from noria.serving import protocol
from noria.serving.host import die_with_parent
from noria.serving.host_pool import Host
from noria.serving.probe import be_the_first_to_go
from noria.serving.protocol import Columns
from noria.serving.replay_result import CANDIDATE, CHAMPION, Replayed, ReplayOrder
from noria.serving.runtime import BeyondModelError, LoadedRelease, ReleaseFailed, load

PARTIAL_S = 0.25  # between two partial facts
OWN_SHARE = 0.8  # of the time: it stops by itself before it is stopped

Say = Callable[[str], None]


class ArmCounts(msgspec.Struct):
    """What one release did with the requests so far."""

    release: LoadedRelease
    failed: list[bool] = []
    slow: list[bool] = []
    times_ms: list[float] = []  # of its answers
    answer: Any = None  # to the request at hand; None: it failed


class ComparedAnswers(msgspec.Struct):
    """The answers that both gave, as far as the facts need them."""

    distances: list[float] = []  # classes
    changed: list[bool] = []
    numbers: list[tuple[float, float]] = []  # regression: the champion's, the candidate's
    spread: list[float] = []  # all answers of the champion

    def add(self, champion: ArmCounts, candidate: ArmCounts) -> None:
        old, new = champion.release.signature, candidate.release.signature
        numeric = not old.task.definition.has_classes
        if numeric and champion.answer is not None:
            self.spread.append(champion.answer)
        if champion.answer is None or candidate.answer is None:
            return
        if numeric is new.task.definition.has_classes:
            self.distances.append(1.0)  # a number and a class have nothing in common
        elif numeric:
            self.numbers.append((champion.answer, candidate.answer))
        else:
            self.distances.append(variation(old.classes, champion.answer, new.classes, candidate.answer))
            said = [protocol.outputs(s, [a])[0]["prediction"] for s, a in ((old, champion.answer), (new, candidate.answer))]
            self.changed.append(said[0] != said[1])

    def facts(self) -> dict[str, Any]:
        found = self.distances or _scaled_differences(self.numbers, self.spread)
        changed = sum(self.changed) / len(self.changed) if self.changed else None
        return {"compared": len(found), "difference": float(np.mean(found)) if found else 0.0, "changed": changed}


def variation(old: Sequence[str], p: Sequence[float], new: Sequence[str], q: Sequence[float]) -> float:
    """The total variation distance of two rows of probabilities, in [0, 1]; a class that one of them lacks has none."""
    ours, theirs = dict(zip(old, p, strict=False)), dict(zip(new, q, strict=False))  # the chosen class may follow
    return min(1.0, sum(abs(ours.get(name, 0.0) - theirs.get(name, 0.0)) for name in ours | theirs) / 2)


def _scaled_differences(pairs: Sequence[tuple[float, float]], spread: Sequence[float]) -> list[float]:
    """Differences of numbers in standard deviations of the champion's answers, at most 1."""
    deviation = float(np.std(spread)) if spread else 0.0
    return [float(a != b) if deviation == 0.0 else min(1.0, abs(a - b) / deviation) for a, b in pairs]


class ReplayRun:
    """One order at work."""

    def __init__(self, order: ReplayOrder, champion: LoadedRelease, candidate: LoadedRelease, say: Say) -> None:
        self._order = order
        self._champion = ArmCounts(champion)
        self._candidate = ArmCounts(candidate)
        self._say = say
        self._random = random.Random(order.seed)  # noqa: S311 - whose turn is first is no secret
        self._unreadable = 0
        self._compared = ComparedAnswers()

    async def run(self, rows: Sequence[Prediction], until: float) -> Replayed:
        told_at = time.monotonic()
        for row in rows:
            if (now := time.monotonic()) > until:
                break
            if now - told_at > PARTIAL_S:
                told_at = now
                self._say(msgspec.json.encode({"partial": self.facts(len(rows))}).decode())
            with contextlib.suppress(BeyondModelError):  # the request's trouble: it says nothing of either
                await self._ask_both(row)
        return self.facts(len(rows))

    async def _ask_both(self, row: Prediction) -> None:
        columns = _columns(self._champion.release, row)
        if columns is None:
            return  # such a request is refused by now
        theirs = _columns(self._candidate.release, row)
        turns = [(CHAMPION, self._champion, columns), (CANDIDATE, self._candidate, theirs)]
        if self._random.random() < 0.5:
            turns.reverse()
        seconds = {name: await self._ask(name, arm, given) for name, arm, given in turns}
        self._unreadable += theirs is None
        for name, arm, _ in turns:
            arm.failed.append(arm.answer is None)
            arm.slow.append(seconds[name] * 1000 > self._order.slow_ms)
            if arm.answer is not None:
                arm.times_ms.append(seconds[name] * 1000)
        self._compared.add(self._champion, self._candidate)

    async def _ask(self, name: str, arm: ArmCounts, columns: Columns | None) -> float:
        """Put its answer down, None when it has none in time; the seconds that it took."""
        arm.answer = None
        started = time.monotonic()
        if columns is None:
            return 0.0
        self._say(name)
        until = started + self._order.deadline_ms / 1000
        with contextlib.suppress(ReleaseFailed, TimeoutError):
            answers = await arm.release.runtime.predict(columns, 1, until)
            if time.monotonic() <= until:
                arm.answer = answers[0]
        return time.monotonic() - started

    def facts(self, wanted: int) -> Replayed:
        old, new = self._champion, self._candidate
        return Replayed(
            requests=len(old.failed),
            wanted=wanted,
            champion_errors=sum(old.failed),
            candidate_errors=sum(new.failed),
            champion_only=_alone(old.failed, new.failed),
            candidate_only=_alone(new.failed, old.failed),
            unreadable=self._unreadable,
            champion_slow=sum(old.slow),
            candidate_slow=sum(new.slow),
            champion_slow_only=_alone(old.slow, new.slow),
            candidate_slow_only=_alone(new.slow, old.slow),
            champion_median_ms=_quantile(old.times_ms, 0.5),
            champion_p99_ms=_quantile(old.times_ms, 0.99),
            candidate_median_ms=_quantile(new.times_ms, 0.5),
            candidate_p99_ms=_quantile(new.times_ms, 0.99),
            **self._compared.facts(),
        )


def _alone(ours: Sequence[bool], theirs: Sequence[bool]) -> int:
    return sum(a and not b for a, b in zip(ours, theirs, strict=True))


def _quantile(values: Sequence[float], p: float) -> float:
    return float(np.quantile(values, p)) if values else 0.0


def _columns(release: LoadedRelease, row: Prediction) -> Columns | None:
    """The row as the release reads it; None when it lacks an input, or holds what the release does not take."""
    try:
        return protocol.columns([{n: row.inputs[n] for n in release.names if n in row.inputs}], release.signature)
    except RequestError:
        return None


async def work(order: ReplayOrder, say: Say) -> Replayed:
    """Raises ServingError, or StoreError, when the champion cannot be loaded."""
    until = time.monotonic() + order.timeout_s * OWN_SHARE
    state = Path(order.state)
    champion = open_bundle(state / "releases" / order.champion, known_keys(state), order.champion)
    rows, why = requests(state / "log" / order.environment, order, champion)
    if not rows:
        return Replayed(wanted=order.requests, why=why)
    say(CHAMPION)
    async with AsyncExitStack() as stack:
        theirs = await _load(order, champion, stack)
        say(CANDIDATE)
        try:
            candidate = open_bundle(state / "releases" / order.candidate, known_keys(state), order.candidate)
            ours = await _load(order, candidate, stack)
        except (ServingError, StoreError) as error:
            return Replayed(wanted=len(rows), failed=f"it cannot be loaded: {error}")
        return await ReplayRun(order, theirs, ours, say).run(rows, until)


def requests(log: Path, order: ReplayOrder, champion: Bundle) -> tuple[list[Prediction], str]:
    """The newest logged rows that the champion can read, and if there are none, why."""
    names = {i.name for i in champion.signature.inputs}
    missing: set[str] = set()

    def fit(row: Prediction) -> bool:
        lacking = names - row.inputs.keys()
        missing.update(lacking)
        return not lacking

    rows = newest(log, order.project, order.requests, fit)
    if rows or not missing:
        return rows, "nothing was logged yet"
    shown = ", ".join(sorted(missing)[:3])
    return [], f"the logged requests lack inputs ({shown}): they are redacted, or were not inputs then"


async def _load(order: ReplayOrder, bundle: Bundle, stack: AsyncExitStack) -> LoadedRelease:
    """In this process, or in a host that ends with the stack. Raises ServingError."""
    socket = None
    if bundle.form is ServedForm.HOSTED:
        socket = Path(order.sockets) / f"{bundle.digest[:12]}.sock"
        host = Host(Path(order.state), bundle.folder, socket)
        stack.push_async_callback(host.stop)
        await host.start()
    loaded = await load(bundle, socket)
    stack.push_async_callback(loaded.runtime.close)
    return loaded


def main(arguments: list[str]) -> int:
    fd = int(arguments[0])
    die_with_parent()
    be_the_first_to_go()
    np.seterr(over="ignore")  # as in a worker

    def say(text: str) -> None:
        with contextlib.suppress(OSError):
            os.write(fd, text.encode() + b"\n")

    try:
        order = msgspec.json.decode(sys.stdin.buffer.read(), type=ReplayOrder)
        facts = asyncio.run(work(order, say))
    except (ServingError, StoreError) as error:
        return _report_error(say, str(error))
    except BaseException as error:  # noqa: BLE001 - a defect of the replay: it must not look like the candidate's crash
        return _report_error(say, f"{type(error).__name__}: {error}")
    say(msgspec.json.encode({"facts": facts}).decode())
    return 0


def _report_error(say: Say, why: str) -> int:
    say(msgspec.json.encode({"error": why}).decode())
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
