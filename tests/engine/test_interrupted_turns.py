"""A turn that ends anywhere is rerun to the same end: killed before or after any of its steps, events and words to the engine.

The engine of a test dies by a KeyboardInterrupt at one point of the line, which nothing in it may catch; a new one, with nothing
in memory, goes on with the same state folder. What then stands there is compared with a turn that nobody interrupted.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from engine_stub import Scripted
from msgspec.structs import replace
from small_line import SmallLine, points, small_line

from noria.data.store import DataStore
from noria.engine import turn_runner
from noria.engine.trigger_watcher import TriggerWatcher
from noria.kernel.errors import LeaseLostError, StoppedError
from noria.pipeline.run_store import RunStore
from noria.pipeline.trigger_store import TriggerStore
from noria.pipeline.turn_record import TurnOutcome
from noria.pipeline.turn_store import TurnStore
from noria.releases.store import ReleaseStore
from noria.serving.route import Route
from noria.trust import audit

STEPS = ("train", "package", "score.candidate")
EVENTS = ("data.accepted", "gate.pass", "release.sealed", "rollout.promoted", "turn.ended")


class Mortal(Scripted):
    """An engine that takes the line with it when it is asked for ``fatal`` the first time."""

    fatal = ""

    def _die(self, what: str) -> None:
        if what == self.fatal:
            self.fatal = ""
            raise KeyboardInterrupt

    def load(self, digest: str) -> str:
        self._die("load")
        return super().load(digest)

    def set_routes(self, route: Route) -> str:
        self._die("set_routes")
        return super().set_routes(route)


def dying(line: SmallLine, when: Callable[[str], bool]) -> SmallLine:
    """The line with an engine that dies right after the first event of such a text was written."""

    def progress(text: str) -> None:
        if when(text):
            raise KeyboardInterrupt

    context = replace(line.context, progress=progress)
    return SmallLine(context, line.pool, line.engine, TriggerWatcher(context))


def what_stands(line: SmallLine) -> dict[str, Any]:
    """All that a turn leaves, without names and times that are chance."""
    releases = [(r.version, r.form, r.barred, sorted(r.metrics)) for r in ReleaseStore(line.ledger, "p").list()]
    turns = [(t.number, t.outcome, t.reason, t.release, t.trigger.partition(":")[0]) for t in TurnStore(line.ledger, "p").list()]
    runs = [
        (run.outcome, run.pins.snapshots, sorted((s.name, s.key) for s in run.steps)) for run in RunStore(line.ledger, "p").list()
    ]
    route = line.route
    return {
        "releases": releases,
        "turns": turns,
        "runs": runs,
        "champion": (route.champion_version, route.previous_version, route.revision) if route else None,
        "data": [pin.name for pin in DataStore(line.ledger, "p").current("points").files],
        "events": sorted(e.kind for e in line.ledger.events.tail("p", after=0, limit=1000)),
        "pending": TriggerStore(line.ledger, "p").pending(),
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What an uninterrupted turn leaves."""
    with small_line(tmp_path_factory.mktemp("whole")) as line:
        line.deliver("points-01.csv", points(1))
        assert line.turned().outcome is TurnOutcome.PROMOTED
        return what_stands(line)


def resumed(line: SmallLine, whole: dict[str, Any]) -> SmallLine:
    """A new engine takes the turn up; then all is as if nothing had happened, and nothing is left to do."""
    after = line.restarted()
    assert len(TurnStore(after.ledger, "p").unfinished()) == 1
    ended = after.turn()
    assert ended is not None
    found = what_stands(after)
    for run in (*found["runs"], *whole["runs"]):
        assert {name for name, _ in run[2]} == set(STEPS)
    assert {k: v for k, v in found.items() if k != "runs"} == {k: v for k, v in whole.items() if k != "runs"}
    assert (after.turn(), TurnStore(after.ledger, "p").unfinished()) == (None, [])
    found_audit = audit.verify(after.ledger, after.context.state)
    assert found_audit.ok, found_audit.problems
    return after


