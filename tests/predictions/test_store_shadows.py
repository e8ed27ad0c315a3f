"""The shadow log: records come back as they were written, and segments go when no rollout that is judged began before them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from noria.daemon import Daemon
from noria.delivery.rollout_record import Rollout, RolloutState
from noria.delivery.rollout_store import RolloutStore
from noria.engine import assembly
from noria.predictions import retention
from noria.predictions.records import Prediction, Shadow, decode, frame
from noria.predictions.shadow_log import shadow_folder, tidy
from noria.predictions.writer import LogReader, LogWriter

PROJECT = """project: hello
data: {points: points.csv}
model: {label: late, train: "model:train", rows: points}
environments: {staging: {}, production: {after: staging}}
"""


def scored(i: int = 0, **changes: Any) -> Shadow:
    facts: dict[str, Any] = {
        "id": f"p-0197a3c2e5f1-9c1b7e22-{i:06x}", "rows": 2, "at": 5.0, "project": "hello", "rollout": "r1", "release": "v1",
        "other": "v2", "answered": {"prediction": [1, 0], "probability": [0.75, 0.25]}, "outputs": {"prediction": [1, 1]},
        "latency_ms": 0.5, "other_ms": 0.75,
    }  # fmt: skip
    return Shadow(**(facts | changes))


def segments(folder: Path, *written: float) -> list[Path]:
    """A finished segment for each time of its last record, and one that a living writer has begun."""
    for at in written:
        writer = LogWriter(folder, "staging")
        writer.append(scored())
        writer.close()
        (fresh,) = (path for path in folder.glob("*.plog") if path.stat().st_mtime > 1e9)
        os.utime(fresh, (at, at))
    return sorted(folder.glob("*.plog"), key=lambda path: path.stat().st_mtime)


def test_records_come_back_as_they_were_written(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path, "staging")
    records = [scored(0), scored(2, outputs={}, error="broken", rollout=None), scored(4, rows=1)]
    writer.append(*records)
    reader = LogReader(tmp_path)
    assert cast("list[Any]", reader.poll()) == records
    writer.append(scored(5))
    assert cast("list[Any]", reader.poll()) == [scored(5)]
    writer.close()
    raw = msgspec.msgpack.decode(frame(records[0])[8:])
    assert raw["record"] == "shadow"
    assert "error" not in raw


def test_both_kinds_of_log_are_read_by_one_reader() -> None:
    one = Prediction("p0", 1.0, "hello", "v1", "champion", None, {"x": 1.0}, {"prediction": 1}, None, None, 0.5)
    found: list[Any] = []
    data = frame(one) + frame(scored())
    assert decode(data, found) == len(data)
    assert found == [one, scored()]


def test_what_is_older_goes_and_what_is_written_to_stays(tmp_path: Path) -> None:
    old, edge, young = segments(tmp_path, 100.0, 200.0, 300.0)
    living = LogWriter(tmp_path, "staging")
    living.append(scored())
    orphan = tmp_path / "staging-orphan-0000.plog"  # its writer was killed
    shutil.copyfile(young, orphan)
    orphan.chmod(0o600)
    (current,) = set(tmp_path.glob("*.plog")) - {old, edge, young, orphan}
    os.utime(current, (50.0, 50.0))
    os.utime(orphan, (150.0, 150.0))
    assert tidy(tmp_path, 200.0) == 2
    assert set(tmp_path.glob("*.plog")) == {edge, young, current}
    assert tidy(tmp_path, 200.0) == 0
    living.append(scored())
    living.close()
    assert tidy(tmp_path, 1e12) == 3
    assert tidy(tmp_path / "none", 1e12) == 0


@pytest.mark.parametrize(
    ("rollouts", "left"),
    [
        ([], []),
        ([("staging", RolloutState.PROMOTED, 100.0)], []),
        ([("production", RolloutState.CANARY, 150.0)], []),
        ([("staging", RolloutState.CANARY, 150.0)], [200.0, 300.0]),
        ([("staging", RolloutState.CANARY, 250.0), ("staging", RolloutState.PROBATION, 150.0)], [200.0, 300.0]),
        ([("staging", RolloutState.HELD, 50.0)], [100.0, 200.0, 300.0]),
    ],
)
def test_the_daemons_look_keeps_what_a_rollout_is_judged_by(tmp_path: Path, rollouts: Any, left: list[float]) -> None:
    (tmp_path / "noria.yaml").write_text(PROJECT)
    (tmp_path / "points.csv").write_text("late,distance\n1,2\n")
    (tmp_path / "model.py").write_text("def train(features, label): ...\n")
    context = assembly.assemble(tmp_path)
    try:
        with context.ledger.transaction():
            for i, (environment, state, at) in enumerate(rollouts):
                RolloutStore.of(context).start(Rollout(f"r{i}", "hello", environment, None, "v2", "d" * 64, state, 0, at))
        folder = shadow_folder(context.state, "staging")
        segments(folder, 100.0, 200.0, 300.0)
        assert Daemon._keep_logs(cast(Any, SimpleNamespace(context=context))) == retention.EVERY_S
        assert sorted(path.stat().st_mtime for path in folder.glob("*.plog")) == left
    finally:
        context.executor.close()
