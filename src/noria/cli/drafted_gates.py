"""The gates of a first project: only what its rows can show."""

from __future__ import annotations

import math

import polars as pl

from noria.kernel.task import Task
from noria.kernel.task_definition import TaskDefinition
from noria.kernel.words import percent, plural

HELD_OUT = 0.2  # of the rows; more where they are few
HELD_LEAST = 80  # rows; with few rows as many are held out, if that is not more than half
GATE_ROWS, GATE_CLASS = 50, 10  # what a gate needs, in all and of each class


def holdout_share(rows: int) -> float:
    """The share of the rows that is held out: a fifth, or as much as it takes to judge, up to a half."""
    return min(0.5, max(HELD_OUT, math.ceil(100 * HELD_LEAST / rows) / 100))


def holdout_rows(rows: int) -> int:
    return round(holdout_share(rows) * rows)


def gates(task: Task, label: pl.Series, held: int) -> tuple[tuple[str, str], ...]:
    """Better than guessing, by a bound; shown to be worse than the champion by no proper metric of the task; not far below the
    best release so far, so that small steps down do not add up; and a bound on time."""
    definition = task.definition
    main, *others = definition.gated
    margin, smaller = _margin(definition, label, held), not definition.main_metric.greater_is_better
    allowed = f"{main} <= best + {margin * 100:.2g}%" if smaller else f"{main} >= best - {margin:.2g}"
    few = "" if margin <= LEAST_MARGIN else f"; {plural(held, 'row')} cannot show a smaller difference"
    return (
        _better_than_guessing(definition, label),
        (f"{main} no worse than champion", "fails if the candidate is shown to be worse on the same held-out rows"),
        *((f"{other} no worse than champion by 2%", "the same, with a small tolerance") for other in others),
        (allowed, f"the best release so far, so that small losses do not add up{few}"),
        ("latency_p99_ms <= 50", "one row, over HTTP"),
    )


LEAST_MARGIN = 0.02  # of an error a share of it


def _better_than_guessing(definition: TaskDefinition, label: pl.Series) -> tuple[str, str]:
    gate, why = definition.better_than_guessing
    share = label.value_counts(sort=True)["count"][0] / label.len()
    return gate.format(commonest=math.floor(share * 100) / 100), why


def _margin(definition: TaskDefinition, label: pl.Series, held: int) -> float:
    """How far below the best is allowed: as little as can be shown of a model that is as good, of which most answers agree.

    Differences of two such models are taken to spread as they do in practice: areas of 0.8 whose errors are nine tenths in common
    (Hanley and McNeil, Radiology 1982 and 1983), calls of which one in 20 differs, errors whose differences are a third of them.
    """
    z, power = 1.645, 0.842  # at 95 %, for four such models in five
    rows = max(1.0, held * _rarest(label) / label.len() if definition.by_rarest else held)
    unseen = 0.0 if definition.main_metric.high is None else z * z / 2 / rows  # an error knows no worst that could be added
    width = (z + power) * math.sqrt(definition.variance / rows) + unseen
    return max(LEAST_MARGIN, math.ceil(width * 100) / 100)


def _rarest(label: pl.Series) -> int:
    """Rows of the rarer class."""
    return int(min(label.value_counts()["count"].to_list()))


def few_words(task: Task, label: pl.Series) -> str:
    """Says what a table of so few rows can and cannot show; empty when there are enough."""
    rows, held = label.len(), holdout_rows(label.len())
    definition = task.definition
    rare = held * _rarest(label) // rows if definition.by_rarest else GATE_CLASS
    main, margin = definition.main_metric, _margin(definition, label, held)
    said = f"{plural(rows, 'row')}: about {held:,} are held out to judge a model"
    if held < GATE_ROWS or rare < GATE_CLASS:
        needs = f"{GATE_ROWS} of them" + (f", and {GATE_CLASS} of each class" if definition.by_rarest else "")
        return f"{said}, and a gate on quality needs {needs}: no model is released until there are more rows"
    if margin <= LEAST_MARGIN:
        return ""
    by = f"{margin:.2g}" if main.greater_is_better else percent(margin)
    return f"{said}; they can show that a model beats guessing or is worse by {by} in {main.name}, but no smaller difference"
