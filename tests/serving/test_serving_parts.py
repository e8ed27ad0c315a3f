"""The parts of the data plane alone: counters, bundles, routing."""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path
from typing import Any

import msgspec
import pytest
from serving_bundles import BINARY, PROJECT, RECORD, Seal, compiled

from noria.kernel.errors import ServingError, StoreError
from noria.releases.bundle import Bundle, HostedFacts, Manifest, ModelFacts, open_bundle
from noria.releases.signing import known_keys
from noria.serving import counts
from noria.serving.environment import bind
from noria.serving.protocol import PredictionRequest
from noria.serving.recorder import Ids
from noria.serving.route import Route, tally_key
from noria.serving.router import NoAnswerError, Router, table_of
from noria.serving.runtime import LoadedRelease, ReleaseFailed, check_answers
from noria.serving.tallies import Tally

ASK = PredictionRequest([RECORD], {"carrier": ["AA"], "distance": [3.5]}, [None], [None])


# -- counters


def test_slots_add_up_and_a_successor_counts_on(tmp_path: Path) -> None:
    path = tmp_path / "c"
    counts.create(path)
    rng = random.Random(7)
    expected: dict[tuple[int, bool], list[int]] = {}
    for slot in (0, 1, 1, 63):  # slot 1 twice: a worker that was replaced
        mine = counts.SharedCounters(path, slot)
        for _ in range(200):
            revision, candidate = rng.randint(1, 5), rng.random() < 0.5
            error, slow = rng.random() < 0.1, rng.random() < 0.2
            mine.count_arm(revision, candidate, error, slow)
            total = expected.setdefault((revision, candidate), [0, 0, 0])
            total[:] = [total[0] + 1, total[1] + error, total[2] + slow]
        mine.close()
    counts.create(path)  # a server that starts again keeps them
    reader = counts.SharedCounters(path)
    found = reader.tallies()
    reader.close()
    for (revision, candidate), total in expected.items():
        assert found[revision][candidate] == Tally(*total)


def test_old_revisions_make_room(tmp_path: Path) -> None:
    path = tmp_path / "c"
    counts.create(path)
    mine = counts.SharedCounters(path, 0)
    for revision in range(1, counts.REVISIONS + 3):
        mine.count_arm(revision, False, True, False)
    found = mine.tallies()
    mine.close()
    assert len(found) == counts.REVISIONS
    assert set(found.values()) == {(Tally(1, 1, 0), Tally())}
    assert min(found) == 3


def test_projects_that_share_a_place_are_counted_apart(tmp_path: Path) -> None:
    path = tmp_path / "c"
    counts.create(path)
    mine = counts.SharedCounters(path, 0)
    keys = [tally_key(f"p{i}", revision) for i in range(6) for revision in (1, 1 + counts.REVISIONS)]
    keys += [(128 * n) << 24 | 1 for n in range(1, 6)]  # five that have one place in common
    for turn in range(3):
        for key in keys:
            mine.count_arm(key, candidate=turn == 2, error=False, slow=False)
    found = mine.tallies()
    mine.close()
    assert found == {key: (Tally(2), Tally(1)) for key in keys}


def test_the_counters_have_their_blocks_before_they_are_mapped(tmp_path: Path) -> None:
    path = tmp_path / "c"
    counts.create(path)
    assert os.stat(path).st_blocks * 512 >= counts.SIZE_BYTES


# -- bundles


def test_a_whole_bundle_opens_with_its_signature(seal: Seal, tmp_path: Path) -> None:
    digest = compiled(seal, tmp_path / "scratch")
    bundle = open_bundle(seal.state / "releases" / digest, known_keys(seal.state), digest)
    assert (bundle.digest, bundle.signature) == (digest, BINARY)


