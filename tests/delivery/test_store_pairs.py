"""The evidence of a rollout out of two logs, against the plain join of all records."""

from __future__ import annotations

import os
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import labels_rule as labels
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.delivery import shadow_evidence
from noria.delivery.shadow_evidence import ShadowEvidence
from noria.kernel import names
from noria.predictions import compaction, label_join, segments
from noria.predictions.records import Predictions, Shadow, Written
from noria.predictions.writer import Feedback, LogReader, LogWriter, Prediction, frame

ROLLOUT = "r"


def predicted(name: str, at: float, **more: Any) -> Prediction:
    facts: dict[str, Any] = {"project": "delays", "release": "v1", "variant": "champion", "rollout": ROLLOUT, "inputs": {}}
    facts |= {"outputs": {"prediction": 1, "probability": 0.5}, "key": None, "event_time": None, "latency_ms": at + 0.5}
    return Prediction(id=name, at=at, **(facts | more))


def shadow(name: str, at: float, answered: Any, outputs: Any, **more: Any) -> Shadow:
    """``answered`` and ``outputs``: probabilities of the rows, or columns."""
    both = [
        a if isinstance(a, dict) else {"prediction": [int(p >= 0.5) for p in a], "probability": a} for a in (answered, outputs)
    ]
    rows = len(next(iter(both[0].values())))
    facts: dict[str, Any] = {"project": "delays", "rollout": ROLLOUT, "release": "v1", "other": "v2"}
    return Shadow(id=name, rows=rows, at=at, answered=both[0], outputs=both[1], latency_ms=1.0, other_ms=1.0, **(facts | more))


def label(at: float, value: Any, **more: Any) -> Feedback:
    return Feedback(at=at, project="delays", label=value, **more)


class Folders:
    """A log and a shadow log, with segments of several workers that grow by hand."""

    def __init__(self, place: Path) -> None:
        self.log, self.shadows = place / "log", place / "shadow"
        for folder in (self.log, self.shadows):
            folder.mkdir()

    def write(self, *records: Written, worker: int = 0) -> None:
        for record in records:
            path = (self.shadows if isinstance(record, Shadow) else self.log) / f"w{worker}.plog"
            if not path.exists():
                path.write_bytes(segments.MAGIC)
            with path.open("ab") as file:
                file.write(frame(record))

    def book(self, **more: Any) -> ShadowEvidence:
        return ShadowEvidence(self.log, self.shadows, ROLLOUT, "delays", "v2", **more)


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return Folders(tmp_path)


def found(book: ShadowEvidence) -> list[tuple[float, float, float]]:
    while not book.poll():
        pass
    told = book.labelled_pairs()
    return sorted(zip(told.y.tolist(), told.new.tolist(), told.old.tolist(), strict=True))


def test_pairs_are_oriented_by_release_whoever_answered(folders: Folders) -> None:
    folders.write(
        predicted("p-01", 1), predicted("p-02", 2, release="v2", variant="candidate"), predicted("p-03", 3),
        shadow("p-01", 1, [0.1], [0.9]), shadow("p-02", 2, [0.8], [0.2], release="v2", other="v1"),
        shadow("p-03", 3, [0.3], {}, error="it failed"), shadow("p-04", 3, [0.3], [0.3], rollout="another"),
        shadow("p-05", 3, [0.3], [0.3], project="churn"), shadow("p-06", 3, [0.3], [0.3], other="v3"),
        label(9, 1, id="p-01"), label(9, 0, id="p-02"), label(9, 1, id="p-03"), label(9, 1, id="p-04"),
        label(9, True, id="p-05"),
    )  # fmt: skip
    book = folders.book()
    assert found(book) == [(0.0, 0.8, 0.2), (1.0, 0.9, 0.1)]
    assert (book.labelled_pairs().pairs, book.labelled_pairs().count) == (2, 2)
    folders.write(label(10, 0, id="p-01"), Feedback(at=11, project="delays", label=1, id="p-02", kind="note"))
    assert found(book) == [(0.0, 0.8, 0.2), (0.0, 0.9, 0.1)]


