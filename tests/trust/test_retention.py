"""Retention, by properties over any mixture of holders."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from noria.trust.judge_retention import YOUNG_S, BlobKind, Holder, RetentionSet, descended_results, keep, unneeded_blobs

DIGESTS = [f"{n:02x}" * 32 for n in range(12)]
digests = st.frozensets(st.sampled_from(DIGESTS), max_size=4)
times = st.integers(0, 100).map(float)
holders = st.lists(
    st.builds(
        Holder,
        kind=st.sampled_from(BlobKind),
        project=st.sampled_from(["p", "q"]),
        name=st.sampled_from(["a", "b", "c"]),
        at=times,
        snapshots=digests,
        results=digests,
        blobs=digests,
        commit=st.sampled_from([None, "c1", "c2"]),
        erased=st.booleans(),
    ),
    max_size=15,
)


def needs(holder: Holder) -> frozenset[str]:
    return holder.snapshots | holder.results | holder.blobs


def all_of(kept: RetentionSet) -> frozenset[str]:
    return kept.snapshots | kept.results | kept.blobs


@given(holders, times)
def test_what_a_release_a_person_or_a_turn_needs_is_kept_whatever_its_age(found: list[Holder], before: float) -> None:
    kept = keep(found, {"p": before, "q": before})
    for holder in found:
        always = {BlobKind.PINNED, BlobKind.CURRENT, BlobKind.TURN}
        if holder.kind in always or (holder.kind is BlobKind.RELEASE and not holder.erased):
            assert needs(holder) <= all_of(kept)
            assert holder.commit is None or holder.commit in kept.commits


@given(holders, times)
def test_runs_and_quarantine_are_kept_exactly_within_retention(found: list[Holder], before: float) -> None:
    kept = keep(found, {"p": before})
    for holder in found:
        if holder.kind in (BlobKind.RUN, BlobKind.QUARANTINE):
            young = holder.project == "q" or holder.at >= before
            assert (holder in kept.holders) == young


@given(holders, times)
def test_each_step_keeps_its_newest_result_and_no_other(found: list[Holder], before: float) -> None:
    kept = keep(found, {"p": before, "q": before})
    for project in "pq":
        for name in "abc":
            of_step = [h for h in found if (h.kind, h.project, h.name) == (BlobKind.STEP, project, name)]
            stays = [h for h in kept.holders if (h.kind, h.project, h.name) == (BlobKind.STEP, project, name)]
            assert len(stays) == min(1, len(of_step))
            assert all(h.at == max(o.at for o in of_step) for h in stays)


@given(holders, times, times)
def test_a_shorter_retention_never_keeps_more(found: list[Holder], one: float, other: float) -> None:
    short, long = (keep(found, {"p": t, "q": t}) for t in (max(one, other), min(one, other)))
    assert all_of(short) <= all_of(long)
    assert short.commits <= long.commits


@given(holders)
def test_nothing_is_kept_that_nobody_needs_and_an_erased_release_holds_nothing(found: list[Holder]) -> None:
    kept = keep(found, {})
    everything: frozenset[str] = frozenset().union(*(needs(h) for h in found)) if found else frozenset()
    assert all_of(kept) <= everything
    assert not any(h.kind is BlobKind.RELEASE and h.erased for h in kept.holders)


@given(st.dictionaries(st.sampled_from(DIGESTS), st.floats(0, 3 * YOUNG_S)), digests)
def test_only_what_is_old_and_not_needed_goes(stored: dict[str, float], needed: frozenset[str]) -> None:
    now = 3 * YOUNG_S
    gone = set(unneeded_blobs(stored.items(), needed, now))
    assert gone.isdisjoint(needed)
    assert all(now - stored[digest] > YOUNG_S for digest in gone)
    assert all(digest in needed or now - at <= YOUNG_S for digest, at in stored.items() if digest not in gone)
    left = {digest: at for digest, at in stored.items() if digest not in gone}
    assert list(unneeded_blobs(left.items(), needed, now)) == []  # once more finds nothing


def test_what_descends_from_a_file_is_found_through_any_number_of_steps() -> None:
    results = [
        ("last", {"table", "other"}, "model"),
        ("clean", {"raw"}, "cleaned"),
        ("apart", {"weather"}, "forecast"),
        ("table", {"cleaned"}, "table"),
    ]
    assert descended_results(results, {"raw"}) == {"clean", "table", "last"}
    assert descended_results(results, {"model"}) == set()
    assert descended_results(results, {"weather"}) == {"apart"}
