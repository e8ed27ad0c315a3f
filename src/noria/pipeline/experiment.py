"""Experiments: runs by hand with parameters or steps chosen. Measured and kept, never released; they hold no turn up."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

import msgspec

from noria import config
from noria.config import Project
from noria.data.arrivals import take_in
from noria.data.store import DataStore
from noria.data.versions import BLOBS
from noria.kernel import names
from noria.kernel.errors import StepError, UsageError
from noria.kernel.trigger import TriggerKind
from noria.kernel.words import plural
from noria.pipeline import environment, graph, orders, pin, recording, search, steps
from noria.pipeline.check import data
from noria.pipeline.context import PinnedRun, PipelineContext, StartedRun
from noria.pipeline.graph import EVERYTHING, Selection
from noria.pipeline.run import Run, RunKind, StepRecord, StepState
from noria.pipeline.trigger_store import TriggerStore
from noria.pipeline.turn_record import Turn

TRAIN = "train"  # the training function as a step that one may name
DONE, FAILED = "done", "failed"


class ExperimentOptions(msgspec.Struct, frozen=True):
    """What a person asked for."""

    overrides: Mapping[str, Any] = {}  # parameter by dotted name -> value
    selection: Selection = EVERYTHING
    tags: tuple[str, ...] = ()
    note: str = ""


def combinations(sweep: Mapping[str, list[Any]]) -> Iterator[dict[str, Any]]:
    """One set of overrides for each combination of values."""
    for values in product(*sweep.values()):
        yield dict(zip(sweep, values, strict=True))


def prepare(context: PipelineContext, asked: ExperimentOptions) -> PinnedRun:
    """The run of the code as it stands in the home, on the data that was accepted so far."""
    project = config.load(context.home, overrides=asked.overrides)
    commit, dirty = pin.stands(context, project, by_hand=True)
    tree = pin.tree_of(context, commit, dirty, project)
    if tree != context.home:
        project = config.load(tree, overrides=asked.overrides)
    project = context.contracts(context, project)
    run_id = names.new_id("run")
    began = Turn(run_id, context.name, 0, (), "experiment", time.time())
    started = StartedRun(began, run_id, project, tree, commit, dirty, environment.record(), by_hand=True)
    _demand_used(project, asked)
    _first_data(context, started)
    return pin.fix(context, started)


def _demand_used(project: Project, asked: ExperimentOptions) -> None:
    """Raises UsageError for a parameter that a step reads which keeps its result of before: it would be recorded and not used."""
    last = asked.selection.to == project.result_name(TRAIN)
    _, kept = graph.select_steps(project, EVERYTHING if last else asked.selection)
    for given in asked.overrides:
        for name in sorted(kept):
            reads = orders.parameters_of(project.params, project.steps[name])
            if any(given == one or given.startswith(f"{one}.") or one.startswith(f"{given}.") for one in reads):
                raise UsageError(
                    f"{given} is read by step {name}, which keeps its result",
                    hint=f"Start at that step: --from {name.partition('@')[0]}",
                )


def run(context: PipelineContext, asked: ExperimentOptions) -> Run:
    """Do it; a step that fails makes a run that says so. Raises UsageError for a step that is not there.

    A model is measured on validation rows inside the training side, as the trials of a search are: the holdout stays unseen.
    """
    with context.locks.hold_shared(BLOBS):  # what it finds in the store stays there to its end
        return _run(context, prepare(context, asked), asked)


def _run(context: PipelineContext, pinned_run: PinnedRun, asked: ExperimentOptions) -> Run:
    wanted = asked.selection
    model = pinned_run.project.model
    last = pinned_run.project.result_name(TRAIN)
    whole = wanted.everything or wanted.to == last
    if not whole and last in (wanted.start, wanted.only):
        raise UsageError(f"{last} comes last: name it with --to, or leave the choice out")
    metrics: dict[str, float] = {}
    serving: dict[str, Any] = {}
    try:
        done = graph.run(context, pinned_run, EVERYTHING if whole else wanted)
        for made in done.values():
            steps.demand(made)
        if whole and model is not None:
            metrics = search.validate(context, pinned_run, done)
            serving = search.beside(context, pinned_run, done)
        outcome, reason = DONE, _sentence(pinned_run.records)
    except StepError as error:
        outcome, reason = FAILED, str(error)
    return recording.keep(
        context,
        pinned_run,
        outcome,
        reason,
        metrics,
        time.time(),
        turn_id=None,
        kind=RunKind.EXPERIMENT,
        tags=asked.tags,
        note=asked.note,
        serving=serving,
    )


def _first_data(context: PipelineContext, run: StartedRun) -> None:
    """Take in datasets that have no file yet. Others stay as they are: what arrives anew is for a turn to judge."""
    empty = [
        source
        for source in run.project.data.values()
        if not source.source.startswith("log:") and not DataStore.of(context).head(source.name).files
    ]
    if not empty:
        return
    with context.locks.hold("intake", context.name, context.check_lease):
        run.arrivals = tuple(
            arrival for arrival in take_in(context, run.project, patient=True) if arrival.dataset in {s.name for s in empty}
        )
        data(context, run)
        with context.ledger.transaction():
            for source in empty:  # accepted here, and still news for the wheel
                TriggerStore.of(context).add(TriggerKind.DATA, f"{source.name} was taken in by an experiment")


def _sentence(records: list[StepRecord]) -> str:
    ran = sum(r.state is StepState.RAN for r in records)
    reused = sum(r.state is StepState.REUSED for r in records)
    skipped = sum(r.state is StepState.SKIPPED for r in records)
    words = (f"{plural(ran, 'step')} ran", f"{reused} reused", f"{skipped} skipped")
    return ", ".join(word for word, count in zip(words, (1, reused, skipped), strict=True) if count)
