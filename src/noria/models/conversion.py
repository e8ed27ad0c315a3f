"""Package: compile the model where that is safe, prove it predicts the same, and measure how fast one row is."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
from msgspec.structs import replace
from numpy.typing import NDArray

from noria.kernel.errors import NoriaError
from noria.models import class_rule, columns, forms, parity_probes, weights
from noria.models.frameworks import registry
from noria.models.golden import GOLDEN, Answer, Golden, make_golden, one_answer
from noria.models.parity_probes import Probes
from noria.models.python_model import TableKinds, load_tables, rows_of
from noria.models.signature import Decision, Signature

COMPILED = "model.onnx"
NEVER = 1e-3  # no row may differ by more
SELDOM = 1e-4  # and only the share RARE of the rows by more than this
RARE = 0.001
TIE = 1e-9  # probabilities this close to a threshold may fall on either side of it
NO_THRESHOLD = (
    "the classes that `predict` says follow from its probabilities by no threshold that could be found; "
    "`model.decision.threshold` sets one, and so does an attribute `threshold` of the model"
)


class Parity(msgspec.Struct, frozen=True):
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

    The job: ``model_file``, ``holdout``, ``signature``, ``frames``, ``tried``, ``model``, ``folder``, where there are any
    ``also`` (files of further tables by name) and ``feature_params``. Returns what ``Made`` tells
    (``form``, ``reason``, ``signature``, ``parity``, ``probes``), ``batch`` (whether rows may be answered together), ``golden``
    (how many rows, how many left out), ``latency_p50_ms``, ``latency_p99_ms`` (one row, in process) and ``size_mb`` (10^6 bytes).
    """
    signature = msgspec.convert(job["signature"], Signature)
    rows = columns.frame(pl.read_ipc(job["holdout"]), signature.inputs)
    features = job["model"].get("features")
    frames = msgspec.convert(job.get("frames", {}), TableKinds)
    tables = load_tables(job.get("also", {}))
    given = job.get("feature_params", {})
    original = forms.Original.load(Path(job["model_file"]), features, signature, frames, given, tables)
    made = compile_model(original, features, signature, rows, job.get("tried", []))
    signature = made.signature
    original = original.with_signature(signature)
    form: forms.Form = original
    size_bytes = Path(job["model_file"]).stat().st_size
    if made.content:
        size_bytes = weights.save(made.content, Path(job["folder"]) / COMPILED)
        form = forms.Compiled(Path(job["folder"]) / COMPILED, signature)
    rows_asked = golden(form, signature)
    (Path(job["folder"]) / GOLDEN).write_bytes(msgspec.json.encode(rows_asked))
    p50, p99 = forms.latency(form, rows)
    return {
        **made.facts(),
        "batch": row_by_row(form, rows),
        "golden": {"rows": len(rows_asked.answers), "left_out": rows_asked.left_out},
        "latency_p50_ms": p50,
        "latency_p99_ms": p99,
        "size_mb": size_bytes / 1e6,
    }


class ConversionResult(msgspec.Struct, frozen=True):
    """What became of a model: ONNX, or None where it is hosted; why, in one sentence; the signature that it is served with."""

    content: bytes | None
    parity: Parity | None  # where it was measured
    reason: str
    signature: Signature
    probes: int = 0  # questions that were made from the signature

    def facts(self) -> dict[str, Any]:
        return {
            "form": "compiled" if self.content else "hosted",
            "reason": self.reason,
            "signature": msgspec.to_builtins(self.signature),
            "parity": {**msgspec.to_builtins(self.parity), "holds": self.parity.holds} if self.parity else None,
            "probes": self.probes,
        }


def compile_model(
    original: forms.Original, features: str | None, signature: Signature, rows: pl.DataFrame, tried: Sequence[str] = ()
) -> ConversionResult:
    """``tried``: inputs that may be null though training saw none."""
    if features:
        made = ConversionResult(None, None, f"hosted: features are Python code ({features})", signature)
    else:
        made = convert_model(original.model, original, signature, rows, tried=tried)
    if made.content is not None or not class_rule.decides(original.model, signature):
        return made
    if class_rule.is_contradicted(original, rows, original.answers(rows), signature, TIE):
        return replace(made, signature=replace(signature, decision=Decision()))
    return made


