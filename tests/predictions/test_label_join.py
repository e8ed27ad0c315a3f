"""The join of labels: whatever order a reader reads in, it finds what the tables find, and two projects never mix."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import labels_rule
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_store_compaction import NOON, answered, segment

from noria.predictions import compaction, label_join, log_query
from noria.predictions.label_join import AwaitedPrediction, KnownLabel, LabelJoin
from noria.predictions.reader import LogReader
from noria.predictions.writer import Feedback, Prediction, Record

KEYS = st.sampled_from(["a", "b", None])
AT = st.integers(0, 5).map(lambda s: NOON + s / 10)
PROJECT = st.sampled_from(["delays", "other"])
PREDICTED = st.tuples(AT, KEYS, PROJECT, st.booleans())
SAID = st.tuples(AT, st.sampled_from(["p0", "p1", "p2", "p3", "x", None]), KEYS, st.integers(0, 99).map(float), PROJECT)
WORKER = st.integers(0, 2)


def read(folder: Path, project: str, tracked: set[str], order: random.Random) -> dict[str, Any]:
    """The labels as a reader of the log finds them that meets the records in any order; ``tracked``: what it wants labels of."""
    join, records = LabelJoin(), []
    for part in LogReader(folder, project=project).poll_parts():
        records += [(part.segment, row, record) for row, record in enumerate(part.records, part.first_row)]
    order.shuffle(records)
    held: dict[str, Any] = {}  # as those keep it who follow what changed
    for place, row, record in records:
        if isinstance(record, Prediction):
            changed = list(join.see(record.id, record.at, record.key))
            if record.id in tracked:
                changed += join.track(record.id, AwaitedPrediction(at=record.at, key=record.key))
        else:
            changed = join.hear(record, place, row) if record.kind == "label" else []
        held |= {name: (join.labels(name) or [None])[-1] for name in changed}
    found = {name: (join.labels(name) or [None])[-1] for name in join.tracked}
    assert held == found
    return found


@settings(max_examples=30, deadline=None)
@given(
    predicted=st.lists(st.tuples(PREDICTED, WORKER), max_size=7), said=st.lists(st.tuples(SAID, WORKER), max_size=7),
    order=st.randoms(use_true_random=False), parquet=st.booleans(),
)  # fmt: skip
def test_read_in_any_order_the_labels_are_those_of_the_tables(
    tmp_path_factory: pytest.TempPathFactory, predicted: list[Any], said: list[Any], order: random.Random, parquet: bool
) -> None:
    folder = tmp_path_factory.mktemp("log")
    written: dict[int, list[Record]] = {0: [], 1: [], 2: []}
    tracked = set()
    for number, ((at, key, project, wanted), worker) in enumerate(predicted):
        written[worker].append(answered(number, at=at, key=key, project=project))
        tracked |= {f"p{number}"} if wanted else set()
    for (at, named, key, label, project), worker in said:
        written[worker].append(Feedback(at, project, label, named, key))
    for worker, records in written.items():
        segment(folder, f"w{worker}-0000", records)
    if parquet:
        compaction.compact(folder)
    everything = [record for worker in sorted(written) for record in written[worker]]
    by_rule = {p.id: (p.project, label) for p, label in labels_rule.join(everything)}
    for project in ("delays", "other"):
        batch = log_query.labelled_predictions(log_query.scan(folder, project)).collect()
        expected = {name: label for name, (of, label) in by_rule.items() if of == project}
        assert dict(zip(batch["id"], batch["label"], strict=True)) == expected
        assert read(folder, project, tracked, order) == {n: label for n, label in expected.items() if n in tracked}


def test_of_two_labels_in_one_request_the_last_counts_in_either_form(tmp_path: Path) -> None:
    segment(tmp_path, "a-0000", [answered(1), Feedback(NOON + 9, "delays", 1.0, "p1"), Feedback(NOON + 9, "delays", 0.0, "p1")])
    for _ in range(2):
        assert log_query.labelled_predictions(log_query.scan(tmp_path, "delays")).collect()["label"].to_list() == [0.0]
        assert read(tmp_path, "delays", {"p1"}, random.Random(1)) == {"p1": 0.0}
        compaction.compact(tmp_path)


def test_a_prediction_that_nobody_measures_ends_what_its_key_asked_before(tmp_path: Path) -> None:
    records = [answered(1, key="k"), answered(2, key="k", release="imported"), Feedback(NOON + 9, "delays", 1.0, key="k")]
    segment(tmp_path, "a-0000", records)
    table = log_query.labelled_predictions(log_query.scan(tmp_path, "delays")).collect()
    assert dict(zip(table["id"], table["label"], strict=True)) == {"p1": None, "p2": 1.0}
    assert read(tmp_path, "delays", {"p1"}, random.Random(1)) == {"p1": None}


def test_what_is_released_still_ends_what_was_asked_before_and_its_labels_go(tmp_path: Path) -> None:
    join = LabelJoin()
    for number, at in enumerate((1.0, 2.0, 3.0)):
        join.see(f"p{number}", at, "k")
        join.track(f"p{number}", AwaitedPrediction(at=at, key="k"))
        join.hear(Feedback(at + 0.5, "p", float(number), key="k"), "w", number)
    join.release("p1")
    assert [join.labels(name) for name in ("p0", "p2")] == [[0.0], [2.0]]
    join.hear(Feedback(2.7, "p", 9.0, key="k"), "w", 3)
    assert [join.labels(name) for name in ("p0", "p2")] == [[0.0], [2.0]]
    join.release("p0")
    join.release("p2")
    assert (join.heard, list(join.early)) == ({}, ["kk"])
    join.track("late", AwaitedPrediction(at=2.5, key="k"))
    assert join.labels("late") == [9.0]


def test_memory_is_bounded_and_each_prediction_keeps_its_own_labels() -> None:
    join = LabelJoin(recent=50)
    for number in range(200):
        join.hear(Feedback(float(number), "p", 1.0, key=f"early {number}"), "w", number)
        join.see(f"other {number}", float(number), f"key {number}")
    assert len(join.early) == 50
    join.track("p0", AwaitedPrediction(at=1.0, key="k"))
    join.hear(Feedback(1.5, "p", 0.25, key="k"), "w", 0)
    join.see("p1", 2.0, "k")
    for number in range(1000):  # of the next prediction, which nobody waits for
        join.hear(Feedback(3.0 + number, "p", 1.0, key="k"), "w", number)
    assert join.labels("p0") == [0.25]
    assert len(join.heard["kk"]) <= 5 * label_join.KEPT


def test_one_key_for_everything_is_as_fast() -> None:
    """A client may send one key for all: nothing is looked through from its beginning for each label."""
    join, begun = LabelJoin(), time.process_time()
    for number in range(5_000):
        join.see(f"p{number:06}", float(number), "k")
        join.track(f"p{number:06}", AwaitedPrediction(at=float(number), key="k"))
        join.hear(Feedback(number + 0.5, "p", float(number), key="k"), "w", number)
    assert [join.labels(f"p{number:06}") for number in range(0, 5_000, 500)] == [[float(n)] for n in range(0, 5_000, 500)]
    for number in range(5_000):
        join.release(f"p{number:06}")
    assert time.process_time() - begun < 10.0


def test_what_an_earlier_noria_wrote_down_goes_on() -> None:
    """It numbered labels in the order in which it read them, and did not sort them."""
    heard = {"ip0": [KnownLabel(5.0, 2, 1.0), KnownLabel(5.0, 1, 0.0)]}
    join = LabelJoin({"p0": AwaitedPrediction(at=1.0, key="k")}, heard, {})
    assert join.labels("p0") == [0.0, 1.0]
    join.hear(Feedback(5.0, "p", 3.0, "p0"), "w", 0)
    assert join.labels("p0")[-1] == 3.0
