"""Routes requests to the champion or, for a share of them, to the candidate with the champion as fallback. On probation the
champion is new, and the previous release is its fallback. Of a share of requests the other release is to score what it did not
answer (`shadow`), once the answer has left.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace

from noria.kernel.access import MAX_ROWS
from noria.kernel.errors import NoAnswerError, NoriaError, RequestError
from noria.kernel.words import lasting
from noria.serving import protocol
from noria.serving.counts import SharedCounters, is_on_probation
from noria.serving.fast_reader import FastReader, reader
from noria.serving.key_assignment import BUCKETS, CountedBuckets, bucket
from noria.serving.protocol import Columns, PredictionRequest
from noria.serving.route import Route
from noria.serving.runtime import AGAIN_S, Answers, AwayError, BeyondModelError, LoadedRelease, PartlyError, ReleaseFailed

_UNMARKED = nullcontext()
T = TypeVar("T")
CHAMPION_DEADLINE_S = 30.0  # the champion has no fallback: it gets the time that a client would wait


BACK_S = 10.0  # its host process gets this long to be there again before a request is refused


class WaitsError(NoriaError):
    """The fallback's answer has to be waited for."""


class PartlyAnswered(msgspec.Struct, frozen=True):
    """Some rows of a request have no answer, while others have."""

    failed: Sequence[int] = ()
    untold: Sequence[int] = ()  # not told from those that fail: there are too many

    def __len__(self) -> int:
        return len(self.failed) + len(self.untold)


WHOLE = PartlyAnswered()


class RouteTable(msgspec.Struct, frozen=True):
    """An applied route with its loaded releases. Requests keep the table they began with."""

    route: Route | None = None
    champion: LoadedRelease | None = None
    candidate: LoadedRelease | None = None
    previous: LoadedRelease | None = None
    other: LoadedRelease | None = None  # scores a share of what it does not answer: the candidate, or in probation the previous
    probation: bool = False  # the champion is judged, and the previous release answers where it fails
    also: frozenset[str] = frozenset()  # columns that only the candidate takes, or the release before
    reader: FastReader | None = None  # of the champion's signature
    immediate: bool = False  # whoever answers a few rows does so without waiting
    seen: CountedBuckets | None = None  # where a request goes where its key goes: which keys were counted


class RouterAnswer(msgspec.Struct, frozen=True):
    answers: Answers
    release: LoadedRelease
    version: str
    variant: str  # champion, candidate, fallback; pinned: the client named the release
    seconds: float
    other: LoadedRelease | None = None  # that is to score the request too
    lacking: PartlyAnswered = WHOLE  # rows without an answer


def table_of(
    route: Route, loaded: dict[str, LoadedRelease], max_rows: int = MAX_ROWS, seen: CountedBuckets | None = None
) -> RouteTable:
    """The champion must be loaded, and the candidate where there is one; the previous release may be missing."""
    champion = loaded[route.champion]
    candidate = loaded[route.candidate] if route.candidate else None
    previous = loaded.get(route.previous or "")
    other = (candidate or previous) if route.shadow else None
    probation = is_on_probation(route) and other is not None
    second = candidate or other
    also = _accepted_columns(second) if second else frozenset()
    answering = [champion, candidate if route.share else None]
    immediate = all(release.runtime.immediate for release in answering if release is not None)
    quick = reader(champion.signature, also, max_rows)
    return RouteTable(route, champion, candidate, previous, other, probation, also, quick, immediate, seen)


def _accepted_columns(release: LoadedRelease) -> frozenset[str]:
    names = {release.signature.key, release.signature.event_time, *release.names}
    return frozenset(n for n in names if n)


