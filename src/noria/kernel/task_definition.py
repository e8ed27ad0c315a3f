"""What Noria has to know of a task: the record that each file of `kernel/tasks/` fills in.

A new task is one such file, listed in `kernel/tasks/__init__.py`, and the formulas of its metrics in `stats/`, which are named
here by text, so that nobody who reads a definition imports NumPy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import StrEnum

import msgspec


class Output(StrEnum):
    """What a column of an answer holds."""

    VALUE = "value"  # a number
    CLASS = "class"  # the class that the row is called
    SECOND = "second"  # the probability of the second of two classes
    EACH = "each"  # the probability of each class, in the order of the signature


class BoundsKind(StrEnum):
    """How a metric's confidence bounds are computed (`stats/intervals.py` has the sources)."""

    AREA = "area"  # DeLong
    COUNTS = "counts"  # exact, from how often each label is called what
    MEAN = "mean"  # of rows whose loss has a worst, or is given one
    INFLUENCE = "influence"  # by how much each row moves the metric
    ERRORS = "errors"  # the same; a difference may hang on few rows
    RESAMPLED = "resampled"  # by the bootstrap


class Metric(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    formula: str  # module:function; (labels, answers) -> the value, of a ``per_row`` metric its parts [n]
    greater_is_better: bool
    bounds: BoundsKind
    per_row: bool = False  # it is a mean over rows
    of_classes: bool = False  # computed from the classes that rows are called, not from their scores
    of_ranks: bool = False  # computed from the order of the scores: rows of both classes are needed
    high: float | None = 1.0  # the most that it, or a row of it, can be; None: no number
    needs: str = ""  # the key of `model` without which it has no value; "" where labels and answers are enough
    guard: str = ""  # what a rollout that guards it is told, of a ``per_row`` metric; empty: it may not be guarded


class LabelFacts(msgspec.Struct, frozen=True):
    """What a table shows of a label, for who has to guess the task."""

    name: str
    distinct: int  # values
    is_number: bool
    may_be_classes: bool  # texts, truth values, whole numbers


class TaskDefinition(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    metrics: dict[str, Metric]
    loss: str  # the metric, a mean of rows, that the monitor follows, and that a search improves unless told otherwise
    always_measured: tuple[str, ...]  # metrics that every evaluation has, whatever the gates ask for

    outputs: dict[str, Output]  # the columns of an answer
    on_request: dict[str, Metric] = {}  # metrics that are measured where a gate asks for them (`stats/requested.py`)
    class_count: int | None = 0  # that a model has; 0: its answers are numbers; None: as many as its labels have, at least two
    takes_new_classes: bool = False  # labels of classes that no release knows yet are told and kept
    graph_widths: tuple[int, ...] = ()  # numbers a row that a graph may give; (): one for each class

    suits: Callable[[LabelFacts], str | None]  # why a label is of this task, None: it is not
    gated: tuple[str, ...]  # the metrics that a first project's gates compare with the champion; the main one first
    better_than_guessing: tuple[str, str]  # a gate and why; {commonest} is the share of the commonest class
    variance: float  # of the difference of two models that are as good, a row; of an error as a share of it
    by_rarest: bool = False  # only rows of the rarer class tell such a difference
    leakage: str  # what tells how well one input predicts the label alone

    @property
    def has_classes(self) -> bool:
        return self.class_count != 0

    @property
    def two_classes(self) -> bool:
        return self.class_count == 2

    @property
    def guarded(self) -> tuple[str, ...]:
        """The metrics that a rollout may guard."""
        return tuple(metric.name for metric in self.metrics.values() if metric.guard)

    @property
    def gate_metrics(self) -> dict[str, Metric]:
        """Those that a gate may name."""
        return self.metrics | self.on_request

    @property
    def main_metric(self) -> Metric:
        return self.metrics[self.gated[0]]

    @property
    def answers_rows(self) -> bool:
        """Whether metrics take a row of numbers [n, k] for each row, not one number [n]."""
        return Output.EACH in self.outputs.values()


def by_name(metrics: Iterable[Metric]) -> dict[str, Metric]:
    return {metric.name: metric for metric in metrics}