@pytest.mark.parametrize("step", STEPS)
def test_killed_before_a_step(tmp_path: Path, whole: dict[str, Any], step: str) -> None:
    with small_line(tmp_path) as line:
        line.deliver("points-01.csv", points(1))

        def die(name: str) -> None:
            if name == step:
                raise KeyboardInterrupt

        line.pool.before = die
        with pytest.raises(KeyboardInterrupt):
            line.turned()
        assert step not in line.pool.ran
        after = resumed(line, whole)
        assert sorted(line.pool.ran + after.pool.ran) == sorted(STEPS)  # no step ran twice
        after.ledger.close()


@pytest.mark.parametrize("kind", EVENTS)
def test_killed_after_an_event(tmp_path: Path, whole: dict[str, Any], kind: str) -> None:
    with small_line(tmp_path) as line:
        line.deliver("points-01.csv", points(1))
        line.look()
        words = {
            "data.accepted": "accepted:",
            "gate.pass": "gate: ",
            "release.sealed": "v1 sealed",
            "rollout.promoted": "v1 serves all",
            "turn.ended": "turn 1 promoted",
        }[kind]
        with pytest.raises(KeyboardInterrupt):
            dying(line, lambda text: words in text).turn()
        assert line.events(kind) == []  # an event is written in the transaction of what it tells: both are there, or neither
        after = resumed(line, whole)
        after.ledger.close()


@pytest.mark.parametrize("what", ["load", "set_routes"])
def test_killed_in_a_word_to_the_server(tmp_path: Path, whole: dict[str, Any], what: str) -> None:
    with small_line(tmp_path) as line:
        line.deliver("points-01.csv", points(1))
        line.look()
        engine = Mortal()
        engine.fatal = what
        context = replace(line.context, driver=engine)
        with pytest.raises(KeyboardInterrupt):
            turn_runner.turn_once(context)
        assert (line.champion is not None) == (what == "set_routes")  # the ledger first, then the engine
        after = resumed(line, whole)
        after.ledger.close()


def test_killed_again_and_again(tmp_path: Path, whole: dict[str, Any]) -> None:
    """At every step in turn, each time by a new engine: what was done before is not done again."""
    with small_line(tmp_path) as line:
        line.deliver("points-01.csv", points(1))
        line.look()
        ran: list[str] = []
        engine = line
        for step in STEPS:

            def die(name: str, step: str = step) -> None:
                if name == step:
                    raise KeyboardInterrupt

            engine.pool.before = die
            with pytest.raises(KeyboardInterrupt):
                engine.turn()
            ran += engine.pool.ran
            fresh = engine.restarted()
            engine.ledger.close()
            engine = fresh
        after = resumed(engine, whole)
        assert ran + after.pool.ran == list(STEPS)
        after.ledger.close()
        engine.ledger.close()


@pytest.mark.parametrize("error", [LeaseLostError("another engine has it"), StoppedError("told to stop")])
def test_a_lost_lease_ends_no_turn(tmp_path: Path, whole: dict[str, Any], error: Exception) -> None:
    """Another engine goes on with it: this one writes no outcome over it."""
    with small_line(tmp_path) as line:
        line.deliver("points-01.csv", points(1))
        line.look()

        def lost(step: str) -> None:
            if step == "package":
                raise error

        line.pool.before = lost
        with pytest.raises(type(error)):
            line.turn()
        assert [t.outcome for t in TurnStore(line.ledger, "p").list()] == [TurnOutcome.RUNNING]
        after = resumed(line, whole)
        after.ledger.close()


def test_a_defect_ends_its_turn_in_words_and_the_next_one_works(tmp_path: Path) -> None:
    with small_line(tmp_path) as line:
        line.deliver("points-01.csv", points(1))

        def broken(step: str) -> None:
            raise ZeroDivisionError("a row: 17")

        line.pool.before = broken
        turn = line.turned()
        assert turn.outcome is TurnOutcome.ERROR
        assert "an internal error in Noria (ZeroDivisionError)" in turn.reason
        assert "17" not in turn.reason
        log = (line.context.state / "daemon.log").read_text()
        assert "ZeroDivisionError" in log
        line.pool.before = lambda step: None
        line.deliver("points-02.csv", points(2))
        assert line.turned().outcome is TurnOutcome.PROMOTED
        assert msgspec.json.encode([t.outcome for t in TurnStore(line.ledger, "p").list()]) == b'["promoted","error"]'
