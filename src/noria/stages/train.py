"""Train: the project's steps, stale ones only and in parallel where the graph allows, then the training function."""

from __future__ import annotations

from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

import msgspec

from noria import names
from noria.adapters import environment, source_code
from noria.config import Model, Step
from noria.decide.plan import StepFacts
from noria.domain.run import StepRecord, StepState
from noria.stages import steps
from noria.stages.line import Line, Sheet

TRAINED = {"model": "model.joblib", "holdout": "holdout.arrow"}
SEED = 20131


def train(line: Line, sheet: Sheet) -> StepRecord:
    """The trained model's record. Raises StepError when a step of the project fails; finished siblings are kept."""
    done = run_steps(line, sheet)
    return steps.demand(steps.perform(line, sheet, training(line, sheet, done)))


def run_steps(line: Line, sheet: Sheet) -> dict[str, StepRecord]:
    """Run the graph: a step starts when what it needs is there."""
    waiting = {step.name: step for step in sheet.project.steps.values()}
    done: dict[str, StepRecord] = {}
    with ThreadPoolExecutor(max_workers=max(1, len(waiting)), thread_name_prefix="step") as pool:
        running: dict[Future[StepRecord], Step] = {}
        while waiting or running:
            for name in [n for n, s in waiting.items() if all(d in done for d in s.deps if d in sheet.project.steps)]:
                step = waiting.pop(name)
                running[pool.submit(_perform, line, sheet, step, dict(done))] = step
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                step = running.pop(future)
                done[step.name] = future.result()
                if done[step.name].state is StepState.FAILED:
                    waiting.clear()
    for record in done.values():
        steps.demand(record)
    return done


def _perform(line: Line, sheet: Sheet, step: Step, done: dict[str, StepRecord]) -> StepRecord:
    return steps.perform(line, sheet, steps.user_step(line, sheet, step, done))


def training(line: Line, sheet: Sheet, done: dict[str, StepRecord]) -> steps.Order:
    """The training function as a step: it sees the training side of the split only."""
    model = sheet.project.model
    assert model is not None
    assert sheet.pins is not None
    params = _train_params(sheet)
    modules = [m.partition(":")[0] for m in (model.train, model.features) if m]
    files: dict[str, str] = {}
    for module in modules:
        files |= source_code.imports_closure(sheet.code_paths, module)
    facts = StepFacts(
        code=names.digest_bytes(msgspec.json.encode([model_facts(sheet, model), files], order="sorted")),
        files=files,
        inputs={model.rows: done[model.rows].output or "" if model.rows in done else sheet.pins.snapshots[model.rows]},
        params={k: names.digest_bytes(msgspec.json.encode(v, order="sorted")) for k, v in params.items()},
        command=None,
        environment=environment.digest(sheet.environment),
    )
    job = {
        "rows": steps.argument(line, sheet, model.rows, done),
        "model": model_facts(sheet, model),
        "params": params,
        "seed": SEED,
    }
    return steps.Order("train", "noria.stages.work.train:run", facts, job, model.timeout_s, model.memory_bytes, outs=TRAINED)


def _train_params(sheet: Sheet) -> dict[str, Any]:
    """The section `train` of params.yaml; a file without sections is all for the training function."""
    params = sheet.project.params
    section = params.get("train", {} if any(isinstance(v, dict) for v in params.values()) else params)
    return dict(section) if isinstance(section, dict) else {}


def model_facts(sheet: Sheet, model: Model) -> dict[str, Any]:
    """What the training and scoring processes need to know of the model, as JSON."""
    return {
        "key": model.key,
        "event_time": model.event_time,
        "task": str(model.task),
        "inputs": list(model.inputs),
        "label": model.label,
        "features": model.features,
        "train": model.train,
        "slices": list(model.slices),
        "holdout": {"last_s": model.holdout.last_s, "fraction": model.holdout.fraction},
        "project": sheet.project.name,
    }
