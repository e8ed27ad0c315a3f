"""Plan: is there anything to do at all? Which steps are stale is decided step by step, from content."""

from __future__ import annotations

from noria.decide import plan as judge
from noria.decide import release as policy
from noria.domain.run import Run
from noria.domain.turn import TurnOutcome
from noria.domain.verdict import Reason
from noria.stages.line import Line, Sheet

SETTLED = frozenset(
    {
        TurnOutcome.GATE_FAILED,
        TurnOutcome.NOT_ENOUGH_DATA,
        TurnOutcome.STEP_FAILED,
        TurnOutcome.DONE,
        TurnOutcome.RELEASED,
        TurnOutcome.ROLLING_OUT,
        TurnOutcome.PROMOTED,
        TurnOutcome.ROLLED_BACK,
        TurnOutcome.HELD,
        TurnOutcome.SUPERSEDED,
    }
)


def plan(line: Line, sheet: Sheet) -> tuple[TurnOutcome, Reason] | None:
    """The outcome that ends the turn here, with its reason; None when there is work."""
    assert sheet.pins is not None
    barred = policy.barred(sheet.pins, line.ledger.releases.barred_pins(line.name))
    if barred is not None:
        return TurnOutcome.BARRED, barred
    earlier = _earlier(line, sheet)
    same = judge.same_work(sheet.pins, earlier.pins if earlier else None)
    if earlier is None or same is None:
        return None
    return TurnOutcome.NOTHING_CHANGED, Reason("plan.nothing_changed", f"{same.text}; {_ended(line, earlier)}")


def _earlier(line: Line, sheet: Sheet) -> Run | None:
    assert sheet.pins is not None
    found = line.ledger.runs.latest(line.name, sheet.pins, SETTLED)
    return found if found is not None and _whole(line, found) else None


def _whole(line: Line, run: Run) -> bool:
    """Whether what its steps left is still there: it may have been collected, or found damaged."""
    return all(record.output is None or line.blobs.exists(record.output) for record in run.steps)


def _ended(line: Line, run: Run) -> str:
    turn = line.ledger.turns.get(run.turn_id) if run.turn_id else None
    if turn is None:
        return f"run {run.id} ended: {run.outcome}"
    made = f" with {turn.release}" if turn.release else ""
    return f"turn {turn.number} did this work and ended: {turn.outcome}{made}"
