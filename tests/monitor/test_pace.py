"""How often turns may start by themselves, and what is found again in a long history."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine_stub import Scripted, digest_of, line_of

from noria import config
from noria.cli import show
from noria.delivery.context import DeliveryContext
from noria.delivery.rollout_record import Rollout, RolloutState
from noria.delivery.rollout_store import RolloutStore
from noria.engine import turn_runner
from noria.kernel.trigger import TriggerKind
from noria.monitor import retraining
from noria.monitor.judge_retraining import Breach
from noria.monitor.records import Window
from noria.monitor.store import QualityStore
from noria.pipeline.trigger_store import TriggerStore
from noria.pipeline.turn_store import TurnStore
from noria.releases.store import ReleaseStore
from noria.storage.clock import ClockStore

YAML = "project: p\nretrain: {on: [code, data, quality], at_most: 2 per day}\n"
LONG_AGO = 10_020  # turns: more than any page of a history


@pytest.fixture
def context(tmp_path: Path) -> Iterator[DeliveryContext]:
    context = line_of(tmp_path, Scripted(), 1, YAML)
    yield context
    context.ledger.close()


def started(context: DeliveryContext, count: int) -> None:
    with context.ledger.transaction():
        for number in range(count):
            context.ledger.events.append("p", "turn.started", f"turn-{number}", f"turn {number} starts")


def test_at_most_counts_the_newest_turns_however_many_there_were(context: DeliveryContext) -> None:
    """Number 4: `at_most` stopped counting after 10,000 turns, of which the oldest were asked for."""
    now = time.time()
    ClockStore(context.ledger, "p").set(now - 900 * 86_400, 1.0)
    started(context, LONG_AGO)
    ClockStore(context.ledger, "p").set(now, 1.0)
    project = config.load(context.home)
    breach = (Breach("quality", "v1", "brier 0.4"),)
    TriggerStore(context.ledger, "p").add(TriggerKind.DATA, "a file came")
    assert turn_runner.waiting(context) is None
    assert retraining.decide_retraining(context, project, breach).kind is TriggerKind.BREACH
    started(context, 2)
    waiting = turn_runner.waiting(context)
    assert waiting is not None
    assert waiting.numbers["recent"] == 2
    wish = retraining.decide_retraining(context, project, breach)
    assert wish.kind is None
    assert "retrain.at_most allows 2" in wish.reason


def test_what_belongs_to_a_release_is_found_among_that_of_others(
    context: DeliveryContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Number 4: windows, rollouts and turns were looked for among the newest of the project, and those of an old one missed."""
    monkeypatch.setattr(show, "SHOWN", 3)
    turn = TurnStore.of(context)
    TriggerStore(context.ledger, "p").add(TriggerKind.MANUAL, "by hand")
    first = turn.start()
    assert first is not None
    for number in range(10):
        release = "v1" if number == 0 else "v2"
        QualityStore.of(context).put(Window("p", "production", release, number, number + 1.0, "brier", 1, 1, 0.2, 0.2, 1.0))
        rollout = Rollout(
            f"r{number}", "p", "production", None, release, digest_of(release), RolloutState.PROMOTED, 0, float(number)
        )
        RolloutStore.of(context).start(rollout)
    found = show.of_release(context.state, context.ledger, "p", ReleaseStore(context.ledger, "p").get("v1"))
    assert [w["start"] for w in found["quality"]] == [0.0]
    assert [r["id"] for r in found["rollouts"]] == ["r0"]
    assert turn.find("1") == turn.find(first.id) == first
    assert turn.find("2") is None
    assert turn.find("9" * 30) is None
    assert len(RolloutStore(context.ledger, "p").list(100, environment="production")) == 10
    assert RolloutStore(context.ledger, "p").list(100, environment="staging") == []
