"""Golden rows: made-up rows that travel with a release, and what the model answered them when it was packaged.

They are made from the signature alone, never taken from data: an erased person must not live on in a release.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from noria.models.signature import Input, Kind, Signature

GOLDEN = "golden.json"  # its name in a bundle
VERSION = 1  # of how the rows are made
ROWS = 12
STEP = 0.6180339887498949  # the golden ratio's fraction: its multiples fill an interval evenly
TEXTS = ("", "A", "a b", "0")  # no signature lists the texts of its inputs: a model must answer those it never saw

Answer = float | list[float]  # a value (regression), the positive class's probability (binary), or one of each class


class Golden(msgspec.Struct, frozen=True):
    """Rows as columns, and an answer for each. ``left_out``: made-up rows that the model did not answer, or not twice alike."""

    columns: dict[str, list[Any]]
    answers: list[Any]
    left_out: int = 0
    version: int = VERSION

    def rows(self) -> list[dict[str, list[Any]]]:
        """Each row as columns of one value: they are asked one by one, as most requests are."""
        return [{name: [values[i]] for name, values in self.columns.items()} for i in range(len(self.answers))]


def made_up_records(signature: Signature) -> list[dict[str, Any]]:
    """``ROWS`` records, the same for the same signature: the middle of the training range, its ends, all nulls, and between."""
    return [{entry.name: _value(entry, row, place) for place, entry in enumerate(signature.inputs)} for row in range(ROWS)]


def make_golden(signature: Signature, answer: Callable[[dict[str, Any]], Answer | None]) -> Golden:
    """The golden rows of a model. ``answer`` is asked each record twice; None means that it has none."""
    kept: list[tuple[dict[str, Any], Answer]] = []
    for record in made_up_records(signature):
        said = answer(record)
        if said is not None and said == answer(record):
            kept.append((record, said))
    columns = {entry.name: [record[entry.name] for record, _ in kept] for entry in signature.inputs}
    return Golden(columns, [said for _, said in kept], ROWS - len(kept))


def one_answer(values: Sequence[float]) -> Answer | None:
    """A row of probabilities, or one number in a sequence, as an answer; None when a number is not finite."""
    if not all(map(math.isfinite, values)):
        return None
    return float(values[0]) if len(values) == 1 else [float(v) for v in values]


def _value(entry: Input, row: int, place: int) -> Any:
    if entry.nullable and (row == 3 or (row > 3 and (row + place) % 5 == 0)):
        return None
    if entry.kind is Kind.STRING:
        return TEXTS[(row + place) % len(TEXTS)] if row > 2 else ""
    if entry.kind is Kind.BOOLEAN:
        return bool((row + place) % 2)
    number = _number(entry, row, place)
    return math.floor(number) if entry.kind is Kind.INTEGER else number


def _number(entry: Input, row: int, place: int) -> float:
    """Six digits of a number in the range that training saw."""
    low, high = (v if v is not None and math.isfinite(v) else other for v, other in ((entry.low, 0.0), (entry.high, 1.0)))
    share = {0: 0.5, 1: 0.0, 2: 1.0}.get(row, ((row * STEP) + place * 0.37) % 1.0)
    return float(f"{low * (1 - share) + high * share:.6g}")
