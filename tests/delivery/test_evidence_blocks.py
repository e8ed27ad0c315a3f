"""What came in between two looks, from the engine's running counts: nothing is counted twice, and no block is rearranged."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from engine_stub import Scripted, line_of
from hypothesis import given, settings
from hypothesis import strategies as st

from noria import config
from noria.delivery import analysis, champion
from noria.delivery import rollout as stage
from noria.delivery.analysis import LOOK_GROWTH, LOOK_REQUESTS, _worth
from noria.delivery.context import DeliveryContext
from noria.delivery.rollout_store import RolloutStore
from noria.releases.store import ReleaseStore
from noria.serving.client import ArmTallies
from noria.serving.route import Route
from noria.serving.route_store import RouteStore
from noria.serving.tallies import Tally, total

POLICY = "project: p\nenvironments: {production: {rollout: {steps: [50%, 100%], replay: 0}}}\n"
counts = st.tuples(st.integers(0, 400), st.integers(0, 3), st.integers(0, 3))
looks = st.lists(st.tuples(counts, counts), min_size=1, max_size=12)


def begun(folder: Path) -> tuple[DeliveryContext, Scripted]:
    """v1 serves, v2 is at its first step."""
    engine = Scripted()
    context = line_of(folder, engine, 2, POLICY)
    environment = config.load(folder).environments["production"]
    champion.promote(context, environment, ReleaseStore(context.ledger, "p").get("v1"), "the first")
    stage.start_rollout(context, config.load(folder), environment, ReleaseStore(context.ledger, "p").get("v2"))
    return context, engine


def look(context: DeliveryContext, engine: Scripted) -> Route:
    """Write down what is new; the route as it is then."""
    rollout = RolloutStore(context.ledger, "p").list()[0]
    route = RouteStore(context.ledger, "p").get("production")
    assert route is not None
    return analysis._record(context, rollout, route, engine.stats("p", "production"), route.share)[1]


@settings(max_examples=6)
@given(looks)
def test_blocks_add_up_to_what_was_counted(came: list[tuple[tuple[int, int, int], tuple[int, int, int]]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        context, engine = begun(Path(folder))
        written, unseen = ArmTallies(), ArmTallies()  # ``unseen``: not worth a block yet
        for ours, theirs in came:
            engine.see(ours, theirs)
            unseen = ArmTallies(unseen.champion.plus(Tally(*ours)), unseen.candidate.plus(Tally(*theirs)))
            before = RolloutStore(context.ledger, "p").list()[0].blocks
            look(context, engine)
            blocks = RolloutStore(context.ledger, "p").list()[0].blocks
            assert blocks[: len(before)] == before  # one that is written is never rearranged
            if len(blocks) > len(before):
                written = ArmTallies(written.champion.plus(unseen.champion), written.candidate.plus(unseen.candidate))
                unseen = ArmTallies()
            assert (total(b.champion for b in blocks), total(b.candidate for b in blocks)) == (
                written.champion,
                written.candidate,
            )
        context.ledger.close()


def test_a_server_that_counts_from_zero_gets_a_new_revision_and_no_negative_block(tmp_path: Path) -> None:
    context, engine = begun(tmp_path)
    engine.see((500, 1, 0), (500, 2, 0))
    first = look(context, engine)
    engine.tallies.clear()
    engine.see((3, 0, 0), (4, 0, 0))
    fresh = look(context, engine)
    assert fresh.revision == first.revision + 1
    assert engine.told[-1] == fresh
    engine.see((100, 0, 0), (100, 1, 0))
    look(context, engine)
    blocks = RolloutStore(context.ledger, "p").list()[0].blocks
    assert [(b.revision, b.candidate.requests, b.candidate.errors) for b in blocks] == [
        (first.revision, 500, 2),
        (fresh.revision, 100, 1),
    ]
    context.ledger.close()


@pytest.mark.parametrize(
    ("seen", "new", "worth"),
    [
        ([], Tally(LOOK_REQUESTS - 1), False),
        ([], Tally(LOOK_REQUESTS), True),
        ([], Tally(0, 1), True),  # an error is always told at once at the beginning
        ([], Tally(0, 0, 1), True),
        ([Tally(10_000)], Tally(int(10_000 * LOOK_GROWTH) - 1), False),
        ([Tally(10_000)], Tally(int(10_000 * LOOK_GROWTH)), True),
        ([Tally(10_000, 100)], Tally(10, 4), False),
        ([Tally(10_000, 100)], Tally(10, 5), True),
        ([], Tally(), False),
    ],
)
def test_a_block_is_written_often_enough_and_no_oftener(seen: list[Tally], new: Tally, worth: bool) -> None:
    assert _worth(seen, new) is worth


def test_the_record_of_a_long_rollout_stays_short() -> None:
    """A hundred thousand requests, a look each 20: blocks grow with the logarithm of their number."""
    written: list[Tally] = []
    waiting = 0
    for _ in range(5_000):
        waiting += 20
        if _worth(written, Tally(waiting)):
            written.append(Tally(waiting))
            waiting = 0
    assert len(written) < 150
