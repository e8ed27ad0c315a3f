"""Checks a freshly loaded model against the golden rows of its bundle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from noria.kernel.errors import ServingError
from noria.kernel.verdict import Outcome
from noria.models import judge_golden as judge
from noria.models.golden import GOLDEN, Golden
from noria.models.signature import Signature
from noria.releases.bundle import Bundle

Told = Callable[[str], None]
Predict = Callable[[dict[str, list[Any]]], list[Any]]  # columns of one row -> the one answer, as a runtime gives it


def ask(bundle: Bundle, predict: Predict, told: Told = lambda step: None) -> None:
    """``told`` hears which row is asked next. A bundle from before golden rows were known has nothing to ask.

    Raises ServingError when the model answers otherwise than it did at Package time.
    """
    if GOLDEN not in bundle.manifest.files:
        return
    try:
        golden = msgspec.json.decode((bundle.folder / GOLDEN).read_bytes(), type=Golden)
    except msgspec.DecodeError as error:
        raise ServingError(f"its golden rows cannot be read: {error}", where=str(bundle.folder / GOLDEN)) from error
    found = []
    for number, row in enumerate(golden.rows()):
        told(f"golden row {number}")
        found.append(_answer(bundle.signature, predict, row))
    reason = judge.compare(golden, found)
    if reason.outcome is not Outcome.PASS:
        raise ServingError(f"its answers differ from those at packaging: {reason.text}")


def _answer(signature: Signature, predict: Predict, row: dict[str, list[Any]]) -> Any:
    """An answer in the golden form, or the text of what the model raised."""
    try:
        answer = predict(row)[0]
        definition = signature.task.definition
        if not definition.has_classes:
            return answer
        return answer[: len(signature.classes)] if definition.answers_rows else answer[1]
    except BaseException as error:  # noqa: BLE001 - it answered at Package time: whatever it raises now is a difference
        return f"{type(error).__name__}: {error}"[:500]
