"""Are held-out rows repeated in the training rows? A model may then know their answer by heart, and metrics flatter it."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from noria.kernel.words import percent, plural

NOTABLE = 0.01  # of the held-out rows; fewer change no metric that matters


def count_repeated(train: pl.DataFrame, holdout: pl.DataFrame, columns: Sequence[str]) -> int:
    """How many held-out rows equal a training row in these columns; empty values equal each other."""
    known = train.select(columns).unique()
    return holdout.select(columns).join(known, on=list(columns), how="semi", nulls_equal=True).height


def repeated_words(repeated: int, rows: int) -> str:
    """A sentence for a report, or an empty text where there is nothing to say."""
    if not rows or repeated < NOTABLE * rows:
        return ""
    share = f"{repeated:,} of {plural(rows, 'held-out row')} ({percent(repeated / rows)})"
    return f"{share} have the inputs and the label of a training row: metrics may flatter a model that learned them by heart"
