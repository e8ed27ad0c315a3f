"""Questions that the signature allows and the held-out rows may not hold: nulls, unseen texts, the ends of ranges and beyond.

Made from the signature and a few held-out rows, one value of a row changed at a time, so that what differs can be named.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from noria.models import golden
from noria.models.python_model import rows_of
from noria.models.signature import Input, Kind, Signature

BASES = 2  # held-out rows that are changed ...
NULL_BASES = 10  # ... and in which one value is missing: where a tree sends it depends on the others
MOST = 2000  # questions
TEXTS = ("", " ", "0", "never seen", "Ärger & Söhne, 5 €", "it's odd\nof two lines", "x" * 300)
BEYOND = 0.31  # of the range, on either side; fractions are odd ones, as splits of trees lie at halves
FRACTION = 0.37


class Probes(msgspec.Struct, frozen=True):
    """Questions, and what is odd about each: ``age = null``."""

    rows: pl.DataFrame
    told: list[str]

    def nulls(self, place: int) -> frozenset[str]:
        """The inputs that a question leaves out."""
        return frozenset(name for name, value in self.rows.row(place, named=True).items() if value is None)

    def without_null(self, names: frozenset[str]) -> NDArray[np.bool_]:
        """Whether each question has no null in these columns."""
        held = np.ones(self.rows.height, dtype=bool)
        for name in names:
            held &= self.rows[name].is_not_null().to_numpy()
        return held


def make_probes(signature: Signature, rows: pl.DataFrame) -> Probes:
    """``rows``: held-out ones, as ``columns.frame`` makes them."""
    bases = _bases(signature, rows)
    changed = [
        (place, number, entry.name, value)
        for number, base in enumerate(bases)
        for entry in signature.inputs
        for place, value in enumerate(_odd(entry, base[entry.name]) if number < BASES else [None] * entry.nullable)
    ]
    changed.sort(key=lambda one: one[:2])  # where there are too many, each input has had its first ones
    asked = [{**bases[number], name: value} for _, number, name, value in changed]
    told = [f"{name} = {_value_text(value)}" for _, _, name, value in changed]
    nullable = {i.name: None for i in signature.inputs if i.nullable}
    if nullable:
        asked = [*asked, {**bases[0], **nullable}]
        told = [*told, "every input that may be null is null"]
    asked = [*asked[: MOST - golden.ROWS], *golden.made_up_records(signature)]
    told = [*told[: MOST - golden.ROWS], *(f"golden row {i} is asked" for i in range(golden.ROWS))]
    columns = {i.name: [record[i.name] for record in asked] for i in signature.inputs}
    return Probes(rows_of(columns, signature), told)


def collect_answers(
    ask: Callable[[pl.DataFrame], NDArray[np.float64]], rows: pl.DataFrame
) -> tuple[NDArray[np.float64], list[str]]:
    """Answers of all rows, NaN where there is none, and why there is none: what fails together is asked in halves."""
    found: list[NDArray[np.float64]] = []
    why = [""] * rows.height
    waiting = [(0, rows.height)]
    while waiting:
        at, n = waiting.pop()
        try:
            found.append(ask(rows.slice(at, n)).reshape(n, -1))
        except BaseException as error:  # noqa: BLE001 - a model may raise anything for a question that it does not know
            if n > 1:
                waiting += [(at + n // 2, n - n // 2), (at, n // 2)]
                continue
            found.append(np.full((1, 1), np.nan))
            why[at] = f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:200]}"
    width = max(part.shape[1] for part in found)
    return np.concatenate([np.broadcast_to(part, (len(part), width)) for part in found]), why


def _bases(signature: Signature, rows: pl.DataFrame) -> list[dict[str, Any]]:
    """Whole rows where there are some: then one null is the only one."""
    whole = rows.drop_nulls()
    found = (whole if whole.height else rows).select(i.name for i in signature.inputs)
    some = found.gather_every(max(1, found.height // NULL_BASES)).head(NULL_BASES).to_dicts()
    return some or [{i.name: None for i in signature.inputs}]


def _odd(entry: Input, value: Any) -> list[Any]:
    found: list[Any] = [None] if entry.nullable else []
    if entry.kind is Kind.BOOLEAN:
        return [*found, True, False]
    if entry.kind is Kind.STRING:
        return [*found, *TEXTS, *([value.upper(), f"{value} "] if value else [])]
    low, high = (v if v is not None and math.isfinite(v) else other for v, other in ((entry.low, 0.0), (entry.high, 1.0)))
    if entry.kind is Kind.INTEGER:
        return [*found, int(low), int(high), int(low) - 1, int(high) + 1, 0, -1]
    span = (high - low) or 1.0
    return [
        *found,
        low,
        high,
        low - BEYOND * span,
        high + BEYOND * span,
        math.floor((low + high) / 2) + FRACTION,
        0.0,
        -2 * FRACTION,
    ]


def _value_text(value: Any) -> str:
    if value is None:
        return "null"
    text = f"{value:.6g}" if isinstance(value, float) else repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
