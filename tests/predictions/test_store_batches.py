"""The rows of one request stand in one frame, and come out of the log as predictions like any others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.predictions import compaction
from noria.predictions.records import Record, decode, ids_from
from noria.predictions.segments import pack
from noria.predictions.writer import LogReader, LogWriter, Prediction, Predictions, frame, read_all


def batch(rows: int, /, **changes: Any) -> Predictions:
    facts: dict[str, Any] = {
        "id": "p-0197a3c2e5f1-9c1b7e22-0000fe", "rows": rows, "at": 1.5, "project": "p", "release": "v1", "variant": "champion",
        "rollout": None, "inputs": {"a": list(range(rows)), "b": ["x"] * rows}, "outputs": {"prediction": [0.5] * rows},
        "latency_ms": 0.25,
    }  # fmt: skip
    return Predictions(**(facts | changes))


def one(number: int, /, **changes: Any) -> Prediction:
    facts: dict[str, Any] = {
        "id": f"p-0197a3c2e5f1-9c1b7e22-{0xFE + number:06x}", "at": 1.5, "project": "p", "release": "v1", "variant": "champion",
        "rollout": None, "inputs": {"a": number, "b": "x"}, "outputs": {"prediction": 0.5}, "key": None, "event_time": None,
        "latency_ms": 0.25,
    }  # fmt: skip
    return Prediction(**(facts | changes))


@pytest.mark.parametrize("compacted", [False, True], ids=["segment", "parquet"])
def test_each_row_is_a_prediction_in_either_form(tmp_path: Path, compacted: bool) -> None:
    writer = LogWriter(tmp_path, "production")
    writer.append(batch(3), one(7))
    writer.append(
        batch(2, id="q-00ffff", keys=["k", None], event_times=[None, "2026-11-21T00:00:00"], error="the candidate failed")
    )
    writer.close()
    if compacted:
        assert compaction.compact(tmp_path).records == 6
    wanted = [one(i) for i in range(3)] + [one(7)]
    wanted.append(one(0, id="q-00ffff", key="k", error="the candidate failed"))
    wanted.append(one(1, id="q-010000", event_time="2026-11-21T00:00:00", error="the candidate failed"))
    assert sorted(map(repr, read_all(tmp_path))) == sorted(map(repr, wanted))


def test_a_reader_that_takes_little_at_a_time_gets_each_row_once(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path, "production")
    for number in range(20):
        writer.append(batch(number % 4 + 1, id=f"p-{number * 16:06x}"))
    reader, found = LogReader(tmp_path), list[Record]()
    while part := reader.poll(100):
        found += part
        if len(found) == 20:
            writer.close()
            compaction.compact(tmp_path)  # meanwhile
    writer.close()
    ids = [record.id for record in found if isinstance(record, Prediction)]
    assert sorted(ids) == sorted(f"p-{n * 16 + i:06x}" for n in range(20) for i in range(n % 4 + 1))


def test_a_torn_request_is_not_there_at_all(tmp_path: Path) -> None:
    data = frame(batch(2)) + frame(batch(3))
    for end in range(len(frame(batch(2))), len(data)):
        found: list[Record] = []
        decode(data[:end], found)
        assert len(found) == 2


@pytest.mark.parametrize(
    "wrong", [{"rows": 2}, {"inputs": {"a": [1]}}, {"keys": ["k"]}, {"id": "none"}, {"outputs": {"prediction": [1, 2, 3, 4]}}]
)
def test_a_request_whose_columns_differ_in_length_is_damage(wrong: dict[str, Any]) -> None:
    found: list[Record] = []
    good = frame(batch(1))
    bad = pack(msgspec.msgpack.encode(batch(3, **wrong)))
    assert decode(good + bad + good, found) == len(good)
    assert len(found) == 1


@given(st.integers(0, 2**30), st.integers(1, 40))
def test_ids_count_on(first: int, rows: int) -> None:
    assert ids_from(f"p-a-{first:06x}", rows) == [f"p-a-{n:06x}" for n in range(first, first + rows)]
