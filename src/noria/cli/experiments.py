"""`noria run` with other parameters or chosen steps, and `noria run --explain`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from noria.cli.context import Home, actor
from noria.cli.experiment_options import ExperimentsOptions
from noria.cli.output import ExitCode, duration, emit, plain, table
from noria.cli.step_log import failed_log
from noria.engine import assembly
from noria.evaluation.records import sort_gated_first
from noria.kernel.errors import UsageError
from noria.pipeline import experiment, train
from noria.pipeline.graph import Selection

if TYPE_CHECKING:
    from noria.pipeline.graph import StepForecast
    from noria.pipeline.run import Run

SHOWN_METRICS = 6


def explain(home: Home, request: ExperimentsOptions, as_json: bool) -> int:
    """Says what would run, and why."""
    context = assembly.assemble(home.path, actor=actor(), warm=0)
    if request.sweep:
        raise UsageError("--explain covers one run", hint="Use --set in place of --sweep.")
    try:
        chosen = experiment.ExperimentOptions(request.overrides, _selection(request))
        pinned_run = experiment.prepare(context, chosen)
        found = list(train.explain(context, pinned_run, chosen.selection))
    finally:
        context.executor.close()
    emit(as_json, {"steps": [_step_facts(one) for one in found]}, lambda: _explanation(found))
    return ExitCode.PASSED


def run(home: Home, request: ExperimentsOptions, as_json: bool) -> int:
    """Runs the experiments one after the other; independent steps of each run in parallel."""
    context = assembly.assemble(home.path, actor=actor(), progress=_quiet if as_json else _tell, warm=2)
    made = []
    try:
        for values in experiment.combinations(request.sweep):
            chosen = experiment.ExperimentOptions(
                {**request.overrides, **values}, _selection(request), request.tags, request.note
            )
            if values:
                context.progress(", ".join(f"{name}={value}" for name, value in values.items()))
            made.append(experiment.run(context, chosen))
    finally:
        context.executor.close()
    varied = [*request.overrides, *request.sweep]
    said = {one.id: log for one in made if (log := failed_log(context.blobs, one.steps)) is not None}
    emit(
        as_json,
        lambda: {"experiments": [_facts(one) for one in made]},
        lambda: "\n\n".join([_render(made, varied, home.gated()), *(_render_log(run, *log) for run, log in said.items())]),
    )
    return ExitCode.PASSED if all(one.outcome == experiment.DONE for one in made) else ExitCode.NO


def _selection(request: ExperimentsOptions) -> Any:
    return Selection(*request.chosen)


def _step_facts(one: StepForecast) -> dict[str, Any]:
    return {"name": one.name, "runs": None if one.decision is None else one.decision.run, "reason": one.text}


def _explanation(found: list[StepForecast]) -> str:
    if not found:
        return "this project has no steps"
    words = {None: "perhaps", True: "runs", False: "–"}
    rows = [(one.name, words[None if one.decision is None else one.decision.run], one.text) for one in found]
    runs = sum(one.decision is None or one.decision.run for one in found)
    return f"{table(('step', '', 'why'), rows)}\n\n{runs} of {len(found)} steps would run, or might have to"


def _facts(run: Run) -> dict[str, Any]:
    return {
        "run": run.id,
        "outcome": run.outcome,
        "reason": run.reason,
        "params": run.params,
        "metrics": run.metrics,
        "serving": run.serving or None,
        "steps": [{"name": s.name, "state": str(s.state), "reason": s.reason.text, "seconds": s.seconds} for s in run.steps],
    }


def _render_log(run: str, step: str, text: str) -> str:
    return f"{run}: {step} said last (whole log: noria show {run} --log {step}):\n{plain(text, lines=True)}"


def _render(made: list[Run], varied: list[str], gated: Sequence[str]) -> str:
    metrics = sort_gated_first(dict.fromkeys(name for run in made for name in run.metrics), gated)[:SHOWN_METRICS]
    rows = [
        (
            run.id,
            run.outcome,
            *(str(run.params.get(name, "")) for name in varied),
            *(f"{run.metrics[name]:.5g}" if name in run.metrics else "–" for name in metrics),
            duration((run.ended_at or run.started_at) - run.started_at),
            run.reason.splitlines()[0],
        )
        for run in made
    ]
    for serving in {repr(run.serving): run.serving for run in made if run.serving}.values():  # other rows, other scores
        values = serving["metrics"]
        cells = (f"{values[name]:.5g}" if name in values else "–" for name in metrics)
        rows.append((serving["release"], "serves", *("" for _ in varied), *cells, "", _beside(serving)))
    return table(("run", "outcome", *varied, *metrics, "time", ""), rows)


def _beside(serving: Mapping[str, Any]) -> str:
    """How the serving release scored on the rows of a run, or why it did not."""
    if serving["note"]:
        return f"on the same rows: unknown: {serving['note']}"
    return "on the same rows: its code and parameters, fitted on the same training rows"


def _quiet(_: str) -> None:
    """JSON goes to programs: no progress in between."""


def _tell(text: str) -> None:
    click.echo(f"{time.strftime('%H:%M:%S')}  {text}", err=True)
