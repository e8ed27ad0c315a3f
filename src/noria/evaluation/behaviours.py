"""Asks the packaged candidate whether it behaves as `checks.behaviours` says."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec.structs import replace

from noria.kernel import names
from noria.kernel.behaviour import BehaviourKind, BehaviourResult
from noria.models import weights
from noria.pipeline import environment, source_code, steps
from noria.pipeline.context import PinnedRun, PipelineContext
from noria.pipeline.executors.task import INPUT
from noria.pipeline.judge_staleness import StepFacts
from noria.pipeline.orders import TaskInputs
from noria.releases.bundle import MANIFEST, read_manifest
from noria.releases.evidence import Evaluation
from noria.releases.packaging import Package, model_file

STEP = "score.behaviours"
FOLDER = "bundle"


def add_behaviours(context: PipelineContext, pinned_run: PinnedRun, package: Package, evaluation: Evaluation) -> Evaluation:
    """The evaluation with what came of each behaviour; as it is where the project states none.

    Raises StepError when the step ends without an answer, as when a function takes too long.
    """
    if not pinned_run.judging.checks.behaviours:
        return evaluation
    record = steps.demand(steps.perform(context, pinned_run, _order(context, pinned_run, package)))
    found = msgspec.convert(steps.output(context, record).result["behaviours"], tuple[BehaviourResult, ...])
    return replace(evaluation, behaviours=found)


def _order(context: PipelineContext, pinned_run: PinnedRun, package: Package) -> steps.StepOrder:
    behaviours = pinned_run.judging.checks.behaviours
    asked: list[dict[str, Any]] = [msgspec.to_builtins(one) for one in behaviours]
    files: dict[str, str] = {}
    for one in behaviours:
        if one.kind is BehaviourKind.CALL:
            files |= source_code.imports_closure(pinned_run.code_paths, one.subject.partition(":")[0])
    bundle = _bundle_files(context, package)
    known = StepFacts(
        code=names.digest_bytes(msgspec.json.encode([asked, files], order="sorted")),
        files=files,
        inputs={"holdout": package.holdout_digest, **bundle},
        environment=environment.digest(pinned_run.environment),
    )
    inputs = TaskInputs()
    job = {"behaviours": asked, "rows": inputs.add(package.holdout_digest, "holdout.arrow"), "bundle": INPUT + FOLDER}
    inputs.files |= {f"{FOLDER}/{name}": digest for name, digest in bundle.items()}
    return steps.model_order(pinned_run, known, STEP, "noria.evaluation.behaviours_step:run", job, inputs.files, {})


def _bundle_files(context: PipelineContext, package: Package) -> dict[str, str]:
    """What it takes to load the model where the step runs, by name; of a hosted one the code is the project's own tree."""
    model = model_file(package.form)
    found = {model: package.model, MANIFEST: context.blobs.put_bytes((package.folder / MANIFEST).read_bytes(), lasting=False)}
    heavy = weights.beside(package.folder / model)
    if heavy.exists():
        found[heavy.name] = context.places.keep([heavy])[0]
    tables = [table.file for table in read_manifest(package.folder).also.values()]
    return found | dict(zip(tables, context.places.keep([package.folder / name for name in tables]), strict=True))