def test_a_key_means_its_newest_prediction_before_the_label_also_one_that_is_no_pair(folders: Folders) -> None:
    book = folders.book()
    folders.write(predicted("p-01", 1, key="a"), shadow("p-01", 1, [0.1], [0.9]), label(2, 1, key="a"))
    assert found(book) == [(1.0, 0.9, 0.1)]
    folders.write(predicted("p-02", 3, key="a", rollout=None), label(4, 0, key="a"), label(0.5, 0, key="a"))
    assert found(book) == [(1.0, 0.9, 0.1)]
    folders.write(predicted("p-03", 1.5, key="a"), worker=1)  # of another worker, and read late: the label was its
    assert found(book) == []


def test_rows_of_a_batch_with_one_key(folders: Folders) -> None:
    batch = Predictions(
        "p-0e", 3, 5.0, "delays", "v1", "champion", ROLLOUT, {"x": [1, 2, 3]}, {"prediction": [1, 1, 1]}, 1.0, ["a", "b", "a"]
    )
    folders.write(batch, shadow("p-0e", 5, [0.1, 0.2, 0.3], [0.5, 0.6, 0.7]), label(6, 1, key="a"), label(6, 0, key="b"))
    assert found(folders.book()) == [(0.0, 0.6, 0.2), (1.0, 0.7, 0.3)]  # of two rows of one moment the last


def test_classes_that_are_text_and_several(folders: Folders) -> None:
    two = [{"prediction": [c], "probability": [p]} for c, p in (("no", 0.2), ("no", 0.4))]
    folders.write(shadow("p-01", 1, *two), label(2, "yes", id="p-01"), shadow("p-02", 1, *two), label(2, "no", id="p-02"))
    assert found(folders.book()) == [(0.0, 0.4, 0.2), (1.0, 0.4, 0.2)]  # nobody answered yes yet


def test_probabilities_of_several_classes_with_a_new_class_and_a_new_label(folders: Folders) -> None:
    old = {"prediction": ["a", "b"], "probabilities": [{"a": 0.7, "b": 0.3}, {"a": 0.1, "b": 0.9}]}
    new = {"prediction": ["a", "c"], "probabilities": [{"a": 0.6, "b": 0.2, "c": 0.2}, {"a": 0.1, "b": 0.2, "c": 0.7}]}
    folders.write(shadow("p-01", 1, old, new), label(2, "c", id="p-02"), label(2, "unheard", id="p-01"))
    book = folders.book()
    book.poll()
    told = book.labelled_pairs()
    assert told.y.tolist() == [3.0, 2.0]
    assert told.old.tolist() == [[0.7, 0.3, 0.0, 0.0], [0.1, 0.9, 0.0, 0.0]]
    assert told.new.tolist() == [[0.6, 0.2, 0.2, 0.0], [0.1, 0.2, 0.7, 0.0]]


def test_numbers(folders: Folders) -> None:
    folders.write(shadow("p-01", 1, {"prediction": [3.5, 4.0]}, {"prediction": [3.0, 9.0]}), label(2, 7, id="p-02"))
    assert found(folders.book()) == [(7.0, 9.0, 4.0)]
    assert folders.book().labelled_pairs().y.shape == (0,)


