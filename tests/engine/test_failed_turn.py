"""How a turn ends that an error stopped: by the error's class, whatever words stand in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from engine_stub import Scripted, line_of

from noria.delivery.context import DeliveryContext
from noria.engine import actions, turn_end
from noria.kernel.errors import ConfigError, DataError, LeaseLostError, NoriaError, RefusedError, StepError, StoreError
from noria.pipeline.turn_record import Turn, TurnOutcome
from noria.pipeline.turn_store import TurnStore


@pytest.fixture
def context(tmp_path: Path) -> Iterator[DeliveryContext]:
    made = line_of(tmp_path, Scripted(), 0)
    yield made
    made.ledger.close()


def started(context: DeliveryContext) -> Turn:
    actions.trigger(context, "a test", "ann")
    begun = TurnStore(context.ledger, "p").start()
    assert begun is not None
    return begun


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (RefusedError("src/barred_rows.py is not committed"), TurnOutcome.NOT_RELEASED),
        (StepError("train: barred"), TurnOutcome.STEP_FAILED),
        (ConfigError("barred"), TurnOutcome.CHECK_FAILED),
        (DataError("barred"), TurnOutcome.CHECK_FAILED),
        (StoreError("barred"), TurnOutcome.ERROR),
    ],
)
def test_an_outcome_goes_by_the_class_of_its_error(context: DeliveryContext, error: NoriaError, outcome: TurnOutcome) -> None:
    begun = started(context)
    assert turn_end.fail(context, begun, error).outcome is outcome


def test_a_lost_lease_ends_no_turn(context: DeliveryContext) -> None:
    begun = started(context)
    with pytest.raises(LeaseLostError):
        turn_end.fail(context, begun, LeaseLostError("barred meanwhile"))
    assert TurnStore.of(context).get(begun.id).outcome is TurnOutcome.RUNNING
