"""The data plane of one environment in this process: the real application over sealed releases, no sockets, no workers."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import httpx
from small_line import SmallLine

from noria.kernel.access import UNGUARDED
from noria.predictions.writer import LogWriter
from noria.releases.bundle import open_bundle
from noria.releases.signing import known_keys
from noria.serving import counts as counting
from noria.serving.access_control import AccessControl
from noria.serving.app import App, Settings
from noria.serving.counts import SharedCounters, counts_path
from noria.serving.project_apps import Apps
from noria.serving.recorder import Recorder
from noria.serving.router import Router, table_of
from noria.serving.runtime import LoadedRelease, load


class Answers:
    """A client of what the routes of these projects say; ``follow`` reads them anew, as a worker does."""

    def __init__(self, lines: Sequence[SmallLine], apps: Apps) -> None:
        self._lines, self._apps = lines, apps
        self._loaded: dict[str, LoadedRelease] = {}

    def follow(self) -> None:
        routes = [line.route for line in self._lines]
        state = self._lines[0].context.state
        for route in routes:
            for digest in filter(None, (route.champion, route.candidate, route.previous) if route else ()):
                if digest not in self._loaded:
                    bundle = open_bundle(state / "releases" / digest, known_keys(state), digest)
                    self._loaded[digest] = asyncio.run(load(bundle, None))
        self._apps.serve([table_of(route, self._loaded) for route in routes if route])

    def post(self, path: str, body: Any) -> httpx.Response:
        async def one() -> httpx.Response:
            transport = httpx.ASGITransport(self._apps)  # type: ignore[arg-type]  # an ASGI application
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
                return await client.post(path, content=json.dumps(body).encode())

        return asyncio.run(one())

    def predict(self, project: str, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        answer = self.post(f"/{project}/predict", list(rows))
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return [dict(one, release=found["release"]) for one in found["predictions"]]

    def feedback(self, project: str, labels: Mapping[str, Any]) -> None:
        answer = self.post(f"/{project}/feedback", [{"id": name, "label": label} for name, label in labels.items()])
        assert answer.status_code == 202, answer.text


@contextlib.contextmanager
def answering(*lines: SmallLine) -> Iterator[Answers]:
    """Projects of one state folder, answered by their champions; everything is in the log when the block is left."""
    state = lines[0].context.state
    path = counts_path(state, "production")
    path.parent.mkdir(parents=True, exist_ok=True)
    counting.create(path)
    counts, log = SharedCounters(path, 0), LogWriter(state / "log" / "production", "production")
    recorder, router = Recorder(log), Router(counts, lambda *_: None)
    apps = Apps(lambda: App(Settings("production"), router, recorder, counts, AccessControl(UNGUARDED, "127.0.0.1")))
    made = Answers(lines, apps)
    made.follow()
    try:
        yield made
    finally:
        log.close()
        counts.close()
