"""Applies the desired routes, each project's independently: none waits for another project's release."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Generic, TypeVar

import msgspec

from noria.kernel import logs
from noria.serving.route import Route

_log = logs.get_logger("noria.serving")

Key = tuple[str, str]  # environment, project
Loaded = TypeVar("Loaded")
OVERTAKEN = 3  # times that trying releases is broken off for a newer route


class RouteChange(msgspec.Struct):
    """One route on its way into force."""

    route: Route
    task: asyncio.Task[None]
    firm: bool = False  # it is loaded: now it comes into force, whatever is wanted meanwhile


class FollowerActions(Generic[Loaded]):
    """``load`` may be broken off at any time, ``flip`` never is; whatever they raise is logged, and that route is left.

    ``due`` tells whether a wanted route is to be tried; the flag says whether those that were refused are tried again.
    """

    def __init__(
        self,
        due: Callable[[Key, Route, bool], bool],
        load: Callable[[Key, Route], Awaitable[Loaded]],
        flip: Callable[[Key, Route, Loaded], Awaitable[None]],
    ) -> None:
        self._due = due
        self._load = load
        self._flip = flip
        self._wanted: dict[Key, Route] = {}
        self._works: dict[Key, RouteChange] = {}
        self._broken: dict[Key, int] = {}  # how often in a row its trying was broken off
        self._closed = False

    def aim(self, wanted: dict[Key, Route], again: bool = False) -> None:
        """Starts applying new routes and cancels outdated ones: a rollback does not wait for a candidate that hangs."""
        self._wanted = wanted
        for key, work in self._works.items():
            if wanted.get(key) != work.route and not work.firm and self._broken.get(key, 0) < OVERTAKEN:
                self._broken[key] = self._broken.get(key, 0) + 1
                work.task.cancel()
        for key, route in wanted.items():
            if key not in self._works and not self._closed and self._due(key, route, again):
                self._begin(key, route)

    def coming(self, environment: str) -> Iterator[Route]:
        """Returns the routes of an environment that are being applied."""
        return (work.route for key, work in self._works.items() if key[0] == environment)

    def routes(self) -> list[Route]:
        return [work.route for work in self._works.values()]

    async def settled(self, environment: str | None = None) -> None:
        """Waits until every route (of this environment) that was started is applied."""
        while works := [work.task for key, work in self._works.items() if environment in (None, key[0])]:
            await asyncio.wait(works)

    async def close(self) -> None:
        self._closed = True
        tasks = [work.task for work in self._works.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self, key: Key, route: Route) -> None:
        task = asyncio.create_task(self._run(key))  # it runs from the loop's next turn on, when its work is there
        self._works[key] = RouteChange(route, task)
        task.add_done_callback(lambda task: self._ended(key, task))

    async def _run(self, key: Key) -> None:
        work = self._works[key]
        try:
            loaded = await self._load(key, work.route)
            work.firm = True
            await self._flip(key, work.route, loaded)
            told = logs.facts(environment=key[0], project=key[1], revision=work.route.revision)
            _log.debug(f"{key[1]} answers in {key[0]} by revision {work.route.revision} of its route", extra=told)
        except Exception as error:  # noqa: BLE001 - whatever it was, other routes are followed on; this one when it changes
            told = logs.facts(environment=key[0], project=key[1])
            _log.error(f"{key[1]} in {key[0]} cannot be applied", exc_info=error, extra=told)

    def _ended(self, key: Key, task: asyncio.Task[None]) -> None:
        work = self._works.pop(key)
        if not task.cancelled():
            self._broken.pop(key, None)
        newest = self._wanted.get(key)
        if newest is not None and newest != work.route:  # it was wanted meanwhile
            self.aim(self._wanted)
