"""Package: compile the model where that is safe, prove it predicts the same, and measure how fast one row is."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from noria.adapters import weights
from noria.adapters.asking import Frames, rows_of
from noria.adapters.frameworks import registry
from noria.domain.golden import GOLDEN, Answer, Golden, asked, one_answer
from noria.domain.signature import Signature
from noria.errors import NoriaError
from noria.stages.work import columns, forms

COMPILED = "model.onnx"
NEVER = 1e-3  # no row may differ by more
SELDOM = 1e-4  # and only the share RARE of the rows by more than this
RARE = 0.001
CALLS = 300
CALLS_MIN = 30
DISTINCT = 20  # rows that take turns
PATIENCE_S = 1.0  # slow models get fewer than CALLS calls


@dataclass(frozen=True, slots=True)
class Parity:
    """Absolute differences between the original and the compiled model on held-out rows."""

    rows: int
    worst: float
    worst_row: int  # its position in the holdout
    over: int  # rows that differ by more than SELDOM
    scale: float = 1.0  # what differences are divided by: 1 for probabilities, the spread of the predictions for a regression

    @property
    def holds(self) -> bool:
        return self.worst <= NEVER and self.over <= RARE * self.rows

    def sentence(self, called: str = "held-out rows") -> str:
        return (
            f"{self.over:,} of {self.rows:,} {called} differ by more than {SELDOM:g}, "
            f"the worst by {self.worst:.2g} (row {self.worst_row:,})"
        )


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Leaves ``model.onnx`` in ``folder`` when the compiled form is safe (large weights beside it, in ``model.onnx.data``), and
    ``golden.json``: made-up rows with its answers.

    The job: ``model_file``, ``holdout``, ``signature``, ``frames``, ``model``, ``folder``. Returns ``form`` (compiled or
    hosted), ``reason``, ``parity``, ``batch`` (whether rows may be answered together), ``golden`` (how many rows, how many left
    out), ``latency_p50_ms``, ``latency_p99_ms`` (one row, in process) and ``size_mb`` (10^6 bytes).
    """
    signature = msgspec.convert(job["signature"], Signature)
    rows = columns.frame(pl.read_ipc(job["holdout"]), signature.inputs)
    features = job["model"].get("features")
    frames = msgspec.convert(job.get("frames", {}), Frames)
    original = forms.Original.load(Path(job["model_file"]), features, signature, frames)
    content, parity, reason = compiled(original, features, signature, rows)
    form: forms.Form = original
    size_bytes = Path(job["model_file"]).stat().st_size
    if content:
        size_bytes = weights.save(content, Path(job["folder"]) / COMPILED)
        form = forms.Compiled(Path(job["folder"]) / COMPILED, signature)
    rows_asked = golden(form, signature)
    (Path(job["folder"]) / GOLDEN).write_bytes(msgspec.json.encode(rows_asked))
    p50, p99 = latency(form, rows)
    return {
        "form": "compiled" if content else "hosted",
        "reason": reason,
        "parity": {**msgspec.to_builtins(parity), "holds": parity.holds} if parity else None,
        "batch": row_by_row(form, rows),
        "golden": {"rows": len(rows_asked.answers), "left_out": rows_asked.left_out},
        "latency_p50_ms": p50,
        "latency_p99_ms": p99,
        "size_mb": size_bytes / 1e6,
    }


def compiled(
    original: forms.Original, features: str | None, signature: Signature, rows: pl.DataFrame
) -> tuple[bytes | None, Parity | None, str]:
    """The ONNX bytes, or None, with the parity where it was measured and the reason in one sentence."""
    if features:
        return None, None, f"hosted: features are Python code ({features})"
    return converted(original.model, original, signature, rows)


def converted(
    model: Any, original: forms.Original, signature: Signature, rows: pl.DataFrame, called: str = "held-out rows"
) -> tuple[bytes | None, Parity | None, str]:
    """``model`` as ONNX, held against what ``original`` answers on ``rows``, which the reason calls ``called``."""
    try:
        content = registry.to_onnx(model, signature, rows.head(5))
        answers = forms.Compiled(content, signature).predict(rows)
    except NoriaError as error:
        return None, None, f"hosted: {error.message}"
    except Exception as error:  # noqa: BLE001 - onnxruntime's errors share no base; all mean that it does not run
        return None, None, f"hosted: the compiled model does not run: {str(error).splitlines()[0][:300]}"
    parity = compare(original.predict(rows), answers)
    if not parity.holds:
        return None, parity, f"hosted: the compiled model differs: {parity.sentence(called)}"
    return content, parity, f"compiled: {parity.sentence(called)}"


def compare(original: NDArray[np.float64], answers: NDArray[np.float64]) -> Parity:
    """The parity of two sets of predictions of the same rows, [n] or [n, k]."""
    scale = 1.0 if _are_probabilities(original) else max(1.0, float(np.std(original)))
    apart = np.abs(original - answers).reshape(len(original), -1).max(axis=1) / scale
    apart = np.where(np.isnan(apart), np.inf, apart)
    worst = int(apart.argmax())
    return Parity(len(apart), min(float(apart[worst]), 1e308), worst, int((apart > SELDOM).sum()), scale)


def golden(form: forms.Form, signature: Signature) -> Golden:
    """What the form that is served answers to made-up rows, one by one. A row on which it raises has no answer."""

    def answer(record: dict[str, Any]) -> Answer | None:
        try:
            said = form.predict(rows_of({name: [value] for name, value in record.items()}, signature))[0]
        except BaseException:  # noqa: BLE001 - the row is no real one: whatever the model raises on it says nothing against it
            return None
        return one_answer([float(v) for v in np.atleast_1d(said)])

    return asked(signature, answer)


def row_by_row(form: forms.Form, rows: pl.DataFrame) -> bool:
    """Whether held-out rows get the same answers together as one by one: then requests may share a call."""
    some = rows.head(DISTINCT)
    try:
        alone = np.concatenate([form.predict(some.slice(i, 1)) for i in range(some.height)])
        together = form.predict(some)
    except BaseException:  # noqa: BLE001 - whatever the project's code raises: a row that fails must fail alone
        return False
    return bool(np.allclose(together, alone, rtol=1e-6, atol=1e-9, equal_nan=True))


def latency(form: forms.Form, rows: pl.DataFrame) -> tuple[float, float]:
    """Median and 99th percentile of one-row calls, in ms: up to 300 calls within a second, at least 30."""
    calls = [form.prepared(rows.slice(i, 1)) for i in range(min(DISTINCT, rows.height))]
    calls[0]()  # the first call allocates
    taken: list[float] = []
    until = time.perf_counter() + PATIENCE_S
    for i in range(CALLS):
        begun = time.perf_counter()
        calls[i % len(calls)]()
        taken.append((time.perf_counter() - begun) * 1e3)
        if time.perf_counter() > until and len(taken) >= CALLS_MIN:
            break
    return float(np.percentile(taken, 50)), float(np.percentile(taken, 99))


def _are_probabilities(values: NDArray[np.float64]) -> bool:
    return bool(((values >= 0) & (values <= 1)).all())
