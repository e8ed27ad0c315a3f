"""Train: the project's steps, then the training function on the training side of the split."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec.structs import replace

from noria.config import Model
from noria.kernel import names
from noria.models.further_tables import file_of
from noria.pipeline import environment, graph, named_arguments, orders, search, source_code, steps
from noria.pipeline.context import PinnedRun, PipelineContext
from noria.pipeline.graph import Selection, StepForecast
from noria.pipeline.judge_staleness import StepFacts
from noria.pipeline.model_facts import SEED, model_facts, train_params
from noria.pipeline.orders import TaskInputs, table_digests
from noria.pipeline.run import StepRecord, StepState

TRAINED = {"model": "model.joblib", "holdout": "holdout.arrow"}


def train(context: PipelineContext, pinned_run: PinnedRun) -> StepRecord:
    """The trained model's record. Raises StepError when a step of the project fails; finished siblings are kept."""
    done = run_steps(context, pinned_run)
    made = steps.demand(steps.perform(context, pinned_run, training(context, pinned_run, done)))
    _say_alone(context, pinned_run, made)
    return made


def _say_alone(context: PipelineContext, pinned_run: PinnedRun, made: StepRecord) -> None:
    """Say what predicts the label alone in a table that a step made; of a dataset it is said when a file arrives."""
    model = pinned_run.project.model
    assert model is not None, "who calls has looked"
    if model.rows in pinned_run.project.data or made.state is not StepState.RAN:
        return
    for text in steps.output(context, made).result.get("alone", ()):
        context.event("data.tells_the_label", model.rows, f"step {model.rows}: {text}", step=model.rows)


def run_steps(context: PipelineContext, pinned_run: PinnedRun) -> dict[str, StepRecord]:
    """Run the project's steps. Raises StepError when one fails."""
    done = graph.run(context, pinned_run)
    for record in done.values():
        steps.demand(record)
    return done


def explain(context: PipelineContext, pinned_run: PinnedRun, selection: Selection) -> Iterator[StepForecast]:
    """What would become of the project's tests, of each step, and of the training."""
    command = pinned_run.project.checks.code
    if command and selection.everything:
        yield _foretold(context, orders.code_check(pinned_run, command))
    done: dict[str, StepRecord] = {}
    unsure = []
    for found in graph.explain(context, pinned_run, selection):
        if found.record is not None:
            done[found.name] = found.record
        else:
            unsure.append(found.name)
        yield found
    model = pinned_run.project.model
    if model is None or not selection.everything:
        return
    open_inputs = [name for name in (model.rows, *model.also) if name in unsure]
    if open_inputs:
        yield StepForecast(pinned_run.project.result_name("train"), None, f"depends on the result of {open_inputs[0]}")
        return
    if model.search is not None:
        looked = _foretold(context, search.as_order(context, pinned_run, done))
        yield looked
        if looked.decision is None or looked.decision.run:
            yield StepForecast(pinned_run.project.result_name("train"), None, "depends on the result of search")
            return
    yield _foretold(context, training(context, pinned_run, done))


def _foretold(context: PipelineContext, order: steps.StepOrder) -> StepForecast:
    decision, found = steps.consider(context, order)
    return StepForecast(order.name, decision, decision.reason.text, found)


def training(context: PipelineContext, pinned_run: PinnedRun, done: dict[str, StepRecord]) -> steps.StepOrder:
    """The training function as a step: it sees the training side of the split only. A search, where there is one, comes first;
    raises StepError when it finds nothing."""
    model = pinned_run.project.model
    assert model is not None
    model, params = _choose_training(context, pinned_run, model, done)
    modules = [m.partition(":")[0] for m in (model.train, model.features) if m]
    files: dict[str, str] = {}
    for module in modules:
        files |= source_code.imports_closure(pinned_run.code_paths, module)
    facts = StepFacts(
        code=names.digest_bytes(msgspec.json.encode([model_facts(pinned_run, model), files], order="sorted")),
        files=files,
        inputs={
            model.rows: done[model.rows].output or "" if model.rows in done else pinned_run.pins.snapshots[model.rows],
            **named_arguments.further_inputs(pinned_run, model, done),
        },
        params={k: names.digest_bytes(msgspec.json.encode(v, order="sorted")) for k, v in params.items()}
        | named_arguments.feature_digests(pinned_run, model),
        command=None,
        environment=environment.digest(pinned_run.environment),
        tables=table_digests(pinned_run, (model.rows, *model.also), done),
    )
    inputs = TaskInputs()
    job = {
        "rows": inputs.argument(context, pinned_run, model.rows, done),
        "model": model_facts(pinned_run, model),
        "params": params,
        "seed": SEED,
        **named_arguments.job_part(context, pinned_run, model, done, inputs),
    }
    outs = TRAINED | {file_of(name): file_of(name) for name in model.also}
    name = pinned_run.project.result_name("train")
    return steps.model_order(pinned_run, facts, name, "noria.models.training:run", job, inputs.files, outs)


def _choose_training(
    context: PipelineContext, pinned_run: PinnedRun, model: Model, done: dict[str, StepRecord]
) -> tuple[Model, dict[str, Any]]:
    """The model with the training function to use, and its parameters: as the project says, or as its search found them."""
    if model.search is None:
        return model, train_params(pinned_run)
    found = search.find_best(context, pinned_run, done)
    context.progress(f"search: {found['sentence']}")
    return replace(model, train=found["train"]), dict(found["params"])
