"""A request goes where its key goes: the same release for all of its requests, in every worker, as the share grows."""

from __future__ import annotations

import asyncio
import math
import multiprocessing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serving_bundles import BINARY, PROJECT, RECORD, compiled
from serving_world import World

from noria.releases.bundle import Bundle, HostedFacts, Manifest, ModelFacts
from noria.serving import counts as counting
from noria.serving.counts import SharedCounters
from noria.serving.key_assignment import BUCKETS, SIZE_BYTES, CountedBuckets, bucket, open_seen, seen_path
from noria.serving.protocol import PredictionRequest
from noria.serving.route import Route
from noria.serving.router import Router, table_of
from noria.serving.runtime import LoadedRelease
from noria.serving.tallies import Tally

KEYS = [f"flight-{i}" for i in range(20_000)]
STEPS = (0.01, 0.05, 0.25, 0.5, 1.0)


class Willing:
    """A runtime that answers."""

    immediate = True

    async def predict(self, columns: Any, n: int, until: float, apart: bool = False) -> list[Any]:
        return [[0.5, 0.5]] * n

    async def close(self) -> None:
        """Nothing is held."""


def release(name: str) -> LoadedRelease:
    manifest = Manifest(1, PROJECT, "compiled", BINARY, ModelFacts("model.onnx"), {}, HostedFacts())  # type: ignore[arg-type]
    return LoadedRelease(Bundle(Path(), name, manifest), Willing())


class Desk:
    """One worker's router at one step of a rollout."""

    def __init__(
        self, counts: SharedCounters, seen: CountedBuckets, share: float, rollout: str = "r", chance: float = 0.0
    ) -> None:
        self.route = Route(PROJECT, "production", 3, "a", "v1", "b", "v2", share, rollout_id=rollout, sticky=True)
        self.router = Router(counts, lambda digest, text: None, lambda: chance)
        self.table = table_of(self.route, {"a": release("a"), "b": release("b")}, seen=seen)

    def ask(self, *keys: str | None) -> str:
        """Who answers."""
        n = len(keys)
        ask = PredictionRequest([RECORD] * n, {"carrier": ["AA"] * n, "distance": [3.5] * n}, list(keys), [None] * n)
        return asyncio.run(self.router.answer(self.table, ask)).variant


@pytest.fixture
def counts(tmp_path: Path) -> Iterator[SharedCounters]:
    counting.create(tmp_path / "counts")
    kept = SharedCounters(tmp_path / "counts", 0)
    yield kept
    kept.close()


@pytest.mark.parametrize("rollout", ["r-0197", "r-0198"])
@pytest.mark.parametrize("share", STEPS)
def test_as_many_keys_as_the_share_says_have_the_candidate(rollout: str, share: float) -> None:
    """Within five standard deviations of the binomial: a fair hash leaves them once in two million."""
    found = sum(bucket(rollout, key) < share * BUCKETS for key in KEYS)
    assert abs(found - share * len(KEYS)) <= 5 * math.sqrt(len(KEYS) * share * (1 - share)) + len(KEYS) / BUCKETS


def test_another_rollout_deals_the_keys_anew() -> None:
    first, second = ({key for key in KEYS if bucket(rollout, key) < BUCKETS * 0.1} for rollout in ("r1", "r2"))
    assert abs(len(first & second) - 0.01 * len(KEYS)) <= 5 * math.sqrt(len(KEYS) * 0.01 * 0.99)


@settings(max_examples=100, deadline=None)
@given(st.text(), st.text(min_size=1, max_size=200), st.lists(st.floats(0, 1), min_size=2, max_size=6))
def test_who_has_the_candidate_keeps_it_as_the_share_grows(rollout: str, key: str, shares: list[float]) -> None:
    has = [bucket(rollout, key) < share * BUCKETS for share in sorted(shares)]
    assert has == sorted(has)
    assert bucket(rollout, key) < BUCKETS


