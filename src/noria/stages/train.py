"""Train: the project's steps, then the training function on the training side of the split."""

from __future__ import annotations

from typing import Any

import msgspec

from noria import names
from noria.adapters import environment, source_code
from noria.adapters.executors.task import Resources, StepTask
from noria.config import Model
from noria.decide.plan import StepFacts
from noria.domain.run import StepRecord
from noria.stages import graph, steps
from noria.stages.line import Line, Sheet
from noria.stages.orders import Inputs

TRAINED = {"model": "model.joblib", "holdout": "holdout.arrow"}
SEED = 20131


def train(line: Line, sheet: Sheet) -> StepRecord:
    """The trained model's record. Raises StepError when a step of the project fails; finished siblings are kept."""
    done = run_steps(line, sheet)
    return steps.demand(steps.perform(line, sheet, training(line, sheet, done)))


def run_steps(line: Line, sheet: Sheet) -> dict[str, StepRecord]:
    """Run the project's steps; a person who asked for it by hand finds what commands left in the home."""
    done = graph.run(line, sheet)
    if sheet.by_hand:
        graph.hand_out(line, sheet, done)
    for record in done.values():
        steps.demand(record)
    return done


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
    inputs = Inputs()
    job = {
        "rows": inputs.argument(line, sheet, model.rows, done),
        "model": model_facts(sheet, model),
        "params": params,
        "seed": SEED,
    }
    task = StepTask(
        f"{sheet.run_id}/train",
        sheet.tree_id,
        target="noria.stages.work.train:run",
        job=job,
        roots=sheet.roots,
        inputs=inputs.files,
        outs=TRAINED,
        resources=Resources(None, model.memory_bytes, model.timeout_s),
    )
    return steps.Order("train", facts, task)


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
