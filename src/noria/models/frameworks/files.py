"""Model files that were written elsewhere: read, and what they say about themselves. Called in a process that may die of it."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from noria.kernel.errors import DataError, RefusedError
from noria.kernel.task import Task
from noria.kernel.words import plural
from noria.models.frameworks import catboost, pickled, torch
from noria.models.frameworks.bare import wrap_bare
from noria.models.frameworks.file_kinds import AGAIN
from noria.models.frameworks.model_file import ModelFile, missing, version

PLACEHOLDER = re.compile(r"Column_\d+|f\d+")  # what boosters call columns that had no names
BOOSTER_TASKS = {  # the beginning of an objective -> what its answers are
    "binary:logistic": Task.BINARY,
    "multi:softprob": Task.MULTICLASS,
    "reg:": Task.REGRESSION,
    "count:": Task.REGRESSION,
    "survival:": Task.REGRESSION,
    "binary": Task.BINARY,
    "cross_entropy": Task.BINARY,
    "multiclass": Task.MULTICLASS,
    "regression": Task.REGRESSION,
    "poisson": Task.REGRESSION,
    "quantile": Task.REGRESSION,
    "huber": Task.REGRESSION,
    "fair": Task.REGRESSION,
    "mape": Task.REGRESSION,
    "gamma": Task.REGRESSION,
    "tweedie": Task.REGRESSION,
}
NO_ANSWERS = ("multi:softmax", "binary:logitraw", "binary:hinge")  # objectives that answer neither probabilities nor values


def read(path: Path, kind: str, task: Task | None, classes: Sequence[str], trusted: Sequence[str]) -> ModelFile:
    """The model in a file of a known kind; ``task`` and ``classes`` as the person says, where said.

    Raises DataError for what cannot be read, RefusedError for types that nobody trusts; a pickle does whatever its code does.
    """
    if kind == "onnx":
        from noria.models.frameworks import graph_files  # onnx: only its own files need it

        return graph_files.read(path, task, classes)
    if kind == "catboost":
        return catboost.read(path, task)
    if kind == "pt2":
        return torch.read(path, task)
    readers = {"lightgbm": _lightgbm, "xgboost": _xgboost}
    if kind in readers:
        return readers[kind](path, task)
    return pickled.describe_model(pickled.load_skops(path, trusted) if kind == "skops" else pickled.load_pickle(path), kind, task)


def _lightgbm(path: Path, task: Task | None) -> ModelFile:
    try:
        import lightgbm
    except ImportError as error:
        raise missing("lightgbm", "boosters") from error
    if not path.read_bytes()[:100].lstrip().startswith(b"tree"):
        raise DataError("is not a whole LightGBM model: its first line is not `tree`", hint="save_model of a booster writes one.")
    try:
        booster = lightgbm.Booster(model_file=str(path))
        objective = str(booster.dump_model(num_iteration=1).get("objective", "none")).split(" ")[0]
    except lightgbm.basic.LightGBMError as error:
        raise DataError(f"is not a whole LightGBM model: {_plain(error, path)}", hint=AGAIN) from error
    width, found = booster.num_feature(), task or _task(objective)
    classes = _numbered_classes(found, booster.num_model_per_iteration())
    names, label = _names(booster.feature_name()), version("lightgbm")
    return ModelFile(_bare(booster, found), label, names, width, found, classes, unsure=_unsure(objective))


def _xgboost(path: Path, task: Task | None) -> ModelFile:
    try:
        import xgboost
    except ImportError as error:
        raise missing("xgboost", "boosters") from error
    booster = xgboost.Booster()
    try:
        booster.load_model(str(path))
        learner = json.loads(booster.save_config())["learner"]
    except (xgboost.core.XGBoostError, ValueError, KeyError) as error:
        raise DataError(f"is not a whole XGBoost model: {_plain(error, path)}", hint=AGAIN) from error
    if not booster.num_features():
        raise DataError("is not a whole XGBoost model: it takes no features")
    _demand_one_target(learner)
    objective = str(learner["objective"]["name"])
    found = task or _task(objective)
    classes = _numbered_classes(found, int(learner["learner_model_param"]["num_class"]))
    names, label = _names(booster.feature_names or []), version("xgboost")
    return ModelFile(_bare(booster, found), label, names, booster.num_features(), found, classes, unsure=_unsure(objective))


def _plain(error: Exception, path: Path) -> str:
    """A library's words without the place in its own source, and without the path of our copy."""
    text = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return re.sub(r"^\[[0-9:]+\] \S+:\d+: ", "", text).replace(str(path), "the file")[:300]


def _demand_one_target(learner: dict[str, Any]) -> None:
    targets = 0
    with contextlib.suppress(KeyError, ValueError):  # older files do not say
        targets = int(learner["learner_model_param"]["num_target"])
    if targets > 1:
        raise RefusedError(
            f"it predicts {plural(targets, 'value')} a row, and a release answers one", hint="Train a model for each value."
        )


def _unsure(objective: str) -> str:
    if objective.startswith(("rank:", "lambdarank", "rank_xendcg")):
        return (
            f"its objective {objective} scores rows for their order in a group; `--task regression` serves the scores as numbers"
        )
    return (
        f"its objective is {objective}"
        if objective not in ("none", "custom")
        else "its objective is a function of who trained it"
    )


def _task(objective: str) -> Task | None:
    if objective in NO_ANSWERS:
        hint = "Train it with binary:logistic or multi:softprob; they are the same model with other answers."
        raise RefusedError(f"its objective {objective} answers no probabilities", hint=hint)
    return next((task for begin, task in BOOSTER_TASKS.items() if objective.startswith(begin)), None)


def _numbered_classes(task: Task | None, count: int) -> tuple[str, ...]:
    if task is None or not task.definition.has_classes:
        return ()
    return tuple(map(str, range(task.definition.class_count or count)))


def _names(found: Sequence[str]) -> tuple[str, ...]:
    return () if all(PLACEHOLDER.fullmatch(name) for name in found) else tuple(found)


def _bare(booster: Any, task: Task | None) -> Any:
    return wrap_bare(booster, task) if task is not None else booster
