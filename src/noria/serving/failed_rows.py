"""Finds the rows that make a call fail: its halves are asked again, the largest first, within bounds.

One row that a model cannot answer must not cost the others of its request their answers. Nor may somebody who sends many such
rows keep the model from everybody else: so many more calls for a request, and a share of all time.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable
from typing import Any

import msgspec

CALLS = 64  # more for one request: one bad row of 1,000 takes 20, and of many bad ones the good rows around them are found
MOST_S = 1.0  # at once
SHARE = 0.2  # of all time

Ask = Callable[[int, int], list[Any]]  # rows from, to -> an answer each, None for a row that has none; raises when the call fails


class RowOutcomes(msgspec.Struct, frozen=True):
    """A request whose rows were told apart. ``answers``: of each row, None where there is none; ``untold``: rows that were
    not told from bad ones."""

    answers: list[Any]
    failed: list[int]
    untold: list[int]

    @property
    def answered(self) -> bool:
        """Whether any row is."""
        return len(self.failed) + len(self.untold) < len(self.answers)


class RetryBudget:
    """The seconds that may go into telling rows apart: MOST_S at once, and no more than SHARE of all time."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._left = MOST_S
        self._seen = clock()

    def left(self) -> float:
        now = self._clock()
        self._left = min(MOST_S, self._left + SHARE * (now - self._seen))
        self._seen = now
        return self._left

    def spend(self, seconds: float) -> None:
        """What was spent is earned back before there is more."""
        self._left -= seconds


def tell_apart(rows: int, ask: Ask, budget: RetryBudget) -> RowOutcomes:
    """``rows`` were asked together, which failed. What is more than an exception (a panic, an exit) is raised."""
    answers: list[Any] = [None] * rows
    failed: list[int] = []
    parts = [(-rows, 0, rows)]  # that failed, as a heap: of the largest one the most rows are won
    calls, began, left = 0, time.monotonic(), budget.left()
    try:
        while parts and -parts[0][0] > 1 and calls < CALLS and time.monotonic() - began < left:
            _, start, stop = heapq.heappop(parts)
            middle = (start + stop) // 2
            for low, high in ((start, middle), (middle, stop)):
                calls += 1
                try:
                    answers[low:high] = _of(ask(low, high), high - low)
                except Exception:  # noqa: BLE001 - whatever the project's code raises, these rows have no answer
                    heapq.heappush(parts, (low - high, low, high))
                else:
                    failed += [row for row in range(low, high) if answers[row] is None]
    finally:
        budget.spend(time.monotonic() - began)
    failed += [start for size, start, _ in parts if size == -1]
    untold = [row for size, start, stop in parts if size < -1 for row in range(start, stop)]
    return RowOutcomes(answers, sorted(failed), sorted(untold))


def _of(answers: list[Any], rows: int) -> list[Any]:
    if len(answers) != rows:
        raise ValueError(f"{len(answers)} answers for {rows} rows")
    return answers
