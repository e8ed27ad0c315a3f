"""What a rollout asks of an engine that serves, and all it knows of one. The embedded server is one; others come beside it."""

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
    """What an engine has seen in one environment. ``tallies`` by the revision of the route, cumulative; the rest by digest."""

    tallies: dict[int, ArmTallies] = {}
    failed: dict[str, str] = {}  # releases that could not be loaded, and why
    crashes: dict[str, Crashes] = {}


class Driver(Protocol):
    """An engine. It serves the newest route of the ledger that it was told of, and goes on with that when nobody is there."""

    def load(self, digest: str) -> str:
        """Try a release and keep it at hand, before any route names it; why it cannot be served, or an empty text."""

    def set_routes(self, route: Route) -> str:
        """Serve by ``route``, which is in the ledger already: all or nothing, without a failed request. Returns when it is in
        force, with an empty text, or says why not; while the engine is away, it follows the ledger when it is back."""

    def drain(self, environment: str, digest: str) -> None:
        """Let go of a release that no route names any more, once its requests are done."""

    def stats(self, project: str, environment: str) -> EngineCounts:
        """Raises ServingError when the engine does not answer."""


class EngineStats:
    """What an engine says of one environment in one look: asked once, when it is first needed. So is its silence."""

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
    """Noria's own model server: it reads routes from the ledger, and unloads by itself what none names."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def load(self, digest: str) -> str:
        return self._server.load(digest) if self._server.alive() else self._problem(digest)

    def set_routes(self, route: Route) -> str:
        if not self._server.alive():
            return self._problem(route.champion)
        try:
            failed = self._server.sync().failed
        except ServingError:  # it went away, or takes long: it follows the ledger by itself
            return ""
        named = [digest for digest in (route.candidate, route.champion) if digest in failed]
        return failed[named[0]] if named else ""

    def _problem(self, digest: str) -> str:
        """Why a server could not serve a release when it is back; empty where its bundle is whole and ours."""
        state = self._server.state
        try:
            open_bundle(state / signing.RELEASES / digest, signing.known_keys(state), digest)
        except StoreError as error:
            return error.message
        return ""

    def drain(self, environment: str, digest: str) -> None:
        """Nothing is left to do: a worker closes a release some seconds after the last route that named it."""

    def stats(self, project: str, environment: str) -> EngineCounts:
        health = self._server.health(environment)
        return EngineCounts(self._server.stats(project, environment), health.failed, health.crashes)


def reachable(driver: Driver, project: str, environment: str) -> bool:
    try:
        driver.stats(project, environment)
    except ServingError:
        return False
    return True
