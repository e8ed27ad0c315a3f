"""A trial of a search: the training side is split again, fold by fold; the holdout is not even in the file that folds read."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from noria.kernel.errors import DataError, StepError
from noria.kernel.task import Task
from noria.models import class_rule, columns, folds, forms, further_tables, labels, project_functions, table_arguments, training
from noria.models.python_model import bind_features, with_features
from noria.models.seeds import seed_everything
from noria.models.signature import Input, Kind
from noria.models.split import MIN_ROWS, split
from noria.models.user_time import user_code
from noria.stats import metrics

ROWS = "rows.arrow"
FOLD = "__fold__"  # of the rows' file: the fold in which a row validates; -1: in none


def rows(job: dict[str, Any]) -> dict[str, Any]:
    """Leaves ``rows.arrow`` in ``folder``: the training side, inputs and label, each row with its fold.

    The job: ``rows`` (see ``tables.argument``), ``model``, ``folds`` (how many), ``folder``. Returns ``folds``, how many rows
    validate in each; ``rolling``: whether a fold trains on earlier rows only; ``inputs`` with their kinds; ``sentence``.
    """
    model = job["model"]
    side = split(table_arguments.argument(job["rows"]), model).train
    names = training.input_names(side, model)
    kinds = {name: str(columns.kind_of(name, side.schema[name])) for name in names}
    rolling = bool(model["holdout"].get("last_s"))
    fold, words = (folds.rolling if rolling else folds.by_hash)(side, model, job["folds"])
    sizes = [int((fold == number).sum()) for number in range(job["folds"])]
    _check_sizes(sizes, int((fold == folds.EARLIER).sum()) if rolling else side.height - max(sizes), words)
    label = labels.plain_label(side[model["label"]], Task(model["task"]))
    more = [name for name in (model.get("weight"), model.get("groups")) if name is not None]
    kept = side.select(*names, *more).with_columns(label.alias(model["label"]), fold.alias(FOLD))
    table_arguments.write_arrow(kept, Path(job["folder"]) / ROWS)
    return {"folds": sizes, "rolling": rolling, "inputs": kinds, "sentence": words}


def run(job: dict[str, Any]) -> dict[str, Any]:
    """One fold of one trial: fit on its training rows, score its validation rows.

    The job: ``rows`` (the file), ``inputs``, ``rolling``, ``fold``, ``model``, ``train`` ("module:function"), ``params``,
    ``seed``, ``metrics``, ``metric`` (the one that must have a value), ``also`` and ``feature_params`` as in training.
    Returns ``metrics`` by name, those that have a value on these rows; ``train_rows``, ``validation_rows``; ``fit_s`` and
    ``predict_s``, wall time.
    """
    model = job["model"]
    inputs = tuple(Input(name, Kind(kind)) for name, kind in job["inputs"].items())
    table = pl.read_ipc(job["rows"])
    before = table[FOLD] < job["fold"] if job["rolling"] else table[FOLD] != job["fold"]
    fitting, validation = table.filter(before), table.filter(table[FOLD] == job["fold"])
    groups = model.get("groups")
    if groups is not None:  # by time, a group may stand on both sides
        fitting = fitting.filter(~fitting[groups].is_in(validation[groups].unique().implode()))
    _check_classes(fitting[model["label"]], Task(model["task"]), job["fold"])
    seed_everything(job["seed"])  # a module may draw while it is imported
    with user_code():
        features = project_functions.load(model["features"]) if model.get("features") else None
        project_functions.load(job["train"])
    seed_everything(job["seed"])
    frame = columns.frame(fitting, inputs)
    began = time.perf_counter()
    frames = training.frames_of(features, job["train"])
    tables = further_tables.read(job.get("also", {}))
    features = bind_features(features, job.get("feature_params", {}), tables)
    fitted = training.fit(
        job["train"],
        with_features(features, frame, frames),
        fitting[model["label"]],
        {**job["params"], **further_tables.for_training(tables, job["train"])},
        Task(model["task"]),
        training.columns_of(fitting, model),
    )
    fitted_at = time.perf_counter()
    signature = training.describe(model, inputs, frame, fitting[model["label"]], fitted)
    signature = class_rule.add_decision(signature, model.get("threshold"), fitted, features, frames, frame)
    asked = columns.frame(validation, inputs)
    with user_code():
        original = forms.Original(fitted, features, signature, frames)
        predictions = original.predict(asked)
        called = original.called_classes(asked) if signature.decision is not None else None
    ended = time.perf_counter()
    return {
        "metrics": _scores(
            job,
            labels.label_numbers(validation[model["label"]], signature.task, signature.classes),
            predictions,
            called,
            signature.task,
        ),
        "train_rows": fitting.height,
        "validation_rows": validation.height,
        "fit_s": fitted_at - began,
        "predict_s": ended - fitted_at,
    }


def _check_sizes(sizes: list[int], least: int, words: str) -> None:
    """``least``: the rows that the fold with the fewest is trained on."""
    for what, count in (("validation", min(sizes)), ("training", least)):
        if count < MIN_ROWS:
            raise DataError(
                f"too few rows to search: a fold has {count:,} {what} rows, fewer than {MIN_ROWS} ({words})",
                hint="Bring more labelled rows, or set fewer `model.search.folds`.",
            )


def _check_classes(label: pl.Series, task: Task, fold: int) -> None:
    if task.definition.has_classes and label.n_unique() < 2:
        raise DataError(
            f"fold {fold + 1}: its {len(label):,} training rows are all of one class",
            hint="Set fewer `model.search.folds`, or a shorter `model.holdout`.",
        )


def _scores(
    job: dict[str, Any], truths: NDArray[Any], predictions: NDArray[np.float64], called: NDArray[np.intp] | None, task: Task
) -> dict[str, float]:
    found = {}
    for name in job["metrics"]:
        try:
            found[name] = metrics.compute(name, task, truths, metrics.facing(name, task, predictions, called))
        except metrics.Undefined as error:
            if name == job["metric"]:
                raise StepError(f"{name} has no value on fold {job['fold'] + 1}: {error}") from error
    return found
