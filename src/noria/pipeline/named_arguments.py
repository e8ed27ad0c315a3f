"""What ``train`` and ``features`` get by name besides: further tables and parameters, as facts of a step and as its job."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from noria.config import Model
from noria.kernel import names
from noria.kernel.errors import StepError
from noria.pipeline.context import PinnedRun, PipelineContext
from noria.pipeline.model_facts import feature_params
from noria.pipeline.orders import TaskInputs
from noria.pipeline.run import StepRecord


def further_inputs(pinned_run: PinnedRun, model: Model, done: Mapping[str, StepRecord]) -> dict[str, str]:
    """Digest of what each further table is made of: the dataset's snapshot, or the step's result.

    Raises StepError for one that this run does not have.
    """
    found = {}
    for name in model.also:
        digest = done[name].output if name in done else pinned_run.pins.snapshots.get(name)
        if digest is None:
            hint = "A step whose `when` does not hold makes no table. Name another one, or let it run."
            raise StepError(f"this run has no table {name!r}", where="model.also", hint=hint)
        found[name] = digest
    return found


def feature_digests(pinned_run: PinnedRun, model: Model) -> dict[str, str]:
    """Digests of the parameters of ``features``, as facts of a step."""
    found = feature_params(pinned_run, model)
    return {f"features.{k}": names.digest_bytes(msgspec.json.encode(v, order="sorted")) for k, v in found.items()}


def job_part(
    context: PipelineContext, pinned_run: PinnedRun, model: Model, done: Mapping[str, StepRecord], inputs: TaskInputs
) -> dict[str, Any]:
    """``also``, what it is made of, and ``feature_params`` of a job, where the model has any."""
    made_of = further_inputs(pinned_run, model, done)
    also = {name: inputs.argument(context, pinned_run, name, done) for name in model.also}
    given = feature_params(pinned_run, model)
    return ({"also": also, "made_of": made_of} if also else {}) | ({"feature_params": given} if given else {})
