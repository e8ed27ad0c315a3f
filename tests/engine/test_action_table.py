"""The table of what a person can do: each entry is a command and a call, refuses in the same words, and leaves its event."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import re
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
from click.testing import CliRunner
from engine_stub import Scripted, line_of
from msgspec.structs import replace

from noria import cli, config
from noria.cli.context import actor as person
from noria.console.app import build
from noria.daemon import Daemon
from noria.data.snapshot import Delivery
from noria.data.store import DataStore
from noria.delivery import champion
from noria.delivery import rollout as stage
from noria.delivery.context import DeliveryContext
from noria.engine import action_table, actions, assembly
from noria.engine.action import Action, ActionField, FieldKind, Who
from noria.engine.action_table import ACTIONS
from noria.kernel import orphans
from noria.kernel.errors import RefusedError
from noria.releases.decision_store import DecisionKind, DecisionStore
from noria.releases.store import ReleaseStore
from noria.storage.blobs import BlobStore
from noria.storage.ledger import Ledger
from noria.storage.locks import Locks
from noria.views.runtime_status import StatusContext
from noria.views.status import read

HOST = "127.0.0.1:8080"
TOKEN_ACTOR = "api:e3b98a4d"  # the token is "t": printf t | sha256sum
YAML = "project: p\nenvironments: {production: {rollout: {steps: [10%, 100%], replay: 0}}}\n"
Way = Callable[[DeliveryContext, str, dict[str, Any]], tuple[bool, dict[str, Any]]]


@pytest.fixture
def context(tmp_path: Path) -> Iterator[DeliveryContext]:
    """Four releases, v1 serving."""
    made = line_of(tmp_path, Scripted(), 4, YAML)
    made = replace(made, blobs=BlobStore(made.state / "blobs"), locks=Locks(made.state / "locks"))
    champion.promote(made, production(made), ReleaseStore(made.ledger, "p").get("v1"), "the first")
    yield made
    made.ledger.close()


def production(context: DeliveryContext) -> config.Environment:
    return config.load(context.home).environments["production"]


def refuse_file(context: DeliveryContext) -> None:
    """A file of the dataset ``points`` is in quarantine, as delivery-1."""
    (context.home / "noria.yaml").write_text(YAML + "data: {points: {source: 'data/*.csv'}}\n")
    digest = context.blobs.put_bytes(b"id,x\n1,500\n")
    refused = Delivery("delivery-1", "points", "data/a.csv", digest, 1, 0, 1, False, "x lies outside 0 to 100", 1)
    DataStore.of(context).deliver(refused, None)


def begin(context: DeliveryContext) -> None:
    project = config.load(context.home)
    stage.start_rollout(context, project, production(context), ReleaseStore(context.ledger, "p").get("v2"))


def app_of(context: DeliveryContext, standstill: str = "") -> Any:
    daemon = cast(Daemon, SimpleNamespace(context=context, standstill=standstill, triggered=threading.Event()))
    shown = lambda: read(context.ledger, "p", StatusContext())  # noqa: E731 - it is handed on
    return build(shown, lambda _: [], partial(Daemon.act, daemon), token="t", hosts=frozenset({HOST}))


def called(context: DeliveryContext, verb: str, said: dict[str, Any], standstill: str = "") -> httpx.Response:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app_of(context, standstill))
        async with httpx.AsyncClient(
            transport=transport, base_url=f"http://{HOST}", headers={"authorization": "Bearer t"}
        ) as http:
            return await http.post(f"/api/{verb}", json=said)

    return asyncio.run(ask())


def by_call(context: DeliveryContext, verb: str, said: dict[str, Any]) -> tuple[bool, dict[str, Any]]:
    answer = called(context, verb, said)
    return answer.status_code == 200, answer.json()


def by_command(context: DeliveryContext, verb: str, said: dict[str, Any]) -> tuple[bool, dict[str, Any]]:
    """As the shell would say it; the project is the same one, opened anew."""
    words = []
    for field in ACTIONS[verb].fields:
        if field.name in said:
            value = said[field.name]
            words += [str(value)] if field.positional else [f"--{field.name}", *([] if value is True else [str(value)])]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            assembly,
            "assemble",
            lambda *_, actor, **__: replace(
                context,
                ledger=Ledger.open(context.state),
                executor=cast(Any, SimpleNamespace(close=lambda: None)),
                actor=actor,
            ),
        )
        patch.chdir(context.home)
        heard: list[str] = []
        patch.setattr("click.echo", lambda text="", **_: heard.append(str(text)))
        code = cli.execute([*ACTIONS[verb].command, *words, "--json"])
    return code == 0, json.loads("\n".join(heard))


def change_gates(context: DeliveryContext) -> None:
    """What serves was sealed with the policy of now; the folder's is another then."""
    code = context.bundle(ReleaseStore(context.ledger, "p").get("v1").digest) / "code"
    code.mkdir(parents=True, exist_ok=True)
    (code / "noria.yaml").write_text(YAML)
    (context.home / "noria.yaml").write_text(f"{YAML}policy_changes: approve\n")


