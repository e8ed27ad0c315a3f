"""Counts of the requests of each arm: a server counts them, and a rollout judges them."""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce

import msgspec


class Tally(msgspec.Struct, frozen=True):
    """Counts of one arm at one traffic share since the rollout's step began (cumulative)."""

    requests: int = 0
    errors: int = 0  # the release raised, broke, or passed its deadline
    slow: int = 0  # answered later than the guard's limit
    both: int = 0  # of the candidate's errors in a shadow step, those on requests that the champion failed too

    def less(self, other: Tally) -> Tally:
        """Returns the counts since ``other``."""
        return Tally(self.requests - other.requests, self.errors - other.errors, self.slow - other.slow, self.both - other.both)

    def plus(self, other: Tally) -> Tally:
        return Tally(self.requests + other.requests, self.errors + other.errors, self.slow + other.slow, self.both + other.both)


def total(tallies: Iterable[Tally]) -> Tally:
    """The sum of counts."""
    return reduce(Tally.plus, tallies, Tally())
