"""PyTorch modules: trained, refused with words where they answer no probabilities, compiled to what they answer, or hosted.

They run where PyTorch is: in the environment, or in the folder .torch, which `make torch` fills.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import polars as pl
import pytest

from noria.kernel.errors import StepError
from noria.kernel.names import digest_file
from noria.kernel.task import Task
from noria.models import conversion, table_arguments, training

BESIDE = Path(__file__).resolve().parents[2] / ".torch"
INSTALLED = importlib.util.find_spec("torch") is not None

pytestmark = [
    pytest.mark.skipif(not (INSTALLED or BESIDE.is_dir()), reason="PyTorch is not installed: `make torch`"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of its own, at import
]

MODULE = """
import numpy as np
import torch
from torch import nn


class Filled(nn.Module):
    "Null is zero; inputs are scaled by what training saw."

    def __init__(self, rows, end, width):
        super().__init__()
        self.register_buffer("middle", torch.from_numpy(np.nanmean(rows, axis=0)))
        self.register_buffer("spread", torch.from_numpy(np.nanstd(rows, axis=0)))
        self.first = nn.Linear(rows.shape[1], 8)
        self.norm = nn.BatchNorm1d(8)
        self.drop = nn.Dropout(0.5)
        self.last = nn.Linear(8, width)
        self.end = end

    def forward(self, rows):
        filled = torch.nan_to_num((rows - self.middle) / self.spread)
        return self.end(self.last(self.drop(torch.relu(self.norm(self.first(filled))))))


class Branching(nn.Module):
    "What it computes depends on the rows: a trace follows one branch only."

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(3, 1)

    def forward(self, rows):
        rows = torch.nan_to_num(rows)
        if rows.shape[0] < 50:
            return torch.sigmoid(self.inner(rows) / 100)
        return torch.sigmoid(-self.inner(rows) / 100)


class Known(nn.Module):
    "Has a way to predict of its own."

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(3, 1)

    def predict_proba(self, rows):
        return np.tile([0.25, 0.75], (len(rows), 1))


def fitted(rows, label, end, width, loss, steps=15):
    rows = rows.to_numpy().astype(np.float32)
    target = torch.from_numpy(label)
    module = Filled(rows, nn.Identity(), width)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.05)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(module(torch.from_numpy(rows)), target).backward()
        optimizer.step()
    module.end = end
    return module  # in training mode: Noria asks it in evaluation mode


def sigmoid(rows, label):
    label = label.to_numpy().astype(np.float32).reshape(-1, 1)
    return fitted(rows, label, nn.Sigmoid(), 1, nn.functional.binary_cross_entropy_with_logits)


def softmax(rows, label):
    return fitted(rows, label.to_numpy().astype(np.int64), nn.Softmax(dim=1), label.n_unique(), nn.functional.cross_entropy)


def value(rows, label):
    return fitted(rows, label.to_numpy().astype(np.float32).reshape(-1, 1), nn.Identity(), 1, nn.functional.mse_loss)


def double(rows, label):
    return softmax(rows, label).double()


def flat(rows, label):
    return nn.Sequential(sigmoid(rows, label), nn.Flatten(0))


def logits(rows, label):
    return fitted(rows, label.to_numpy().astype(np.int64), nn.Identity(), 2, nn.functional.cross_entropy, 2)


def one_logit(rows, label):
    module = sigmoid(rows, label)
    module.end = nn.Identity()
    return module


def narrow(rows, label):
    return nn.Sequential(Filled(rows.to_numpy().astype(np.float32), nn.Softmax(dim=1), 2))


def unfilled(rows, label):
    return nn.Sequential(nn.Linear(3, 1), nn.Sigmoid()) if rows.width == 3 else None