WAYS = pytest.mark.parametrize(("way", "actor"), [(by_call, TOKEN_ACTOR), (by_command, person())], ids=["call", "command"])
SAID: dict[str, tuple[Callable[[DeliveryContext], object], dict[str, Any]]] = {  # what is done before, and what is said
    "approve": (lambda _: None, {"release": "v2"}),
    "promote": (lambda _: None, {"release": "v2", "force": True}),
    "rollback": (lambda c: actions.promote(c, "v2", None, "ann"), {}),
    "hold": (begin, {"why": "the fair is on"}),
    "resume": (lambda c: (begin(c), actions.hold(c, None, "ann")), {"environment": "production"}),
    "abort": (begin, {"why": "the price changed"}),
    "withdraw": (lambda _: None, {"release": "v4", "why": "leaks"}),
    "accept": (
        lambda c: DecisionStore(c.ledger, "p").ask("v2", DecisionKind.GATES, "its gates have not enough data"),
        {"release": "v2", "why": "the labels come late"},
    ),
    "approve_policy": (change_gates, {"why": "agreed in the review"}),
    "lift": (lambda c: actions.withdraw(c, "v4", "leaks", "ann"), {"release": "v4"}),
    "release_delivery": (refuse_file, {"delivery": "delivery-1", "why": "the sensor is right"}),
    "discard_delivery": (refuse_file, {"delivery": "delivery-1", "why": "a test export"}),
    "trigger": (lambda _: None, {"reason": "the new price list"}),
    "clock": (lambda _: None, {"at": "2013-04-01", "speed": 60.0}),
}
REASONS = ("why", "reason")


@WAYS
@pytest.mark.parametrize("verb", ACTIONS)
def test_an_action_is_done_and_leaves_its_event_with_actor_and_reason(
    context: DeliveryContext, way: Way, actor: str, verb: str
) -> None:
    before, said = SAID[verb]
    before(context)
    newest = context.ledger.events.newest("p", 1)[0].seq
    done, told = way(context, verb, said)
    assert done, told
    assert set(ACTIONS[verb].answers) == set(told)
    assert told["text"]
    (event,) = [e for e in context.ledger.events.tail("p", after=newest, limit=50) if e.kind == ACTIONS[verb].event]
    assert event.actor == actor
    assert [said[name] for name in REASONS if name in said and said[name] not in event.text] == []


WRONG = [
    *((verb, {}) for verb, action in ACTIONS.items() if any(f.required for f in action.fields)),
    *((verb, {"release": "v99"}) for verb in ("approve", "promote", "lift")),
    *((verb, {"environment": "nowhere"}) for verb in ("rollback", "hold", "resume", "abort")),
    ("promote", {"release": "v1"}),
    ("resume", {}),
    ("accept", {"release": "v2", "why": "nothing waits"}),
    ("accept", {"release": "v99", "why": "so"}),
    ("approve_policy", {"why": "nothing differs"}),
    ("withdraw", {"release": "v4"}),
    ("withdraw", {"release": "v4", "why": " "}),
    ("withdraw", {"release": "v1", "why": "leaks"}),
    ("release_delivery", {"delivery": "delivery-9", "why": "right"}),
    ("discard_delivery", {"delivery": "delivery-9", "why": "wrong"}),
    ("clock", {"at": "noon"}),
    ("clock", {"at": "2013-04-01", "speed": "fast"}),
    ("clock", {"at": "2013-04-01", "speed": "nan"}),
    ("clock", {"at": "2013-04-01", "speed": -1.0}),
]


