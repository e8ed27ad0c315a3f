"""A null text that has a code of its own is answered as the model does, though no row that is held out is null."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
from walked_case import Case

ROWS = 600

MODEL = """
import polars as pl
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder


def train(features, label):
    codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-2)
    columns = make_column_transformer((codes, ["plan"]), ("passthrough", ["fee"]))
    model = HistGradientBoostingClassifier(max_iter=20, min_samples_leaf=5)
    return make_pipeline(columns, model).fit(features, label.to_numpy())
"""

PROJECT = """
project: plans
data: {rows: {source: "rows.csv", settle: 50ms}}
model:
  rows: rows
  event_time: at
  inputs: [plan, fee]
  label: left
  train: "model:train"
  holdout: {last: 60d}
gates: [rows >= 5]
environments: {production: {rollout: direct}}
"""


def walk(case: Case) -> None:
    draw = np.random.default_rng(1)
    plan = [None if i < 40 else str(p) for i, p in enumerate(draw.choice(["basic", "gold", "pro"], ROWS))]
    odds = [0.02 if p is None else 0.9 if p == "basic" else 0.4 for p in plan]
    at = pl.datetime_range(pl.datetime(2024, 1, 1), pl.datetime(2026, 1, 1), "1d", eager=True)[:ROWS]
    left = (draw.random(ROWS) < odds).astype(int)
    pl.DataFrame({"at": at, "plan": plan, "fee": draw.random(ROWS), "left": left}).write_csv(case.home / "rows.csv")
    case.write("model.py", MODEL)
    case.write("noria.yaml", PROJECT)
    case.commit()
    case.noria("run")
    case.write("q.jsonl", '{"plan": null, "fee": 0.5}\n{"plan": "", "fee": 0.5}\n')
    case.noria("predict", "--input", "q.jsonl", "--output", "s.jsonl")
    answers = [json.loads(line)["probability"] for line in (case.home / "s.jsonl").read_text().splitlines()]
    assert answers[0] < 0.25
    (said,) = (case.home / ".noria" / "releases").glob("*/evidence/parity.json")
    assert "hosted: the compiled model differs where plan = null" in said.read_text()
