"""Whatever a column is called, it is served; and what keeps workers from serving a release is met before any of them does."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from serving_bundles import BINARY, PROJECT, Seal, compiled

from noria.cli import status
from noria.kernel.access import UNGUARDED
from noria.kernel.errors import ServingError
from noria.kernel.task import Task
from noria.kernel.workers import Workers
from noria.models.signature import Input, Kind, Signature
from noria.serving import rehearsal, supervisor
from noria.serving.crashes import CrashHistory
from noria.serving.fast_reader import FastReader, reader
from noria.serving.rehearsal import rehearse
from noria.serving.route import Route
from noria.serving.route_file import ROUTES, write_routes
from noria.serving.runtime import LoadedRelease
from noria.serving.supervisor import Options
from noria.serving.worker_pool import WorkerLink, WorkerPlan
from noria.views import status as status_view
from noria.views.runtime_status import ServerUse, StatusContext

ODD = ('size 3.5" disk', "back\\slash", "line\nbreak", "nul\x00", "records", "columns", "", "a:b")


def loaded(signature: Signature) -> LoadedRelease:
    """A release of this signature whose model is never asked."""

    class Quiet:
        immediate = True

    release = LoadedRelease.__new__(LoadedRelease)
    release.digest, release.project, release.signature = "d" * 64, PROJECT, signature
    release.runtime, release.single, release.platform = cast(Any, Quiet()), False, "onnx_onnxv1"
    release.names = tuple(i.name for i in signature.inputs)
    return release


@pytest.mark.parametrize("name", ODD)
def test_a_release_is_ready_whatever_its_columns_are_called(name: str) -> None:
    """Number 58: a quote, a backslash or a control character in an input's name kept every worker from starting."""
    inputs = (Input(name, Kind.NUMBER), Input("other", Kind.STRING))
    release = loaded(Signature(inputs, Task.BINARY, ("0", "1"), key=f"key {name}", event_time=f"time {name}"))
    rehearse(release, 1000)
    plain = loaded(Signature((Input("other", Kind.STRING),), Task.BINARY, ("0", "1"), key=f"key {name}"))
    rehearse(plain, 1000)  # the name of the key alone costs no fast reader
    assert reader(plain.signature, frozenset(), 1000) is not None


@pytest.mark.parametrize("name", ODD)
def test_the_fast_reader_takes_a_key_of_any_name_or_leaves_it_to_the_careful_one(name: str) -> None:
    made = FastReader(Signature((Input("a", Kind.NUMBER),), Task.REGRESSION, (), key=f"k{name}"), frozenset({f"also{name}"}), 10)
    ask = made.read(json.dumps({"a": 1.5, f"k{name}": "x"}).encode())
    assert ask is None or ask.keys == ["x"]
    plain = made.read(b'{"a": 1.5}')
    assert plain is not None
    assert (plain.columns, plain.keys) == ({"a": [1.5]}, [None])


def test_what_a_worker_could_not_do_with_a_release_is_said_as_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise ValueError("no such reader")

    monkeypatch.setattr(rehearsal, "table_of", broken)
    with pytest.raises(ServingError, match="requests to it cannot be read: ValueError: no such reader"):
        rehearse(loaded(BINARY), 1000)


# -- a worker that cannot start with a release


def test_a_release_that_workers_cannot_start_with_is_blamed_like_one_that_ends_them(tmp_path: Path) -> None:
    """Number 58: nobody was blamed for workers that did not start, so nothing was rolled back."""
    deaths = CrashHistory(tmp_path / "counts", cast(Any, None))
    route = Route(PROJECT, "production", 1, "c" * 64, "v2", previous="b" * 64, previous_version="v1")
    for _ in range(3):
        deaths.note_failed_start(0, {"c" * 64: "it is damaged"}, [route])
    found = deaths.facts()["c" * 64]
    assert (found.deaths, found.burst, found.how) == (3, 3, "worker 0 cannot start with it: it is damaged")


def test_a_server_without_an_engine_ends_when_no_worker_starts(seal: Seal, tmp_path: Path) -> None:
    """Number 58: `noria serve` of a release that no worker could start with never answered and never ended."""
    digest = compiled(seal, tmp_path)
    write_routes(seal.state / ROUTES, [Route(PROJECT, "production", 1, digest, "v1")])

    def up(facts: dict[str, Any]) -> None:
        assert facts["failed"] == {}
        (seal.state / "releases" / digest / "model.onnx").unlink()
        for pid in pids():
            os.kill(pid, signal.SIGKILL)

    grown = supervisor.Supervisor(Options(seal.state, {"production": ("127.0.0.1", 0)}, Workers(1, 1), access=UNGUARDED))

    def pids() -> list[int]:
        return list(grown._places["production"].group.pids())

    with pytest.raises(ServingError, match=r"production: no worker starts: .*model\.onnx"):
        asyncio.run(asyncio.wait_for(grown.run(up), 60))


def test_routes_that_a_worker_cannot_serve_are_refused_before_they_are_in_force() -> None:
    """Number 58: a worker that did not follow was ended, and its successor met the same route, for ever."""

    async def story() -> dict[str, str]:
        ours, theirs = socket.socketpair()
        process = await asyncio.create_subprocess_exec("sleep", "60")
        link = WorkerLink(process, lambda digest, text: None)
        await link.open(ours)
        theirs.setblocking(False)
        reader, writer = await asyncio.open_connection(sock=theirs)
        plan = WorkerPlan((Route(PROJECT, "production", 2, "b", "v2", previous="a"),), {"b": (Path("b"), None)})
        loading = asyncio.create_task(link.load(plan))
        asked = []
        for answer in ({"ok": True}, {"error": "a name is odd"}):
            asked.append(json.loads(await reader.readline()))
            writer.write(json.dumps({"id": asked[-1]["id"]} | answer).encode() + b"\n")
        assert [order["op"] for order in asked] == ["load", "try"]
        failed = await loading
        process.kill()
        await process.wait()
        link.close()
        writer.close()
        return failed

    assert asyncio.run(story()) == {"b": "a name is odd"}


def test_status_tells_what_really_answers() -> None:
    """Number 58: `status` said "answers: 2 workers" and "production v2" while every request was refused."""
    route = Route("p", "production", 3, "b" * 64, "v2", previous="a" * 64, previous_version="v1")
    releases = {d: cast(Any, SimpleNamespace(version=v)) for d, v in (("a" * 64, "v1"), ("b" * 64, "v2"))}
    around = StatusContext(server=True, answering={("production", "p"): "a" * 64}, failed={"b" * 64: "its name is odd"})
    assert status_view._trouble(route, around, releases) == "v2 does not answer: its name is odd; v1 does"
    idle = StatusContext(server=True, answering={("production", "p"): "b" * 64}, idle=frozenset({"production"}))
    assert status_view._trouble(route, idle, releases) == "no worker answers"
    fine = StatusContext(server=True, answering={("production", "p"): "b" * 64})
    assert status_view._trouble(route, fine, releases) == ""
    assert status._server(StatusContext(server=True, use=ServerUse({"production": 0}))) == "runs, but no worker answers"
