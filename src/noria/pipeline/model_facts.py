"""What the processes that train, search and score need to know of the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from noria.config import Model
from noria.config.search import TRAIN, section_of
from noria.pipeline.context import PinnedRun

SEED = 20131


def train_params(pinned_run: PinnedRun) -> dict[str, Any]:
    """The section `train` of params.yaml; a file without sections is all for the training function."""
    return section_of(pinned_run.project.params)


def with_train_params(pinned_run: PinnedRun, params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of the project, with those of the training function in their place."""
    every = pinned_run.project.params
    if every and TRAIN not in every and train_params(pinned_run):  # a file without sections
        return {**every, **params}
    return {**every, TRAIN: dict(params)}


def model_facts(pinned_run: PinnedRun, model: Model) -> dict[str, Any]:
    """What the training and scoring processes need to know of the model, as JSON."""
    facts: dict[str, Any] = {
        "key": model.key,
        "event_time": model.event_time,
        "task": str(model.task),
        "inputs": list(model.inputs),
        "label": model.label,
        "features": model.features,
        "train": model.train,
        "slices": list(model.slices),
        "holdout": {"last_s": model.holdout.last_s, "fraction": model.holdout.fraction},
        "project": pinned_run.project.name,
    }
    if model.threshold is not None:  # named where it is set alone: what was trained without stays known
        facts["threshold"] = model.threshold
    facts |= {key: value for key, value in (("weight", model.weight), ("groups", model.groups)) if value is not None}
    return facts
