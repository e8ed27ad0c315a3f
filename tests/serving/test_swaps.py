"""Flips and loads while requests come in at a steady rate: none fails, and each is answered by a release that was routed then."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest
from serving_bundles import logged
from serving_world import World

ROOT = Path(__file__).parents[2]
FIRST_ANSWER_MS = 1000  # of a flip, on a machine that is busy with other tests; the bench says what it takes on a quiet one


def test_no_request_fails_or_meets_a_release_that_is_gone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    story = import_module("benchmarks.swaps").swap(world, flips=60, cold=3, rate=200, scratch=world.scratch)
    calls = story.told.calls
    assert (story.told.failed(), story.told.refused, story.told.unsent) == ([], [], 0)
    assert story.wrong() == []
    assert len(story.delays_ms(cold=False)) == 60
    assert max(story.delays_ms(cold=False)) < FIRST_ANSWER_MS
    assert {f"cold-{n}" for n in range(3)} < {call.release for call in calls}
    assert len({call.release for call in calls}) > 20  # an answer belongs to a flip, and many flips have one
    records = [r["id"] for r in logged(world.state, "production")]
    answered = [name for call in calls for name in call.ids]
    assert len(records) == len(set(records))
    assert sorted(records) == sorted(answered)


def test_a_wrong_answer_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The judge of the test above and of the bench, on a story that it did not make."""
    monkeypatch.syspath_prepend(str(ROOT))
    swaps, load = import_module("benchmarks.swaps"), import_module("benchmarks.load")
    story = swaps.Story([swaps.Swap("a", False, 0.0, 0.0, 0.1), swaps.Swap("b", False, 1.0, 1.1, 1.2)])

    def call(release: str, sent: float, done: float) -> object:
        return load.Call("predict", sent, sent, done, 200, release, "champion", ("p-1",))

    fine = [call("a", 0.5, 0.6), call("a", 1.15, 1.3), call("b", 1.05, 1.15)]
    early, late = call("b", 0.5, 0.9), call("a", 1.3, 1.4)
    story.told.calls = [*fine, early, late]
    assert story.wrong() == [early, late]
    story.told.calls = fine
    assert story.wrong() == []
    assert story.delays_ms(cold=False) == [pytest.approx(50.0)]
