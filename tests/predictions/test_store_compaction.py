"""Compaction: every record once, in one form or the other, whatever dies and whoever reads."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import labels_rule as labels
import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.kernel.errors import DiskFullError, StoreError
from noria.predictions import compacted, compaction, reader, segments
from noria.predictions.records import Damage
from noria.predictions.writer import Feedback, LogReader, LogWriter, Prediction, Record, frame, read_all

DAY = 86_400.0
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp()


def answered(i: int, **changes: Any) -> Prediction:
    facts: dict[str, Any] = {
        "id": f"p{i}", "at": NOON + i / 4, "project": "delays", "release": "v1", "variant": "champion", "rollout": None,
        "inputs": {"carrier": "AA", "distance": i * 0.5}, "outputs": {"prediction": i % 2, "probability": i / 1000},
        "key": f"k{i}", "event_time": None, "latency_ms": 0.5,
    }  # fmt: skip
    return Prediction(**(facts | changes))


def segment(folder: Path, name: str, records: list[Record], *, tail: bytes = b"", mode: int = 0o400) -> Path:
    """A segment as a writer leaves it behind; 0600: its writer was killed."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.plog"
    path.write_bytes(segments.MAGIC + b"".join(map(frame, records)) + tail)
    path.chmod(mode)
    return path


def mixed(count: int = 30) -> list[Record]:
    """Two days, two projects, and a release that takes other inputs."""
    records: list[Record] = [answered(i, at=NOON + i * 3600) for i in range(count)]
    records += [answered(100 + i, project="other", inputs={"x": i}, outputs={"prediction": "late"}) for i in range(3)]
    records += [Feedback(NOON + 60 + i, "delays", i % 2 == 0, id=f"p{i}") for i in range(5)]
    records += [answered(200, inputs={"distance": 1, "carrier": None, "seats": [1, 2]}, sample=0.1, error="the candidate failed")]
    return records


def exactly(records: list[Record]) -> list[str]:
    """More than equal: 1 is not 1.0 here, nor true, and names keep their order."""
    return [repr(r) for r in records]


def external(folder: Path) -> list[dict[str, Any]]:
    """What another tool finds: pyarrow's own reader of hive partitions, project by project, and nothing of Noria."""
    rows: list[dict[str, Any]] = []
    for place in sorted(folder.glob("parquet/project=*")):
        files = [str(path) for path in place.rglob("*.parquet")]
        if files:
            schema = pa.unify_schemas([pq.read_schema(f) for f in files], promote_options="permissive")
            dataset = ds.dataset(str(place), schema=schema.append(pa.field("date", pa.string())), partitioning="hive")
            rows += dataset.to_table().to_pylist()
    return rows


def found_ids(folder: Path) -> Counter[str]:
    return Counter(row["id"] for row in external(folder))


def test_the_same_records_before_and_after_in_the_same_order(tmp_path: Path) -> None:
    segment(tmp_path, "a-0000", mixed())
    segment(tmp_path, "b-0000", [answered(i) for i in range(300, 320)])
    before = read_all(tmp_path)
    table = labels.labelled_table(before)
    done = compaction.compact(tmp_path)
    assert (done.segments, done.records, done.damaged) == (2, len(before), [])
    assert list(tmp_path.glob("*.plog")) == []
    after = read_all(tmp_path)
    assert after == before
    assert exactly(after) == exactly(before)
    assert labels.labelled_table(after).equals(table)


def test_another_tool_reads_the_partitions(tmp_path: Path) -> None:
    segment(tmp_path, "a-0000", mixed())
    predictions = [r for r in read_all(tmp_path) if isinstance(r, Prediction)]
    compaction.compact(tmp_path)
    rows = external(tmp_path)
    assert found_ids(tmp_path) == Counter(p.id for p in predictions)
    by_id = {row["id"]: row for row in rows}
    row = by_id["p7"]
    assert row["at"] == datetime.fromtimestamp(NOON + 7 * 3600, UTC)
    assert (row["date"], row["project"], row["release"]) == ("2026-11-20", "delays", "v1")
    assert (row["inputs.carrier"], row["inputs.distance"], row["outputs.probability"]) == ("AA", 3.5, 0.007)
    assert by_id["p20"]["date"] == "2026-11-21"
    assert by_id["p200"]["inputs.seats"] == "[1, 2]"
    assert by_id["p200"]["sample"] == 0.1
    assert by_id["p101"]["outputs.prediction"] == "late"
    assert len({(r["segment"], r["row"]) for r in rows}) == len(rows)
    codecs = {pq.read_metadata(f).row_group(0).column(0).compression for f in (tmp_path / "parquet").rglob("*.parquet")}
    assert codecs == {"ZSTD"}
    (said,) = (tmp_path / "feedback" / "project=delays" / "date=2026-11-20").glob("*.parquet")
    assert pq.read_table(said, partitioning=None)["label"].to_pylist() == [True, False, True, False, True]
    scanned = pl.scan_parquet(
        tmp_path / "parquet/project=delays/**/*.parquet", missing_columns="insert", extra_columns="ignore", hive_partitioning=True
    )
    assert scanned.filter(pl.col("outputs.probability") > 0.02).collect().height == 10


