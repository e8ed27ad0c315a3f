"""A turn that met a full disk is asked for again, by the daemon alone, and for the same reasons."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
from engine_stub import Scripted, line_of

from noria.delivery.context import DeliveryContext
from noria.engine import turn_runner
from noria.kernel.errors import NoriaError, StepError
from noria.kernel.trigger import TriggerKind
from noria.monitor.judge_rate_limit import AGAIN
from noria.pipeline.trigger_store import TriggerStore
from noria.pipeline.turn_record import Turn, TurnOutcome
from noria.storage.disk import disk_full


@pytest.fixture
def context(tmp_path: Path) -> DeliveryContext:
    made = line_of(tmp_path, Scripted(), 0)
    TriggerStore(made.ledger, "p").add(TriggerKind.DATA, "a.csv arrived", {"file": "a.csv"})
    return made


@pytest.mark.parametrize(
    "error",
    [
        disk_full("nothing was kept", Path("blobs")),
        OSError(errno.ENOSPC, "No space left on device"),
        StepError("step table raised OSError: [Errno 28] No space left on device"),
    ],
)
def test_it_is_asked_for_again_after_a_rest(context: DeliveryContext, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Number 54: data that arrived while the disk was full is not waited for in vain."""

    def full(context: DeliveryContext, started: Turn) -> Turn:
        raise error

    monkeypatch.setattr(turn_runner.line_of_stages, "turn", full)
    for times in (1, 2):
        ended = turn_runner.turn_once(context)
        assert ended is not None
        assert ended.outcome in (TurnOutcome.ERROR, TurnOutcome.STEP_FAILED)
        (again,) = TriggerStore(context.ledger, "p").pending()
        assert (again.kind, again.reason) == (TriggerKind.DATA, "a.csv arrived (again, as the disk was full)")
        assert again.detail == {"file": "a.csv", AGAIN: str(times)}
        assert turn_runner.resting(context)
    TriggerStore(context.ledger, "p").add(TriggerKind.PUSH, "commit 1234")
    assert not turn_runner.resting(context)


def test_another_error_and_a_person_end_it(context: DeliveryContext, monkeypatch: pytest.MonkeyPatch) -> None:
    """Number 54: a person is told, and tries again; another error would only come again."""
    errors: list[NoriaError] = [NoriaError("no"), disk_full("nothing was kept", Path("blobs"))]

    def broken(context: DeliveryContext, started: Turn) -> Any:
        raise errors.pop(0)

    monkeypatch.setattr(turn_runner.line_of_stages, "turn", broken)
    turn_runner.turn_once(context)
    turn_runner.turn_by_hand(context, "a person asked")
    assert TriggerStore(context.ledger, "p").pending() == []