def test_latencies_are_of_requests_by_who_was_to_answer(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = Predictions("p-10", 3, 1.0, "delays", "v2", "candidate", ROLLOUT, {"x": [1] * 3}, {"prediction": [1] * 3}, 7.0)
    folders.write(
        predicted("p-01", 1, latency_ms=1.0), predicted("p-02", 2, latency_ms=2.0), batch,
        predicted("p-03", 3, latency_ms=8.0, variant="fallback"), predicted("p-04", 4, latency_ms=3.0, variant="pinned"),
        predicted("p-05", 5, latency_ms=4.0, rollout=None), predicted("p-06", 6, latency_ms=5.0, release="v2"),
        predicted("p-07", 7, latency_ms=8.0, variant="fallback"),
    )  # fmt: skip
    book = folders.book()
    book.poll()
    old, new = book.latencies()
    assert (old.tolist(), new.tolist()) == ([1.0, 2.0], [7.0, 8.0, 8.0])
    monkeypatch.setattr(shadow_evidence, "MOST_TIMES", 2)
    again = folders.book()
    again.poll()
    assert sorted(again.latencies()[1].tolist()) == [8.0, 8.0]


def test_one_poll_is_short_and_the_next_goes_on(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shadow_evidence, "PART_BYTES", 2000)
    for i in range(100):
        folders.write(predicted(f"p-{i:02x}", i), shadow(f"p-{i:02x}", i, [0.1], [0.2]), label(i, 1, id=f"p-{i:02x}"))
    book, polls = folders.book(), 1
    while not book.poll(0.0):
        polls += 1
    assert polls > 10
    assert book.labelled_pairs().count == 100
    monkeypatch.setattr(shadow_evidence, "MOST_PAIRS", 30)
    assert len(found(folders.book())) == 30


def test_what_ended_before_the_rollout_is_not_read(tmp_path: Path) -> None:
    begun = time.time()
    for number, age in enumerate((200_000, 100_000, 0)):
        path = tmp_path / f"s{number}.plog"
        path.write_bytes(segments.MAGIC + frame(predicted(f"p-{number:02x}", begun - age)))
        os.utime(path, (begun - age, begun - age))
        path.chmod(0o400)
    assert len(LogReader(tmp_path).poll()) == 3
    assert [r.id for r in LogReader(tmp_path, begun).poll() if isinstance(r, Prediction)] == ["p-02"]
    compaction.compact(tmp_path)
    assert [r.id for r in LogReader(tmp_path, begun - 50_000).poll() if isinstance(r, Prediction)][-1:] == ["p-02"]
    assert LogReader(tmp_path, begun + 200_000).poll() == []
    assert shadow_evidence._rollout_start(names.new_id("rollout")) == pytest.approx(time.time(), abs=5)
    assert shadow_evidence._rollout_start("r") == 0.0


def test_it_keeps_up_with_a_busy_server(tmp_path: Path) -> None:
    """A tenth of the requests are pairs. In one poll of 0.2 s it reads more than a server logs in a second."""
    folders = Folders(tmp_path)
    writer = LogWriter(folders.log, "production")
    inputs = {f"column_{i}": i * 1.5 for i in range(12)}
    for i in range(20_000):
        writer.append(predicted(f"p-{i:06x}", float(i), inputs=inputs, key=f"k{i % 5000}"))
    writer.close()
    folders.write(*(shadow(f"p-{i:06x}", float(i), [0.1], [0.2]) for i in range(0, 20_000, 10)))
    book, began, polls = folders.book(), time.process_time(), 1
    while not book.poll():
        polls += 1
    assert time.process_time() - began < 5.0
    assert book.labelled_pairs().pairs == 2000


KEYS = st.sampled_from(["a", "b", None])
EVENT = st.tuples(st.sampled_from(["predict", "pair", "pair", "label", "label_by_id"]), KEYS, st.integers(0, 2), st.booleans())


@settings(max_examples=100)
@given(st.lists(EVENT, min_size=3, max_size=40), st.integers(0, 10**6), st.booleans())
def test_it_is_the_plain_join_whatever_is_read_first(events: list[Any], seed: int, all_late: bool) -> None:
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(label_join, "KEPT", 1000)
        folders = Folders(Path(name))
        book = folders.book()
        plain: list[Prediction | Feedback] = []
        values: dict[str, tuple[float, float]] = {}
        held: list[tuple[Written, int]] = []
        for number, (kind, key, worker, late) in enumerate(events):
            at, made = float(number // 2), f"p-{number:04x}"  # two share a moment, but no two labels do
            said_at = at + number % 2 / 4
            if kind in ("predict", "pair"):
                record: Prediction | Feedback = predicted(made, at, key=key)
                if kind == "pair":
                    values[made] = (number / 100, 1 - number / 100)
                    held.append((shadow(made, at, [values[made][1]], [values[made][0]]), worker))
            elif kind == "label_by_id":
                known = [r.id for r in plain if isinstance(r, Prediction)]
                record = label(said_at, number % 3 % 2, id=rng.choice(known) if known else "p-ff")
            else:
                record = label(said_at, number % 3 % 2, key=key or "none")
            plain.append(record)
            held.append((record, worker))
            if not late and not all_late:
                ready = held if rng.random() < 0.5 else rng.sample(held, len(held))
                for written, by in ready:
                    folders.write(written, worker=by)
                held = []
                book.poll()
        for written, by in rng.sample(held, len(held)):
            folders.write(written, worker=by)
        joined = labels.join(sorted(plain, key=lambda r: r.at))
        due = sorted((float(said), *values[p.id]) for p, said in joined if said is not None and p.id in values)
        assert found(book) == due
