"""The control API's orders on a real ledger: what a program asks for arrives as it was meant, and is read back by GET."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
from engine_stub import Scripted, line_of

from noria import config
from noria.console.app import build
from noria.daemon import Daemon
from noria.delivery import champion
from noria.delivery import rollout as stage
from noria.delivery.context import DeliveryContext
from noria.releases.store import ReleaseStore
from noria.storage.clock import ClockStore
from noria.views.runtime_status import StatusContext
from noria.views.status import read

HOST = "127.0.0.1:8080"
YAML = (
    "project: p\n"
    "environments: {{production: {{rollout: {{steps: [10%, 50%, 100%], replay: 0}},\n"
    "  approvals: {approvals}, freeze: [{freeze}]}}}}\n"
)
Call = Callable[..., httpx.Response]
WHO = "api:e3b98a4d"  # the token is "t": printf t | sha256sum


@pytest.fixture
def context(tmp_path: Path) -> Iterator[DeliveryContext]:
    """Four releases, v1 serving."""
    made = line_of(tmp_path, Scripted(), 4, YAML.format(approvals=0, freeze=""))
    champion.promote(made, environment_of(made), ReleaseStore(made.ledger, "p").get("v1"), "the first")
    yield made
    made.ledger.close()


@pytest.fixture
def call(context: DeliveryContext) -> Call:
    daemon = cast(Daemon, SimpleNamespace(context=context, standstill="", triggered=threading.Event()))
    app = build(
        lambda: read(context.ledger, "p", StatusContext()),
        lambda _: [],
        partial(Daemon.act, daemon),
        token="t",
        hosts=frozenset({HOST}),
    )

    async def ask(path: str, body: dict[str, Any] | None) -> httpx.Response:
        headers = {"authorization": "Bearer t"}
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=f"http://{HOST}", headers=headers) as http:
            return await (http.get(path) if body is None else http.post(path, json=body))

    return lambda path, body=None: asyncio.run(ask(path, body))


def environment_of(context: DeliveryContext) -> config.Environment:
    return config.load(context.home).environments["production"]


def enter(context: DeliveryContext, version: str) -> None:
    stage.start_rollout(
        context, config.load(context.home), environment_of(context), ReleaseStore(context.ledger, "p").get(version)
    )


def test_a_time_that_utc_cannot_say_sets_no_clock(context: DeliveryContext, call: Call) -> None:
    """The year 0 and the year 10000, once the offset is taken off: told, and the clock stays as it was."""
    assert call("/api/clock", {"at": "2013-04-01T02:00:00+02:00"}).json()["at"] == "2013-04-01T00:00:00+00:00"
    before = ClockStore(context.ledger, "p").read()
    for at in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:00:00-02:00", "yesterday", ""):
        answer = call("/api/clock", {"at": at})
        assert (answer.status_code, answer.json()["error"]["message"]) == (400, f"{at!r} is not a time")
    assert ClockStore(context.ledger, "p").read() == before


def test_a_rollout_is_held_resumed_and_aborted(context: DeliveryContext, call: Call) -> None:
    assert call("/api/hold", {}).status_code == 404
    assert call("/api/rollouts").json() == {"environments": {}, "ended": []}
    enter(context, "v2")
    assert call("/api/resume", {}).status_code == 409
    assert call("/api/hold", {"why": "the fair is on"}).json()["text"] == f"v2 held by {WHO}: the fair is on"
    production = call("/api/rollouts").json()["environments"]["production"]
    assert (production["canary"]["state"], production["canary"]["share"], production["probation"]) == ("held", 0.1, None)
    assert production["canary"]["plan"] == ["10 % of traffic", "50 % of traffic", "100 % of traffic"]
    assert call("/api/hold", {}).status_code == 409
    assert call("/api/resume", {"environment": "production"}).json()["release"] == "v2"
    assert call("/api/abort", {"environment": "nowhere"}).status_code == 404
    assert call("/api/abort", {"why": "not today"}).json()["text"] == f"v2 aborted by {WHO}: not today"
    listed = call("/api/rollouts").json()
    assert listed["environments"] == {}
    (ended,) = listed["ended"]
    assert (ended["release"], ended["environment"], ended["before"]) == ("v2", "production", "v1")
    assert (ended["state"], ended["reason"]) == ("rolled back", f"v2 aborted by {WHO}: not today")
    assert ended["ended_at"] >= ended["started_at"]


def test_ended_rollouts_are_listed_by_their_end(context: DeliveryContext, call: Call) -> None:
    for version in ("v2", "v3", "v4"):
        enter(context, version)  # each supersedes the one before
    assert [(r["release"], r["state"]) for r in call("/api/rollouts").json()["ended"]] == [
        ("v3", "superseded"),
        ("v2", "superseded"),
    ]


def test_a_rollback_names_where_it_goes(context: DeliveryContext, call: Call) -> None:
    for version in ("v2", "v3"):
        assert call("/api/promote", {"release": version}).status_code == 200
    answer = call("/api/rollback", {"to": "v1"})
    assert (answer.status_code, answer.json()["release"]) == (200, "v1")
    refused = call("/api/rollback", {"to": "v9"})
    assert refused.status_code in (404, 409)
    assert "v9" in refused.json()["error"]["message"]


def test_a_freeze_yields_to_force_only(context: DeliveryContext, call: Call) -> None:
    (context.home / "noria.yaml").write_text(YAML.format(approvals=0, freeze="2020-01-01 .. 2099-01-01"))
    refused = call("/api/promote", {"release": "v2"})
    assert refused.status_code == 409
    assert "freeze" in refused.json()["error"]["message"]
    assert call("/api/promote", {"release": "v2", "force": True}).json()["release"] == "v2"


def test_the_api_is_one_voice(context: DeliveryContext, call: Call) -> None:
    """Whoever holds the token is one approver, however often they ask."""
    (context.home / "noria.yaml").write_text(YAML.format(approvals=2, freeze=""))
    enter(context, "v2")
    waits = call("/api/rollouts").json()["environments"]["production"]["canary"]
    assert (waits["state"], waits["share"]) == ("waiting", 0.0)
    assert [call("/api/approve", {"release": "v2"}).json()["missing"] for _ in range(2)] == [1, 1]
    assert call("/api/promote", {"release": "v2"}).status_code == 409
    assert call("/api/approve", {"release": "v9"}).status_code == 404


def test_a_first_release_that_waits_is_shown(tmp_path: Path) -> None:
    """Nothing serves yet, and no project file is at hand that would name the environment."""
    context = line_of(tmp_path, Scripted(), 1, YAML.format(approvals=1, freeze=""))
    enter(context, "v1")
    (found,) = read(context.ledger, "p", StatusContext()).environments
    context.ledger.close()
    assert (found.name, found.route) == ("production", None)
    assert found.canary is not None
    assert "approval" in found.canary.rollout.reason
