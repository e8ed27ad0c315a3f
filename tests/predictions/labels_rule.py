"""The rule by which labels find their predictions, in plain Python: what the lazy tables and `label_join` are held against."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from typing import Any

import polars as pl

from noria.predictions.writer import Feedback, Prediction


def join(records: Iterable[Prediction | Feedback]) -> list[tuple[Prediction, Any]]:
    """Each prediction with its label, or None.

    A label by id belongs to that prediction; a label by key to the newest prediction of that key, in the same project, that
    was made before it, of several of one moment that with the last id. The last label wins, of several of one moment the one that
    stands further on: ``records`` come in the order of the log.
    """
    predictions: dict[str, Prediction] = {}
    feedback: list[Feedback] = []
    for record in records:
        if isinstance(record, Prediction):
            predictions[record.id] = record
        elif record.kind == "label":
            feedback.append(record)
    histories = _histories(predictions.values())
    labels: dict[str, Any] = {}
    for said in sorted(feedback, key=lambda f: f.at):
        target = predictions.get(said.id) if said.id is not None else _by_key(histories, said)
        if target is not None and target.project == said.project:
            labels[target.id] = said.label
    return [(prediction, labels.get(prediction.id)) for prediction in predictions.values()]


def _histories(predictions: Iterable[Prediction]) -> dict[tuple[str, str], list[Prediction]]:
    """The predictions of each project and key, oldest first."""
    found: dict[tuple[str, str], list[Prediction]] = {}
    for prediction in sorted(predictions, key=lambda p: (p.at, p.id)):
        if prediction.key is not None:
            found.setdefault((prediction.project, prediction.key), []).append(prediction)
    return found


def _by_key(histories: dict[tuple[str, str], list[Prediction]], said: Feedback) -> Prediction | None:
    if said.key is None:
        return None
    history = histories.get((said.project, said.key), [])
    before = bisect_right(history, said.at, key=lambda p: p.at)
    return history[before - 1] if before else None


def output(prediction: Prediction) -> Any:
    """The number or class that a label is compared with: the probability of the positive class where there is one."""
    return prediction.outputs.get("probability", prediction.outputs.get("prediction"))


SHAPE = {"id": pl.String, "release": pl.String, "variant": pl.String, "key": pl.String, "event_time": pl.String, "at": pl.Float64}


def labelled_table(records: Iterable[Prediction | Feedback]) -> pl.DataFrame:
    """One row a prediction: id, release, variant, key, event_time, at, output, label (null: none yet), and the inputs.

    Where not all were recorded, ``sample`` is the chance that a row was: it stands for 1/sample rows.
    An input with one of these names stands as ``input.NAME``.
    """
    joined = join(records)
    facts = [p for p, _ in joined]
    columns: dict[str, Any] = {
        name: pl.Series(name, [getattr(p, name) for p in facts], dtype=dtype) for name, dtype in SHAPE.items()
    }
    columns["output"] = _series("output", [output(p) for p in facts])
    columns["label"] = _series("label", [label for _, label in joined])
    if any(p.sample != 1.0 for p in facts):
        columns["sample"] = pl.Series("sample", [p.sample for p in facts], dtype=pl.Float64)
    ours = set(columns)
    for name in dict.fromkeys(name for p in facts for name in p.inputs):
        column = f"input.{name}" if name in ours else name
        columns[column] = _series(column, [p.inputs.get(name) for p in facts])
    return pl.DataFrame(columns)


def _series(name: str, values: list[Any]) -> pl.Series:
    """Numbers as Float64, anything else as text."""
    if all(v is None or isinstance(v, int | float) for v in values):
        return pl.Series(name, [None if v is None else float(v) for v in values], dtype=pl.Float64)
    return pl.Series(name, [None if v is None else str(v) for v in values], dtype=pl.String)
