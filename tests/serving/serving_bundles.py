"""Small signed releases and a state folder with a running server, for the tests of the data plane."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import msgspec
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from noria.kernel import names
from noria.kernel.task import Task
from noria.models.signature import Input, Kind, Signature
from noria.predictions.writer import read_all

PROJECT = "delays"
BINARY = Signature(
    inputs=(Input("carrier", Kind.STRING), Input("distance", Kind.NUMBER, nullable=False)),
    task=Task.BINARY,
    classes=("0", "1"),
    key="flight_id",
    event_time="time_hour",
)
RECORD = {"carrier": "AA", "distance": 3.5}

# a hosted release's project: three ways to behave, chosen by the carrier
FEATURES = """import time

import polars as pl

CARRIERS = {"AA": 0.0, "UA": 1.0, "slow": 0.0}


def build(frame):
    if "slow" in frame["carrier"].to_list():
        time.sleep(0.6)
    numbers = [CARRIERS[c] for c in frame["carrier"]]
    return pl.DataFrame({"carrier": numbers, "distance": frame["distance"]})
"""


class Seal:
    """A state folder that signs."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self._key = Ed25519PrivateKey.generate()
        state.mkdir(parents=True, exist_ok=True)
        (state / "signing.pub").write_text(self._key.public_key().public_bytes_raw().hex())

    def seal(self, folder: Path, facts: dict[str, Any]) -> str:
        """Write manifest and signature, move the folder to its place, return the digest."""
        files = {p.relative_to(folder).as_posix(): names.digest_file(p) for p in sorted(folder.rglob("*")) if p.is_file()}
        content = msgspec.json.encode({"format": 1, "project": PROJECT} | facts | {"files": files})
        (folder / "manifest.json").write_bytes(content)
        (folder / "manifest.sig").write_bytes(self._key.sign(content))
        digest = names.digest_bytes(content)
        target = self.state / "releases" / digest
        target.parent.mkdir(exist_ok=True)
        folder.rename(target)
        return digest


def training_rows(seed: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    x = np.empty((400, 2), dtype=object)
    x[:, 0] = rng.choice(["AA", "UA"], 400)
    x[:, 1] = rng.normal(3, 1, 400)
    y = (x[:, 1].astype(float) + (x[:, 0] == "UA") + rng.normal(0, 0.5, 400) > 3.4).astype(int)
    return x, y


def pipeline(seed: int = 0, regression: bool = False) -> Any:
    """One-hot of the carrier beside the distance, then a linear model."""
    x, y = training_rows(seed)
    columns = ColumnTransformer([("c", OneHotEncoder(handle_unknown="ignore"), [0]), ("d", "passthrough", [1])])
    return make_pipeline(columns, LinearRegression() if regression else LogisticRegression()).fit(x, y)


def compiled(seal: Seal, scratch: Path, seed: int = 0, signature: Signature = BINARY, project: str = PROJECT) -> str:
    """A compiled release; its digest."""
    folder = scratch / f"compiled-{seed}"
    folder.mkdir(parents=True)
    regression = signature.task is Task.REGRESSION
    (folder / "model.onnx").write_bytes(onnx_bytes(pipeline(seed, regression), regression))
    facts = {"form": "compiled", "signature": signature, "model": {"file": "model.onnx", "runtime": "onnx"}, "seed": seed}
    return seal.seal(folder, facts | {"project": project})


def onnx_bytes(model: Any, regression: bool) -> bytes:
    """Per-column inputs, as the packager makes them: one ONNX input a column."""
    columns = ColumnTransformer([("c", OneHotEncoder(handle_unknown="ignore"), ["carrier"]), ("d", "passthrough", ["distance"])])
    fitted = columns.fit(_frame(model))
    joined = make_pipeline(fitted, model[-1])
    types = [("carrier", StringTensorType([None, 1])), ("distance", FloatTensorType([None, 1]))]
    options = None if regression else {id(model[-1]): {"zipmap": False}}
    return bytes(to_onnx(joined, initial_types=types, options=options, target_opset=18).SerializeToString())


def _frame(model: Any) -> Any:
    import polars as pl

    return pl.DataFrame({"carrier": model[0].named_transformers_["c"].categories_[0].tolist(), "distance": [1.0, 2.0]})


def hosted(seal: Seal, scratch: Path, name: str = "hosted", features: str = FEATURES) -> str:
    """A hosted release whose feature code raises KeyError for unknown carriers and sleeps for ``slow``."""
    folder = scratch / name
    (folder / "code" / "delays").mkdir(parents=True)
    (folder / "code" / "delays" / "__init__.py").write_text("")
    (folder / "code" / "delays" / "features.py").write_text(features)
    x, y = training_rows(0)
    numbers = np.column_stack([(x[:, 0] == "UA").astype(float), x[:, 1].astype(float)])
    joblib.dump(LogisticRegression().fit(numbers, y), folder / "model.joblib")
    facts = {
        "form": "hosted",
        "signature": BINARY,
        "model": {"file": "model.joblib", "runtime": "python"},
        "hosted": {"features": "delays.features:build", "paths": ["src", "."], "batch": True},
        "name": name,
    }
    return seal.seal(folder, facts)


def wait_for(condition: Callable[[], Any], timeout_s: float = 120.0) -> Any:
    """The first true answer of ``condition``."""
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.01)
    return found


def logged(state: Path, environment: str) -> list[dict[str, Any]]:
    """Every record in the log, with all of its fields."""
    return [msgspec.to_builtins(r) | msgspec.structs.asdict(r) for r in read_all(state / "log" / environment)]
