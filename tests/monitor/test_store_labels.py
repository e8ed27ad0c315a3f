"""The monitor finds the label of a prediction by the same rule as everybody else, in whatever order it reads."""

from __future__ import annotations

from pathlib import Path

import labels_rule
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.evaluation.measure import DAY_S
from noria.kernel.task import Task
from noria.models.signature import Signature
from noria.monitor import accumulator
from noria.monitor.accumulator import AccumulatorState, Gauge, WindowAccumulator
from noria.predictions import log_query
from noria.predictions.reader import LogPart
from noria.predictions.writer import Feedback, LogWriter, Prediction
from noria.releases.evidence import Reference

GAUGE = Gauge(Signature((), Task.REGRESSION), Reference("mae", 1.0, 1.0, 10, 10), None)
KEYS = st.sampled_from([None, "a", "b"])
ANSWERS = st.lists(st.tuples(st.integers(0, 40), KEYS), max_size=8)
SAID = st.lists(st.tuples(st.integers(0, 60), st.sampled_from([None, 0, 1, 2, 3]), KEYS, st.integers(1, 9)), max_size=8)


Answers = list[tuple[int, str | None]]
Labels = list[tuple[int, int | None, str | None, int]]


def records_of(answers: Answers, said: Labels) -> list[Prediction | Feedback]:
    """Predictions made at moments of their own: those that were made at one moment have no order."""
    made: list[Prediction | Feedback] = []
    for number, (at, key) in enumerate(answers):
        moment, outputs = at + number / 100, {"prediction": 0.0}
        made.append(Prediction(f"p{number}", moment, "p", "v1", "champion", None, {}, outputs, key, None, 1.0))
    for number, (at, of, key, label) in enumerate(said):
        name = None if of is None else f"p{of}"
        if name is not None or key is not None:
            made.append(Feedback(at + number / 100 + 0.005, "p", float(label), name, key if name is None else None))
    return made


@given(answers=ANSWERS, said=SAID, order=st.randoms(use_true_random=False), split=st.integers(0, 16))
def test_the_monitor_joins_by_the_rule(answers: Answers, said: Labels, order: object, split: int) -> None:
    records = records_of(answers, said)
    expected = {p.id: label for p, label in labels_rule.join(records) if label is not None}
    order.shuffle(records)  # type: ignore[attr-defined]  # Hypothesis' random numbers
    parts = [LogPart("w-0000", row, [record]) for row, record in enumerate(records)]
    kept = WindowAccumulator(AccumulatorState("p", DAY_S, caught_up=True), lambda _: GAUGE)
    kept.take(parts[:split], 100.0)
    kept = WindowAccumulator(kept.notes, lambda _: GAUGE)  # a new daemon
    kept.take(parts[split:], 100.0)
    found = {name: kept._join.labels(name) for name in kept.notes.waiting}
    assert {name: labels[-1] for name, labels in found.items() if labels} == expected


@given(answers=ANSWERS, said=SAID)
def test_a_share_of_the_keys_has_the_labels_that_all_would_have(answers: Answers, said: Labels) -> None:
    records = records_of(answers, said)
    expected = {p.id: label for p, label in labels_rule.join(records)}
    kept = WindowAccumulator(AccumulatorState("p", DAY_S, caught_up=True, share=0.5), lambda _: GAUGE)
    kept.take([LogPart("w-0000", 0, records)], 100.0)
    for name in kept.notes.waiting:
        labels = kept._join.labels(name)
        assert (labels[-1] if labels else None) == expected[name]


def test_a_key_that_is_asked_often_gets_all_its_labels_also_where_they_are_read_first() -> None:
    asked = [
        Prediction(f"p{i:03}", float(i), "p", "v1", "champion", None, {}, {"prediction": 0.0}, "k", None, 1.0) for i in range(300)
    ]
    said = [Feedback(i + 0.5, "p", float(i), None, "k") for i in range(300)]
    kept = WindowAccumulator(AccumulatorState("p", DAY_S, caught_up=True), lambda _: GAUGE)
    kept.take([LogPart("a", 0, said[:100]), LogPart("b", 0, asked[:100])], 1000.0)  # in one part
    kept.take([LogPart("a", 100, said[100:200])], 1000.0)
    kept.take([LogPart("b", 100, asked[100:])], 1000.0)
    kept.take([LogPart("a", 200, said[200:])], 1000.0)
    assert {name: kept._join.labels(name) for name in kept.notes.waiting} == {p.id: [p.at] for p in asked}


def test_a_release_that_is_not_measured_ends_what_a_key_asked_before() -> None:
    """Its label was taken for the older prediction's: an imported release has nothing to compare with."""
    records: list[Prediction | Feedback] = [
        Prediction("p1", 1.0, "p", "v1", "champion", None, {}, {"prediction": 0.0}, "k", None, 1.0),
        Prediction("p2", 2.0, "p", "imported", "champion", None, {}, {"prediction": 0.0}, "k", None, 1.0),
        Feedback(3.0, "p", 1.0, None, "k"),
    ]
    for parts in ([LogPart("w", 0, records)], [LogPart("w", row, [records[row]]) for row in (2, 1, 0)]):
        kept = WindowAccumulator(AccumulatorState("p", DAY_S), lambda release: GAUGE if release == "v1" else None)
        for part in parts:
            kept.take([part], 1000.0)
        assert kept._join.labels("p1") == []


def test_a_dataset_of_the_log_has_the_same_labels_and_types(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = [{"a": 1, "b": True, "c": "x", "id": 7, "d": None}, {"a": 2.5, "b": False, "c": "y", "id": 8, "d": None}]
    outputs = [{"prediction": "no", "probability": 0.2}, {"prediction": "yes", "probability": 0.9}]
    made = [Prediction(f"p{i}", 10.0 + i, "p", "v1", "champion", None, inputs[i], outputs[i], "k", None, 1.0) for i in range(2)]
    said = [Feedback(11.5, "p", True, None, "k"), Feedback(13.0, "p", False, "p0"), Feedback(14.0, "other", True, "p0")]
    writer = LogWriter(tmp_path, "production")
    writer.append(*made, *said)
    writer.close()
    table = log_query.training(log_query.scan(tmp_path, "p")).collect().sort("id")
    rule = labels_rule.labelled_table([*made, *said]).sort("id")
    assert table.drop("_labels").to_dicts() == rule.to_dicts()
    assert table["_labels"].to_list() == [1, 1]
    assert log_query.training(log_query.scan(tmp_path, "nobody")).collect().height == 0
    assert accumulator.FORMAT == 1
