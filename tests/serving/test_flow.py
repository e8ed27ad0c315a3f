"""What the server says of its traffic: from the counters alone, for the release that serves, over ten minutes at most."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.serving.counts import PROBED, REVISIONS, SharedCounters, counts_path, create
from noria.serving.route import Route
from noria.serving.tallies import Tally
from noria.serving.traffic import OVER_S, TrafficMeter

ROUTE = Route("shop", "production", 7, "a" * 64, "v1")


@pytest.fixture
def counts(tmp_path: Path) -> Iterator[SharedCounters]:
    path = counts_path(tmp_path, "production")
    create(path)
    made = SharedCounters(path, slot=3)
    yield made
    made.close()


def serve(
    counts: SharedCounters, route: Route, requests: int, errors: int = 0, slow: int = 0, *, candidate: bool = False
) -> None:
    for i in range(requests):
        counts.count_arm(route.tally_key, candidate, i < errors, i < slow)
        counts.count_prediction("champion", 1, 0.001)


def test_rates_are_of_the_time_that_was_watched(counts: SharedCounters) -> None:
    flow = TrafficMeter()
    serve(counts, ROUTE, 500, errors=500)  # before the server came up: old
    assert flow.rates(counts, [ROUTE], 100.0) is None
    flow.read(counts, [ROUTE], 100.0)
    assert flow.rates(counts, [ROUTE], 100.5) is None
    serve(counts, ROUTE, 40, errors=2, slow=4)
    counts.count_labels(10)
    found = flow.rates(counts, [ROUTE], 120.0)
    assert found is not None
    assert (found.over_s, found.requests_per_s, found.labels_per_s) == (20.0, 2.0, 0.5)
    assert found.served["shop"].requests == 40
    assert found.served["shop"].errors == pytest.approx(0.05)
    assert found.served["shop"].slow == pytest.approx(0.1)


def test_a_route_that_came_after_the_first_reading_is_counted_from_its_beginning(counts: SharedCounters) -> None:
    """A reading is taken every ten seconds: what a new route did until the next one is not lost."""
    flow = TrafficMeter()
    serve(counts, ROUTE, 500, errors=500)  # of the server before this one
    flow.read(counts, [], 100.0)  # it came up, and has not loaded anything yet
    newer = Route("shop", "production", ROUTE.revision + 1, "b" * 64, "v2")
    serve(counts, ROUTE, 10)
    flow.read(counts, [ROUTE], 110.0)
    serve(counts, newer, 30, errors=3)
    found = flow.rates(counts, [newer], 115.0)
    assert found is not None
    assert (found.served["shop"].requests, found.served["shop"].errors) == (40, pytest.approx(0.075))


def test_what_is_older_than_ten_minutes_does_not_count(counts: SharedCounters) -> None:
    flow = TrafficMeter()
    for second in range(0, 1200, 1):
        flow.read(counts, [ROUTE], float(second))
        if second < 300:
            serve(counts, ROUTE, 1, errors=1)
    found = flow.rates(counts, [ROUTE], 1200.0)
    assert found is not None
    assert found.over_s <= OVER_S
    assert (found.requests_per_s, found.served) == (0.0, {})


def test_it_follows_the_release_that_serves(counts: SharedCounters) -> None:
    """On probation the new release counts as the candidate; a candidate's errors before are not the serving release's."""
    flow = TrafficMeter()
    canary = Route("shop", "production", 8, "a" * 64, "v1", candidate="b" * 64, candidate_version="v2", share=0.5, rollout_id="r")
    probation = Route(
        "shop", "production", 9, "b" * 64, "v2", previous="a" * 64, previous_version="v1", shadow=0.1, rollout_id="r"
    )
    for i, route in enumerate((ROUTE, canary, probation)):
        flow.read(counts, [route], 10.0 * i)
        serve(counts, route, 10, errors=10, candidate=route is canary)
        serve(counts, route, 10, errors=1, candidate=route is probation)
        flow.read(counts, [route], 10.0 * i + 5)
        flow.rates(counts, [route], 10.0 * i + 5)
    found = flow.rates(counts, [probation], 30.0)
    assert found is not None
    assert found.served["shop"].requests == 20 + 10 + 10
    assert found.served["shop"].errors == pytest.approx(13 / 40)


@given(st.lists(st.tuples(st.integers(1, 400), st.booleans()), max_size=60))
def test_one_keys_count_is_that_of_all(counts_file: Path, assigned: list[tuple[int, bool]]) -> None:
    create(counts_file)
    counts_file.write_bytes(bytes(counts_file.stat().st_size))
    writers = [SharedCounters(counts_file, slot) for slot in (0, 5)]
    try:
        for i, (key, candidate) in enumerate(assigned):
            writers[i % 2].count_arm(key, candidate, error=i % 3 == 0, slow=False)
        known = writers[0].tallies()
        for key in {key for key, _ in assigned} | {REVISIONS + PROBED}:
            assert writers[0].tallies_of(key) == known.get(key, (Tally(), Tally()))
    finally:
        for writer in writers:
            writer.close()


@pytest.fixture(scope="module")
def counts_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return counts_path(tmp_path_factory.mktemp("flow"), "production")
