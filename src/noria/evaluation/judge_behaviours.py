"""Does a candidate behave as the project says? One reason for each behaviour.

Failing rows are counted, not estimated: a behaviour passes when at most the share of rows that it allows behaves otherwise. One
that could not be run fails, as nothing was shown; one that found no row to look at has not enough data.
"""

from __future__ import annotations

from collections.abc import Sequence

from noria.kernel.behaviour import BehaviourResult
from noria.kernel.verdict import Outcome, Reason

CODE = "gate.behaviour"


def judge(results: Sequence[BehaviourResult]) -> tuple[Reason, ...]:
    """One reason for each, in the project's order."""
    return tuple(_reason(one) for one in results)


def outcome(one: BehaviourResult) -> Outcome:
    """Of one behaviour."""
    if one.problem:
        return Outcome.FAIL
    if one.few or not one.rows:
        return Outcome.NOT_ENOUGH_DATA
    return Outcome.PASS if one.failing <= one.allow * one.rows + 1e-9 else Outcome.FAIL


def _reason(one: BehaviourResult) -> Reason:
    found = outcome(one)
    shown = f", such as {'; '.join(one.examples)}" if found is Outcome.FAIL and one.examples else ""
    numbers = {"failing": float(one.failing), "n": float(one.rows), "allow": one.allow}
    remedy = "held-out rows in which the input takes more than one value" if found is Outcome.NOT_ENOUGH_DATA else ""
    return Reason(CODE, f"behaviour {one.name} ({one.words}): {one.sentence}{shown}", found, numbers, remedy)
