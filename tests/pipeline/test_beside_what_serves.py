"""Experiments and trials beside what serves, on the rows that they are judged on."""

from __future__ import annotations

import random

from place import Place

CONFIG = """\
project: p
params: params.yaml
data: {rows: {source: rows.csv, settle: 20ms}}
model:
  task: binary
  rows: rows
  key: id
  label: y
  inputs: [INPUTS]
  train: "model:train"
  holdout: {fraction: 0.2}
SEARCH
gates: ["roc_auc >= 0.6"]
environments: {production: {}}
"""
SEARCH = "  search: {metric: roc_auc, trials: 2, folds: 2, space: {cut: [0.1, 0.9]}}"
MODEL = """\
import numpy as np

class Step:
    classes_ = [0, 1]
    def __init__(self, cut): self.cut = cut
    def predict_proba(self, x):
        p = np.where(x["a"].to_numpy() < self.cut, 0.2, 0.8)
        return np.column_stack([1 - p, p])

def train(features, label, *, cut=0.5):
    return Step(cut)
"""


def write(place: Place, inputs: str = "a, b", search: str = "") -> Place:
    place.put("noria.yaml", CONFIG.replace("INPUTS", inputs).replace("SEARCH", search))
    return place


def test_an_experiment_stands_beside_what_serves_on_the_same_rows(place: Place) -> None:
    """Number 34: the champion's metrics were of another holdout, and on these rows its model has seen the answers."""
    chance = random.Random(3)
    rows = [(number, chance.random(), chance.random()) for number in range(600)]
    text = "".join(f"k{n},{a:.4f},{b:.4f},{int((a > 0.5) != (chance.random() < 0.2))}\n" for n, a, b in rows)
    write(place).put("rows.csv", f"id,a,b,y\n{text}").put("params.yaml", "train: {cut: 0.5}\n").put("model.py", MODEL)
    place.put(".gitignore", ".noria\n").commit()
    assert place.json("run")["outcome"] == "promoted"

    worse, same = place.json("run", "--sweep", "train.cut=0.7,0.5")["experiments"]
    serving = worse["serving"]
    assert (serving["release"], serving["note"]) == ("v1", "")
    name = "validation.roc_auc"
    assert serving["metrics"][name] > worse["metrics"][name] + 0.05
    assert serving["metrics"][name] == same["metrics"][name], "the same code, parameters and rows"
    (head, *lines) = place.noria("runs", "--kind", "experiment").splitlines()
    assert "serves, same rows" in head
    assert all(f"v1 {serving['metrics'][name]:.4g}" in line for line in lines[:2])
    assert "fitted on the same training rows" in place.noria("show", worse["run"])

    write(place, search=SEARCH)
    trials = place.json("run", "--tag", "searched") and place.json("runs", "--kind", "trial")["runs"]
    assert len(trials) == 2
    assert all(trial["serving"]["metrics"][name] > 0.7 for trial in trials)

    write(place, inputs="a")
    other = place.json("run", "--tag", "narrow")["experiments"][0]["serving"]
    assert other == {"release": "v1", "metrics": {}, "note": "it reads b, which the rows of this run lack"}
    assert "v1 not known" in place.noria("runs", "--where", "tag = 'narrow'")
