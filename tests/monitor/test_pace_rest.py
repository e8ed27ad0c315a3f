"""When a turn that met a full disk is tried again."""

from __future__ import annotations

from noria.kernel.trigger import Trigger, TriggerKind
from noria.monitor.judge_rate_limit import AGAIN, FIRST_REST_S, LONGEST_REST_S, rest_s


def trigger(times: int, at: float = 1000.0) -> Trigger:
    return Trigger("t", "p", TriggerKind.DATA, "a.csv arrived", {AGAIN: str(times)} if times else {}, at)


def test_the_rest_grows_and_ends_when_anything_new_comes() -> None:
    """Number 54: as long as the disk is full, but not in a hot loop."""
    assert rest_s([], 1000.0) == 0
    assert rest_s([trigger(1)], 1000.0) == FIRST_REST_S
    assert rest_s([trigger(3)], 1000.0) == 4 * FIRST_REST_S
    assert rest_s([trigger(99)], 1000.0) == LONGEST_REST_S
    assert rest_s([trigger(1)], 1000.0 + FIRST_REST_S) == 0
    assert rest_s([trigger(1), trigger(0)], 1000.0) == 0
