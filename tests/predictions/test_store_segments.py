"""The prediction log under damage: what can be read is read, and nothing readable is ever cut."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Literal

import labels_rule as labels
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.kernel.errors import DiskFullError, StoreError
from noria.predictions import log_query, segments
from noria.predictions import writer as log_writer
from noria.predictions.records import Damage
from noria.predictions.writer import Feedback, LogReader, LogWriter, Prediction, frame, read_all, recover


def answered(i: int, *, key: str | None = None, at: float | None = None, project: str = "p", **inputs: object) -> Prediction:
    moment = float(i) if at is None else at
    return Prediction(f"p{i}", moment, project, "v1", "champion", None, inputs or {"a": i}, {"prediction": i}, key, None, 1.0)


FRAMES = [frame(answered(i)) for i in range(6)]
LOG = segments.MAGIC + b"".join(FRAMES)
STARTS = [len(segments.MAGIC) + sum(map(len, FRAMES[:i])) for i in range(len(FRAMES) + 1)]


def lone_segment(folder: Path) -> Path:
    (found,) = folder.glob("*.plog")
    return found


@given(at=st.integers(len(segments.MAGIC), len(LOG) - 1), mask=st.integers(1, 255))
def test_one_changed_byte_costs_the_record_that_it_hits(tmp_path_factory: pytest.TempPathFactory, at: int, mask: int) -> None:
    """Number 51: a flipped byte cost all records behind it, without a word."""
    folder = tmp_path_factory.mktemp("log")
    damaged = bytearray(LOG)
    damaged[at] ^= mask
    path = folder / "w-0000.plog"
    path.write_bytes(damaged)
    hit = max(i for i, start in enumerate(STARTS[:-1]) if start <= at)
    reader = LogReader(folder)
    assert reader.poll() == [answered(i) for i in range(len(FRAMES)) if i != hit]
    last = hit == len(FRAMES) - 1
    expected = Damage() if last else Damage(1, len(FRAMES[hit]))  # the last one may still be on its way
    assert reader.damage().get("w-0000", Damage()) == log_query.scan(folder, "p").damage == expected
    path.chmod(0o400)
    assert reader.poll() == []
    assert reader.damage()["w-0000"] == Damage(1, len(FRAMES[hit]))  # now that it is finished nothing is on its way
    path.chmod(0o600)
    assert recover(folder) == (len(FRAMES[-1]) if last else 0)
    assert path.read_bytes() == bytes(damaged[: STARTS[-2]] if last else damaged)


@given(
    hits=st.lists(st.integers(len(segments.MAGIC), len(LOG) - 1), min_size=1, max_size=4), limit=st.sampled_from([1, 150, 10_000])
)
def test_several_changed_bytes_cost_the_records_that_they_hit(
    tmp_path_factory: pytest.TempPathFactory, hits: list[int], limit: int
) -> None:
    """Number 51: whatever is damaged, however little is read at a time, and with a reader that goes on where another was."""
    folder = tmp_path_factory.mktemp("log")
    damaged = bytearray(LOG)
    for at in hits:
        damaged[at] ^= 0x55
    spoilt = {max(i for i, start in enumerate(STARTS[:-1]) if start <= at) for at in range(len(LOG)) if damaged[at] != LOG[at]}
    path = folder / "w-0000.plog"
    path.write_bytes(damaged)
    path.chmod(0o400)
    reader, found = LogReader(folder), list[log_writer.Record]()
    while part := reader.poll(limit_bytes=limit):
        found += part
        reader = LogReader(folder, places=reader.places())
    assert found == [answered(i) for i in range(len(FRAMES)) if i not in spoilt]
    lost = sum(d.size_bytes for d in reader.damage().values())
    assert lost == sum(len(FRAMES[i]) for i in spoilt)


def test_a_tail_of_zeros_after_a_loss_of_power_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "w-0000.plog"
    path.write_bytes(LOG + bytes(4096))
    assert len(read_all(tmp_path)) == len(FRAMES)
    assert recover(tmp_path) == 4096
    assert path.read_bytes() == LOG


def test_a_record_of_a_later_noria_is_counted_as_unreadable(tmp_path: Path) -> None:
    unknown = segments.pack(msgspec.msgpack.encode({"record": "verdict"}))
    (tmp_path / "w-0000.plog").write_bytes(segments.MAGIC + FRAMES[0] + unknown + FRAMES[1])
    reader = LogReader(tmp_path)
    assert reader.poll() == [answered(0), answered(1)]
    assert reader.damage() == {"w-0000": Damage(1, len(unknown))}


@pytest.mark.parametrize("limit", [1, 40, len(FRAMES[0]), 2 * len(FRAMES[0]) + 3])
def test_a_poll_is_bounded_over_all_segments_and_loses_nothing(tmp_path: Path, limit: int) -> None:
    for n in range(3):
        (tmp_path / f"w-{n:04d}.plog").write_bytes(LOG)
    reader, found = LogReader(tmp_path), []
    while part := reader.poll(limit_bytes=limit):
        assert sum(len(frame(r)) for r in part) < limit + len(max(FRAMES, key=len))
        found += part
    assert found == [answered(i) for i in range(len(FRAMES))] * 3  # one segment after the other
    assert reader.damaged == 0


@given(cuts=st.lists(st.integers(0, len(LOG)), max_size=8))
def test_a_growing_segment_is_read_once_whatever_the_cuts(tmp_path_factory: pytest.TempPathFactory, cuts: list[int]) -> None:
    folder = tmp_path_factory.mktemp("log")
    path, reader, found = folder / "w-0000.plog", LogReader(folder), []
    for cut in [*sorted(cuts), len(LOG)]:
        path.write_bytes(LOG[:cut])
        found += reader.poll()
    assert found == [answered(i) for i in range(len(FRAMES))]
    assert reader.damaged == 0


def test_a_record_no_reader_would_take_is_refused(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path, "production")
    with pytest.raises(StoreError, match="does not fit"):
        writer.append(answered(1), answered(2, text="x" * segments.LONGEST))
    writer.append(answered(3))
    writer.close()
    assert read_all(tmp_path) == [answered(3)]


def test_a_finished_segment_is_read_only_and_not_looked_at_again(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path, "production")
    writer.append(answered(1))
    path = lone_segment(tmp_path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    writer.close()
    writer.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o400
    with pytest.raises(StoreError, match="closed"):
        writer.append(answered(2))


def test_a_failed_group_sync_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = LogWriter(tmp_path, "production")
    writer.append(answered(1))
    monkeypatch.setattr(writer, "_unsynced", OSError(5, "Input/output error"))
    with pytest.raises(StoreError, match="did not keep"):
        writer.append(answered(2))
    writer.append(answered(3))
    writer.close()
    assert read_all(tmp_path) == [answered(1), answered(3)]


def test_what_cannot_be_cut_off_again_has_nothing_behind_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a record is written and the truncation fails too: the next records go to a new segment."""
    writer = LogWriter(tmp_path, "production")
    writer.append(answered(1))
    real_write = os.write

    def half(handle: int, data: bytes) -> int:
        return real_write(handle, data[: len(data) // 2])

    def refuse(*_: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(log_writer.os, "write", half)
        broken.setattr(log_writer.os, "ftruncate", refuse)
        with pytest.raises(DiskFullError):
            writer.append(answered(2))
    writer.append(answered(3))
    writer.close()
    assert len(list(tmp_path.glob("*.plog"))) == 2
    assert read_all(tmp_path) == [answered(1), answered(3)]


def test_a_segment_that_cannot_be_begun_leaves_the_old_one_in_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = LogWriter(tmp_path, "production", segment_bytes=400)
    writer.append(answered(1))

    def no_room(path: object, *_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(log_writer.os, "open", no_room)
        with pytest.raises(DiskFullError):
            writer.append(answered(2, text="x" * 400))
    writer.append(answered(3))
    writer.close()
    assert [r.id for r in read_all(tmp_path)] == ["p1", "p3"]


@pytest.mark.parametrize(("sync", "synced_here"), [("each", [1, 2, 3]), ("group", [0, 0, 0])])
def test_each_sync_reaches_the_disk_before_append_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sync: Literal["each", "group"], synced_here: list[int]
) -> None:
    threads: list[int] = []  # which thread synced: that of the appender, or the writer's own
    monkeypatch.setattr(log_writer.os, "fdatasync", lambda _: threads.append(threading.get_ident()))
    writer = LogWriter(tmp_path, "production", sync=sync)
    counts = []
    for i in range(3):
        writer.append(answered(i))
        counts.append(threads.count(threading.get_ident()))
    writer.close()
    assert counts == synced_here


def test_a_label_never_belongs_to_a_later_prediction() -> None:
    records = [Feedback(1.0, "p", 1.0, key="k"), answered(2, key="k"), answered(3, key="k"), Feedback(9.0, "p", 0.0, key="k")]
    assert {p.id: label for p, label in labels.join(records)} == {"p2": None, "p3": 0.0}


def test_a_label_does_not_cross_projects() -> None:
    records = [answered(1, key="k", project="ours"), Feedback(5.0, "theirs", 1.0, key="k"), Feedback(6.0, "theirs", 1.0, id="p1")]
    assert [label for _, label in labels.join(records)] == [None]


def test_inputs_do_not_hide_the_facts_of_a_prediction() -> None:
    table = labels.labelled_table([answered(1, id=7.0, label="their own", distance=3.0), Feedback(5.0, "p", 1.0, id="p1")])
    row = table.row(0, named=True)
    assert (row["id"], row["label"]) == ("p1", 1.0)
    assert (row["input.id"], row["input.label"], row["distance"]) == (7.0, "their own", 3.0)


def test_who_writes_the_log_loads_neither_polars_nor_sqlite() -> None:
    program = "import sys, noria.predictions.writer; print({'polars', 'sqlite3', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
