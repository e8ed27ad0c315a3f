"""Whether the clock stands where its own history ends."""

from __future__ import annotations

import pytest

from noria.kernel.judge_clock import DAY_S, ClockJump, jump

NOW = 1_000 * DAY_S


@pytest.mark.parametrize(
    ("days_ago", "found"),
    [
        ([], None),  # nothing to go by
        ([0.1, 1, 2, 3], None),
        ([400], ClockJump(600 * DAY_S, NOW)),
        ([0.1, 0.2, 400, 401], ClockJump(600 * DAY_S, NOW - 0.2 * DAY_S)),  # what a wrong clock wrote itself does not count
        ([0.5, 1.5, 2.5, 400], None),  # it has stood there for more than two days
        ([2.9, 400], None),
        ([3.1], ClockJump(NOW - 3.1 * DAY_S, NOW)),
        ([-20, -1, 0.5, 2.1, 9], None),  # later than now: of a time when the clock was ahead
        ([-20, 0.5, 9], ClockJump(NOW - 9 * DAY_S, NOW - 0.5 * DAY_S)),
    ],
)
def test_a_gap_is_believed_two_days_later(days_ago: list[float], found: ClockJump | None) -> None:
    """Number 50: deletion asks the clock's own history, and refuses a jump."""
    assert jump([NOW - days * DAY_S for days in days_ago], NOW) == found
