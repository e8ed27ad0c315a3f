"""A run before its data is known, and after: the latter cannot be without pins, and goes on with what the first one did."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from noria import config
from noria.kernel.pins import Pins
from noria.kernel.verdict import Reason
from noria.pipeline.context import PinnedRun, StartedRun
from noria.pipeline.run import StepRecord, StepState
from noria.pipeline.turn_record import Turn

PINS = Pins("c" * 40, None, {"points": "d" * 64}, "params", "config", "environment")


@pytest.fixture
def started(tmp_path: Path) -> StartedRun:
    (tmp_path / "noria.yaml").write_text("project: p\n")
    turn = Turn("turn-1", "p", 1, (), "push", 0.0)
    return StartedRun(turn, "run-1", config.load(tmp_path), tmp_path, "c" * 40, None, {"python": "3"}, by_hand=True)


def test_no_run_is_pinned_without_pins(started: StartedRun) -> None:
    known: dict[str, Any] = {name: getattr(started, name) for name in StartedRun.__struct_fields__}
    with pytest.raises(TypeError, match="pins"):
        PinnedRun(**known)
    assert not hasattr(started, "pins")


def test_what_the_checks_took_is_part_of_the_pinned_run(started: StartedRun) -> None:
    pinned = started.pinned(PINS, {})
    assert (pinned.pins, pinned.run_id, pinned.by_hand, pinned.tree_id) == (PINS, "run-1", True, f"commit:{'c' * 40}")
    tests = StepRecord("checks.code", StepState.RAN, Reason("step.never_ran", "never ran"), "key", seconds=2.0, user_s=1.5)
    started.records.append(tests)  # the same list: nothing that was done is forgotten
    assert (pinned.records, pinned.user_s) == ([tests], 1.5)
    assert pinned.under_way is started.under_way
    pinned.found = {"params": {"lr": 3}, "algorithm": "b"}
    assert pinned.params_used == {"train": {"lr": 3}, "algorithm": "b"}
