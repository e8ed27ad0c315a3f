"""Measure: computes the metrics of a candidate from its scores on the held-out rows, beside the champion's."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import msgspec
import numpy as np
import polars as pl
from msgspec.structs import replace
from numpy.typing import NDArray

from noria.config import Model
from noria.evaluation import judge_curves, judge_slices, row_groups
from noria.evaluation.scores import ComparedRelease, Scores
from noria.kernel.policy import Gate
from noria.kernel.task import Task
from noria.models import naive_forecast, split
from noria.models.judge_overlap import repeated_words
from noria.models.labels import label_numbers
from noria.pipeline.context import PinnedRun
from noria.releases.evidence import Evaluation, Measured, Reference
from noria.releases.packaging import Package
from noria.stats import intervals, metrics, requested
from noria.stats.groups import Grouping, number_groups
from noria.stats.measures import Comparison, Measure
from noria.stats.requested import MetricFacts

T = TypeVar("T")
Measures = dict[str, Measure]
DAY_S = 86400.0


def measure(
    pinned_run: PinnedRun, package: Package, candidate: Scores, champion: ComparedRelease | None, best: ComparedRelease | None
) -> Measured:
    """Returns the evaluation of the candidate, the reference for the monitor, and the curves."""
    model = pinned_run.project.model
    assert model is not None
    rows = pl.read_ipc(package.holdout)
    classes = package.trained["signature"]["classes"]
    labels = label_numbers(rows[model.label], model.task, classes)
    assert candidate.predictions is not None
    reference = _reference(model, rows, labels, candidate.predictions)
    measured = _evaluation(pinned_run, package, rows, labels, candidate, champion, best)
    return Measured(measured, reference, judge_curves.evaluation_curves(model, classes, labels, candidate, champion))


def _evaluation(
    pinned_run: PinnedRun,
    package: Package,
    rows: pl.DataFrame,
    labels: NDArray[Any],
    candidate: Scores,
    champion: ComparedRelease | None,
    best: ComparedRelease | None,
) -> Evaluation:
    model = pinned_run.project.model
    assert model is not None
    wanted = _metrics(model.task, pinned_run.judging.gates)
    groupings = row_groups.find_groupings(rows, model.groups, model.event_time)
    labelled = LabelledRows(model.task, labels, metric_facts(model, package.trained, rows), groupings)

    def against(rival: ComparedRelease | None) -> dict[str, Comparison]:
        if rival is None or rival.scores.predictions is None:
            return {}
        return _each(wanted, partial(labelled.compare, candidate, rival.scores))

    versus = against(champion)
    unmeasured: dict[str, str] = {}
    return Evaluation(
        rows=len(labels),
        positives=int((labels == 1).sum()) if model.task.definition.two_classes else 0,
        metrics=_each(wanted, partial(labelled.measure, candidate), unmeasured),
        versus=versus,
        champion=champion.release.version if champion else None,
        slices=measure_slices(labelled, pinned_run.judging.gates, rows, candidate),
        latency_p50_ms=package.packaged["latency_p50_ms"],
        latency_p99_ms=package.packaged["latency_p99_ms"],
        model_size_mb=package.packaged["size_mb"],
        holdout=package.trained["split"]["sentence"],
        champion_note=champion.scores.note if champion is not None else "",
        best=best.release.version if best else None,
        versus_best=versus if best is champion else against(best),
        remarks=_remarks(package.trained, len(labels)),
        unmeasured=unmeasured,
    )


def _remarks(trained: dict[str, Any], rows: int) -> tuple[str, ...]:
    repeated = repeated_words(trained.get("repeated", 0), rows)
    return (*trained.get("alone", ()), *([repeated] if repeated else []))


def _metric_inputs(task: Task, scores: Scores, metric: str) -> NDArray[np.float64]:
    assert scores.predictions is not None
    return metrics.facing(metric, task, scores.predictions, scores.called)


def _each(wanted: list[str], measure: Callable[[str], T], unmeasured: dict[str, str] | None = None) -> dict[str, T]:
    """By metric; why others have no value is added to ``unmeasured``."""
    found = {}
    for name in wanted:
        try:
            found[name] = measure(name)
        except metrics.Undefined as error:  # one class only, say: a gate on this metric reports it
            if unmeasured is not None:
                unmeasured[name] = str(error)
    return found


def _metrics(task: Task, gates: tuple[Gate, ...]) -> list[str]:
    """Every metric of the task that is cheap, and whatever a gate asks for."""
    definition = task.definition
    asked = [gate.metric for gate in gates if gate.metric in definition.gate_metrics]
    return list(dict.fromkeys([*definition.always_measured, *asked]))


class LabelledRows(msgspec.Struct, frozen=True):
    """Held-out rows on which scores are measured."""

    task: Task
    labels: NDArray[Any]
    facts: MetricFacts
    groupings: tuple[Grouping, ...]

    def measure(self, scores: Scores, metric: str) -> Measure:
        faced = _metric_inputs(self.task, scores, metric)
        if metric in self.task.definition.metrics:
            return intervals.measure(metric, self.task, self.labels, faced, groupings=self.groupings)
        return requested.measure(metric, self.task, self.labels, faced, self.facts, groupings=self.groupings)

    def compare(self, candidate: Scores, other: Scores, metric: str) -> Comparison:
        mine, theirs = (_metric_inputs(self.task, scores, metric) for scores in (candidate, other))
        if metric in self.task.definition.metrics:
            return intervals.compare(metric, self.task, self.labels, mine, theirs, groupings=self.groupings)
        return requested.compare(metric, self.task, self.labels, mine, theirs, self.facts, groupings=self.groupings)

    def of_rows(self, mask: NDArray[np.bool_]) -> LabelledRows:
        return LabelledRows(self.task, self.labels[mask], self.facts.of_rows(mask), row_groups.of_rows(self.groupings, mask))


def metric_facts(model: Model, trained: dict[str, Any], rows: pl.DataFrame) -> MetricFacts:
    """What the metrics that gates ask for know besides labels and answers."""
    errors: dict[str, float] | None = trained.get("naive_errors")
    scales = None if errors is None else naive_forecast.scales(rows, model.series, errors)
    queries = number_groups(rows[model.query].to_list()) if model.query in rows.columns else None
    return MetricFacts(model.quantile, scales, model.costs, queries)


def measure_slices(
    labelled: LabelledRows, gates: tuple[Gate, ...], rows: pl.DataFrame, scores: Scores
) -> dict[str, dict[str, Measures]]:
    """By column and value; slices that are too small to be judged are measured together, too, as POOLED."""
    found: dict[str, dict[str, Measures]] = {}
    for gate in gates:
        if gate.by is None or gate.by not in rows.columns:
            continue
        values = rows[gate.by].cast(pl.String).fill_null("(empty)").to_numpy()

        def slice_measures(mask: NDArray[np.bool_], metric: str = gate.metric) -> Measures:
            return _each([metric], partial(labelled.of_rows(mask).measure, _of_rows(scores, mask)))

        measured = {str(value): slice_measures(values == value) for value in np.unique(values)}
        small = [value for value, each in measured.items() if judge_slices.is_small(each.get(gate.metric))]
        if len(small) > 1:
            measured[judge_slices.POOLED] = slice_measures(np.isin(values, small))
        for value, each in measured.items():
            found.setdefault(gate.by, {}).setdefault(value, {}).update(each)
    return found


def _of_rows(scores: Scores, mask: NDArray[np.bool_]) -> Scores:
    assert scores.predictions is not None
    return replace(scores, predictions=scores.predictions[mask], called=None if scores.called is None else scores.called[mask])


def _reference(model: Model, rows: pl.DataFrame, labels: NDArray[Any], predictions: NDArray[np.float64]) -> Reference:
    name = model.task.definition.loss
    losses = metrics.row_losses(name, model.task, labels, predictions)
    days = split.seconds(rows[model.event_time]) // DAY_S if model.event_time else None
    means = units(losses, days)
    return Reference(name, float(means.mean()), float(means.std(ddof=1)) if len(means) > 1 else 0.0, len(means), len(losses))


def units(losses: NDArray[np.float64], days: pl.Series | None) -> NDArray[np.float64]:
    """Mean losses of the independent units: the days, where rows carry an event time (rows of one day share its weather,
    its strike, its campaign), else the rows. See docs/decisions/0003."""
    if days is None:
        return losses
    means = pl.DataFrame({"day": days, "loss": losses}).group_by("day", maintain_order=True).agg(pl.col("loss").mean())
    return means["loss"].to_numpy()
