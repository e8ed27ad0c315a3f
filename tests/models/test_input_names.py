"""Columns keep their names in the compiled form, whatever characters are in them."""

from __future__ import annotations

import numpy as np
import onnxruntime
import polars as pl
import pytest
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from noria.kernel.task import Task
from noria.models import columns, forms
from noria.models.frameworks import registry
from noria.models.signature import Input, Kind, Signature

NAMES = [("plan", "calls per day"), ("Tarif (€)", "1st"), ("größe", "a-b"), ("label", "probabilities"), ("variable", "label")]


@pytest.mark.parametrize("names", NAMES)
def test_names_survive_and_predictions_agree(names: tuple[str, str]) -> None:
    """Number 20: also inputs that are called as the graph's own outputs are."""
    text, number = names
    rng = np.random.default_rng(0)
    frame = pl.DataFrame({text: rng.choice(["x", "y"], 300), number: rng.normal(size=300)})
    label = (rng.random(300) < 0.5).astype(int)
    model = make_pipeline(
        make_column_transformer((OneHotEncoder(handle_unknown="ignore"), [text]), ("passthrough", [number])), LogisticRegression()
    ).fit(frame, label)
    signature = Signature((Input(text, Kind.STRING), Input(number, Kind.NUMBER)), Task.BINARY, ("0", "1"))
    content = registry.to_onnx(model, signature, frame.head(5))
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    assert [node.name for node in session.get_inputs()] == [text, number]
    rows = columns.frame(frame, signature.inputs)
    assert forms.Compiled(content, signature).predict(rows) == pytest.approx(model.predict_proba(frame)[:, 1], abs=1e-5)
