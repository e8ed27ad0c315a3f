"""The interface of a serving engine, as rollouts use it. The embedded server is one; others can be added."""

from __future__ import annotations

from functools import partial
from typing import Protocol

import msgspec

from noria.kernel.errors import ServingError, StoreError
from noria.releases import signing
from noria.releases.bundle import open_bundle
from noria.serving.client import ArmTallies, Server
from noria.serving.crash_record import Crashes
from noria.serving.route import Route


class EngineCounts(msgspec.Struct, frozen=True):
    """An engine's counts in one environment. ``tallies`` by the revision of the route, cumulative; the rest by digest."""

    tallies: dict[int, ArmTallies] = {}
    failed: dict[str, str] = {}  # releases that could not be loaded, and why
    crashes: dict[str, Crashes] = {}


class Driver(Protocol):
    """A serving engine.

    It serves the newest route of the ledger that it was notified of, and keeps serving it when Noria is not running.
    """

    def load(self, digest: str) -> str:
        """Loads a release before any route names it; returns why it cannot be served, or an empty text."""

    def set_routes(self, route: Route) -> str:
        """Serves by ``route``, which is already in the ledger: all or nothing, without a failed request.

        Returns an empty text when the route is in force, or why not. An engine that is away follows the ledger when it returns.
        """

    def drain(self, environment: str, digest: str) -> None:
        """Unloads a release that no route names any more, once its requests are done."""

    def stats(self, project: str, environment: str) -> EngineCounts:
        """Returns the counts; raises ServingError when the engine does not answer."""


class EngineStats:
    """An engine's counts for one analysis of an environment: asked once, when first needed, even if it does not answer."""

    def __init__(self, driver: Driver, project: str, environment: str) -> None:
        self._ask = partial(driver.stats, project, environment)
        self._found: EngineCounts | ServingError | None = None

    def stats(self) -> EngineCounts:
        """Raises ServingError when the engine did not answer."""
        if self._found is None:
            try:
                self._found = self._ask()
            except ServingError as error:
                self._found = error
        if isinstance(self._found, ServingError):
            raise self._found
        return self._found


class Embedded:
    """Noria's own model server, which reads routes from the ledger and unloads releases that none names."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def load(self, digest: str) -> str:
        return self._server.load(digest) if self._server.is_alive() else self._problem(digest)

    def set_routes(self, route: Route) -> str:
        if not self._server.is_alive():
            return self._problem(route.champion)
        try:
            failed = self._server.sync().failed
        except ServingError:  # it is gone or slow: it follows the ledger by itself
            return ""
        named = [digest for digest in (route.candidate, route.champion) if digest in failed]
        return failed[named[0]] if named else ""

    def _problem(self, digest: str) -> str:
        """Returns why a server could not serve a release when it returns; empty when the bundle is whole and signed by us."""
        state = self._server.state
        try:
            open_bundle(state / signing.RELEASES / digest, signing.known_keys(state), digest)
        except StoreError as error:
            return error.message
        return ""

    def drain(self, environment: str, digest: str) -> None:
        """Does nothing: a worker closes a release some seconds after the last route that named it."""

    def stats(self, project: str, environment: str) -> EngineCounts:
        health = self._server.health(environment)
        return EngineCounts(self._server.stats(project, environment), health.failed, health.crashes)


def reachable(driver: Driver, project: str, environment: str) -> bool:
    try:
        driver.stats(project, environment)
    except ServingError:
        return False
    return True