@pytest.mark.parametrize(("verb", "said"), WRONG, ids=[f"{verb} {said}" for verb, said in WRONG])
def test_what_is_wrong_is_refused_in_the_same_words(context: DeliveryContext, verb: str, said: dict[str, Any]) -> None:
    (called_, call), (ran, command) = by_call(context, verb, said), by_command(context, verb, said)
    assert not called_
    assert not ran
    assert call["error"]["message"] == command["error"]["message"]
    assert call["error"]["hint"] == command["error"]["hint"]


@pytest.mark.parametrize("action", ACTIONS.values(), ids=ACTIONS)
def test_an_entry_fits_its_function_and_says_everything(action: Action, tmp_path: Path) -> None:
    (tmp_path / "noria.yaml").write_text("project: p\n")
    module, _, name = action.function.partition(":")
    _, *parameters = inspect.signature(getattr(importlib.import_module(module), name)).parameters.values()
    assert {p.name for p in parameters} == {"actor", *(field.name for field in action.fields)}
    assert all((action.line, action.about, action.examples, action.answers, action.event))
    for example in action.examples:
        assert example.startswith(" ".join(("noria", *action.command)))
    help_ = CliRunner().invoke(cli.group, ["-C", str(tmp_path), *action.command, "--help"])
    assert help_.exit_code == 0
    for field in action.fields:
        assert field.name.upper() in help_.output if field.positional else f"--{field.name}" in help_.output


@pytest.mark.parametrize("verb", [verb for verb, action in ACTIONS.items() if action.who is Who.PERSON])
def test_a_step_does_not_do_what_a_person_must(context: DeliveryContext, monkeypatch: pytest.MonkeyPatch, verb: str) -> None:
    monkeypatch.setenv(orphans.MARK, "step-1")
    done, told = by_command(context, verb, SAID[verb][1])
    assert not done
    assert "a step cannot" in told["error"]["message"]


@pytest.mark.parametrize("verb", ACTIONS)
def test_a_changed_audit_log_leaves_what_brings_back_holds_or_bars(context: DeliveryContext, verb: str) -> None:
    before, said = SAID[verb]
    before(context)
    answer = called(context, verb, said, standstill="the audit log was changed")
    assert answer.status_code == (200 if ACTIONS[verb].while_broken else 503)
    assert {v for v, action in ACTIONS.items() if action.while_broken} == {"rollback", "hold", "abort", "withdraw"}


def paint(context: DeliveryContext, colour: str, coats: float, actor: str) -> dict[str, object]:
    """What the made-up action does."""
    if colour == "grey":
        raise RefusedError("grey is no colour")
    context.event("wheel.painted", "wheel", f"painted {colour} by {actor}")
    return {"colour": colour, "coats": coats, "text": f"the wheel is {colour}"}


@WAYS
def test_adding_an_action_is_one_entry_and_its_function(
    context: DeliveryContext, monkeypatch: pytest.MonkeyPatch, way: Way, actor: str
) -> None:
    fields = (
        ActionField("colour", "Which.", required=True, positional=True),
        ActionField("coats", "How many.", FieldKind.NUMBER, default=1.0),
    )
    entry = Action(
        verb="paint",
        command=("paint",),
        line="Paint the wheel.",
        about="Paint the wheel in COLOUR.",
        examples=("noria paint red",),
        answers=("colour", "coats", "text"),
        event="wheel.painted",
        function=f"{__name__}:paint",
        fields=fields,
    )
    monkeypatch.setitem(ACTIONS, "paint", entry)
    assert way(context, "paint", {"colour": "red", "coats": 2.0}) == (
        True,
        {"colour": "red", "coats": 2.0, "text": "the wheel is red"},
    )
    assert context.ledger.events.newest("p", 1)[0].actor == actor
    assert way(context, "paint", {"colour": "grey"})[1]["error"]["message"] == "grey is no colour"
    assert way(context, "paint", {})[1]["error"]["message"] == "`paint` needs `colour`"
    assert "Paint the wheel." in CliRunner().invoke(cli.group, ["--help"]).output
    monkeypatch.setitem(ACTIONS, "paint", replace(entry, command=("rollout", "paint")))
    assert "paint" in action_table.below("rollout")
    assert re.search(r"paint +Paint the wheel", CliRunner().invoke(cli.group, ["rollout", "--help"]).output)
