"""Questions to the prediction log: the same answers from either form, the labels of the Python rule, the query's own meaning."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import labels_rule as labels
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_store_compaction import DAY, NOON, answered, mixed, segment

from noria.kernel import where as conditions
from noria.kernel.errors import UsageError
from noria.kernel.where import PREDICTIONS
from noria.predictions import compaction, log_query
from noria.predictions.writer import Feedback, LogWriter, Prediction, Record, read_all


def table(folder: Path, where: str | None = None, project: str = "delays", since: float | None = None) -> pl.DataFrame:
    rows = log_query.labelled_predictions(log_query.scan(folder, project, since))
    if where is not None:
        asked = log_query.scan(folder, project, since)
        rows = log_query.meeting(
            rows, conditions.parse(where, language=PREDICTIONS), asked.predictions.kinds | asked.feedback.kinds
        )
    return rows.sort("at", "id").collect()


def ids(folder: Path, where: str | None = None, **more: Any) -> list[str]:
    return table(folder, where, **more)["id"].to_list()


def test_both_forms_and_a_mixture_answer_alike(tmp_path: Path) -> None:
    records = mixed()
    segment(tmp_path, "a-0000", records[:20])
    segment(tmp_path, "b-0000", records[20:])
    only_segments = table(tmp_path)
    assert sorted(only_segments["id"]) == sorted(r.id for r in records if isinstance(r, Prediction) and r.project == "delays")
    segment(tmp_path, "a-0000", records[:20])
    (tmp_path / "b-0000.plog").chmod(0o600)
    writer = LogWriter(tmp_path, "production")  # recovers, and so finishes, what nobody writes
    writer.append(answered(900, at=NOON + 90 * 3600))
    compaction.compact(tmp_path)
    mixture = table(tmp_path)
    writer.close()
    compaction.compact(tmp_path)
    only_parquet = table(tmp_path)
    assert mixture.equals(only_parquet.select(mixture.columns))
    assert mixture.filter(pl.col("id") != "p900").equals(only_segments.select(mixture.columns))
    by_id = {row["id"]: row for row in only_parquet.to_dicts()}
    assert by_id["p7"]["at"] == datetime.fromtimestamp(NOON + 7 * 3600, UTC)
    assert (by_id["p0"]["label"], by_id["p1"]["label"], by_id["p9"]["label"]) == (True, False, None)


def test_an_empty_log_has_no_rows_and_the_columns_of_one(tmp_path: Path) -> None:
    found = table(tmp_path / "nothing")
    assert found.height == 0
    assert {"id", "at", "release", "label"} <= set(found.columns)


def test_since_leaves_older_days_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    segment(tmp_path, "a-0000", [answered(i, at=NOON - i * DAY / 2) for i in range(8)])
    compaction.compact(tmp_path)
    for path in (tmp_path / "parquet" / "project=delays" / "date=2026-11-17").iterdir():
        path.chmod(0o600)
        path.write_bytes(b"nobody reads this")
    assert ids(tmp_path, since=NOON - 2 * DAY) == ["p4", "p3", "p2", "p1", "p0"]


KEYS = st.sampled_from(["a", "b", None])
MOMENTS = st.integers(0, 6).map(lambda s: NOON + float(s))
PREDICTED = st.lists(st.tuples(MOMENTS, KEYS, st.sampled_from(["delays", "other"])), max_size=8)
SAID = st.lists(
    st.tuples(MOMENTS, st.sampled_from(["p0", "p1", "p2", "x", None]), KEYS, st.sampled_from([0.0, 1.0, 2.5]),
              st.sampled_from(["label", "label", "note"]), st.sampled_from(["delays", "other"])), max_size=8,
)  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(predicted=PREDICTED, said=SAID, parquet=st.booleans())
def test_labels_join_by_the_rule_of_the_log(
    tmp_path_factory: pytest.TempPathFactory, predicted: list[Any], said: list[Any], parquet: bool
) -> None:
    folder = tmp_path_factory.mktemp("log")
    records: list[Record] = [answered(i, at=at, key=key, project=p) for i, (at, key, p) in enumerate(predicted)]
    records += [Feedback(at, p, label, named, key, kind) for at, named, key, label, kind, p in said]
    segment(folder, "a-0000", records)
    if parquet:
        compaction.compact(folder)
    expected = {p.id: label for p, label in labels.join(read_all(folder)) if p.project == "delays"}
    assert {row["id"]: row["label"] for row in table(folder).to_dicts()} == expected


ROWS = [
    answered(1, inputs={"carrier": "AA", "distance": 2.5, "ok": True}, key="k", error="late"),
    answered(2, inputs={"carrier": "10", "distance": float("nan"), "ok": False}, release="v2"),
    answered(3, inputs={"carrier": None, "distance": -1.0, "ok": None}, key=None, outputs={"prediction": 2, "probability": 0.5}),
    answered(4, inputs={"carrier": "aab", "distance": None, "ok": True}, outputs={"prediction": 1, "probability": 0.25}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ("outputs.probability > 0.9", []),
        ("outputs.probability >= 0.25 and label is null", ["p3"]),
        ("label is not null", ["p4"]),
        ("label = 1", ["p4"]),
        ("inputs.carrier ~* 'aa'", ["p1", "p4"]),
        ("error ~ 'late' or release = 'v2'", ["p1", "p2"]),
        ("at >= '2026-11-20 12:00:00.75'", ["p3", "p4"]),
        ("at >= '2026-11-20T12:00:00.75'", ["p3", "p4"]),
        ("inputs.distance > 0", ["p1"]),
        ("inputs.distance is null", ["p2", "p4"]),
        ("inputs.ok", ["p1", "p4"]),
        ("not inputs.ok", ["p2"]),
        ("inputs.carrier in ('10', 'AA')", ["p1", "p2"]),
        ("latency_ms = max(latency_ms)", ["p1", "p2", "p3", "p4"]),
        ("sample < 1", []),
    ],
)
def test_examples(tmp_path: Path, where: str, found: list[str]) -> None:
    segment(tmp_path, "a-0000", [*ROWS, Feedback(NOON + 60, "delays", 1.0, id="p4")])
    assert ids(tmp_path, where) == found


def test_a_field_of_runs_is_none_of_predictions() -> None:
    with pytest.raises(UsageError, match=r"a prediction has no field 'metrics\.auc'") as caught:
        conditions.parse("metrics.auc > 1", language=PREDICTIONS)
    assert "inputs.NAME" in str(caught.value.hint)
    with pytest.raises(UsageError, match="latency_ms is a number"):
        conditions.parse("latency_ms > 'fast'", language=PREDICTIONS)


def test_where_no_label_came_any_question_about_it_finds_nothing(tmp_path: Path) -> None:
    segment(tmp_path, "a-0000", [answered(1)])
    assert [ids(tmp_path, f"label {what}") for what in ("= 1", "= 'late'", "= true", "> 0.5", "is null")] == [
        [],
        [],
        [],
        [],
        ["p1"],
    ]


def test_types_that_differ_between_releases_become_text(tmp_path: Path) -> None:
    segment(tmp_path, "a-0000", [answered(1, inputs={"x": 1.5}), answered(2, inputs={"x": True})])
    segment(tmp_path, "b-0000", [answered(3, inputs={"y": "b", "x": "text"})])
    assert table(tmp_path)["inputs.x"].to_list() == ["1.5", "true", "text"]
    compaction.compact(tmp_path)
    assert table(tmp_path)["inputs.x"].to_list() == ["1.5", "true", "text"]