def convert_model(
    model: Any,
    original: forms.Original,
    signature: Signature,
    rows: pl.DataFrame,
    called: str = "held-out rows",
    tried: Sequence[str] = (),
) -> ConversionResult:
    """``model`` as ONNX, held against what ``original`` answers on ``rows``, which the reason calls ``called``, and on what else
    the signature allows."""
    if signature.says_class:
        return ConversionResult(None, None, f"hosted: {NO_THRESHOLD}", signature)
    try:
        content = registry.to_onnx(model, signature, rows.head(5))
        form = forms.Compiled(content, signature)
        found = form.answers(rows)
    except NoriaError as error:
        return ConversionResult(None, None, f"hosted: {error.message}", signature)
    except Exception as error:  # noqa: BLE001 - onnxruntime's errors share no base; all mean that it does not run
        why = f"hosted: the compiled model does not run: {str(error).splitlines()[0][:300]}"
        return ConversionResult(None, None, why, signature)
    expected = original.answers(rows)
    parity = compare(forms.of_task(expected, signature.task), forms.of_task(found, signature.task))
    if not parity.holds:
        return ConversionResult(None, parity, f"hosted: the compiled model differs: {parity.sentence(called)}", signature)
    if class_rule.is_contradicted(original, rows, found, signature, SELDOM):
        return ConversionResult(None, parity, f"hosted: {NO_THRESHOLD}", replace(signature, decision=Decision()))
    asked = parity_probes.make_probes(signature, rows)
    told = _differences(original, form, asked, parity.scale)
    narrow = _inputs_refusing_null(asked, told, frozenset(tried))
    held = asked.without_null(narrow)
    left = [place for place in told if held[place]]
    if left:
        why = f"hosted: the compiled model differs where {asked.told[left[0]]}: {told[left[0]]}"
        return ConversionResult(
            None, parity, f"{why} ({len(left):,} of {asked.rows.height:,} made-up rows)", signature, asked.rows.height
        )
    reason = f"compiled: {parity.sentence(called)}, none of {int(held.sum()):,} made-up rows does"
    if narrow:
        first = next(place for place in told if not held[place])
        names = ", ".join(sorted(narrow))
        saw = "training saw" if called == "held-out rows" else "the sample has"
        reason += f"; null is refused in {names}: {saw} none there, and compiled {told[first]} where {asked.told[first]}"
        inputs = tuple(replace(i, nullable=i.nullable and i.name not in narrow) for i in signature.inputs)
        signature = replace(signature, inputs=inputs)
    return ConversionResult(content, parity, reason, signature, asked.rows.height)


def _inputs_refusing_null(asked: Probes, told: dict[int, str], tried: frozenset[str]) -> frozenset[str]:
    """The inputs whose nulls explain what differs, as far as only a trial has granted them: first those that are null alone."""
    narrow: frozenset[str] = frozenset()
    for place in sorted(told, key=lambda place: len(asked.nulls(place))):
        if not asked.nulls(place) & narrow:
            narrow |= asked.nulls(place) & tried
    return narrow


def _differences(original: forms.Original, form: forms.Compiled, asked: Probes, scale: float) -> dict[int, str]:
    """Place of a question -> what both forms answer to it, where that differs: the original may refuse what the graph refuses."""
    expected, refused = parity_probes.collect_answers(original.answers, asked.rows)
    found, failed = parity_probes.collect_answers(form.answers, asked.rows)
    told: dict[int, str] = {}
    for place in range(asked.rows.height):
        ours, theirs = expected[place], found[place]
        sound, given = (not why and bool(np.isfinite(v).all()) for why, v in ((refused[place], ours), (failed[place], theirs)))
        if not sound and not given:
            continue
        apart = np.abs(ours - theirs) / np.maximum(scale, np.abs(ours)) if sound and given else np.array([np.inf])
        if apart.max() > NEVER:
            due = _number(ours) if sound else f"the model refuses it ({refused[place] or 'no finite number'})"
            told[place] = f"it answers {_number(theirs) if given else 'nothing'}, {f'the model {due}' if sound else due}"
    return told


def _number(answer: NDArray[np.float64]) -> str:
    """Of two classes the second one's probability."""
    values = answer[1:] if len(answer) == 2 else answer
    return ", ".join(f"{v:.4g}" for v in values[:5]) + (", ..." if len(values) > 5 else "")


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

    return make_golden(signature, answer)


def row_by_row(form: forms.Form, rows: pl.DataFrame) -> bool:
    """Whether held-out rows get the same answers together as one by one: then requests may share a call, and of a call that
    fails the rows may be told apart. A row on which the model raises says nothing of the others."""
    some = rows.head(forms.DISTINCT)
    answered: dict[int, NDArray[np.float64]] = {}
    try:
        for place in range(some.height):
            with contextlib.suppress(Exception):  # whatever the project's code raises, this row has no answer
                answered[place] = form.predict(some.slice(place, 1))
        if not answered:
            return False
        together = form.predict(some[list(answered)])
    except BaseException:  # noqa: BLE001 - rows that are answered alone and not together, a panic, an exit
        return False
    return bool(np.allclose(together, np.concatenate(list(answered.values())), rtol=1e-6, atol=1e-9, equal_nan=True))


def _are_probabilities(values: NDArray[np.float64]) -> bool:
    return bool(((values >= 0) & (values <= 1)).all())
