"""Labels joined to the predictions they belong to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import polars as pl

from noria.store.predictions import Feedback, Prediction


def join(records: Iterable[Prediction | Feedback]) -> list[tuple[Prediction, Any]]:
    """Each prediction with its label, or None. A label by key belongs to the newest prediction of that key before it
    (or the oldest, when all came later); the last label wins."""
    predictions: dict[str, Prediction] = {}
    feedback: list[Feedback] = []
    for record in records:
        if isinstance(record, Prediction):
            predictions[record.id] = record
        elif record.kind == "label":
            feedback.append(record)
    by_key: dict[str, list[Prediction]] = {}
    for prediction in predictions.values():
        if prediction.key is not None:
            by_key.setdefault(prediction.key, []).append(prediction)
    labels: dict[str, Any] = {}
    for said in sorted(feedback, key=lambda f: f.at):
        target = said.id if said.id is not None else _by_key(by_key, said)
        if target in predictions:
            labels[target] = said.label
    return [(prediction, labels.get(prediction.id)) for prediction in predictions.values()]


def _by_key(by_key: dict[str, list[Prediction]], said: Feedback) -> str:
    known = sorted(by_key.get(said.key or "", []), key=lambda p: p.at)
    before = [p for p in known if p.at <= said.at]
    return before[-1].id if before else known[0].id if known else ""


def output(prediction: Prediction) -> Any:
    """The number or class that a label is compared with: the probability of the positive class where there is one."""
    return prediction.outputs.get("probability", prediction.outputs.get("prediction"))


SHAPE = {"id": pl.String, "release": pl.String, "variant": pl.String, "key": pl.String, "event_time": pl.String, "at": pl.Float64}


def labelled_table(records: Iterable[Prediction | Feedback]) -> pl.DataFrame:
    """One row a prediction: id, release, variant, key, event_time, at, output, label (null: none yet), and the inputs."""
    joined = join(records)
    facts = [p for p, _ in joined]
    columns: dict[str, Any] = {
        name: pl.Series(name, [getattr(p, name) for p in facts], dtype=dtype) for name, dtype in SHAPE.items()
    }
    columns["output"] = _series("output", [output(p) for p in facts])
    columns["label"] = _series("label", [label for _, label in joined])
    for name in dict.fromkeys(name for p in facts for name in p.inputs):
        columns[name] = _series(name, [p.inputs.get(name) for p in facts])
    return pl.DataFrame(columns)


def _series(name: str, values: list[Any]) -> pl.Series:
    """Numbers as Float64, anything else as text."""
    if all(v is None or isinstance(v, int | float) for v in values):
        return pl.Series(name, [None if v is None else float(v) for v in values], dtype=pl.Float64)
    return pl.Series(name, [None if v is None else str(v) for v in values], dtype=pl.String)
