"""A server under test: its ledger, its address, and clients that put load on it."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import httpx
from serving_bundles import PROJECT, RECORD, Seal

from noria.serving.client import ArmTallies, Server, SyncResult
from noria.serving.route import Route
from noria.serving.route_store import RouteStore
from noria.storage.ledger import Ledger


class World:
    """Publishes routes as the engine does, and speaks HTTP as a user does."""

    def __init__(self, seal: Seal, scratch: Path) -> None:
        self.seal = seal
        self.scratch = scratch
        self.state = seal.state
        self.server = Server(seal.state)
        self._clients: list[httpx.Client] = []

    def publish(self, champion: str, version: str = "v1", **more: Any) -> int:
        """Write the desired route; its revision."""
        ledger = Ledger.open(self.state)
        try:
            with ledger.transaction():
                RouteStore(ledger, PROJECT).put(Route(PROJECT, "production", 0, champion, version, **more))
            stored = RouteStore(ledger, PROJECT).get("production")
        finally:
            ledger.close()
        assert stored is not None
        return stored.revision

    def serve(self, champion: str, version: str = "v1", **more: Any) -> SyncResult:
        revision = self.publish(champion, version, **more)
        synced = self.server.sync()
        assert synced.applied == {"production": revision}, synced
        return synced

    @property
    def url(self) -> str:
        return self.server.addresses()["production"]

    def client(self) -> httpx.Client:
        self._clients.append(httpx.Client(base_url=self.url, timeout=10))
        return self._clients[-1]

    def workers(self) -> list[int]:
        return list(self.server.status()["environments"]["production"]["workers"])

    def tallies(self, revision: int) -> ArmTallies:
        return self.server.stats(PROJECT, "production").get(revision, ArmTallies())

    def close(self) -> None:
        for client in self._clients:
            client.close()
        self.server.stop()


class Load:
    """Threads that predict until told to stop, with the one retry of a broken connection that an HTTP client makes."""

    def __init__(self, url: str, threads: int = 4) -> None:
        self.answers: list[dict[str, Any]] = []
        self.failures: list[str] = []
        self.retries = 0
        self._url = url
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(threads)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        with httpx.Client(base_url=self._url, timeout=10) as client:
            while not self._stop.is_set():
                self._once(client)

    def _once(self, client: httpx.Client) -> None:
        for attempt in (1, 2):
            try:
                answer = client.post("/predict", json=RECORD)
            except httpx.TransportError as error:
                self.retries += attempt == 1
                if attempt == 2:
                    self.failures.append(repr(error))
                continue
            if answer.status_code == 200:
                self.answers.append(answer.json())
            else:
                self.failures.append(answer.text)
            return

    def releases(self) -> set[str]:
        return {a["release"] for a in self.answers}

    def ids(self) -> list[str]:
        return [p["id"] for a in self.answers for p in a["predictions"]]
