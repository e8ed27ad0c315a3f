"""What is offered about a rollout is taken when it is done at once, and nothing is offered that would be refused or in vain."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from engine_stub import Scripted, line_of

from noria import cli, config
from noria.delivery import champion
from noria.delivery import rollout as stage
from noria.delivery.context import DeliveryContext
from noria.delivery.rollout_record import ASKS_APPROVAL, FROZEN, NO_SERVER, RolloutState
from noria.delivery.rollout_store import RolloutStore
from noria.engine import actions
from noria.engine.action_table import ACTIONS
from noria.engine.offered_actions import OfferedAction, offered_actions, rollouts_document
from noria.releases.store import ReleaseStore
from noria.views.runtime_status import StatusContext, with_freezes
from noria.views.status import StatusView, read


class Undone(Exception):
    """Ends a transaction, so that each action is tried from the same state."""


CANARY = "rollout: {steps: [10%, 100%], replay: 0}"
APPROVALS = f"{CANARY}, approvals: 1"
FREEZE = f"{CANARY}, freeze: ['2000-01-01 .. 2900-01-01']"


@pytest.fixture
def engine() -> Scripted:
    return Scripted()


@pytest.fixture
def context(tmp_path: Path, engine: Scripted) -> Iterator[DeliveryContext]:
    """Two releases, v1 serving."""
    made = line_of(tmp_path, engine, 2, yaml(CANARY))
    champion.promote(made, production(made), ReleaseStore.of(made).get("v1"), "the first")
    yield made
    made.ledger.close()


def yaml(environment: str) -> str:
    return f"project: p\nenvironments: {{production: {{{environment}}}}}\n"


def production(context: DeliveryContext) -> config.Environment:
    return config.load(context.home).environments["production"]


def start(context: DeliveryContext, environment: str) -> None:
    (context.home / "noria.yaml").write_text(yaml(environment))
    stage.start_rollout(context, config.load(context.home), production(context), ReleaseStore.of(context).get("v2"))


def seen(context: DeliveryContext) -> StatusView:
    return read(context.ledger, "p", with_freezes(StatusContext(), config.load(context.home)))


def offered(context: DeliveryContext) -> dict[str, OfferedAction]:
    (environment,) = seen(context).environments
    assert environment.canary is not None
    return {offer.verb: offer for offer in offered_actions(environment.canary)}


def test_waiting_for_approval(context: DeliveryContext) -> None:
    start(context, APPROVALS)
    assert list(offered(context)) == ["approve", "hold", "abort"]
    actions.hold(context, None, "anna")
    assert list(offered(context)) == ["resume", "abort"]  # a promotion would ask for the approval too


def test_waiting_for_a_server(context: DeliveryContext, engine: Scripted) -> None:
    engine.here = False
    start(context, CANARY)
    assert list(offered(context)) == ["hold", "abort"]
    actions.hold(context, None, "anna")
    assert list(offered(context)) == ["resume", "promote", "abort"]


def test_waiting_for_the_end_of_a_freeze(context: DeliveryContext) -> None:
    start(context, FREEZE)
    assert list(offered(context)) == ["hold", "abort"]
    actions.hold(context, None, "anna")
    assert list(offered(context)) == ["resume", "abort"]


def test_a_held_canary_is_not_promoted_in_a_freeze(context: DeliveryContext) -> None:
    start(context, CANARY)
    actions.hold(context, None, "anna")
    assert list(offered(context)) == ["resume", "promote", "abort"]
    (context.home / "noria.yaml").write_text(yaml(FREEZE))
    assert list(offered(context)) == ["resume", "abort"]


@pytest.mark.parametrize("environment", [CANARY, APPROVALS, FREEZE])
@pytest.mark.parametrize("begun", ["started", "held"])
def test_what_is_offered_is_taken(context: DeliveryContext, environment: str, begun: str) -> None:
    start(context, environment)
    if begun == "held":
        actions.hold(context, None, "anna")
    for offer in offered(context).values():
        action = ACTIONS[offer.verb]
        said = {"release": "v2", "environment": "production"}
        values = action.read({field.name: said[field.name] for field in action.fields if field.name in said})
        with suppress(Undone), context.ledger.transaction():
            action.perform(context, "anna", values)
            raise Undone


@pytest.mark.parametrize(
    ("environment", "here", "code"), [(APPROVALS, True, ASKS_APPROVAL), (FREEZE, True, FROZEN), (CANARY, False, NO_SERVER)]
)
def test_what_it_waits_for_is_a_code(context: DeliveryContext, engine: Scripted, environment: str, here: bool, code: str) -> None:
    engine.here = here
    start(context, environment)
    (rollout,) = [r for r in RolloutStore.of(context).list() if r.state is RolloutState.WAITING]
    assert rollout.look is not None
    assert (rollout.look.code, rollout.look.text) == (code, rollout.reason)
    # one that an earlier version wrote down gets its code at the next look, and no second event
    RolloutStore.of(context).update(rollout.id, look=None)
    before = len(context.ledger.events.tail("p", limit=1000))
    stage.proceed(context, production(context), RolloutStore.of(context).get(rollout.id))
    again = RolloutStore.of(context).get(rollout.id)
    assert again.look is not None
    assert again.look.code == code
    assert len(context.ledger.events.tail("p", limit=1000)) == before
    # what it waited for is there: the look of the waiting is over
    (context.home / "noria.yaml").write_text(yaml(CANARY))
    engine.here = True
    stage.proceed(context, production(context), again)
    assert RolloutStore.of(context).get(rollout.id).look is None


def test_command_line_and_call_offer_the_same(
    context: DeliveryContext, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    start(context, APPROVALS)
    monkeypatch.setenv("NORIA_HOME", str(context.state))
    monkeypatch.chdir(context.home)
    assert cli.execute(["rollout", "--json"]) == 0
    by_command = json.loads(capsys.readouterr().out)["rollout"]["actions"]
    by_call = rollouts_document(seen(context))["environments"]["production"]["canary"]["actions"]
    assert by_command == list(by_call)
    assert by_command[0] == {
        "verb": "approve",
        "what": "approve it",
        "command": "noria approve v2 -e production",
    }
    assert cli.execute(["rollout"]) == 0
    assert "`noria approve v2 -e production`: approve it" in capsys.readouterr().out


def test_the_command_knows_the_freeze_of_a_held_one(
    context: DeliveryContext, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    start(context, CANARY)
    actions.hold(context, None, "anna")
    monkeypatch.setenv("NORIA_HOME", str(context.state))
    monkeypatch.chdir(context.home)
    for environment, promote in ((CANARY, True), (FREEZE, False)):
        (context.home / "noria.yaml").write_text(yaml(environment))
        assert cli.execute(["rollout", "--json"]) == 0
        verbs = [each["verb"] for each in json.loads(capsys.readouterr().out)["rollout"]["actions"]]
        assert ("promote" in verbs) is promote
