"""Versions of datasets: an append costs what was appended, and whatever happened before, equal files are one version."""

from __future__ import annotations

import json
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from noria.data import manifests
from noria.data.snapshot import Delivery, FilePin, Snapshot
from noria.data.store import DataStore, manifest_digest
from noria.kernel import names
from noria.kernel.errors import NotFoundError, StoreError
from noria.storage import connection
from noria.storage.connection import Database, migrations
from noria.storage.ledger import Ledger


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger.open(tmp_path / "state")
    yield opened
    opened.close()


def pin(name: str, content: int = 0, rows: int = 1, origin: str | None = None) -> FilePin:
    return FilePin(name, names.digest_bytes(b"%d" % content), 10 + content, rows, origin)


def accepted(made: FilePin) -> tuple[Delivery, FilePin]:
    return Delivery(names.new_id("delivery"), "d", made.name, made.digest, made.rows, made.rows, 0, True, "fine"), made


def deliver(books: Ledger, pins: list[FilePin]) -> None:
    DataStore(books, "p").deliver_many([accepted(each) for each in pins])


def chunk_keys(books: Ledger) -> set[str]:
    return {key for (key,) in books.database.rows("SELECT key FROM chunks")}


NAMES = st.sampled_from([f"{folder}/{at}" for folder in ("a", "b", "é", "𝄞", "Z") for at in range(8)])
CHANGES = st.lists(st.lists(st.tuples(NAMES, st.one_of(st.none(), st.integers(0, 2))), max_size=6), min_size=1, max_size=8)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(CHANGES)
def test_a_version_is_what_its_files_are_whatever_came_before(tmp_path_factory: Any, rounds: list[Any]) -> None:
    """Against a dictionary, and against the manifest made from nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifests, "CHUNK_FILES", 3)
        books = Ledger.open(tmp_path_factory.mktemp("state"))
        held: dict[str, FilePin] = {}
        seen: list[Snapshot] = []
        for changes in rounds:
            for name, content in changes:
                if content is None and name in held:
                    DataStore(books, "p").withdraw("d", name)
                    del held[name]
                elif content is not None:
                    held[name] = pin(name, content)
                    deliver(books, [held[name]])
            now = DataStore(books, "p").current("d")
            files = tuple(sorted(held.values(), key=lambda each: each.name))
            assert now == Snapshot("d", manifest_digest("d", files), files)
            facts = DataStore(books, "p").head("d")
            assert (facts.files, facts.rows) == (len(files), now.rows)
            assert facts.size_bytes == sum(each.size_bytes for each in files)
            seen += [now] if files else []
        for old in seen:
            assert DataStore(books, "p").snapshot(old.digest) == old
            found = DataStore(books, "p").difference(old.digest, seen[-1].digest)
            before, after = ({each.name: each for each in one.files} for one in (old, seen[-1]))
            assert found.added == tuple(after[name] for name in after if name not in before)
            assert found.removed == tuple(before[name] for name in before if name not in after)
            assert found.changed == tuple((before[n], after[n]) for n in after if n in before and before[n] != after[n])
        books.close()


def test_an_append_writes_a_chunk_or_two(books: Ledger) -> None:
    deliver(books, [pin(f"part-{at:06}") for at in range(20_000)])
    first = DataStore(books, "p").head("d")
    before = chunk_keys(books)
    assert 25 <= len(before) <= 60  # 20,000 entries, about 512 in each
    deliver(books, [pin("part-020000"), pin("part-007777", 5)])
    second = DataStore(books, "p").head("d")
    assert len(chunk_keys(books) - before) == 2
    assert (second.files, second.digest != first.digest) == (20_001, True)
    found = DataStore(books, "p").difference(first.digest, second.digest)
    assert [each.name for each in found.added] == ["part-020000"]
    assert [(old.name, new.size_bytes - old.size_bytes) for old, new in found.changed] == [("part-007777", 5)]


def test_looking_again_reads_no_manifest(books: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    deliver(books, [pin("a"), pin("b")])
    head = DataStore(books, "p").head("d")
    monkeypatch.setattr(DataStore, "_update_head", lambda *_: pytest.fail("nothing had changed"))
    monkeypatch.setattr(manifests, "unpack", lambda _: pytest.fail("no entry is asked for"))
    assert DataStore(books, "p").head("d") == head


def test_the_order_of_arrival_does_not_matter(books: Ledger, tmp_path: Path) -> None:
    pins = [pin(f"n{at}", at) for at in range(3_000)]
    deliver(books, pins)
    other = Ledger.open(tmp_path / "other")
    for start in range(0, 3_000, 500):
        deliver(other, pins[::-1][start : start + 500])
        DataStore(other, "p").head("d")
    assert DataStore(other, "p").head("d").digest == DataStore(books, "p").head("d").digest
    other.close()


def test_many_deliveries_are_recorded_or_none(books: Ledger) -> None:
    good, (judged, _) = accepted(pin("a")), accepted(pin("b"))
    with pytest.raises(StoreError, match="accepted with its file"):
        DataStore(books, "p").deliver_many([good, (judged, None)])
    assert DataStore(books, "p").deliveries() == []
    assert DataStore(books, "p").accepted_files("d") == {}
    DataStore(books, "p").deliver_many([good, accepted(pin("a", 1))])
    assert DataStore(books, "p").accepted_files("d") == {"a": pin("a", 1)}  # the later one stands
    assert len(DataStore(books, "p").deliveries()) == 2


def test_a_pinned_remote_object_keeps_its_address(books: Ledger) -> None:
    far = pin("s3://shop/a.csv", origin="s3://shop/a.csv?versionId=7")
    deliver(books, [far, pin("b")])
    assert DataStore(books, "p").current("d").files == (pin("b"), far)
    assert DataStore(books, "p").accepted_files("d")[far.name] == far


def test_a_file_that_is_counted_later_is_the_same_version(books: Ledger) -> None:
    deliver(books, [pin("a", rows=0)])
    before = DataStore(books, "p").head("d")
    deliver(books, [pin("a", rows=7)])
    after = DataStore(books, "p").head("d")
    assert (after.digest, after.at) == (before.digest, before.at)
    assert DataStore(books, "p").current("d").rows == DataStore(books, "p").snapshot(before.digest).rows == after.rows == 7


def test_versions_are_listed_and_found_by_how_their_digests_begin(books: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(1_000, 2_000))
    monkeypatch.setattr(time, "time", lambda: float(next(clock)))
    made = []
    for at in range(40):
        deliver(books, [pin("a", at)])
        made.append(DataStore(books, "p").head("d").digest)
    DataStore(books, "p").put_snapshot(Snapshot("e", "f" * 64, (pin("x", rows=3),)))
    assert [facts.digest for facts in DataStore(books, "p").history("d", 10)] == made[: -10 - 1 : -1]
    assert [facts.rows for facts in DataStore(books, "p").history(limit=1)] == [3]
    assert DataStore(books, "p").find_snapshot(made[0]).digest == made[0]
    assert DataStore(books, "p").find_snapshot("ffffff").dataset == "e"
    with pytest.raises(NotFoundError, match=f"{made[0][:0]}.*may be any of"):
        DataStore(books, "p").find_snapshot("")
    with pytest.raises(NotFoundError, match="there is no snapshot"):
        DataStore(books, "p").find_snapshot("0" * 63)
    with pytest.raises(NotFoundError):
        DataStore(books, "p").facts("0" * 64)


def test_what_is_forgotten_goes_and_what_is_shared_stays(books: Ledger) -> None:
    deliver(books, [pin(f"{at:05}") for at in range(4_000)])
    first = DataStore(books, "p").current("d")
    deliver(books, [pin("00007", 1)])
    second = DataStore(books, "p").current("d")
    before = chunk_keys(books)
    assert DataStore(books, "p").forget([first.digest, second.digest]) == 1  # the newest version is the dataset
    assert len(before - chunk_keys(books)) == 1
    assert DataStore(books, "p").snapshot(second.digest) == second
    with pytest.raises(NotFoundError):
        DataStore(books, "p").snapshot(first.digest)
    deliver(books, [pin("00007")])
    assert DataStore(books, "p").current("d") == first


def test_versions_of_before_there_were_chunks_are_read_and_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "state").mkdir()
    path = tmp_path / "state" / "ledger.db"
    monkeypatch.setattr(connection, "migrations", lambda: migrations()[:4])
    old = Database(path)
    entries = [{"name": f"{n}.csv", "digest": names.digest_bytes(n.encode()), "size_bytes": 5, "rows": 2} for n in "abc"]
    for count, digest in ((2, "1" * 64), (3, "2" * 64)):
        text = json.dumps(entries[:count])
        sql = "INSERT INTO snapshots (project, digest, dataset, files, at) VALUES ('p', ?, 'd', ?, ?)"
        old.execute(sql, (digest, text, float(count)))
    for entry in entries:
        sql = "INSERT INTO files (project, dataset, name, digest, size_bytes, rows) VALUES ('p', 'd', ?, ?, ?, ?)"
        old.execute(sql, tuple(entry.values()))
    old.close()
    monkeypatch.undo()
    books = Ledger.open(tmp_path / "state")
    pins = tuple(FilePin(**entry) for entry in entries)
    assert DataStore(books, "p").snapshot("1" * 64) == Snapshot("d", "1" * 64, pins[:2])
    assert [(f.files, f.rows, f.size_bytes) for f in DataStore(books, "p").history()] == [(3, 6, 15), (2, 4, 10)]
    now = DataStore(books, "p").current("d")
    assert now.files == pins
    for newer in ("2" * 64, now.digest):
        assert DataStore(books, "p").difference("1" * 64, newer).added == pins[2:]
    assert DataStore(books, "p").difference("2" * 64, now.digest).changed == ()
    books.close()


def test_memory_does_not_grow_with_the_number_of_files(books: Ledger) -> None:
    for start in range(0, 30_000, 5_000):
        deliver(books, [pin(f"{at:06}") for at in range(start, start + 5_000)])
    tracemalloc.start()
    head = DataStore(books, "p").head("d")
    count = sum(1 for _ in DataStore(books, "p").files_of(head.digest))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 30_000
    assert peak < 12_000_000  # bytes; the entries alone would take more than 15 million
