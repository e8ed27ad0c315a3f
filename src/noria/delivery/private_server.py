"""A private model server for a candidate, before any gate has passed, so that latency is measured as clients will see it.

The candidate's files lie in a state folder that nobody else knows, sealed with a key that is thrown away with it, so that the
server is the very one that serves releases: verified, proven, one worker, HTTP on loopback, the prediction log. It ends with the
process that started it, even if that is killed.
"""

from __future__ import annotations

import http.client
import os
import shutil
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from noria.evaluation.latency import LatencyRounds
from noria.kernel.errors import NoriaError, StepError, StoppedError
from noria.pipeline.context import PinnedRun, PipelineContext
from noria.releases import bundle, signing
from noria.releases.packaging import Package
from noria.serving.client import Server
from noria.serving.route import Route
from noria.serving.route_file import ROUTES, write_routes
from noria.storage.disk import make_state

WHERE = "step score.latency"
ENVIRONMENT = "measured"
ROWS = 20  # held-out rows that take turns
ROUNDS = 5
CALLS, CALLS_LEAST = 300, 30  # of a round
ROUND_S = 1.0  # a slow model gets fewer calls
ANSWER_S = 60.0  # for one answer
LOOK_S = 0.05


class PrivateServer:
    """The candidate's server; ``measure`` waits until it answers."""

    def __init__(self, started: Future[str], bodies: Future[list[bytes]]) -> None:
        self._started, self._bodies = started, bodies

    def measure(self, rounds: int = ROUNDS) -> LatencyRounds:
        """Sends one-row requests one after another over one connection. Raises StepError when none is answered."""
        try:
            address = urlsplit(self._started.result())
        except NoriaError as error:
            raise StepError(f"the candidate cannot be served: {error.message}", where=WHERE, hint=error.hint) from error
        link = http.client.HTTPConnection(address.hostname or "", address.port, timeout=ANSWER_S)
        try:
            asked = _find_answered(link, self._bodies.result())
            taken = [_round(link, asked) for _ in range(rounds)]
        except (OSError, http.client.HTTPException) as error:
            why = f"the candidate's server ended a connection: {error or type(error).__name__}"
            raise StepError(why, where=WHERE) from error
        finally:
            link.close()
        return LatencyRounds([statistics.median(times) for times in taken], [_p99(times) for times in taken])


@contextmanager
def private_server(context: PipelineContext, pinned_run: PinnedRun, package: Package) -> Iterator[PrivateServer]:
    """Starts the server in the background while other work is done; ends it and deletes its folder at the end."""
    folder = context.folder(pinned_run.run_id) / "private"
    shutil.rmtree(folder, ignore_errors=True)
    ended = threading.Event()
    leash, held = os.pipe()
    try:
        with ThreadPoolExecutor(2, "private-server") as pool:
            started = pool.submit(_start, pinned_run, package, folder, ended, leash)
            try:
                yield PrivateServer(started, pool.submit(_bodies, package))
            finally:
                ended.set()
                with suppress(NoriaError):  # it never came up: whoever waited for it has heard
                    started.result()
                    Server(folder).stop()
    finally:
        os.close(held)
        os.close(leash)
        shutil.rmtree(folder, ignore_errors=True)


def _start(pinned_run: PinnedRun, package: Package, folder: Path, ended: threading.Event, leash: int) -> str:
    """Its address. Raises NoriaError when the candidate cannot be served, StoppedError."""
    digest = lay(package, folder)
    serving, project = pinned_run.project.serving, pinned_run.project.name
    write_routes(folder / ROUTES, [Route(project, ENVIRONMENT, 1, digest, "candidate")])
    server = Server(folder)
    server.start(
        {ENVIRONMENT: ("127.0.0.1", 0)},
        workers=1,
        max_body_bytes=serving.max_body_bytes,
        max_rows=serving.max_rows,
        recording=serving.log,
        stopped=ended.is_set,
        leash=leash,
    )
    while True:
        status = server.status()
        if failed := status["failed"].get(digest):
            raise StepError(failed)
        if status["environments"][ENVIRONMENT]["route"] is not None:
            return str(status["addresses"][ENVIRONMENT])
        if ended.is_set():
            raise StoppedError("stopped while the candidate was being loaded")
        time.sleep(LOOK_S)


def lay(package: Package, folder: Path) -> str:
    """The candidate as a sealed bundle in a state folder of its own; its digest."""
    make_state(folder)
    signing.public_key(folder)  # a key of this folder alone, before anything is there that one must have signed
    incoming = folder / "releases" / "incoming"
    shutil.copytree(package.folder, incoming, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    digest = bundle.seal(incoming, folder, bundle.complete_manifest(incoming, bundle.read_manifest(incoming)))
    incoming.rename(folder / "releases" / digest)
    return digest


def _bodies(package: Package) -> list[bytes]:
    """Requests of one held-out row each, as a client would write them."""
    import polars as pl  # the numerics: only where something is measured

    from noria.models import columns  # as polars

    rows = columns.frame(pl.read_ipc(package.holdout).head(ROWS), package.signature.inputs)
    return [msgspec.json.encode(record) for record in rows.to_dicts()]


def _find_answered(link: http.client.HTTPConnection, bodies: Sequence[bytes]) -> list[bytes]:
    """The requests that get an answer: held-out rows may hold what is refused. Raises StepError when there is none."""
    said, found = "", []
    for body in bodies:
        status, text = _ask(link, body)
        if status == http.HTTPStatus.OK:
            found.append(body)
        else:
            said = said or f"{status} {text.decode(errors='replace')[:200]}"
    if not found:
        raise StepError(f"the candidate's server answers none of {len(bodies)} held-out rows: {said}", where=WHERE)
    return found


def _round(link: http.client.HTTPConnection, bodies: Sequence[bytes]) -> list[float]:
    taken: list[float] = []
    until = time.perf_counter() + ROUND_S
    for i in range(CALLS):
        begun = time.perf_counter()
        _ask(link, bodies[i % len(bodies)])
        taken.append((time.perf_counter() - begun) * 1e3)
        if time.perf_counter() > until and len(taken) >= CALLS_LEAST:
            break
    return taken


def _ask(link: http.client.HTTPConnection, body: bytes) -> tuple[int, bytes]:
    link.request("POST", "/predict", body, {"content-type": "application/json"})
    answer = link.getresponse()
    return answer.status, answer.read()


def _p99(times: Sequence[float]) -> float:
    return statistics.quantiles(times, n=100, method="inclusive")[98]
