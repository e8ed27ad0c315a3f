"""A model that chooses its own threshold, trained, promoted and served by real processes: its own classes come over HTTP."""

from __future__ import annotations

import joblib
import numpy as np
from small_project import Small, address_of, post, until

MODEL = """\
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import FixedThresholdClassifier


def train(features, label):
    return FixedThresholdClassifier(LogisticRegression(), threshold=0.2).fit(features.to_numpy(), label.to_numpy())
"""
HOSTED = """\
import polars as pl


def features(rows):
    return rows.select("a", b=pl.when(pl.col("b") > 0).then(pl.col("b")).otherwise(0.0))
"""
ROWS = [{"a": round(a, 2), "b": -0.3} for a in np.linspace(-3, 3, 61)]


def classes(address: str, version: str) -> tuple[list[int], list[float]]:
    """Of all rows, from /predict, which /invocations and /v2 must agree with."""
    status, answer = post(address, "/predict", ROWS)
    assert (status, answer["release"]) == (200, version)
    found = [row["prediction"] for row in answer["predictions"]]
    assert post(address, "/invocations", {"dataframe_records": ROWS})[1]["predictions"] == found
    inputs = [{"name": n, "shape": [len(ROWS)], "datatype": "FP64", "data": [row[n] for row in ROWS]} for n in ("a", "b")]
    assert post(address, "/v2/models/small/infer", {"inputs": inputs})[1]["outputs"][0]["data"] == found
    return found, [row["probability"] for row in answer["predictions"]]


def test_the_served_classes_are_the_models_own(small: Small) -> None:
    """Number 28: of a compiled release and of a hosted one, whose sealed model says the same itself."""
    small.write("model.py", MODEL)
    small.commit("a threshold of its own")
    with small.up().ready():
        address = address_of(small)
        until(lambda: small.champion() == "v2", "v2 serves")
        found, chances = classes(address, "v2")
        assert found == [int(p >= 0.2) for p in chances]
        assert any(0.2 <= p < 0.5 for p in chances)  # these are called 0 by who cuts at the half
        assert 0 < sum(found) < len(found)

        small.write("shape.py", HOSTED)
        small.edit("noria.yaml", 'train: "model:train"', 'train: "model:train"\n  features: "shape:features"')
        small.commit("and features of its own")
        until(lambda: small.champion() == "v3", "v3 serves")
        found, chances = classes(address, "v3")
    release = small.noria("show", "v3", "--json").facts["release"]
    model = joblib.load(small.state / "releases" / release["digest"] / "model.joblib")
    asked = np.array([[row["a"], max(row["b"], 0.0)] for row in ROWS])
    assert found == model.predict(asked).tolist()
    assert found != (model.predict_proba(asked)[:, 1] >= 0.5).astype(int).tolist()