def test_a_bundle_under_another_name_is_refused(seal: Seal, tmp_path: Path) -> None:
    """A signed release put in another's place would be served as what it is not."""
    digest = compiled(seal, tmp_path / "scratch")
    with pytest.raises(StoreError, match="not of 000000000000"):
        open_bundle(seal.state / "releases" / digest, known_keys(seal.state), "0" * 64)


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname"])
def test_a_manifest_that_points_outside_is_refused(seal: Seal, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(b"")
    digest = seal.seal(folder, {"form": "compiled", "signature": BINARY, "model": {"file": "model.onnx"}})
    path = seal.state / "releases" / digest / "manifest.json"
    manifest = msgspec.json.decode(path.read_bytes())
    manifest["files"][name] = "0" * 64
    content = msgspec.json.encode(manifest)
    path.write_bytes(content)
    (path.parent / "manifest.sig").write_bytes(seal._key.sign(content))
    with pytest.raises(StoreError, match="outside the bundle"):
        open_bundle(path.parent, known_keys(seal.state))


# -- routing


class Scripted:
    """A runtime that does what it is told."""

    immediate = True

    def __init__(self, *acts: Any) -> None:
        self.acts = list(acts)

    async def predict(self, columns: Any, n: int, until: float, apart: bool = False) -> list[Any]:
        act = self.acts.pop(0)
        if isinstance(act, BaseException):
            raise act
        return [[1 - act, act]]

    async def close(self) -> None:
        """Nothing is held."""


def _release(name: str, *acts: Any) -> LoadedRelease:
    manifest = Manifest(1, PROJECT, "compiled", BINARY, ModelFacts("model.onnx"), {}, HostedFacts())  # type: ignore[arg-type]
    return LoadedRelease(Bundle(Path(), name, manifest), Scripted(*acts))


def _routed(tmp_path: Path, chance: float, champion: LoadedRelease, candidate: LoadedRelease, share: float = 0.5) -> Any:
    """(variant and version, or the error; champion's tally; candidate's tally; complaints)."""
    path = tmp_path / "c"
    counts.create(path)
    kept = counts.SharedCounters(path, 0)
    complaints: list[str] = []
    route = Route(PROJECT, "production", 4, "a", "v1", "b", "v2", share)
    router = Router(kept, lambda digest, text: complaints.append(f"{digest}: {text}"), lambda: chance)
    table = table_of(route, {"a": champion, "b": candidate})
    try:
        answered = asyncio.run(router.answer(table, ASK))
        said: Any = (answered.variant, answered.version, answered.answers[0][1])
    except NoAnswerError as error:
        said = error.message
    arms = kept.tallies()[route.tally_key]
    kept.close()
    return said, *arms, complaints


@pytest.mark.parametrize(
    ("chance", "champion", "candidate", "said", "tallies"),
    [
        (0.49, (0.1,), (0.9,), ("candidate", "v2", 0.9), (Tally(), Tally(1))),
        (0.50, (0.1,), (0.9,), ("champion", "v1", 0.1), (Tally(1), Tally())),
        (0.0, (0.1,), (ReleaseFailed("x"),), ("fallback", "v1", 0.1), (Tally(), Tally(1, 1))),
        (0.0, (0.1,), (TimeoutError(),), ("fallback", "v1", 0.1), (Tally(), Tally(1, 1))),
        (0.9, (ReleaseFailed("x"),), (), "release v1 could not answer this request", (Tally(1, 1), Tally())),
        (0.0, (ReleaseFailed("x"),), (ReleaseFailed("y"),), "release v1 could not answer this request", (Tally(), Tally(1, 1))),
    ],
)  # fmt: skip
def test_who_answers_and_what_is_counted(
    tmp_path: Path, chance: float, champion: Any, candidate: Any, said: Any, tallies: Any
) -> None:
    found = _routed(tmp_path, chance, _release("a", *champion), _release("b", *candidate))
    assert found[0] == said
    assert found[1:3] == tallies


class Hanging(Scripted):
    """Answers when it is let."""

    immediate = False

    def __init__(self, go: asyncio.Event) -> None:
        super().__init__()
        self.go = go

    async def predict(self, columns: Any, n: int, until: float, apart: bool = False) -> list[Any]:
        await self.go.wait()
        return [[0.9, 0.1]]


@pytest.mark.parametrize("leaves", [False, True])
def test_a_champion_that_hangs_is_counted_as_soon_as_a_candidate_would_be(tmp_path: Path, leaves: bool) -> None:
    """Number 39: in an outage that both share the candidate's errors were counted after its deadline, and the champion's when its
    answers came at last: so long the candidate alone seemed to fail. Who left is not counted."""
    counts.create(tmp_path / "c")
    kept = counts.SharedCounters(tmp_path / "c", 0)
    route = Route(PROJECT, "production", 4, "a", "v1", "b", "v2", 0.5, deadline_ms=20.0 if not leaves else 60_000.0)

    def tallied() -> Tally:
        return kept.tallies_of(route.tally_key)[0]

    async def ask() -> None:
        go = asyncio.Event()
        champion = _release("a")
        champion.runtime = Hanging(go)
        table = table_of(route, {"a": champion, "b": _release("b")})
        request = asyncio.create_task(Router(kept, lambda digest, text: None, lambda: 0.9).answer(table, ASK))
        await asyncio.sleep(0)
        if leaves:
            request.cancel()
            await asyncio.gather(request, return_exceptions=True)
            return
        async with asyncio.timeout(30):
            while not tallied().requests:
                await asyncio.sleep(0.005)
        assert not request.done()
        assert (tallied().requests, tallied().errors) == (1, 1)
        go.set()
        await request

    asyncio.run(ask())
    assert (tallied().requests, tallied().errors) == ((0, 0) if leaves else (1, 1))
    kept.close()


@pytest.mark.parametrize("raw", [[[0.1, float("nan")]], [[0.1, 0.2, 0.7]], [0.5], [[0.5, float("inf")]]])
def test_an_output_that_is_no_answer_is_the_releases_failure(raw: Any) -> None:
    with pytest.raises(ReleaseFailed):
        check_answers(raw, 1, 2)


def test_ids_are_unique_and_sort_by_time() -> None:
    ids = [Ids() for _ in range(3)]
    taken = [name for i in range(500) for maker in ids for name in maker.take(1_700_000_000 + i / 100, 1 + i % 3)]
    assert len(set(taken)) == len(taken)
    assert [t[:14] for t in taken] == sorted(t[:14] for t in taken)
    for rows in (1, 3, 16):  # those of one request count on
        own = list(ids[0].take(1_700_000_000, rows))
        assert own == sorted(own)


def test_an_open_address_is_refused() -> None:
    with pytest.raises(ServingError, match="not a loopback address"):
        bind("production", "0.0.0.0", 0)
