"""Each thing of the ledger that no event bears out is told in one sentence: a table of changes to what a real line left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from small_line import CONFIG, points, small_line

from noria.engine import actions
from noria.kernel.event import Event
from noria.pipeline.turn_record import Turn, TurnOutcome
from noria.releases.release import Release
from noria.trust import audit
from noria.trust.judge_audit import KINDS, Approved, RecordedState, judge_state

OTHER = "f" * 64


class World(NamedTuple):
    events: Sequence[Event]
    state: RecordedState


def lists(state: RecordedState) -> RecordedState:
    """What can be read again and again."""
    return replace(state, deliveries=list(state.deliveries), turns=list(state.turns), runs=list(state.runs))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """v1 serves; v2 was rolled back by hand and is barred; v3 waits for an approval of two; a file was refused."""
    text = CONFIG.replace("{rollout: direct}", "{rollout: direct, approvals: 0}")
    with small_line(tmp_path_factory.mktemp("audit"), text=text) as line:
        for month in (1, 2):
            line.deliver(f"points-0{month}.csv", points(month))
            assert line.turned().outcome is TurnOutcome.PROMOTED
        actions.roll_back(line.context, "production", "cli:anna")
        line.edit("noria.yaml", "approvals: 0", "approvals: 2")
        line.commit("asks two")
        line.deliver("points-03.csv", points(3))
        assert line.turned().outcome is TurnOutcome.RELEASED
        actions.approve(line.context, "v3", "production", "cli:anna")
        line.deliver("points-04.csv", "id,a,y\n1,99,1\n")
        assert line.turned().outcome is TurnOutcome.QUARANTINED
        return World(list(line.ledger.events.each(KINDS)), lists(audit._states(line.ledger)["p"]))


def release(state: RecordedState, version: str, **changes: Any) -> RecordedState:
    return replace(state, releases=[replace(r, **changes) if r.version == version else r for r in state.releases])


def without(found: Sequence[Any], **which: Any) -> list[Any]:
    return [one for one in found if any(getattr(one, name) != value for name, value in which.items())]


def test_what_a_line_left_is_borne_out(world: World) -> None:
    versions = {r.version: r.barred is not None for r in world.state.releases}
    assert versions == {"v1": False, "v2": True, "v3": False}
    assert judge_state(world.events, {"p": world.state}) == []


def first_turn(state: RecordedState) -> Turn:
    """One without a release: what its rollout said of it has events of its own."""
    return next(t for t in state.turns if t.release is None)


def named(state: RecordedState, version: str) -> Release:
    return next(r for r in state.releases if r.version == version)


Change = Callable[[RecordedState], tuple[RecordedState, str]]
CHANGES: dict[str, Change] = {
    "another bundle": lambda s: (
        release(s, "v3", digest=OTHER),
        f"v3 is not the bundle that was sealed: ffffffffffff, not {named(s, 'v3').digest[:12]}",
    ),
    "a release gone": lambda s: (
        replace(s, releases=without(s.releases, version="v3")),
        "v3 was sealed, but is no longer in the ledger",
    ),
    "a release of nobody": lambda s: (
        replace(s, releases=[*s.releases, replace(named(s, "v3"), version="v9", turn_id=None)]),
        "v9 is in no event: nobody sealed it",
    ),
    "a bar": lambda s: (release(s, "v1", barred="so"), "v1 is barred, and no event says why"),
    "a bar gone": lambda s: (
        release(s, "v2", barred=None),
        f"v2 is not barred any more, and nobody lifted the bar: {named(s, 'v2').barred}",
    ),
    "a champion": lambda s: (
        replace(s, routes=[replace(s.routes[0], champion=named(s, "v2").digest, champion_version="v2")]),
        "v2 is to serve production; by the events it is v1",
    ),
    "an approval": lambda s: (
        replace(s, approvals=[*s.approvals, Approved("v3", "production", "cli:eve")]),
        "an approval of v3 for production by cli:eve is in no event",
    ),
    "a refused file accepted": lambda s: (
        replace(s, deliveries=[replace(d, accepted=True) for d in s.deliveries]),
        "data/points-04.csv was quarantined; the ledger says otherwise",
    ),
    "other content": lambda s: (
        replace(s, deliveries=[replace(d, digest=OTHER) if d.name.endswith("1.csv") else d for d in s.deliveries]),
        "data/points-01.csv has not the content that was judged: ffffffffffff, not "
        + next(d.digest[:12] for d in s.deliveries if d.name.endswith("1.csv")),
    ),
    "a file of nobody": lambda s: (
        replace(s, deliveries=[*s.deliveries, replace(next(iter(s.deliveries)), id="delivery-9")]),
        "points has 1 judged file more than its events say",
    ),
    "files of nobody": lambda s: (
        replace(s, deliveries=[*s.deliveries, *(replace(next(iter(s.deliveries)), id=f"delivery-{n}") for n in range(1_000))]),
        "points has 1,000 judged files more than its events say",
    ),
    "a file that never arrived": lambda s: (
        replace(s, never_accepted=[("points", "data/x.csv")]),
        "data/x.csv counts as accepted into points, and never arrived with this content",
    ),
    "a turn of nobody": lambda s: (
        replace(s, turns=[*s.turns, replace(first_turn(s), id="turn-9", number=9)]),
        "turn 9 is in no event: nobody started it",
    ),
    "a turn's end": lambda s: (
        replace(s, turns=[replace(t, outcome=TurnOutcome.DONE) if t == first_turn(s) else t for t in s.turns]),
        f"turn {first_turn(s).number} is done; by the events it is quarantined",
    ),
    "a turn gone": lambda s: (
        replace(s, turns=without(list(s.turns), id=first_turn(s).id)),
        f"turn {first_turn(s).id} started, but is no longer in the ledger",
    ),
    "a run": lambda s: (
        replace(s, runs=[(run, OTHER if at == 0 else digest) for at, (run, digest) in enumerate(s.runs)]),
        f"run {next(iter(s.runs))[0]} is not the one that was recorded at the end of its turn",
    ),
    "a run gone": lambda s: (
        replace(s, runs=list(s.runs)[1:]),
        f"run {next(iter(s.runs))[0]} was recorded, but is no longer in the ledger",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_behind_the_events_is_told_once_and_exactly(world: World, change: str) -> None:
    state, sentence = CHANGES[change](world.state)
    assert judge_state(world.events, {"p": lists(state)}) == [f"p: {sentence}"]


@given(
    picked=st.sets(st.sampled_from(["a bar", "an approval", "a run", "a turn gone", "a file that never arrived", "a champion"]))
)
def test_changes_are_told_beside_each_other(world: World, picked: set[str]) -> None:
    state, due = world.state, set()
    for change in picked:
        state, sentence = CHANGES[change](state)
        due.add(f"p: {sentence}")
    assert set(judge_state(world.events, {"p": lists(state)})) == due


def test_projects_are_judged_by_their_own_events(world: World) -> None:
    """The same records under another name: no event of theirs bears them out, and the first project stays whole."""
    found = judge_state(world.events, {"p": world.state, "q": world.state})
    assert all(text.startswith("q: ") for text in found)
    assert {"q: v1 is in no event: nobody sealed it", "q: v1 is to serve production; by the events it is nothing"} <= set(found)


def test_the_order_of_events_of_different_things_does_not_matter(world: World) -> None:
    by_subject = sorted(world.events, key=lambda event: event.subject.startswith("delivery"))
    assert judge_state(by_subject, {"p": world.state}) == []
    assert judge_state([], {}) == []
