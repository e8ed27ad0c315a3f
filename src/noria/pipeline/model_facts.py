"""What the processes that train, search and score need to know of the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from noria.config import Model
from noria.config.named_arguments import FEATURES
from noria.config.search import TRAIN, section_of
from noria.pipeline.context import PinnedRun

SEED = 20131


def train_params(pinned_run: PinnedRun) -> dict[str, Any]:
    """The section `train` of params.yaml; a file without sections is all for the training function."""
    return section_of(pinned_run.project.params)


def feature_params(pinned_run: PinnedRun, model: Model) -> dict[str, Any]:
    """What `features` takes by name: of its own section of the params file first, then of the top level."""
    every = pinned_run.project.params
    own = every.get(FEATURES)
    given = {**every, **own} if isinstance(own, dict) else every
    return {name: given[name] for name in model.feature_params if name in given}


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
    if model.costs is not None:
        facts["costs"] = list(model.costs)
    more = {
        "weight": model.weight,
        "groups": model.groups,
        "query": model.query,
        "season": model.season,
        "series": model.series if model.season is not None else None,
    }
    return facts | {key: value for key, value in more.items() if value is not None}
