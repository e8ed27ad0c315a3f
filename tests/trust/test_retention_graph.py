"""What descends from erased contents, and whose needs are kept, against a plain walk over the graph; pins by name."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.data.kept_versions import PinStore
from noria.kernel.errors import NotFoundError, RefusedError
from noria.storage.ledger import Ledger
from noria.trust.judge_retention import YOUNG_S, BlobKind, Holder, descended_results, keep, unneeded_blobs
from noria.trust.keep_store import KeepStore

nodes = st.sampled_from([f"d{n}" for n in range(8)])
results = st.lists(st.tuples(st.frozensets(nodes, max_size=3), nodes), max_size=10)


@settings(max_examples=50)
@given(results, st.frozensets(nodes, max_size=2), st.randoms())
def test_descent_is_reachability_in_any_order(
    made: list[tuple[frozenset[str], str]], roots: frozenset[str], chance: object
) -> None:
    listed = [(f"key{n}", inputs, output) for n, (inputs, output) in enumerate(made)]
    reached = set(roots)
    for _ in listed:  # so many rounds reach whatever can be reached
        reached |= {output for _, inputs, output in listed if inputs & reached}
    due = {key for key, inputs, _ in listed if inputs & reached}
    chance.shuffle(listed)  # type: ignore[attr-defined]  # Hypothesis gives a Random
    assert descended_results(listed, roots) == due


def holder(kind: BlobKind, name: str, at: float, *results: str, erased: bool = False, project: str = "p") -> Holder:
    return Holder(kind, project, name, at, results=frozenset(results), blobs=frozenset({f"{name}-{at}"}), erased=erased)


@pytest.mark.parametrize(
    ("one", "stays"),
    [
        (holder(BlobKind.RUN, "run-1", 99.9), False),
        (holder(BlobKind.RUN, "run-1", 100.0), True),
        (holder(BlobKind.QUARANTINE, "delivery-1", 99.9), False),
        (holder(BlobKind.QUARANTINE, "delivery-1", 100.0), True),
        (holder(BlobKind.RELEASE, "v1", 0.0), True),
        (holder(BlobKind.RELEASE, "v1", 200.0, erased=True), False),
        (holder(BlobKind.PINNED, "golden", 0.0), True),
        (holder(BlobKind.CURRENT, "points", 0.0), True),
        (holder(BlobKind.TURN, "run-1", 0.0), True),
        (holder(BlobKind.STEP, "train", 0.0, "r1"), True),
        (holder(BlobKind.RUN, "run-1", 0.0, project="q"), True),  # of the other project nothing is too old
    ],
    ids=lambda one: f"{one.kind}-{one.at}-{one.project}" if isinstance(one, Holder) else None,
)
def test_who_stays(one: Holder, stays: bool) -> None:
    assert keep([one], {"p": 100.0}).holders == ((one,) if stays else ())


@given(st.permutations([1.0, 2.0, 3.0, 4.0]))
def test_of_a_step_s_results_the_newest_is_kept_in_each_project(times: list[float]) -> None:
    found = [holder(BlobKind.STEP, "train", at, f"r{at}", project=project) for at in times for project in ("p", "q")]
    kept = keep(found, {})
    assert {(h.project, h.at) for h in kept.holders} == {("p", 4.0), ("q", 4.0)}
    assert kept.results == {"r4.0"}


def test_young_blobs_are_left_alone_to_the_second() -> None:
    now = 1e9
    stored = [("needed", 0.0), ("old", now - YOUNG_S - 1), ("boundary", now - YOUNG_S), ("young", now), ("future", now + 1e6)]
    assert list(unneeded_blobs(stored, {"needed"}, now)) == ["old"]


def test_a_pin_keeps_one_snapshot_under_its_name_and_project(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path)
    for project in ("p", "q"):
        ledger.projects.ensure(project, project)
    store, other = PinStore(ledger, "p"), PinStore(ledger, "q")
    assert store.pin("golden", "a" * 64, "cli:anna")
    assert not store.pin("golden", "a" * 64, "cli:bob")  # it is so already
    assert store.pins()[0].actor == "cli:anna"
    assert other.pin("golden", "b" * 64, "cli:bob")  # another project's name
    with pytest.raises(RefusedError) as told:
        store.pin("golden", "c" * 64, "cli:bob")
    assert (told.value.message, told.value.hint) == ("golden is pinned to another snapshot", "First: noria data unpin golden")
    assert store.unpin("golden") == "a" * 64
    with pytest.raises(NotFoundError) as gone:
        store.unpin("golden")
    assert (gone.value.message, gone.value.hint) == ("there is no pin golden", "`noria data log` shows the pins.")
    assert [(one.project, one.digest) for one in [*store.pins(), *other.pins()]] == [("q", "b" * 64)]
    for before in (10.0, 30.0, 20.0):
        KeepStore(ledger, "p").note_collection(before)
    assert (KeepStore(ledger, "p").collection_time(), KeepStore(ledger, "q").collection_time()) == (
        30.0,
        0.0,
    )  # the farthest counts
    ledger.close()
