"""Does one input predict the label alone? Then it is mostly a copy of the label, or something that comes to be known after it."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import numpy as np
import polars as pl

from noria.kernel.task import Task
from noria.stats.metrics import roc_auc_parts

LIMIT = 0.995  # area under the curve, of a number the share of its variance
ROWS = 20_000  # that are looked at, spread over the table
LEAST = 20  # rows of a class, or of the table; fewer tell by chance
GROUPS = 50  # values of an input that are told apart; numbers are cut into as many


class LeakingInput(msgspec.Struct, frozen=True):
    """An input that predicts the label alone; ``measure`` is the area under the curve, of a number R2."""

    name: str
    measure: float
    task: Task

    def words(self, label: str) -> str:
        """What that means, in a sentence."""
        what = self.task.definition.leakage
        return f"{self.name} predicts {label} alone ({what} {self.measure:.3f}): is it known when a prediction is asked for?"


def judge_inputs(table: pl.DataFrame, inputs: Iterable[str], label: str, task: Task) -> list[LeakingInput]:
    """Those inputs by which rows that were not looked at are told apart; nothing where there are too few rows."""
    if label not in table.columns:
        return []
    rows = table.filter(pl.col(label).is_not_null())
    rows = rows.gather_every(max(1, rows.height // ROWS))
    targets = _targets(rows[label], task)
    found = []
    for name in inputs:
        if name in rows.columns and name != label and targets:
            groups = _groups(rows[name])
            measure = min(_measure(groups, target, task) for target in targets) if groups is not None else 0.0
            if not task.definition.has_classes and rows[name].dtype.is_numeric():
                measure = max(measure, _straight(rows[name], rows[label]))
            if measure > LIMIT:
                found.append(LeakingInput(name, measure, task))
    return found


def _targets(label: pl.Series, task: Task) -> list[np.ndarray]:
    """What is to be told: a number, or of each class whether it is that."""
    if len(label) < 2 * LEAST:
        return []
    if not task.definition.has_classes:
        return [label.cast(pl.Float64).to_numpy()] if label.dtype.is_numeric() else []
    classes = label.unique().sort().to_list()
    if not 2 <= len(classes) <= GROUPS or label.value_counts()["count"].min() < LEAST:  # type: ignore[operator]  # counts
        return []
    return [(label == value).to_numpy().astype(float) for value in classes[: 1 if len(classes) == 2 else None]]


def _groups(values: pl.Series) -> np.ndarray | None:
    """Each row's group: equal values, or numbers that lie together; missing ones are a group too. None of what is no input."""
    if values.dtype.is_numeric() and values.n_unique() > GROUPS:
        numbers = values.cast(pl.Float64).fill_null(float("nan")).to_numpy()
        missing = np.isnan(numbers)
        edges = np.quantile(numbers[~missing], np.linspace(0, 1, GROUPS + 1)[1:-1])
        return np.where(missing, -1, np.searchsorted(edges, numbers, "right"))
    if not (values.dtype.is_numeric() or values.dtype in (pl.String, pl.Boolean)):
        return None
    frequent = values.value_counts(sort=True)[values.name].head(GROUPS)
    return values.replace_strict(frequent, pl.int_range(len(frequent), eager=True), default=GROUPS).to_numpy()


def _straight(values: pl.Series, label: pl.Series) -> float:
    """The share of the label's variance that lies on a straight line over the input."""
    found = pl.DataFrame([values.cast(pl.Float64).alias("x"), label.cast(pl.Float64).alias("y")]).select(pl.corr("x", "y")).item()
    return float(found) ** 2 if found is not None and np.isfinite(found) else 0.0


def _measure(groups: np.ndarray, target: np.ndarray, task: Task) -> float:
    """How well the mean of a row's group, among the rows of the other half, tells the target of the row."""
    half = np.arange(len(target)) % 2 == 0
    score = np.empty(len(target))
    for side in (half, ~half):
        sums = np.bincount(groups[side] + 1, target[side], GROUPS + 3)
        counts = np.bincount(groups[side] + 1, minlength=GROUPS + 3)
        means = np.where(counts > 0, sums / np.maximum(counts, 1), target[side].mean())
        score[~side] = means[groups[~side] + 1]
    if not task.definition.has_classes:
        spread = float(((target - target.mean()) ** 2).sum())
        return 1 - float(((target - score) ** 2).sum()) / spread if spread > 0 else 0.0
    return float(roc_auc_parts(target, score)[0].mean())
