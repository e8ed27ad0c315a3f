"""The newest predictions, from segments and Parquet, against sorting all of them."""

from __future__ import annotations

import os
import random
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.predictions import compaction, newest, segments
from noria.predictions.records import Predictions
from noria.predictions.writer import Feedback, LogWriter, Prediction, frame, read_all

NOON = datetime(2026, 11, 18, 12, tzinfo=UTC).timestamp()


def answered(number: int, at: float, **more: Any) -> Prediction:
    facts: dict[str, Any] = {"project": "delays", "release": "v1", "variant": "champion", "rollout": None}
    facts |= {"inputs": {"distance": number}, "outputs": {"prediction": 1}, "key": None, "event_time": None, "latency_ms": 1.0}
    return Prediction(id=f"p{number}", at=at, **(facts | more))


def written(folder: Path, name: str, records: list[Prediction], finished: bool) -> None:
    path = folder / f"{name}.plog"
    path.write_bytes(segments.MAGIC + b"".join(map(frame, records)) + (b"" if finished else b"torn"))
    last = max((r.at for r in records), default=NOON)
    os.utime(path, (last, last))
    path.chmod(0o400 if finished else 0o600)


@settings(max_examples=40)
@given(
    st.lists(st.lists(st.integers(0, 4 * 86_400), max_size=12), min_size=1, max_size=5),
    st.integers(0, 5),
    st.integers(1, 15),
    st.integers(0, 99),
)
def test_they_are_the_last_of_all_of_them(moments: list[list[int]], compact: int, most: int, seed: int) -> None:
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        folder, number = Path(name), 0
        for place, offsets in enumerate(moments):
            records = []
            for offset in sorted(offsets):
                number += 1
                project = rng.choice(["delays", "delays", "churn"])
                records.append(answered(number, NOON + offset + number / 1000, project=project))
            written(folder, f"s{place}", records, finished=place < compact)
        everything = [r for r in read_all(folder) if isinstance(r, Prediction)]
        if compact:
            compaction.compact(folder)
        fit = [r for r in everything if r.project == "delays" and r.inputs["distance"] % 3]
        found = newest.newest(folder, "delays", most, lambda r: bool(r.inputs["distance"] % 3))
        assert found == sorted(fit, key=lambda r: r.at)[-most:]


def test_a_writer_at_work_labels_and_rows_of_a_batch(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path, "production")
    first = answered(1, NOON)
    batch = Predictions(
        "p-0f", 3, NOON + 1, "delays", "v1", "champion", None, {"distance": [1, 2, 3]}, {"prediction": [0, 1, 0]}, 1.0
    )
    writer.append(first, batch, Feedback(at=NOON + 2, project="delays", label=1, id="p1"))
    assert [r.id for r in newest.newest(tmp_path, "delays", 10, lambda r: True)] == ["p1", "p-0f", "p-10", "p-11"]
    assert newest.newest(tmp_path, "delays", 0, lambda r: True) == []
    assert newest.newest(tmp_path / "nowhere", "delays", 5, lambda r: True) == []
    writer.close()


def test_old_segments_are_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for day in range(5):
        written(tmp_path, f"s{day}", [answered(day * 10 + i, NOON + day * 86_400 + i) for i in range(10)], finished=True)
    opened: list[str] = []
    plain = newest._show_segment

    def show(path: Path, project: str, kept: Any) -> None:
        opened.append(path.stem)
        plain(path, project, kept)

    monkeypatch.setattr(newest, "_show_segment", show)
    assert len(newest.newest(tmp_path, "delays", 12, lambda r: True)) == 12
    assert opened == ["s4", "s3"]