class Router:
    """Assigns requests, bounds the candidate by its deadline, counts both arms; `shadow` counts what it scores."""

    def __init__(
        self,
        counts: SharedCounters,
        complain: Callable[[str, str], None],
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._counts = counts
        self._complain = complain  # (digest, what happened)
        self._chance = chance
        self.crowded: Callable[[], bool] = lambda: False  # whether a pair would be dropped now
        self.unanswered: Callable[[RouteTable, PredictionRequest], None] = lambda table, ask: (
            None
        )  # a drawn request that the champion failed

    def is_drawn(self, route: Route) -> bool:
        """Whether a request is one that the other release is to score too."""
        return self._chance() < route.shadow

    async def answer(self, table: RouteTable, ask: PredictionRequest, drawn: bool | None = None) -> RouterAnswer:
        """``drawn``: whether the other release is to score it too, told by who cannot wait; None: it is drawn here.

        Raises NoAnswerError when the champion fails, and in probation the release before as well; WaitsError when the answer
        would come later to someone who cannot wait.
        """
        route, at_once = table.route, drawn is not None
        assert route is not None
        if drawn is None:
            drawn = table.other is not None and self.is_drawn(route)
        started = time.monotonic()
        tried, counted = self._assign(table, route, ask) if table.candidate is not None else (False, True)
        if table.candidate is not None and tried:
            answered = await self._by_candidate(table, route, table.candidate, ask, started, counted)
        elif table.probation:
            answered = await self._on_probation(table, route, ask, started, at_once)
        else:
            answered = await self._by_champion(table, route, ask, started, counted, drawn)
        if drawn and answered.variant != "fallback" and not answered.lacking:
            return replace(answered, other=table.champion if answered.release is table.candidate else table.other)
        return answered

    def _assign(self, table: RouteTable, route: Route, ask: PredictionRequest) -> tuple[bool, bool]:
        """Whether a request goes to the candidate, and whether it is evidence.

        By chance; or by the key of its first row, and then the first of a bucket is evidence. Without a key there, by chance
        all the same: of whom it comes is unknown, so it is none.
        """
        if table.seen is None:
            return self._chance() < route.share, True
        key = ask.keys[0]
        if key is None:
            return self._chance() < route.share, False
        place = bucket(route.rollout_id or "", key)
        return place < route.share * BUCKETS, table.seen.first(place)

    async def answer_pinned(self, release: LoadedRelease, version: str, ask: PredictionRequest) -> RouterAnswer:
        """Answers with the release that the client named: not routed, and no evidence for either arm. Raises NoAnswerError."""
        started = time.monotonic()
        answers, lacking = await self._last_answers(release, version, ask)
        return RouterAnswer(answers, release, version, "pinned", time.monotonic() - started, lacking=lacking)

    async def _by_candidate(
        self, table: RouteTable, route: Route, candidate: LoadedRelease, ask: PredictionRequest, started: float, counted: bool
    ) -> RouterAnswer:
        until = started + route.deadline_ms / 1000
        try:
            with self._counts.at_work:  # if this ends the process, it is known who did it
                answers = await asked(candidate, columns_for(candidate, table, ask), len(ask.records), until)
        except BeyondModelError:  # hostile input is no evidence against the candidate
            return await self._by_champion(table, route, ask, started, counted)
        except (ReleaseFailed, RequestError, TimeoutError) as error:
            self._complain(candidate.digest, why(error, f"no answer within {route.deadline_ms:g} ms"))
            self._count(route, True, started, error=True, counted=counted)
            return await self._champion_answers(table, route, ask, started, "fallback")
        seconds = self._count(route, True, started, counted=counted)
        return RouterAnswer(answers, candidate, route.candidate_version or "", "candidate", seconds)

    async def _by_champion(
        self, table: RouteTable, route: Route, ask: PredictionRequest, started: float, counted: bool, drawn: bool = False
    ) -> RouterAnswer:
        """An answer that would have been too late of a candidate is an error of the champion as well, though it is given. It is
        counted when it is too late, as the candidate's are: else where both hang the candidate alone would seem to fail. So is
        one that lacks rows."""
        pairs = is_shadow_only(table)
        overdue = self._watch_deadline(table, route, started) if counted and not pairs else None
        failed = False
        try:
            answered = await self._champion_answers(table, route, ask, started, "champion")
        except NoAnswerError:
            failed = True
            if drawn and pairs:
                self.unanswered(table, ask)
            raise
        finally:
            in_time = overdue is None or overdue.stop()
            if failed:
                self._count(route, False, started, error=True, counted=counted and not pairs and in_time)
        if answered.lacking and drawn and pairs:
            self.unanswered(table, ask)
        error = late(route, answered.seconds) or bool(answered.lacking)
        self._count(route, False, started, error=error, counted=counted and not pairs and in_time)
        return answered

    def _watch_deadline(self, table: RouteTable, route: Route, started: float) -> _Overdue | None:
        """None where nobody waits for the champion, or there is nobody to compare it with."""
        if table.candidate is None or table.champion is None or table.champion.runtime.immediate:
            return None
        return _Overdue(route.deadline_ms / 1000, partial(self._count, route, False, started, error=True))

    async def _on_probation(
        self, table: RouteTable, route: Route, ask: PredictionRequest, started: float, at_once: bool
    ) -> RouterAnswer:
        """By the new champion, or where it fails or is late by the release before, which the new one's arm answers for."""
        champion, until = table.champion, started + route.deadline_ms / 1000
        assert champion is not None
        try:
            answers = await asked(champion, ask.columns, len(ask.records), until)
        except (ReleaseFailed, TimeoutError) as error:
            self._complain(champion.digest, why(error, f"no answer within {route.deadline_ms:g} ms"))
            if at_once and table.previous is not None and not table.previous.runtime.immediate:
                raise WaitsError("the previous release answers later") from error
            return await self._previous_answers(table, route, ask, started)
        seconds = self._count(route, True, started)
        return RouterAnswer(answers, champion, route.champion_version, "champion", seconds)

    async def _previous_answers(self, table: RouteTable, route: Route, ask: PredictionRequest, started: float) -> RouterAnswer:
        begun = time.monotonic()
        previous, until = table.previous, begun + CHAMPION_DEADLINE_S
        assert previous is not None
        lacking = WHOLE
        try:
            with self._counts.at_work if previous.runtime.immediate else _UNMARKED:
                columns = columns_for(previous, table, ask)
                answers, lacking = await self._answer_rows_apart(previous, columns, len(ask.records), until)
        except (ReleaseFailed, RequestError, TimeoutError) as error:
            self._complain(previous.digest, why(error, f"no answer within {lasting(CHAMPION_DEADLINE_S)}"))
            self._count(route, True, started)  # neither answers: that says nothing of one against the other
            self._counts.of(route.project).count_unanswered(len(ask.records))
            raise no_answer_error(route.champion_version, len(ask.records)) from error
        both = (time.monotonic() - begun) * 1000 > route.deadline_ms  # too late as well, had it been asked to score
        # Where pairs are dropped, failures of the old release alone are not seen: then those of the new one alone count neither.
        seconds = self._count(route, True, started, error=not both and not lacking and not self.crowded())
        return RouterAnswer(answers, previous, route.previous_version or "", "fallback", seconds, lacking=lacking)

    async def _champion_answers(
        self, table: RouteTable, route: Route, ask: PredictionRequest, started: float, variant: str
    ) -> RouterAnswer:
        champion = table.champion
        assert champion is not None
        answers, lacking = await self._last_answers(champion, route.champion_version, ask)
        return RouterAnswer(answers, champion, route.champion_version, variant, time.monotonic() - started, lacking=lacking)

    async def _answer_rows_apart(
        self, release: LoadedRelease, columns: Columns, n: int, until: float
    ) -> tuple[Answers, PartlyAnswered]:
        """The answers of a release that nobody stands behind, as far as there are any: a row that fails costs no other its."""
        try:
            return await asked(release, columns, n, until, apart=True), WHOLE
        except PartlyError as error:
            self._complain(release.digest, error.message)
            lacking = PartlyAnswered(error.failed, error.untold)
            self._counts.of(release.project).count_unanswered(len(lacking))
            return error.answers, lacking

    async def _last_answers(self, release: LoadedRelease, version: str, ask: PredictionRequest) -> tuple[Answers, PartlyAnswered]:
        """The answers of a release that nobody stands behind: a request that it was not asked yet waits for its next process."""
        began = time.monotonic()
        while True:
            try:
                return await self._answer_rows_apart(release, ask.columns, len(ask.records), began + CHAMPION_DEADLINE_S)
            except (ReleaseFailed, TimeoutError) as error:
                if not isinstance(error, AwayError) or time.monotonic() > began + BACK_S:
                    self._complain(release.digest, why(error, f"no answer within {lasting(CHAMPION_DEADLINE_S)}"))
                    self._counts.of(release.project).count_unanswered(len(ask.records))
                    raise no_answer_error(version, len(ask.records)) from error
            await asyncio.sleep(AGAIN_S)

    def _count(self, route: Route, candidate: bool, started: float, error: bool = False, counted: bool = True) -> float:
        """The seconds since ``started``."""
        seconds = time.monotonic() - started
        if counted:
            self._counts.count_arm(route.tally_key, candidate, error, seconds * 1000 > route.slow_ms)
        return seconds


class _Overdue:
    """Counts a request once its time is over, unless it is stopped before."""

    __slots__ = ("_count", "_counted", "_handle")

    def __init__(self, after_s: float, count: Callable[[], object]) -> None:
        self._count, self._counted = count, False
        self._handle = asyncio.get_running_loop().call_later(after_s, self._over)

    def _over(self) -> None:
        self._counted = True
        self._count()

    def stop(self) -> bool:
        """Whether it was in time, and is yet to be counted."""
        self._handle.cancel()
        return not self._counted


def now(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that never waits."""
    try:
        work.send(None)
    except StopIteration as done:
        found: T = done.value
        return found
    work.close()
    raise RuntimeError("it waits for something")


def late(route: Route, seconds: float) -> bool:
    """Whether an answer took longer than a candidate may: then it counts as an error, whoever gave it."""
    return route.candidate is not None and seconds * 1000 > route.deadline_ms


def is_shadow_only(table: RouteTable) -> bool:
    """Whether the candidate answers nothing and only scores: such pairs are all the evidence then."""
    return table.other is not None and table.candidate is not None and not (table.route and table.route.share)


def no_answer_error(version: str, rows: int) -> NoAnswerError:
    hint = "Send its rows in several requests: those that it can answer are answered then." if rows > 1 else None
    return NoAnswerError(f"release {version} could not answer this request", hint=hint)


async def asked(release: LoadedRelease, columns: Columns, n: int, until: float, apart: bool = False) -> Answers:
    """Answers before ``until``; a compiled release cannot be interrupted, so its late answer is refused afterwards.

    ``apart``: see `Runtime.predict`.
    """
    answers = await release.runtime.predict(columns, n, until, apart)
    if time.monotonic() > until:
        raise TimeoutError
    return answers


def columns_for(release: LoadedRelease, table: RouteTable, ask: PredictionRequest) -> Columns:
    """What a release reads of a request. The candidate may read other inputs than the champion. Raises SignatureError."""
    champion = table.champion
    assert champion is not None
    if release.signature.inputs == champion.signature.inputs:
        return ask.columns
    return protocol.columns(ask.records, release.signature, _accepted_columns(champion))


def why(error: BaseException, late: str) -> str:
    return late if isinstance(error, TimeoutError) else str(error)


def describe(table: RouteTable) -> dict[str, Any]:
    """The answer of `GET /`."""
    route = table.route
    if route is None or table.champion is None:
        return {"release": None}
    signature = table.champion.signature
    facts: dict[str, Any] = {"project": route.project, "release": route.champion_version, "task": signature.task}
    if route.candidate is not None:
        facts["candidate"] = {"release": route.candidate_version, "share": route.share}
        if table.other is not None:
            facts["candidate"]["shadow"] = route.shadow
    elif table.probation:
        facts["probation"] = {"previous": route.previous_version, "shadow": route.shadow}
    facts["inputs"] = [{"name": i.name, "type": i.kind, "nullable": i.nullable} for i in signature.inputs]
    facts["optional"] = [n for n in (signature.key, signature.event_time) if n]
    return facts | {"example": protocol.example(signature)}
