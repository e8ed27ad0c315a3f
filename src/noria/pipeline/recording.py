"""What a run leaves to be compared: its metrics, series, plots, artifacts, note and tags, gathered from its steps."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

import msgspec

from noria import track
from noria.config import Step, document
from noria.kernel.errors import NoriaError
from noria.pipeline import steps
from noria.pipeline.context import PinnedRun, PipelineContext
from noria.pipeline.run import Run, StepRecord, flat
from noria.pipeline.run_store import RunStore
from noria.pipeline.series_store import SeriesStore


class StepFindings(msgspec.Struct):
    """Of all steps of a run; names begin with the step's."""

    metrics: dict[str, float] = {}
    series: dict[str, dict[str, list[tuple[float, float]]]] = {}  # step -> metric -> points
    plots: dict[str, str] = {}
    artifacts: dict[str, str] = {}
    notes: list[str] = []
    tags: list[str] = []


def gather(context: PipelineContext, pinned_run: PinnedRun) -> StepFindings:
    """What the steps of this run say, those whose results were reused among them. What is unreadable is told, not lost."""
    found = StepFindings()
    for record in pinned_run.records:
        if record.tracked:
            _add_tracking(context, record, found)
        found.artifacts |= {f"{record.name}/{path}": digest for path, digest in record.artifacts.items()}
        step = pinned_run.project.steps.get(record.name)
        if step is not None and record.output is not None and (step.metrics or step.plots):
            _outs(context, step, record, found)
    return found


def keep(
    context: PipelineContext,
    pinned_run: PinnedRun,
    outcome: str,
    reason: str,
    metrics: Mapping[str, float],
    now: float,
    **more: Any,
) -> Run:
    """Write the run down, with all that its steps say; ``more`` are further fields of a Run."""
    said = gather(context, pinned_run)
    made = Run(
        id=pinned_run.run_id,
        project=context.name,
        turn_id=more.pop("turn_id", pinned_run.turn.id),
        pins=pinned_run.pins,
        started_at=pinned_run.turn.started_at,
        ended_at=now,
        outcome=outcome,
        reason=reason,
        steps=tuple(pinned_run.records),
        metrics={**said.metrics, **metrics},
        params=flat(pinned_run.params_used),
        tags=(*more.pop("tags", ()), *said.tags),
        note="\n".join(filter(None, [more.pop("note", ""), *said.notes])),
        artifacts=said.artifacts,
        plots=said.plots,
        **more,
    )
    with context.ledger.transaction():
        RunStore.of(context).put(made)
        for step, series in said.series.items():
            SeriesStore.of(context).put(made.id, step, series)
    return made


def numbers(content: bytes, path: str) -> dict[str, float]:
    """The numbers of a JSON or YAML file by dotted name. Raises ValueError or ConfigError when it is neither."""
    if PurePosixPath(path).suffix.lower() == ".json":
        found: Any = json.loads(content)  # takes NaN and Infinity, as Python writes them; msgspec does not
    else:
        found = document.read(content, path).plain()
    if isinstance(found, int | float):
        return {PurePosixPath(path).stem: float(found)}
    if not isinstance(found, Mapping):
        raise ValueError("is not a mapping of numbers")
    plain = flat({str(key): value for key, value in found.items()})
    return {name: float(value) for name, value in plain.items() if isinstance(value, int | float)}


def _add_tracking(context: PipelineContext, record: StepRecord, found: StepFindings) -> None:
    assert record.tracked is not None
    try:
        said = track.read(context.blobs.path(record.tracked))
    except NoriaError as error:
        context.progress(f"{record.name}: what it logged is lost: {error.message}")
        return
    found.series[record.name] = said.series
    found.metrics |= {f"{record.name}.{metric}": points[-1][1] for metric, points in said.series.items() if points}
    found.notes += [said.note] if said.note else []
    found.tags += [tag for tag in said.tags if tag not in found.tags]
    for text in said.said:
        context.progress(f"{record.name}: {text}")


def _outs(context: PipelineContext, step: Step, record: StepRecord, found: StepFindings) -> None:
    files = steps.output(context, record).files
    for path, digest in files.items():
        if any(path == plot or path.startswith(f"{plot}/") for plot in step.plots):
            found.plots[f"{step.name}/{path}"] = digest
        if path in step.metrics:
            try:
                named = numbers(context.blobs.read(digest), path)
            except (ValueError, NoriaError, msgspec.DecodeError) as error:
                context.progress(f"{step.name}: {path} cannot be read as metrics: {error}")
            else:
                found.metrics |= {f"{step.name}.{name}": value for name, value in named.items()}
