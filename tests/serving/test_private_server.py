"""What a gate says of time is measured on a server of the candidate's own, over HTTP, before anything is promoted."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import joblib
import msgspec
import numpy as np
import polars as pl
import pytest
from serving_bundles import BINARY, PROJECT, onnx_bytes, pipeline, training_rows, wait_for
from sklearn.linear_model import LogisticRegression

from noria.delivery import private_server
from noria.kernel.errors import StepError
from noria.kernel.policy import RECORD_ALL
from noria.serving.client import Server

FEATURES = """import time

import polars as pl


def build(frame):
    time.sleep(0.02)
    return pl.DataFrame({"carrier": [float(c == "UA") for c in frame["carrier"]], "distance": frame["distance"]})
"""


def candidate(home: Path, form: str) -> tuple[Any, Any, Any]:
    """Line, sheet and package, as far as the private server asks them."""
    folder = home / "bundle"
    (folder / "code").mkdir(parents=True)
    facts: dict[str, Any] = {"format": 1, "project": PROJECT, "form": form, "signature": msgspec.to_builtins(BINARY)}
    if form == "compiled":
        (folder / "model.onnx").write_bytes(onnx_bytes(pipeline(), regression=False))
        facts["model"] = {"file": "model.onnx", "runtime": "onnx"}
    else:
        x, y = training_rows(0)
        numbers = np.column_stack([(x[:, 0] == "UA").astype(float), x[:, 1].astype(float)])
        joblib.dump(LogisticRegression().fit(numbers, y), folder / "model.joblib")
        (folder / "code" / "features.py").write_text(FEATURES)
        facts["model"] = {"file": "model.joblib", "runtime": "python"}
        facts["hosted"] = {"features": "features:build", "paths": ["."], "batch": True}
    (folder / "manifest.json").write_bytes(msgspec.json.encode(facts))
    rows = {"carrier": ["AA", None] * 20, "distance": [1.0, None] + [2.0] * 38, "label": [0, 1] * 20}  # one that is refused
    pl.DataFrame(rows).write_ipc(home / "holdout.arrow")
    serving = SimpleNamespace(max_body_bytes=1_000_000, max_rows=1000, log=RECORD_ALL)
    sheet = SimpleNamespace(run_id="run", project=SimpleNamespace(name=PROJECT, serving=serving))
    package = SimpleNamespace(folder=folder, holdout=home / "holdout.arrow", signature=BINARY)
    return SimpleNamespace(folder=lambda run: home / run), sheet, package


@pytest.mark.parametrize("form", ["compiled", "hosted"])
def test_a_candidate_is_asked_over_http_before_it_is_released(form: str, tmp_path: Path) -> None:
    """Number 31: a real worker, with HTTP, checks and the prediction log; nothing of it stays."""
    with private_server.private_server(*candidate(tmp_path, form)) as server:
        found = server.measure(rounds=2)
        place = tmp_path / "run" / "private"
        assert Server(place).is_running()
        assert list((place / "log" / private_server.ENVIRONMENT).glob("*.plog"))
        assert {path.name for path in (place / "releases").iterdir()}.isdisjoint({"incoming"})
    assert len(found.p50_ms) == len(found.p99_ms) == 2
    assert all(0 < middle <= late for middle, late in zip(found.p50_ms, found.p99_ms, strict=True))
    assert min(found.p50_ms) >= (20 if form == "hosted" else 0)
    assert not place.exists()
    assert not Server(place).is_running()


def test_a_candidate_that_cannot_be_served_fails_in_words(tmp_path: Path) -> None:
    line, sheet, package = candidate(tmp_path, "compiled")
    (package.folder / "model.onnx").write_bytes(b"no model")
    with (
        private_server.private_server(line, sheet, package) as server,
        pytest.raises(StepError, match="the candidate cannot be served"),
    ):
        server.measure()
    assert not (tmp_path / "run" / "private").exists()


def test_a_candidate_that_answers_no_held_out_row_fails_in_words(tmp_path: Path) -> None:
    line, sheet, package = candidate(tmp_path, "compiled")
    pl.DataFrame({"carrier": ["AA"], "distance": pl.Series([None], dtype=pl.Float64)}).write_ipc(package.holdout)
    with (
        private_server.private_server(line, sheet, package) as server,
        pytest.raises(StepError, match="answers none of 1 held-out rows: 422"),
    ):
        server.measure()


def test_it_ends_with_whoever_started_it(tmp_path: Path) -> None:
    """An engine that is killed lets go of its end of the pipe: no server is left that nobody knows of."""
    leash, held = os.pipe()
    server = Server(tmp_path / "state")
    server.start({"production": ("127.0.0.1", 0)}, workers=1, leash=leash)
    os.close(leash)
    assert server.is_alive()
    os.close(held)
    wait_for(lambda: not server.is_running())