def branching(rows, label): return Branching()
def known(rows, label): return Known()
"""


@pytest.fixture(scope="module", autouse=True)
def tree(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("modules")
    (folder / "modules_under_test.py").write_text(MODULE)
    beside = [] if INSTALLED else [str(BESIDE)]  # behind all else: it holds what PyTorch needs, too
    sys.path[:] = [str(folder), *sys.path, *beside]
    yield folder
    for entry in (str(folder), *beside):
        sys.path.remove(entry)  # to the tests after these it would be another environment


def labelled(n: int = 900, **changes: Any) -> pl.DataFrame:
    draw = np.random.default_rng(3)
    a, b, c = draw.normal(0, 1, n), draw.integers(0, 24, n), draw.normal(50, 20, n)
    score = a + b / 12 - c / 50
    made = {"id": range(n), "at": np.arange(n) * 3600, "a": [None if i % 11 == 0 else x for i, x in enumerate(a)], "b": b, "c": c}
    labels = {"late": score > 0, "kind": np.digitize(score, [-0.5, 0.5]), "delay": score * 20 + 5}
    return pl.DataFrame({**made, **labels, **changes})


def facts(**changes: Any) -> dict[str, Any]:
    made: dict[str, Any] = {
        "key": "id", "event_time": "at", "task": "binary", "inputs": ["a", "b", "c"], "label": "late", "features": None,
        "train": "modules_under_test:sigmoid", "slices": [], "project": "p",
        "holdout": {"last_s": 300 * 3600.0, "fraction": None},
    }  # fmt: skip
    return made | changes


def trained(folder: Path, model: dict[str, Any], rows: pl.DataFrame | None = None) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    table_arguments.write_arrow(labelled() if rows is None else rows, folder / "rows.arrow")
    argument = {"kind": "output", "path": str(folder / "rows.arrow"), "format": "arrow"}
    return training.run({"rows": argument, "model": model, "params": {}, "seed": 1, "folder": str(folder)})


def packaged(folder: Path, model: dict[str, Any], made: dict[str, Any]) -> dict[str, Any]:
    job = {"model_file": str(folder / "model.joblib"), "holdout": str(folder / "holdout.arrow"), "model": model}
    return conversion.run({**job, "signature": made["signature"], "folder": str(folder)})


@pytest.mark.parametrize(
    ("changes", "classes"),
    [
        ({}, ["0", "1"]),
        ({"train": "modules_under_test:softmax"}, ["0", "1"]),
        ({"train": "modules_under_test:flat"}, ["0", "1"]),
        ({"train": "modules_under_test:double"}, ["0", "1"]),
        ({"train": "modules_under_test:softmax", "task": "multiclass", "label": "kind"}, ["0", "1", "2"]),
        ({"train": "modules_under_test:value", "task": "regression", "label": "delay"}, []),
    ],
)
def test_it_is_compiled_and_answers_what_the_module_answers(tmp_path: Path, changes: dict[str, Any], classes: list[str]) -> None:
    import onnxruntime as ort
    import torch

    model = facts(**changes)
    made = trained(tmp_path, model)
    assert list(made["signature"]["classes"]) == classes
    done = packaged(tmp_path, model, made)
    assert done["form"] == "compiled", done["reason"]
    module = joblib.load(tmp_path / "model.joblib").module
    rows = pl.read_ipc(tmp_path / "holdout.arrow").select("a", "b", "c").to_numpy().astype(np.float32)
    kind = next(module.parameters()).dtype
    with torch.inference_mode():
        due = module(torch.from_numpy(rows).to(kind)).double().numpy().reshape(len(rows), -1)
    if model["task"] == "binary" and due.shape[1] == 1:
        due = np.column_stack([1 - due, due])
    session = ort.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    (answers,) = session.run(None, {session.get_inputs()[0].name: rows})
    assert np.abs(np.reshape(answers, due.shape) - due).max() < 1e-4 * max(1.0, float(due.std()))
    assert due.std() > 0.05  # it learned something, so that agreement means something


def test_equal_training_gives_equal_bytes(tmp_path: Path) -> None:
    model = facts()
    found = []
    for name in ("one", "two"):
        packaged(tmp_path / name, model, trained(tmp_path / name, model))
        found.append([digest_file(tmp_path / name / file) for file in ("model.joblib", "model.onnx")])
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("changes", "words", "hint"),
    [
        ({"train": "modules_under_test:logits"}, "answers logits, not probabilities", "torch.nn.Softmax(dim=1)"),
        ({"train": "modules_under_test:one_logit"}, "answers logits, not probabilities", "torch.nn.Sigmoid()"),
        ({"train": "modules_under_test:narrow", "task": "multiclass", "label": "kind"}, "[n, 3] is due", ""),
        ({"train": "modules_under_test:softmax", "task": "regression", "label": "kind"}, "a regression needs [n] or [n, 1]", ""),
        ({"train": "modules_under_test:branching", "inputs": ["a", "b", "text"]}, "not all numbers", "Encode text"),
    ],
)
def test_what_it_should_not_answer_is_refused_with_words(tmp_path: Path, changes: dict[str, Any], words: str, hint: str) -> None:
    with pytest.raises(StepError) as refused:
        trained(tmp_path, facts(**changes), labelled(text=["x"] * 900))
    assert words in refused.value.message
    assert hint in (refused.value.hint or "")


def test_one_that_answers_nothing_finite_is_refused(tmp_path: Path) -> None:
    rows = labelled(a=pl.Series([None] * 900, dtype=pl.Float64))
    with pytest.raises(StepError, match="no finite number to any of 600 training rows"):
        trained(tmp_path, facts(train="modules_under_test:unfilled"), rows)


def test_what_a_trace_does_not_tell_is_hosted(tmp_path: Path) -> None:
    model = facts(train="modules_under_test:branching")
    done = packaged(tmp_path, model, trained(tmp_path, model))
    assert done["form"] == "hosted"
    assert "the compiled model differs" in done["reason"]


def test_a_module_that_can_predict_is_taken_as_it_is(tmp_path: Path) -> None:
    model = facts(train="modules_under_test:known")
    done = packaged(tmp_path, model, trained(tmp_path, model))
    assert done["form"] == "hosted"
    assert "no compiler knows" in done["reason"]


def test_a_new_process_with_the_code_answers_the_same(tmp_path: Path, tree: Path) -> None:
    """As a host loads it."""
    trained(tmp_path, facts())
    code = (
        "import sys, json, joblib, polars as pl; model = joblib.load(sys.argv[1]);"
        "rows = pl.read_ipc(sys.argv[2]).select('a', 'b', 'c'); print(json.dumps(model.predict_proba(rows).tolist()))"
    )
    around = os.environ | {"PYTHONPATH": f"{tree}{os.pathsep}{BESIDE}"}
    files = [str(tmp_path / "model.joblib"), str(tmp_path / "holdout.arrow")]
    ended = subprocess.run([sys.executable, "-c", code, *files], capture_output=True, check=True, env=around, text=True)
    here = joblib.load(files[0])
    assert here.task is Task.BINARY
    rows = pl.read_ipc(files[1]).select("a", "b", "c")
    assert np.allclose(json.loads(ended.stdout), here.predict_proba(rows), atol=1e-6)
    assert (here.predict(rows) == here.predict_proba(rows).argmax(axis=1)).all()
