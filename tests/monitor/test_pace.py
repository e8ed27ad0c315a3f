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
from noria.engine import turn_runner
from noria.kernel.trigger import TriggerKind
from noria.monitor import retraining
from noria.monitor.judge_retraining import Breach
from noria.monitor.records import Window
from noria.serving.rollout_records import Rollout, RolloutState

YAML = "project: p\nretrain: {on: [code, data, quality], at_most: 2 per day}\n"
LONG_AGO = 10_020  # turns: more than any page of a history


@pytest.fixture
def line(tmp_path: Path) -> Iterator[DeliveryContext]:
    line = line_of(tmp_path, Scripted(), 1, YAML)
    yield line
    line.ledger.close()


def started(line: DeliveryContext, count: int) -> None:
    with line.ledger.transaction():
        for number in range(count):
            line.ledger.events.append("p", "turn.started", f"turn-{number}", f"turn {number} starts")


def test_at_most_counts_the_newest_turns_however_many_there_were(line: DeliveryContext) -> None:
    """Number 4: `at_most` stopped counting after 10,000 turns, of which the oldest were asked for."""
    now = time.time()
    line.ledger.clock.set("p", now - 900 * 86_400, 1.0)
    started(line, LONG_AGO)
    line.ledger.clock.set("p", now, 1.0)
    project = config.load(line.home)
    breach = (Breach("quality", "v1", "brier 0.4"),)
    line.ledger.triggers.add("p", TriggerKind.DATA, "a file came")
    assert turn_runner.waiting(line) is None
    assert retraining.wanted(line, project, breach).kind is TriggerKind.BREACH
    started(line, 2)
    waiting = turn_runner.waiting(line)
    assert waiting is not None
    assert waiting.numbers["recent"] == 2
    wish = retraining.wanted(line, project, breach)
    assert wish.kind is None
    assert "at most 2 may" in wish.reason


def test_what_belongs_to_a_release_is_found_among_that_of_others(line: DeliveryContext, monkeypatch: pytest.MonkeyPatch) -> None:
    """Number 4: windows, rollouts and turns were looked for among the newest of the project, and those of an old one missed."""
    monkeypatch.setattr(show, "SHOWN", 3)
    turn = line.ledger.turns
    line.ledger.triggers.add("p", TriggerKind.MANUAL, "by hand")
    first = turn.start("p")
    assert first is not None
    for number in range(10):
        release = "v1" if number == 0 else "v2"
        line.ledger.quality.put(Window("p", "production", release, number, number + 1.0, "brier", 1, 1, 0.2, 0.2, 1.0))
        rollout = Rollout(
            f"r{number}", "p", "production", None, release, digest_of(release), RolloutState.PROMOTED, 0, float(number)
        )
        line.ledger.rollouts.start(rollout)
    found = show.of_release(line.state, line.ledger, "p", line.ledger.releases.get("p", "v1"))
    assert [w["start"] for w in found["quality"]] == [0.0]
    assert [r["id"] for r in found["rollouts"]] == ["r0"]
    assert turn.find("p", "1") == turn.find("p", first.id) == first
    assert turn.find("p", "2") is None
    assert turn.find("p", "9" * 30) is None
    assert len(line.ledger.rollouts.list("p", 100, environment="production")) == 10
    assert line.ledger.rollouts.list("p", 100, environment="staging") == []