SCALAR = st.one_of(st.none(), st.booleans(), st.integers(-(2**62), 2**62), st.floats(allow_nan=False), st.text(max_size=5))
VALUE = st.one_of(SCALAR, st.lists(SCALAR, max_size=2), st.dictionaries(st.text(max_size=3), SCALAR, max_size=2))
INPUTS = st.dictionaries(st.sampled_from(["a", "b", "ä c", "inputs.a", "id"]), VALUE, max_size=3)
TEXT = st.one_of(st.none(), st.text(max_size=4))
TIME = st.integers(0, 3 * 86_400_000_000).map(lambda us: NOON + us / 1e6).map(lambda at: round(at * 1e6) / 1e6)
RECORD = st.one_of(
    st.builds(
        Prediction, id=st.text(max_size=5), at=TIME, project=st.sampled_from(["p", "q", "../p", "a=b/c%"]), release=st.just("v1"),
        variant=st.just("champion"), rollout=TEXT, inputs=INPUTS, outputs=INPUTS, key=TEXT, event_time=TEXT,
        latency_ms=st.floats(0, 1e6), error=TEXT, sample=st.sampled_from([1.0, 0.25]),
    ),
    st.builds(
        Feedback, at=TIME, project=st.just("p"), label=st.one_of(st.booleans(), st.floats(allow_nan=False), st.text(max_size=4)),
        id=TEXT, key=TEXT, kind=st.sampled_from(["label", "note"]),
    ),
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(parts=st.lists(st.lists(RECORD, max_size=6), min_size=1, max_size=3), chunk=st.integers(1, 4))
def test_any_records_come_back(tmp_path_factory: pytest.TempPathFactory, parts: list[list[Record]], chunk: int) -> None:
    folder = tmp_path_factory.mktemp("log")
    for i, records in enumerate(parts):
        segment(folder, f"w-{i:04d}", records)
    before = read_all(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader, "PART_BYTES", chunk * 100)
        compaction.compact(folder)
    assert read_all(folder) == before == [r for records in parts for r in records]
    assert {p.name for p in folder.iterdir()} <= {"parquet", "feedback", "incoming", "compacted.json", "compacting.lock"}


def test_a_torn_tail_is_cut_and_a_living_writer_left_alone(tmp_path: Path) -> None:
    segment(tmp_path, "a-0000", [answered(1), answered(2)], tail=frame(answered(3))[:-5], mode=0o600)
    writer = LogWriter(tmp_path, "production")
    writer.append(answered(4))
    done = compaction.compact(tmp_path)
    assert (done.segments, done.records) == (1, 2)
    writer.append(answered(5))
    assert [r.id for r in read_all(tmp_path)] == ["p1", "p2", "p4", "p5"]  # type: ignore[union-attr]
    writer.close()
    assert compaction.compact(tmp_path).records == 2
    assert [r.id for r in read_all(tmp_path)] == ["p1", "p2", "p4", "p5"]  # type: ignore[union-attr]


def test_a_damaged_segment_stays_as_it_is(tmp_path: Path) -> None:
    broken = bytearray(frame(answered(2)))
    broken[20] ^= 1
    path = segment(tmp_path, "a-0000", [answered(1)], tail=bytes(broken) + frame(answered(3)))
    segment(tmp_path, "b-0000", [answered(4)])
    content = path.read_bytes()
    done = compaction.compact(tmp_path)
    assert (done.segments, done.damaged) == (1, ["a-0000"])
    assert path.read_bytes() == content
    os.utime(path, (0, 0))
    assert not compacted.due(tmp_path)
    assert compaction.compact(tmp_path).damaged == []  # said once
    assert compaction.compact(tmp_path, again=True).damaged == ["a-0000"]
    reader = LogReader(tmp_path)
    assert [r.id for r in reader.poll()] == ["p1", "p3", "p4"]  # type: ignore[union-attr]
    assert reader.damage() == {"a-0000": Damage(1, len(broken))}


def test_a_damaged_parquet_file_is_counted_and_hides_nothing_else(tmp_path: Path) -> None:
    segment(tmp_path, "a-0000", [answered(i) for i in range(5)])
    compaction.compact(tmp_path)
    (path,) = (tmp_path / "parquet").rglob("*.parquet")
    content = bytearray(path.read_bytes())
    content[40] ^= 0xFF
    path.chmod(0o600)
    path.write_bytes(content)
    segment(tmp_path, "b-0000", [answered(9)])
    reader = LogReader(tmp_path)
    assert [r.id for r in reader.poll()] == ["p9"]  # type: ignore[union-attr]
    assert reader.damaged == 1


@pytest.mark.parametrize("limit", [1, 300, 5000])
def test_a_reader_that_was_half_through_goes_on_in_parquet(tmp_path: Path, limit: int) -> None:
    records: list[Record] = [answered(i) for i in range(40)]
    segment(tmp_path, "a-0000", records[:25])
    segment(tmp_path, "b-0000", records[25:])
    reader, found = LogReader(tmp_path), list[Record]()
    found += reader.poll(limit_bytes=limit)
    compaction.compact(tmp_path)
    while part := reader.poll(limit_bytes=limit):
        found += part
    assert found == records
    segment(tmp_path, "c-0000", [answered(50)])
    assert reader.poll() == [answered(50)]
    compaction.compact(tmp_path)
    assert reader.poll() == []


def test_readers_and_compaction_at_the_same_time(tmp_path: Path) -> None:
    """A reader that runs while segments are written, finished and compacted sees each record exactly once."""
    writer = LogWriter(tmp_path, "production", segment_bytes=2000)
    reader, found, stop = LogReader(tmp_path), list[Record](), threading.Event()

    def compacting() -> None:
        while not stop.is_set():
            compaction.compact(tmp_path)

    thread = threading.Thread(target=compacting)
    thread.start()
    for i in range(1500):
        writer.append(answered(i))
        if i % 10 == 0:
            found += reader.poll()
    writer.close()
    while part := reader.poll():
        found += part
    stop.set()
    thread.join()
    assert sorted(r.id for r in found) == sorted(f"p{i}" for i in range(1500))  # type: ignore[union-attr]
    assert [r.id for r in read_all(tmp_path)] == [f"p{i}" for i in range(1500)]  # type: ignore[union-attr]


# A process that kills itself at the n-th call of the operating system that compaction makes (Python's audit events), for every n.
KILLED = """
import os, shutil, signal, sys
from pathlib import Path
import pandas, pyarrow.dataset  # loaded by pyarrow at its first table: here once, else in each of the processes below
from noria.predictions import compaction
SEEN = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.truncate")
template, places = Path(sys.argv[1]), Path(sys.argv[2])
for n in range(1, 1000):
    folder = places / f"{n:03d}"
    shutil.copytree(template, folder)
    child = os.fork()
    if child == 0:
        left = [n]
        def hook(event, arguments):
            if event in SEEN and str(arguments[0]).startswith(str(folder)):
                left[0] -= 1
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(hook)
        code = 1
        try:
            compaction.compact(folder)
            compaction.expire(folder, 86400.0, now=float(sys.argv[3]))
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status):
        sys.exit(os.WEXITSTATUS(status))
"""


def kill_everywhere(tmp_path: Path, now: float) -> list[Path]:
    template, places = tmp_path / "template", tmp_path / "places"
    places.mkdir()
    command = [sys.executable, "-c", KILLED, str(template), str(places), str(now)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return sorted(places.iterdir())


def test_killed_at_any_step_it_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    template = tmp_path / "template"
    segment(template, "a-0000", mixed(4))
    segment(template, "b-0000", [answered(i) for i in range(300, 310)], tail=b"torn", mode=0o600)
    segment(template, "c-0000", [])
    expected = read_all(template)
    ids = Counter(r.id for r in expected if isinstance(r, Prediction))
    places = kill_everywhere(tmp_path, now=NOON)
    assert len(places) > 40  # steps at which it was killed
    states = Counter[tuple[bool, int]]()
    unfinished = [path for folder in places for path in folder.glob(".*")]
    assert {path.name.partition(".w-")[0] for path in unfinished} == {".compacted.json"}
    for folder in places:
        states[(folder / "compacted.json").is_file(), len(list(folder.glob("*.plog")))] += 1
        assert exactly(read_all(folder)) == exactly(expected), folder
        assert set(found_ids(folder).values()) <= {1}, folder
        compaction.compact(folder)
        assert exactly(read_all(folder)) == exactly(expected), folder
        assert found_ids(folder) == ids, folder
        assert [*folder.glob("*.plog"), *folder.glob("incoming/*"), *folder.glob(".*")] == []
    assert {(False, 3), (True, 3), (True, 0)} <= set(states)  # before the index, after it, and when the segments were gone


def test_killed_at_any_step_retention_leaves_a_whole_log(tmp_path: Path) -> None:
    template = tmp_path / "template"
    old = [answered(i, at=NOON - 10 * DAY) for i in range(3)] + [Feedback(NOON - 9 * DAY, "delays", 1.0, id="p1")]
    segment(template, "a-0000", [*old, answered(7), answered(8)])
    compaction.compact(template)
    for folder in kill_everywhere(tmp_path, now=NOON):
        rows = read_all(folder)
        assert rows in (read_all(template), [answered(7), answered(8)])
        compaction.compact(folder)
        compaction.expire(folder, DAY, now=NOON)
        assert read_all(folder) == [answered(7), answered(8)]
        assert found_ids(folder) == Counter(["p7", "p8"])


def test_a_process_killed_by_others_while_it_writes_and_compacts(tmp_path: Path) -> None:
    """A writer and a compactor in one process, killed again and again from outside; what was acknowledged is there once."""
    program = (
        "import sys, threading\nfrom pathlib import Path\nsys.path.insert(0, sys.argv[2])\n"
        "from test_store_compaction import answered\nfrom noria.predictions import compaction\n"
        "from noria.predictions.writer import LogWriter\nfolder, start = Path(sys.argv[1]), int(sys.argv[3])\n"
        "writer = LogWriter(folder, 'production', segment_bytes=3000)\n"
        "def compacting():\n    while True: compaction.compact(folder)\n"
        "threading.Thread(target=compacting, daemon=True).start()\n"
        "for i in range(start, start + 10**6):\n    writer.append(answered(i)); print(i, flush=True)\n"
    )
    acknowledged: list[int] = []
    for turn in range(4):
        command = [sys.executable, "-c", program, str(tmp_path), str(Path(__file__).parent), str(turn * 10**6)]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        lines = [child.stdout.readline() for _ in range(150 + 97 * turn)]
        os.kill(child.pid, signal.SIGKILL)
        lines += child.stdout.read().splitlines(keepends=True)
        child.wait()
        child.stdout.close()
        acknowledged += [int(line) for line in lines if line.endswith("\n")]
    compaction.compact(tmp_path)
    seen = Counter(r.id for r in read_all(tmp_path) if isinstance(r, Prediction))
    assert {f"p{i}" for i in acknowledged} <= seen.keys()
    assert len(seen) <= len(acknowledged) + 4  # at most the one that each was about to acknowledge
    assert set(seen.values()) == {1}
    assert found_ids(tmp_path) == seen


def test_retention_deletes_whole_days_and_only_old_ones(tmp_path: Path) -> None:
    records: list[Record] = [answered(i, at=NOON - i * DAY) for i in range(6)]
    records += [Feedback(NOON - i * DAY, "delays", 1.0, id=f"p{i}") for i in range(6)]
    segment(tmp_path, "a-0000", records)
    reader = LogReader(tmp_path)
    compaction.compact(tmp_path)
    gone = compaction.expire(tmp_path, 2 * DAY, now=NOON)
    assert (gone.dates, gone.predictions, gone.labels) == (("2026-11-15", "2026-11-16", "2026-11-17"), 3, 3)
    assert [r.id for r in read_all(tmp_path)] == ["p0", "p1", "p2"] * 2  # type: ignore[union-attr]
    assert [r.id for r in reader.poll()] == ["p0", "p1", "p2"] * 2  # type: ignore[union-attr]
    assert sorted(p.name for p in (tmp_path / "parquet" / "project=delays").iterdir()) == [
        "date=2026-11-18", "date=2026-11-19", "date=2026-11-20",
    ]  # fmt: skip
    assert compaction.expire(tmp_path, 2 * DAY, now=NOON).dates == ()
    assert compaction.expire(tmp_path, 0, now=NOON + 9 * DAY).predictions == 3
    assert read_all(tmp_path) == []
    assert not (tmp_path / "parquet" / "project=delays").exists()


def test_a_day_ends_at_midnight_utc_and_is_kept_as_long_from_there(tmp_path: Path) -> None:
    segment(tmp_path, "a-0000", [answered(1)])  # of 20 November
    compaction.compact(tmp_path)
    midnight = datetime(2026, 11, 21, tzinfo=UTC).timestamp()
    assert compaction.expire(tmp_path, 7 * DAY, now=midnight + 7 * DAY - 1).dates == ()
    assert compaction.expire(tmp_path, 7 * DAY, now=midnight + 7 * DAY).dates == ("2026-11-20",)


def test_two_at_once_are_told(tmp_path: Path) -> None:
    segment(tmp_path, "a-0000", [answered(1)])
    with compaction._alone(tmp_path), pytest.raises(StoreError, match="another process compacts"):
        compaction.compact(tmp_path)
    assert compaction.compact(tmp_path).records == 1


def test_a_full_disk_leaves_the_segments(tmp_path: Path) -> None:
    program = (
        "import resource, sys\nfrom pathlib import Path\nfrom noria.kernel.errors import DiskFullError\n"
        "from noria.predictions import compaction\nresource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))\n"
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "try:\n    compaction.compact(Path(sys.argv[1]))\nexcept DiskFullError:\n    print('full')\n"
    )
    path = segment(tmp_path, "a-0000", [answered(i) for i in range(200)])
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "full"
    assert path.is_file()
    assert len(read_all(tmp_path)) == 200
    assert list((tmp_path / "incoming").iterdir()) == []
    assert issubclass(DiskFullError, StoreError)
    assert compaction.compact(tmp_path).records == 200


def test_it_is_due_when_there_is_much_or_it_is_old(tmp_path: Path) -> None:
    assert not compacted.due(tmp_path)
    path = segment(tmp_path, "a-0000", [answered(1)])
    assert not compacted.due(tmp_path)
    assert compacted.due(tmp_path, size_bytes=100)
    yesterday = path.stat().st_mtime - DAY - 1
    os.utime(path, (yesterday, yesterday))
    assert compacted.due(tmp_path)
    path.chmod(0o600)
    assert not compacted.due(tmp_path)  # its writer may live


def test_an_old_segment_is_finished_though_nobody_writes(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path, "production", segment_s=0.05)
    writer.append(answered(1))
    (first,) = tmp_path.glob("*.plog")
    event = threading.Event()
    for _ in range(200):
        if not first.stat().st_mode & segments.WRITABLE:
            break
        event.wait(0.05)
    assert not first.stat().st_mode & segments.WRITABLE
    writer.append(answered(2))
    assert compaction.compact(tmp_path).records >= 1
    writer.close()
    assert [r.id for r in read_all(tmp_path)] == ["p1", "p2"]  # type: ignore[union-attr]
    assert len(list(tmp_path.glob("*.plog"))) <= 2  # an empty segment is not turned over


def test_a_later_index_is_refused_and_a_damaged_one_told(tmp_path: Path) -> None:
    segment(tmp_path, "a-0000", [answered(1)])
    compaction.compact(tmp_path)
    path = tmp_path / compacted.INDEX
    content = json.loads(path.read_bytes())
    path.write_bytes(msgspec.json.encode(content | {"format": 2}))
    with pytest.raises(StoreError, match="later Noria"):
        read_all(tmp_path)
    path.write_bytes(b"{")
    with pytest.raises(StoreError, match="damaged"):
        read_all(tmp_path)


def test_a_copy_of_the_folder_is_a_log(tmp_path: Path) -> None:
    """Paths are relative: a log may be moved."""
    segment(tmp_path / "one", "a-0000", mixed())
    compaction.compact(tmp_path / "one")
    expected = read_all(tmp_path / "one")
    shutil.move(tmp_path / "one", tmp_path / "two")
    assert read_all(tmp_path / "two") == expected