def test_a_key_stays_through_steps_and_workers_and_counts_once(tmp_path: Path, counts: SharedCounters) -> None:
    path = seen_path(tmp_path, "production", PROJECT)
    keys, had = KEYS[:300], set[str]()
    for share in STEPS:
        workers = [Desk(counts, open_seen(path, "r"), share) for _ in range(2)]
        found = [{key for key in keys if worker.ask(key) == "candidate"} for worker in workers]
        assert found[0] == found[1]
        assert had <= found[0]
        had = found[0]
    assert had == set(keys)
    champion, candidate = counts.tallies()[workers[0].route.tally_key]
    assert champion.requests + candidate.requests == len({bucket("r", key) for key in keys})
    assert candidate.requests == len({b for key in keys if (b := bucket("r", key)) < STEPS[0] * BUCKETS})


def test_the_first_row_decides_and_no_key_is_no_evidence(tmp_path: Path, counts: SharedCounters) -> None:
    inside = next(key for key in KEYS if bucket("r", key) < 0.1 * BUCKETS)
    beyond = next(key for key in KEYS if bucket("r", key) > 0.9 * BUCKETS)
    desk = Desk(counts, open_seen(tmp_path / "seen", "r"), 0.5)
    assert (desk.ask(inside, beyond), desk.ask(beyond, inside)) == ("candidate", "champion")
    arms = counts.tallies()[desk.route.tally_key]
    assert arms == (Tally(1), Tally(1))
    assert desk.ask(None, inside) == "candidate"
    assert Desk(counts, desk.table.seen or CountedBuckets(bytearray()), 0.5, chance=0.9).ask(None, beyond) == "champion"
    assert counts.tallies()[desk.route.tally_key] == arms


def test_a_new_rollout_begins_anew_and_who_still_holds_the_old_one_does_not_spoil_it(tmp_path: Path) -> None:
    old, again = open_seen(tmp_path / "seen", "r1"), open_seen(tmp_path / "seen", "r1")
    assert (old.first(7), again.first(7), old.first(8)) == (True, False, True)
    new = open_seen(tmp_path / "seen", "r2")
    assert old.first(9)  # a worker that was not told yet
    assert [new.first(place) for place in (7, 8, 9)] == [True] * 3
    assert not open_seen(tmp_path / "seen", "r2").first(7)


def _mark(path: Path, own: int, together: Any, found: Any) -> None:
    together.wait()
    seen = open_seen(path, "r")
    seen.first(own)
    together.wait()
    found.put([not seen.first(place) for place in range(3)])


def test_processes_that_begin_together_share_one_file(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    together, found = context.Barrier(3), context.Queue()
    workers = [context.Process(target=_mark, args=(tmp_path / "seen", own, together, found)) for own in range(3)]
    for worker in workers:
        worker.start()
    assert [found.get(timeout=120) for _ in workers] == [[True] * 3] * 3
    for worker in workers:
        worker.join()


def test_without_room_each_worker_remembers_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "serving").write_text("in the way of the folder")
    seen = open_seen(seen_path(tmp_path, "production", PROJECT), "r")
    assert (seen.first(1), seen.first(1)) == (True, False)
    assert "each worker alone" in capsys.readouterr().err


def test_the_marks_have_their_blocks_before_they_are_mapped(tmp_path: Path) -> None:
    open_seen(tmp_path / "seen", "r")
    assert (tmp_path / "seen").stat().st_blocks * 512 >= SIZE_BYTES


def test_a_running_server_keeps_keys_at_their_release(world: World) -> None:
    old, new = (compiled(world.seal, world.scratch, seed) for seed in (0, 1))
    keys = KEYS[:60]
    revisions = []
    for share in (0.2, 0.6):
        synced = world.serve(old, candidate=new, candidate_version="v2", share=share, rollout_id="r", sticky=True)
        revisions.append(synced.applied["production"])
        clients = [world.client() for _ in range(6)]  # some of them have the one worker, some the other
        for client in clients:
            bodies = [msgspec.json.encode(RECORD | {"flight_id": key}) for key in keys]
            variants = [client.post("/predict", content=body).json()["variant"] for body in bodies]
            assert {key for key, v in zip(keys, variants, strict=True) if v == "candidate"} == {
                key for key in keys if bucket("r", key) < share * BUCKETS
            }
    arms = [world.tallies(revision) for revision in revisions]
    assert sum(arm.champion.requests + arm.candidate.requests for arm in arms) == len({bucket("r", key) for key in keys})
    assert arms[1].champion.requests + arms[1].candidate.requests == 0
