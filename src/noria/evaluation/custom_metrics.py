"""The project's own metrics: a step computes them from the scores of candidate, champion and best; gates read them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

from noria.evaluation.scores import CANDIDATE, ComparedRelease, Scores
from noria.kernel import names
from noria.pipeline import environment, source_code, steps
from noria.pipeline.context import PinnedRun, PipelineContext
from noria.pipeline.judge_staleness import StepFacts
from noria.pipeline.orders import TaskInputs
from noria.releases.evidence import Evaluation
from noria.releases.packaging import Package
from noria.stats.measures import Comparison, Measure

STEP = "score.metrics"
CHAMPION, BEST = "champion", "best"


def add_custom_metrics(
    context: PipelineContext,
    pinned_run: PinnedRun,
    package: Package,
    evaluation: Evaluation,
    candidate: Scores,
    champion: ComparedRelease | None,
    best: ComparedRelease | None,
) -> Evaluation:
    """The evaluation with the metrics that the project defines; as it is where it defines none.

    Raises StepError when the step ends without an answer, as when a function takes too long.
    """
    own = pinned_run.project.metrics
    if not own:
        return evaluation
    scored = {CANDIDATE: candidate.digest}
    rivals = {CHAMPION: champion, BEST: None if best is champion else best}
    scored |= {name: rival.scores.digest for name, rival in rivals.items() if rival is not None and rival.scores.digest}
    record = steps.demand(steps.perform(context, pinned_run, _order(pinned_run, package, scored)))
    found = steps.output(context, record).result
    measures = msgspec.convert(found["measures"], dict[str, Measure])
    versus = msgspec.convert(found["versus"], dict[str, dict[str, Comparison]])
    return replace(
        evaluation,
        metrics=evaluation.metrics | measures,
        versus=evaluation.versus | versus.get(CHAMPION, {}),
        versus_best=evaluation.versus_best | versus.get(CHAMPION if best is champion else BEST, {}),
        unmeasured=evaluation.unmeasured | found["unmeasured"],
    )


def _order(pinned_run: PinnedRun, package: Package, scored: Mapping[str, str]) -> steps.StepOrder:
    model = pinned_run.project.model
    assert model is not None, "there is a candidate"
    functions = {name: metric.call for name, metric in pinned_run.project.metrics.items()}
    files: dict[str, str] = {}
    for target in functions.values():
        files |= source_code.imports_closure(pinned_run.code_paths, target.partition(":")[0])
    facts: dict[str, Any] = {
        "label": model.label,
        "task": str(model.task),
        "classes": package.trained["signature"]["classes"],
        "groups": model.groups,
        "event_time": model.event_time,
        "metrics": functions,
    }
    known = StepFacts(
        code=names.digest_bytes(msgspec.json.encode([facts, files], order="sorted")),
        files=files,
        inputs={"holdout": package.holdout_digest, **scored},
        environment=environment.digest(pinned_run.environment),
    )
    inputs = TaskInputs()
    job = facts | {
        "rows": inputs.add(package.holdout_digest, "holdout.arrow"),
        "scores": {name: inputs.add(digest, "scores.npy") for name, digest in scored.items()},
    }
    return steps.model_order(pinned_run, known, STEP, "noria.evaluation.custom_metrics_step:run", job, inputs.files, {})
