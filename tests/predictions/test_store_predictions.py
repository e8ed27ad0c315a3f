"""The prediction log: what was acknowledged is read back, whatever happens."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import labels_rule as labels
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.kernel.errors import DiskFullError
from noria.predictions.writer import MAGIC, Feedback, LogReader, LogWriter, Prediction, frame, read_all, recover


def prediction(number: int, **changes: object) -> Prediction:
    facts: dict[str, object] = {
        "id": f"p{number}", "at": float(number), "project": "x", "release": "v1", "variant": "champion", "rollout": None,
        "inputs": {"a": 1.0, "b": "text"}, "outputs": {"prediction": 0, "probability": 0.25}, "key": f"k{number}",
        "event_time": None, "latency_ms": 0.5,
    }  # fmt: skip
    return Prediction(**(facts | changes))  # type: ignore[arg-type]


def segment(folder: Path) -> Path:
    (found,) = folder.glob("*.plog")
    return found


@given(st.integers(0, 400), st.integers(1, 6))
def test_any_cut_leaves_a_prefix(tmp_path_factory: pytest.TempPathFactory, cut: int, count: int) -> None:
    folder = tmp_path_factory.mktemp("log")
    records = [prediction(i) for i in range(count)]
    data = MAGIC + b"".join(frame(r) for r in records)
    path = folder / "w-0000.plog"
    path.write_bytes(data[: max(0, len(data) - cut)])
    whole = read_all(folder)
    assert whole == records[: len(whole)]
    if cut:
        assert len(whole) < count
    recover(folder)
    assert read_all(folder) == whole
    if path.read_bytes().startswith(MAGIC):
        assert path.read_bytes() == MAGIC + b"".join(frame(r) for r in whole)


def test_a_reader_follows_and_gives_each_record_once(tmp_path: Path) -> None:
    reader = LogReader(tmp_path)
    assert reader.poll() == []
    one, two = LogWriter(tmp_path, "production"), LogWriter(tmp_path, "production", segment_bytes=500)
    one.append(prediction(1))
    assert reader.poll() == [prediction(1)]
    for number in range(2, 12):
        two.append(prediction(number), Feedback(1.0, "x", True, id=f"p{number}"))
    found = reader.poll()
    assert [r for r in found if isinstance(r, Prediction)] == [prediction(n) for n in range(2, 12)]
    assert len(found) == 20
    assert reader.poll() == []
    assert len(list(tmp_path.glob("*.plog"))) > 3
    one.close()
    two.close()


def test_a_torn_frame_is_waited_for_and_damage_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "w-0000.plog"
    first, second, third = (frame(prediction(i)) for i in range(3))
    path.write_bytes(MAGIC + first + second[:30])
    reader = LogReader(tmp_path)
    assert reader.poll() == [prediction(0)]
    assert reader.damaged == 0
    path.write_bytes(MAGIC + first + second)
    assert reader.poll() == [prediction(1)]
    broken = bytearray(third)
    broken[20] ^= 1
    path.write_bytes(MAGIC + first + second + bytes(broken) + first)
    assert reader.poll() == [prediction(0)]
    assert reader.damage()["w-0000"].words == f"1 damaged place ({len(third)} bytes)"


def test_recovery_leaves_a_living_writers_segment_alone(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path, "production")
    writer.append(prediction(1))
    with segment(tmp_path).open("ab") as file:
        file.write(b"half a frame")
    assert recover(tmp_path) == 0
    writer.close()
    assert recover(tmp_path) == len(b"half a frame")


WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_store_predictions import prediction
from noria.predictions.writer import LogWriter
writer = LogWriter(Path(sys.argv[1]), "production")
for i in range(1_000_000):
    writer.append(prediction(i))
    print(i, flush=True)
"""


def test_every_acknowledged_record_survives_kill_9(tmp_path: Path) -> None:
    here = str(Path(__file__).parent)
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), here], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    for _ in range(200):
        writer.stdout.readline()
    writer.kill()
    rest = writer.stdout.read()
    acknowledged = 200 + rest.count("\n")
    writer.wait()
    writer.stdout.close()
    found = read_all(tmp_path)
    assert len(found) >= acknowledged
    assert found == [prediction(i) for i in range(len(found))]


FULL = """
import resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_store_predictions import prediction
from noria.kernel.errors import DiskFullError
from noria.predictions.writer import LogWriter
writer = LogWriter(Path(sys.argv[1]), "production")
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
kept = 0
try:
    while True:
        writer.append(prediction(kept))
        kept += 1
except DiskFullError:
    print(kept)
"""


def test_a_full_disk_is_said_and_leaves_whole_records(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FULL, str(tmp_path), str(Path(__file__).parent)]
    kept = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert kept > 2
    assert read_all(tmp_path) == [prediction(i) for i in range(kept)]
    assert issubclass(DiskFullError, Exception)


def test_appending_is_cheap(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path, "production")
    best = min(_append_seconds(writer) for _ in range(5))
    writer.close()
    assert best < 200e-6  # seconds a record; 3 us measured, and the bound holds on a busy machine too


def _append_seconds(writer: LogWriter) -> float:
    begun = time.perf_counter()
    for i in range(200):
        writer.append(prediction(i))
    return (time.perf_counter() - begun) / 200


def test_labels_find_their_predictions() -> None:
    records = [
        prediction(1, key="a"),
        prediction(5, key="a"),
        prediction(6, key="b"),
        prediction(7, key=None),
        Feedback(3.0, "x", 1.0, key="a"),  # after p1, before p5
        Feedback(9.0, "x", 0.0, id="p7"),
        Feedback(10.0, "x", 1.0, id="p7"),  # the last one wins
        Feedback(11.0, "x", 1.0, key="nobody"),
        Feedback(12.0, "x", 5.0, id="p6", kind="note"),
    ]
    assert {p.id: label for p, label in labels.join(records)} == {"p1": 1.0, "p5": None, "p6": None, "p7": 1.0}
    table = labels.labelled_table(records)
    assert table["output"].to_list() == [0.25] * 4
    assert table.columns[-2:] == ["a", "b"]


def test_an_empty_log_is_an_empty_table(tmp_path: Path) -> None:
    assert labels.labelled_table(read_all(tmp_path / "nothing")).height == 0
