"""The table of errors: each class has its row, and command line, model server and control API answer as it says."""

from __future__ import annotations

import asyncio
import importlib
import json
import re
from pathlib import Path

import pytest

import noria
from noria import cli
from noria.console.app import refusal
from noria.kernel import errors
from noria.kernel.error_table import ERRORS, V2_STATUS, row_of
from noria.kernel.errors import NoriaError
from noria.serving.app import App
from noria.serving.http import error_reply
from noria.serving.v2 import in_form

ROOT = Path(noria.__file__).parent
INNER = {  # met and answered inside of the server or the demo, nobody outside gets them
    "AwayError",
    "HostLostError",
    "PartlyError",
    "ReleaseFailed",
    "StoryError",
    "WaitsError",
    "WorkerGoneError",
}


def below(kind: type[NoriaError]) -> list[type[NoriaError]]:
    return [kind, *(k for child in kind.__subclasses__() for k in below(child))]


def every() -> list[type[NoriaError]]:
    """Those of all modules: each that makes one is imported."""
    for path in sorted(ROOT.rglob("*.py")):
        if re.search(r"^class \w+\(\w*(Error|Failed)\b", path.read_text(), re.M):
            importlib.import_module(".".join(("noria", *path.relative_to(ROOT).with_suffix("").parts)))
    return sorted({k for k in below(NoriaError) if k.__module__.startswith("noria.")}, key=lambda k: k.__name__)


EVERY = every()


def made(kind: type[NoriaError]) -> NoriaError:
    """One of a class, whatever it is made of."""
    error = kind.__new__(kind)
    NoriaError.__init__(error, "what", hint="what next")
    if isinstance(error, errors.TooOftenError):
        error.wait_s = 2.0
    return error


def test_each_error_of_the_tree_has_a_row_of_its_own() -> None:
    tree = [kind for kind in EVERY if kind.__module__ == errors.__name__]
    assert len(tree) > 20
    assert set(tree) == set(ERRORS)


@pytest.mark.parametrize("kind", EVERY, ids=lambda k: k.__name__)
def test_a_class_of_a_room_goes_by_the_row_of_its_kind(kind: type[NoriaError]) -> None:
    nearest = next(known for known in kind.__mro__ if known in ERRORS)
    assert (nearest is NoriaError) == (kind is NoriaError or kind.__name__ in INNER)


@pytest.mark.parametrize("kind", EVERY, ids=lambda k: k.__name__)
def test_all_who_answer_go_by_the_row(
    kind: type[NoriaError], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error, row = made(kind), row_of(kind)
    reply = error_reply(error)
    assert (reply.status, json.loads(reply.body)) == (
        row.status,
        {"error": {"code": row.code, "message": "what", "hint": "what next"}},
    )
    in_v2 = in_form(reply)
    assert (in_v2.status, json.loads(in_v2.body)) == (row.v2_status or row.status, {"error": "what: what next"})
    control = refusal(error)
    facts = {"kind": kind.__name__, "message": "what", "hint": "what next"}
    assert (control.status_code, json.loads(bytes(control.body))) == (row.status, {"error": facts})

    def fail(**_: object) -> None:
        raise error

    monkeypatch.setattr(cli.group, "main", fail)
    assert cli.execute(["status", "--json"]) == row.exit_code
    assert json.loads(capsys.readouterr().out)["error"] == facts | {"where": None, "exit_code": row.exit_code}


def test_the_open_inference_protocol_has_one_status_of_its_own() -> None:
    assert V2_STATUS == {422: 400}


@pytest.mark.parametrize("kind", [errors.SlowBodyError, errors.DiskFullError, errors.SignatureError, errors.NotFoundError])
def test_the_model_server_answers_so_over_http(kind: type[NoriaError]) -> None:
    """From the application itself, on both protocols: whatever a handler raises."""
    for path, status in (("/predict", row_of(kind).status), ("/v2", row_of(kind).v2_status or row_of(kind).status)):
        assert asyncio.run(_answered(path, made(kind))) == status


async def _answered(path: str, error: NoriaError) -> int:
    app = App.__new__(App)
    told: list[dict[str, object]] = []

    async def fail(*_: object) -> None:
        raise error

    async def send(message: dict[str, object]) -> None:
        told.append(message)

    class Counts:
        def count_answer(self, status: int) -> None:
            pass

    app._busy, app._access_log, app._counts, app._reply = 0, None, Counts(), fail  # type: ignore[assignment,method-assign]
    await app({"type": "http", "method": "POST", "path": path}, fail, send)  # type: ignore[arg-type]
    return int(str(told[0]["status"]))
