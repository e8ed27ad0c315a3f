"""Does a model answer its golden rows as it did when it was packaged?

The tolerance is absolute 1e-5 plus relative 1e-4. The same library on the same processor repeats itself bit by bit; another
processor adds up float32 in another order, which moves a sum of thousands of terms by some 1e-6 of itself. What is beyond is
another model, another library that computes otherwise, or damage. A class cannot change unseen: where the numbers agree so
closely the classes agree, but for a tie, which is none of a release's merits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from noria.kernel.verdict import Outcome, Reason
from noria.models.golden import Golden

ABSOLUTE = 1e-5
RELATIVE = 1e-4
SHOWN = 8  # inputs of a row that the sentence shows


def compare(golden: Golden, found: Sequence[Any]) -> Reason:
    """``found``: for each golden row an answer in the golden form, or a text when the model did not answer."""
    for row, (expected, got) in enumerate(zip(golden.answers, found, strict=True)):
        if not _agree(expected, got):
            said = f"failed: {got}" if isinstance(got, str) else f"was answered {_text(got)}"
            text = f"golden row {row} {said}, where {_text(expected)} was due; the row: {_row_text(golden, row)}"
            return Reason("golden.differs", text, Outcome.FAIL)
    return Reason("golden.agrees", f"{len(golden.answers)} golden rows were answered as at Package time")


def _agree(expected: Any, got: Any) -> bool:
    ours, theirs = (value if isinstance(value, list) else [value] for value in (expected, got))
    return len(ours) == len(theirs) and all(map(_close, ours, theirs))


def _close(expected: float, got: Any) -> bool:
    return isinstance(got, int | float) and math.isfinite(got) and abs(got - expected) <= ABSOLUTE + RELATIVE * abs(expected)


def _text(answer: Any) -> str:
    values = answer if isinstance(answer, list) else [answer]
    text = ", ".join(f"{v:.7g}" for v in values[:SHOWN]) + (", ..." if len(values) > SHOWN else "")
    return f"[{text}]" if isinstance(answer, list) else text


def _row_text(golden: Golden, row: int) -> str:
    cells = [f"{name}={values[row]!r}" for name, values in list(golden.columns.items())[:SHOWN]]
    return ", ".join(cells) + (", ..." if len(golden.columns) > SHOWN else "")
