"""A regression whose `predict` returns [n, 1] is served, through the very process that serves."""

from __future__ import annotations

import json

import polars as pl
from walked_case import Case


def walk(case: Case) -> None:
    case.processes = True  # the model is hosted: its code is imported where it answers
    case.copy("model.py", "noria.yaml", "data")
    case.commit()
    said = case.noria("run")
    assert "v1 sealed: hosted" in said
    rows = pl.read_csv(case.home / "data" / "a.csv").head(3)
    case.write("q.jsonl", "".join(json.dumps({"a": a, "ts": ts}) + "\n" for a, ts in rows.select("a", "ts").iter_rows()))
    case.noria("predict", "--input", "q.jsonl", "--output", "s.jsonl")
    answers = [json.loads(line)["prediction"] for line in (case.home / "s.jsonl").read_text().splitlines()]
    assert len(answers) == 3
    assert all(isinstance(answer, float) for answer in answers)
    case.write("model.py", (case.home / "model.py").read_text() + WIDE)
    case.write("noria.yaml", (case.home / "noria.yaml").read_text().replace("model:train", "model:wide"))
    case.commit("answers two numbers a row")
    said = case.noria("run", code=1)
    assert "the model answered shape (50, 2) for 50 rows of a regression task" in said
    assert "Let it answer one number a row" in said


WIDE = """

class Wide:
    def predict(self, table):
        return table.to_numpy()


def wide(features, label):
    return Wide()
"""
