"""Which class a model's answers are called: as the project says, or as the model's own ``predict`` shows."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl
from msgspec.structs import replace
from numpy.typing import NDArray

from noria.models import forms, judge_decision
from noria.models.frameworks.bare import Answering
from noria.models.signature import Decision, Signature

LOOKED = 20_000  # training rows that show the rule
NAMED = ("best_threshold_", "threshold_", "threshold", "decision_threshold", "cutoff")  # attributes that may hold a threshold
INNER = ("estimator_", "estimator", "model", "classifier", "base", "pipeline")  # attributes that may hold such a model
DEEP = 4  # models in models


def add_decision(
    signature: Signature, told: float | None, model: Any, features: Any, frames: Any, rows: pl.DataFrame
) -> Signature:
    """The signature with the rule of the model. ``told``: the threshold of noria.yaml, which comes first."""
    if told is not None and signature.task.definition.two_classes:
        return replace(signature, decision=Decision(told, told=True))
    if not decides(model, signature):
        return signature
    original = forms.Original(model, features, signature, frames)
    found = rule(original, rows.gather_every(max(1, rows.height // LOOKED)), signature)
    return replace(signature, decision=found)


def rule(original: forms.Original, rows: pl.DataFrame, signature: Signature) -> Decision | None:
    """The rule that the model's ``predict`` follows on these rows; None also where it says no classes."""
    own = _predicted_classes(original, rows)
    if own is None:
        return None
    probabilities = original.answers(rows)
    whole = np.isfinite(probabilities).all(axis=1)
    return judge_decision.rule_of(probabilities[whole], own[whole], hints(original.model))


def is_contradicted(original: forms.Original, rows: pl.DataFrame, probabilities: Any, signature: Signature, near: float) -> bool:
    """Whether ``predict`` says other classes than the rule of the signature; ``probabilities`` are the served form's."""
    if not decides(original.model, signature):
        return False
    own = _predicted_classes(original, rows)
    if own is None:
        return False
    whole = np.isfinite(probabilities).all(axis=1)
    return not judge_decision.follows(signature.decision, probabilities[whole], own[whole], near)


def _predicted_classes(original: forms.Original, rows: pl.DataFrame) -> NDArray[np.intp] | None:
    """What ``predict`` says; None where it predicts something else than classes, or nothing: then it has no say."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the model says them when it is asked for probabilities
            return original.predicted_classes(rows)
    except BaseException:  # noqa: BLE001 - the model may raise anything
        return None


def hints(model: Any, depth: int = DEEP) -> Iterator[float]:
    """Numbers between 0 and 1 that the model, or one inside it, calls a threshold."""
    for name in NAMED:
        value = getattr(model, name, None)
        if isinstance(value, float | int | np.floating) and not isinstance(value, bool) and 0 < value < 1:
            yield float(value)
    if depth:
        inner = [getattr(model, name, None) for name in INNER] + [step for _, step in getattr(model, "steps", [])[-1:]]
        for one in inner:
            if hasattr(one, "predict"):
                yield from hints(one, depth - 1)


def decides(model: Any, signature: Signature) -> bool:
    """Whether its ``predict`` has a say beside its probabilities: what Noria wraps has no rule of its own."""
    if not signature.task.definition.has_classes or (
        signature.decision is not None and (signature.decision.told or signature.says_class)
    ):
        return False
    return hasattr(model, "predict") and hasattr(model, "predict_proba") and not isinstance(model, Answering)
