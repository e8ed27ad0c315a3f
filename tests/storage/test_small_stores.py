"""The small stores: packed blobs, marks of files, projects and approvals, each beside a dict that holds what it should."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from noria.kernel.errors import StoreError
from noria.storage.connection import Database
from noria.storage.ledger import Ledger
from noria.storage.projects import ProjectStore
from noria.storage.small_blobs import AT_ONCE, PackedBlob, SmallBlobs
from noria.storage.stat_index import StatEntry, StatIndex

KEEP = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=10)
BYTES = st.binary(max_size=200)


@pytest.fixture
def packed(tmp_path: Path) -> SmallBlobs:
    return SmallBlobs(tmp_path / "small.db")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(tmp_path / "ledger.db")
    yield made
    made.close()


def named(*contents: bytes) -> dict[str, bytes]:
    return {blake3(data).hexdigest(): data for data in contents}


def test_nothing_is_made_before_the_first_blob(packed: SmallBlobs, tmp_path: Path) -> None:
    assert packed.get("a" * 64) is None
    assert not packed.has("a" * 64)
    assert not packed.renew("a" * 64, time.time())
    assert list(packed.each()) == []
    assert packed.drop(["a" * 64]) == set()
    assert list(tmp_path.iterdir()) == []


@KEEP
@given(batches=st.lists(st.lists(BYTES, min_size=1, max_size=6), max_size=4))
def test_what_was_put_is_there_in_the_order_of_digests(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[bytes]]
) -> None:
    path = tmp_path_factory.mktemp("b") / "small.db"
    expected: dict[str, bytes] = {}
    packed = SmallBlobs(path)
    for batch in batches:
        packed.put(named(*batch))
        expected |= named(*batch)
    for known in (packed, SmallBlobs(path)):  # another process sees the same
        assert [blob.digest for blob in known.each()] == sorted(expected)
        assert {blob.digest: blob.size_bytes for blob in known.each()} == {name: len(data) for name, data in expected.items()}
        assert {name: known.get(name) for name in expected} == expected
        assert all(known.has(name) for name in expected)


def test_bytes_that_are_put_again_take_the_place_of_damaged_ones(packed: SmallBlobs, tmp_path: Path) -> None:
    (name,) = blobs = named(b"content")
    packed.put(blobs)
    plain = sqlite3.connect(tmp_path / "small.db")
    plain.execute("UPDATE small SET bytes = ?", (b"damaged",))
    plain.commit()
    plain.close()
    assert packed.get(name) == b"damaged", "nothing is verified here: the blob store does that"
    packed.put(blobs)
    assert packed.get(name) == b"content"
    assert len(list(packed.each())) == 1


def test_the_young_are_spared_and_renewal_makes_young(packed: SmallBlobs) -> None:
    old, young = named(b"old"), named(b"young")
    packed.put(old | young)
    at = {blob.digest: blob.at for blob in packed.each()}
    (name,), (other,) = old, young
    assert packed.drop([name, other], before=min(at.values())) == set()
    later = time.time() + 10
    assert packed.renew(name, before=at[name]), "it is young enough"
    assert {blob.digest: blob.at for blob in packed.each()}[name] == at[name]
    assert packed.renew(name, before=later)
    renewed = {blob.digest: blob.at for blob in packed.each()}
    assert renewed[name] >= at[name]
    assert renewed[other] == at[other]
    assert packed.drop([name, other], before=later) == {name, other}
    assert not packed.renew(name, before=later)


@pytest.mark.parametrize("count", [0, 1, AT_ONCE - 1, AT_ONCE, AT_ONCE + 1])
def test_any_number_is_dropped_and_the_others_stay(packed: SmallBlobs, count: int) -> None:
    gone, kept = named(*(b"gone %d" % i for i in range(count))), named(*(b"kept %d" % i for i in range(3)))
    packed.put(gone | kept)
    assert packed.drop([*gone, "f" * 64]) == set(gone)
    assert packed.drop(gone) == set()
    assert {blob.digest for blob in packed.each()} == set(kept)


def test_what_is_dropped_is_in_no_file_any_more(packed: SmallBlobs, tmp_path: Path) -> None:
    secret = b"a secret of some length " * 40
    packed.put(named(secret, b"other"))
    assert any(secret in path.read_bytes() for path in tmp_path.iterdir())
    packed.drop(named(secret))
    assert not any(secret[:24] in path.read_bytes() for path in tmp_path.iterdir())


@pytest.mark.parametrize("at", range(0, 100, 3))
def test_a_damaged_file_of_blobs_is_an_error_or_reads_as_before(tmp_path: Path, at: int) -> None:
    """The head of the file, byte for byte: never a trace, never other bytes."""
    blobs = named(b"one", b"two")
    first = SmallBlobs(tmp_path / "small.db")
    first.put(blobs)
    first._file().close()  # type: ignore[union-attr]  # it is there
    content = bytearray((tmp_path / "small.db").read_bytes())
    content[at] ^= 0xFF
    (tmp_path / "small.db").write_bytes(content)
    found: dict[str, bytes | None] = {}
    with contextlib.suppress(StoreError):
        found = {name: SmallBlobs(tmp_path / "small.db").get(name) for name in blobs}
    assert all(data in (None, blobs[name]) for name, data in found.items())


MARKS = st.dictionaries(
    st.text(max_size=5).filter(lambda t: "\0" not in t and t.isprintable()), st.text("ab", max_size=3), max_size=5
)


@KEEP
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["put", "drop"]), st.sampled_from("pq"), st.sampled_from(["data:a", "tree:/x"]), MARKS),
        max_size=8,
    )
)
def test_marks_are_a_mapping_for_each_project_and_place(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str, str, dict[str, str]]]
) -> None:
    made = Ledger.open(tmp_path_factory.mktemp("m"))
    expected = dict[tuple[str, str], dict[str, StatEntry]]()
    for verb, project, place, names in steps:
        held = expected.setdefault((project, place), {})
        if verb == "put":
            entries = {name: StatEntry(seen, "d" + seen) for name, seen in names.items()}
            StatIndex(made, project).put(place, entries)
            held |= entries
        else:
            StatIndex(made, project).drop(place, names)
            for name in names:
                held.pop(name, None)
    for (project, place), held in expected.items():
        marks = StatIndex(made, project)
        assert marks.all(place) == held
        assert list(marks.each(place)) == [(name, held[name].seen, held[name].digest) for name in sorted(held)]
    assert StatIndex(made, "nobody").all("data:a") == {}
    made.close()


def test_a_project_is_known_once_and_may_move(database: Database) -> None:
    projects = ProjectStore(database)
    assert projects.list() == []
    for name in ("b", "a"):
        projects.ensure(name, f"/old/{name}")
    created = {project.name: project.created_at for project in projects.list()}
    projects.ensure("a", "/old/a")
    projects.ensure("a", "/new/a")
    found = projects.list()
    assert [(project.name, project.home) for project in found] == [("a", "/new/a"), ("b", "/old/b")]
    assert {project.name: project.created_at for project in found} == created


def test_blobs_are_told_apart_by_their_digest_alone(packed: SmallBlobs) -> None:
    packed.put({"a" * 64: b"", "b" * 64: b"\0" * 70_000})
    assert list(packed.each()) == [
        PackedBlob("a" * 64, 0, next(packed.each()).at),
        PackedBlob("b" * 64, 70_000, list(packed.each())[1].at),
    ]
    assert packed.get("a" * 64) == b""
    assert packed.get("b" * 64) == b"\0" * 70_000
