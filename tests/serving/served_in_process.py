"""The application with a real release in this process: no sockets, no workers."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
from serving_bundles import PROJECT, Seal

from noria.kernel.access import UNGUARDED, Access
from noria.predictions.writer import LogWriter
from noria.releases.bundle import open_bundle
from noria.releases.signing import known_keys
from noria.serving import counts as counting
from noria.serving.access_control import AccessControl
from noria.serving.app import App, Settings
from noria.serving.counts import SharedCounters, counts_path
from noria.serving.project_apps import Apps
from noria.serving.recorder import Recorder
from noria.serving.route import Route
from noria.serving.router import Router, table_of
from noria.serving.runtime import load


class InProcess:
    """Asks the ASGI application as a client would."""

    def __init__(self, apps: Apps, counts: SharedCounters, log: LogWriter, log_folder: Path) -> None:
        self.apps = apps
        self.counts = counts
        self.log = log
        self.log_folder = log_folder

    def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        async def one() -> httpx.Response:
            transport = httpx.ASGITransport(self.apps)  # type: ignore[arg-type]  # an ASGI application
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
                return await client.request(method, path, **more)

        return asyncio.run(one())

    def post(self, path: str, body: Any = None, **more: Any) -> httpx.Response:
        return self.ask("POST", path, content=body if isinstance(body, bytes) else json.dumps(body).encode(), **more)

    def try_fast(self, path: str, body: Any, *headers: tuple[bytes, bytes]) -> Any:
        """What the short way answers, or None."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.apps.try_fast(path.encode(), [(b"host", b"127.0.0.1"), *headers], content)


@contextlib.contextmanager
def in_process(seal: Seal, digests: dict[str, str], access: Access = UNGUARDED) -> Iterator[InProcess]:
    """``digests``: project -> the release that serves it."""
    path = counts_path(seal.state, "production")
    counting.create(path)
    folder = seal.state / "log" / "production"
    counts, log = SharedCounters(path, 0), LogWriter(folder, "production")
    recorder, router = Recorder(log), Router(counts, lambda *_: None)
    apps = Apps(lambda: App(Settings("production"), router, recorder, counts, AccessControl(access, "127.0.0.1")))
    loaded = {
        digest: asyncio.run(load(open_bundle(seal.state / "releases" / digest, known_keys(seal.state), digest), None))
        for digest in digests.values()
    }
    apps.serve([table_of(Route(project, "production", 1, digest, "v1"), loaded) for project, digest in digests.items()])
    try:
        yield InProcess(apps, counts, log, folder)
    finally:
        log.close()
        counts.close()


def one_project(seal: Seal, digest: str, access: Access = UNGUARDED) -> contextlib.AbstractContextManager[InProcess]:
    return in_process(seal, {PROJECT: digest}, access)
