"""Who answers: the champion, or for a share of requests the candidate, with the champion behind it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from noria.domain.rollout import Route
from noria.errors import NoriaError, RequestError
from noria.serving import protocol
from noria.serving.counts import Counts
from noria.serving.fast import Reader, reader
from noria.serving.protocol import Ask, Columns
from noria.serving.runtime import Answers, BeyondModelError, LoadedRelease, ReleaseFailed

CHAMPION_DEADLINE_S = 30.0  # nobody stands behind the champion: it gets the time that a client would wait


class NoAnswerError(NoriaError):
    """The champion failed; nobody is behind it."""


@dataclass(frozen=True, slots=True)
class RouteTable:
    """One applied route and its loaded releases. Requests hold the table they began with."""

    route: Route | None = None
    champion: LoadedRelease | None = None
    candidate: LoadedRelease | None = None
    previous: LoadedRelease | None = None
    also: frozenset[str] = frozenset()  # columns that only the candidate takes
    reader: Reader | None = None  # of the champion's signature
    immediate: bool = False  # whoever answers a few rows does so without waiting


@dataclass(frozen=True, slots=True)
class Answered:
    answers: Answers
    release: LoadedRelease
    version: str
    variant: str  # champion, candidate, fallback; pinned: the client named the release
    seconds: float


def table_of(route: Route, loaded: dict[str, LoadedRelease], max_rows: int = 1000) -> RouteTable:
    """The champion must be loaded, and the candidate where there is one; the previous release may be missing."""
    champion = loaded[route.champion]
    candidate = loaded[route.candidate] if route.candidate else None
    also = _accepted(candidate) if candidate else frozenset()
    immediate = champion.runtime.immediate and (candidate is None or candidate.runtime.immediate)
    previous, quick = loaded.get(route.previous or ""), reader(champion.signature, also, max_rows)
    return RouteTable(route, champion, candidate, previous, also, quick, immediate)


def _accepted(release: LoadedRelease) -> frozenset[str]:
    names = {release.signature.key, release.signature.event_time, *release.names}
    return frozenset(n for n in names if n)


class Router:
    """Assigns requests, bounds the candidate by its deadline, counts both arms."""

    def __init__(
        self,
        counts: Counts,
        complain: Callable[[str, str], None],
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._counts = counts
        self._complain = complain  # (digest, what happened)
        self._chance = chance

    async def answer(self, table: RouteTable, ask: Ask) -> Answered:
        """Raises NoAnswerError when the champion fails."""
        route = table.route
        assert route is not None
        started = time.monotonic()
        if table.candidate is not None and self._chance() < route.share:
            return await self._by_candidate(table, route, table.candidate, ask, started)
        return await self._by_champion(table, route, ask, started)

    async def pinned(self, release: LoadedRelease, version: str, ask: Ask) -> Answered:
        """The answer of a release that the client named: not routed, no evidence for either arm. Raises NoAnswerError."""
        started = time.monotonic()
        answers = await self._last_answers(release, version, ask)
        return Answered(answers, release, version, "pinned", time.monotonic() - started)

    async def _by_candidate(
        self, table: RouteTable, route: Route, candidate: LoadedRelease, ask: Ask, started: float
    ) -> Answered:
        until = started + route.deadline_ms / 1000
        try:
            with self._counts.at_work:  # if this ends the process, it is known who did it
                answers = await _ask(candidate, _columns_for(candidate, table, ask), len(ask.records), until)
        except BeyondModelError:  # hostile input is no evidence against the candidate
            return await self._by_champion(table, route, ask, started)
        except (ReleaseFailed, RequestError, TimeoutError) as error:
            self._complain(candidate.digest, _why(error, f"no answer within {route.deadline_ms:g} ms"))
            self._count(route, True, started, error=True)
            return await self._champion_answers(table, route, ask, started, "fallback")
        seconds = self._count(route, True, started)
        return Answered(answers, candidate, route.candidate_version or "", "candidate", seconds)

    async def _by_champion(self, table: RouteTable, route: Route, ask: Ask, started: float) -> Answered:
        try:
            answered = await self._champion_answers(table, route, ask, started, "champion")
        except NoAnswerError:
            self._count(route, False, started, error=True)
            raise
        self._count(route, False, started)
        return answered

    async def _champion_answers(self, table: RouteTable, route: Route, ask: Ask, started: float, variant: str) -> Answered:
        champion = table.champion
        assert champion is not None
        answers = await self._last_answers(champion, route.champion_version, ask)
        return Answered(answers, champion, route.champion_version, variant, time.monotonic() - started)

    async def _last_answers(self, release: LoadedRelease, version: str, ask: Ask) -> Answers:
        """The answers of a release that nobody stands behind."""
        try:
            return await _ask(release, ask.columns, len(ask.records), time.monotonic() + CHAMPION_DEADLINE_S)
        except (ReleaseFailed, TimeoutError) as error:
            self._complain(release.digest, _why(error, f"no answer within {CHAMPION_DEADLINE_S:g} s"))
            raise NoAnswerError(f"release {version} could not answer this request") from error

    def _count(self, route: Route, candidate: bool, started: float, error: bool = False) -> float:
        seconds = time.monotonic() - started
        self._counts.tally(route.tally_key, candidate, error, seconds * 1000 > route.slow_ms)
        return seconds


def now(work: Coroutine[Any, Any, Answered]) -> Answered:
    """The result of a coroutine that never waits."""
    try:
        work.send(None)
    except StopIteration as done:
        found: Answered = done.value
        return found
    work.close()
    raise RuntimeError("it waits for something")


async def _ask(release: LoadedRelease, columns: Columns, n: int, until: float) -> Answers:
    """Answers before ``until``; a compiled release cannot be interrupted, so its late answer is refused afterwards."""
    answers = await release.runtime.predict(columns, n, until)
    if time.monotonic() > until:
        raise TimeoutError
    return answers


def _columns_for(candidate: LoadedRelease, table: RouteTable, ask: Ask) -> Columns:
    """The candidate may read other inputs than the champion; a request that lacks them counts against it."""
    champion = table.champion
    assert champion is not None
    if candidate.signature.inputs == champion.signature.inputs:
        return ask.columns
    return protocol.columns(ask.records, candidate.signature, _accepted(champion))


def _why(error: BaseException, late: str) -> str:
    return late if isinstance(error, TimeoutError) else str(error)


def describe(table: RouteTable) -> dict[str, Any]:
    """What `GET /` says."""
    route = table.route
    if route is None or table.champion is None:
        return {"release": None}
    signature = table.champion.signature
    facts: dict[str, Any] = {"project": route.project, "release": route.champion_version, "task": signature.task}
    if route.candidate is not None:
        facts["candidate"] = {"release": route.candidate_version, "share": route.share}
    facts["inputs"] = [{"name": i.name, "type": i.kind, "nullable": i.nullable} for i in signature.inputs]
    facts["optional"] = [n for n in (signature.key, signature.event_time) if n]
    return facts | {"example": protocol.example(signature)}
