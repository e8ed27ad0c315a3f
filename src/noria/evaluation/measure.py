"""Measure: what the candidate's scores on the held-out rows amount to, beside the champion's."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from noria.config import Model
from noria.evaluation.scores import ComparedRelease, Scores
from noria.kernel.policy import Gate
from noria.kernel.task import Task
from noria.models import split
from noria.models.labels import label_numbers
from noria.pipeline.context import PinnedRun
from noria.releases.evidence import Evaluation, Reference
from noria.releases.packaging import Package
from noria.stats import intervals, metrics
from noria.stats.measures import Comparison, Measure

T = TypeVar("T")
DAY_S = 86400.0


def measure(
    pinned_run: PinnedRun, package: Package, candidate: Scores, champion: ComparedRelease | None, best: ComparedRelease | None
) -> tuple[Evaluation, Reference]:
    """The evaluation of the candidate, and what the monitor will compare its days with."""
    model = pinned_run.project.model
    assert model is not None
    rows = pl.read_ipc(package.holdout)
    labels = label_numbers(rows[model.label], model.task, package.trained["signature"]["classes"])
    assert candidate.predictions is not None
    reference = _reference(model, rows, labels, candidate.predictions)
    return _evaluation(pinned_run, package, rows, labels, candidate, champion, best), reference


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
    wanted = _metrics(model.task, pinned_run.project.gates)
    faced = partial(_metric_inputs, model.task, candidate)

    def against(rival: ComparedRelease | None) -> dict[str, Comparison]:
        if rival is None or rival.scores.predictions is None:
            return {}
        beside = partial(_metric_inputs, model.task, rival.scores)
        return _each(wanted, lambda m: intervals.compare(m, model.task, labels, faced(m), beside(m)))

    versus = against(champion)
    return Evaluation(
        rows=len(labels),
        positives=int((labels == 1).sum()) if model.task.definition.two_classes else 0,
        metrics=_each(wanted, lambda m: intervals.measure(m, model.task, labels, faced(m))),
        versus=versus,
        champion=champion.release.version if champion else None,
        slices=_slices(model, pinned_run.project.gates, rows, labels, candidate),
        latency_p50_ms=package.packaged["latency_p50_ms"],
        latency_p99_ms=package.packaged["latency_p99_ms"],
        model_size_mb=package.packaged["size_mb"],
        holdout=package.trained["split"]["sentence"],
        champion_note=champion.scores.note if champion is not None else "",
        best=best.release.version if best else None,
        versus_best=versus if best is champion else against(best),
        remarks=tuple(package.trained.get("alone", ())),
    )


def _metric_inputs(task: Task, scores: Scores, metric: str) -> NDArray[np.float64]:
    assert scores.predictions is not None
    return metrics.facing(metric, task, scores.predictions, scores.called)


def _each(wanted: list[str], measure: Callable[[str], T]) -> dict[str, T]:
    found = {}
    for name in wanted:
        try:
            found[name] = measure(name)
        except metrics.Undefined:
            continue  # one class only: the gate that asks for it says so
    return found


def _metrics(task: Task, gates: tuple[Gate, ...]) -> list[str]:
    """Every metric of the task that is cheap, and whatever a gate asks for."""
    definition = task.definition
    asked = [gate.metric for gate in gates if gate.metric in definition.metrics]
    return list(dict.fromkeys([*definition.always_measured, *asked]))


def _slices(
    model: Model, gates: tuple[Gate, ...], rows: pl.DataFrame, labels: NDArray[Any], scores: Scores
) -> dict[str, dict[str, dict[str, Measure]]]:
    found: dict[str, dict[str, dict[str, Measure]]] = {}
    for gate in gates:
        if gate.by is None or gate.by not in rows.columns:
            continue
        values = rows[gate.by].cast(pl.String).fill_null("(empty)").to_numpy()
        for value in np.unique(values):
            mask = values == value
            faced = _metric_inputs(model.task, scores, gate.metric)[mask]
            measured = _each([gate.metric], partial(_measure, model.task, labels[mask], faced))
            found.setdefault(gate.by, {}).setdefault(str(value), {}).update(measured)
    return found


def _measure(task: Task, labels: NDArray[Any], predictions: NDArray[np.float64], metric: str) -> Measure:
    return intervals.measure(metric, task, labels, predictions)


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
