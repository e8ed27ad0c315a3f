"""Training: split first, then features, then the project's training function on the training side only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import joblib
import msgspec
import numpy as np
import polars as pl
from msgspec.structs import replace

from noria.kernel.errors import DataError, StepError
from noria.kernel.task import Task
from noria.models import class_rule, columns, folds, forms, further_tables, naive_forecast, project_functions, table_arguments
from noria.models.frameworks.bare import wrap_bare
from noria.models.frameworks.torch import SHOWN_ROWS, TorchModel, is_module
from noria.models.judge_cost import ChosenThreshold, WrongCallCosts, choose_threshold
from noria.models.judge_leakage import judge_inputs
from noria.models.judge_overlap import count_repeated
from noria.models.labels import label_numbers, plain_label
from noria.models.python_model import TableKinds, bind_features, kind_of_table, with_features
from noria.models.seeds import seed_everything
from noria.models.signature import Input, Kind, Signature, class_text
from noria.models.split import seconds, split
from noria.models.user_time import user_code
from noria.stats import profile
from noria.stats.profile_records import Profile

MODEL = "model.joblib"
HOLDOUT = "holdout.arrow"
PROBED = 50  # training rows on which a model shows whether it takes nulls


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Train. Leaves ``model.joblib`` and ``holdout.arrow`` in ``folder``: the raw held-out rows, every column of them, for the
    champion may read others than the candidate.

    The job: ``rows`` (see ``tables.argument``), ``model``, ``params``, ``seed``, ``folder``, where there are any ``also``
    (further tables, as ``rows``, by name; they are left below ``also``), ``made_of`` (their digests) and ``feature_params``.
    Returns ``signature``, ``profile`` (of the training inputs), ``split``, ``frames`` (the kinds of table that the functions
    take), ``tried`` (inputs that may be null though training saw none: a trial granted it), ``label_rate`` (binary: share of the
    positive class), ``alone`` (a sentence for each input that predicts the label alone), ``repeated`` (held-out rows that equal a
    training row in inputs and label), ``decision`` (a ``ChosenThreshold``, where wrong calls have costs), ``naive_errors`` (by
    series, where there is a season), ``also`` (what the further tables are made of).
    """
    model, folder = job["model"], Path(job["folder"])
    made = split(table_arguments.argument(job["rows"]), model)
    inputs = tuple(Input(name, columns.kind_of(name, made.train.schema[name])) for name in input_names(made.train, model))
    train = columns.frame(made.train, inputs)
    label = plain_label(made.train[model["label"]], Task(model["task"]))
    seed_everything(job["seed"])  # a module may draw while it is imported
    with user_code():
        features = project_functions.load(model["features"]) if model.get("features") else None
        project_functions.load(model["train"])
    seed_everything(job["seed"])
    frames = frames_of(features, model["train"])
    tables = further_tables.read(job.get("also", {}))
    further_tables.save(tables, folder)
    features = bind_features(features, job.get("feature_params", {}), tables)
    job = {**job, "params": {**job["params"], **further_tables.for_training(tables, model["train"])}}
    more = columns_of(made.train, model)
    fitted = fit(model["train"], with_features(features, train, frames), label, job["params"], Task(model["task"]), more)
    signature = describe(model, inputs, train, label, fitted)
    original = forms.Original(fitted, features, signature, frames)
    original.prove(train.head(PROBED), model["train"])
    signature = with_nulls(signature, train, original)
    chosen = _choose_threshold(job, made.train, inputs, features, frames) if model.get("costs") else None
    told = model.get("threshold") if chosen is None else chosen.threshold
    signature = class_rule.add_decision(signature, told, fitted, features, frames, train)
    save(fitted, folder / MODEL)
    table_arguments.write_arrow(made.holdout, folder / HOLDOUT)
    return {
        "signature": msgspec.to_builtins(signature),
        "profile": msgspec.to_builtins(_profile(train, [i.name for i in inputs], made.train, model.get("event_time"))),
        "split": made.facts,
        "frames": msgspec.to_builtins(frames),
        "tried": [i.name for i in signature.inputs if i.nullable and not train[i.name].null_count()],
        "label_rate": _label_rate(label, signature),
        "alone": _alone(made.train, model, [i.name for i in inputs]),
        "repeated": count_repeated(made.train, made.holdout, [*(i.name for i in inputs), model["label"]]),
        "also": job.get("made_of", {}),
        "seed": job["seed"],
    } | _of_evaluation(made.train, model, chosen)


def _of_evaluation(train: pl.DataFrame, model: dict[str, Any], chosen: ChosenThreshold | None) -> dict[str, Any]:
    found: dict[str, Any] = {} if chosen is None else {"decision": msgspec.to_builtins(chosen)}
    if model.get("season") is not None:
        series = (model.get("series"), model["season"])
        found["naive_errors"] = naive_forecast.errors(train, model["label"], model["event_time"], *series)
    return found


def _choose_threshold(
    job: dict[str, Any], side: pl.DataFrame, inputs: tuple[Input, ...], features: Any, frames: TableKinds
) -> ChosenThreshold:
    """The cheapest threshold on validation rows: the newest of the training side, or a share by hash, as large as the holdout.

    A second model is fitted to the other training rows for this, for the released one has seen them all.
    """
    model = job["model"]
    task = Task(model["task"])
    in_fold, _ = (folds.rolling if model["holdout"].get("last_s") else folds.by_hash)(side, model, 1)
    fitting, validation = side.filter(in_fold != 0), side.filter(in_fold == 0)
    groups = model.get("groups")
    if groups is not None:  # by time, a group may stand on both sides
        fitting = fitting.filter(~fitting[groups].is_in(validation[groups].unique().implode()))
    label = plain_label(fitting[model["label"]], task)
    costs = WrongCallCosts(*model["costs"])
    if label.n_unique() < 2 or validation.is_empty():
        return choose_threshold(np.empty(0), np.empty(0, dtype=np.bool_), costs)
    table = columns.frame(fitting, inputs)
    seed_everything(job["seed"])
    more = columns_of(fitting, model)
    fitted = fit(model["train"], with_features(features, table, frames), label, job["params"], task, more)
    signature = describe(model, inputs, table, label, fitted)
    probability = forms.Original(fitted, features, signature, frames).predict(columns.frame(validation, inputs))
    truth = label_numbers(plain_label(validation[model["label"]], task), task, signature.classes)
    return choose_threshold(probability, np.asarray(truth == 1), costs)


def _alone(rows: pl.DataFrame, model: dict[str, Any], inputs: list[str]) -> list[str]:
    found = judge_inputs(rows, inputs, model["label"], Task(model["task"]))
    return [one.words(model["label"]) for one in found]


def _profile(train: pl.DataFrame, inputs: list[str], rows: pl.DataFrame, event_time: str | None) -> Profile:
    """Of the training inputs; by the rows' event times also how far windows of them differ, which is no drift."""
    made = profile.build(train, inputs)
    return made if event_time is None else replace(made, wander=profile.wander(train, seconds(rows[event_time]).to_numpy(), made))


def input_names(table: pl.DataFrame, model: dict[str, Any]) -> list[str]:
    """The inputs that the model names; when it names none, every column but label, key and event time."""
    known = {model["label"], model["key"], *(model.get(name) for name in ("event_time", "weight", "groups", "query"))}
    found: list[str] = model["inputs"] or [name for name in table.columns if name not in known]
    if not found:
        raise DataError("the labelled table has no column that could be an input: only label, key and event time")
    return found


def frames_of(features: Callable[[Any], Any] | None, target: str) -> TableKinds:
    """The kinds of table that ``features`` and the training function are annotated with, on their first argument."""
    with user_code():
        functions_asked = features, project_functions.load(target)
    first = [next(iter(project_functions.parameter_types(f).values()), Any) if f is not None else Any for f in functions_asked]
    inner, outer = map(kind_of_table, first)
    return TableKinds(inner, "polars" if outer == "lazy" else outer)


def columns_of(table: pl.DataFrame, model: dict[str, Any]) -> dict[str, pl.Series]:
    """What columns give to a training function by the name of its argument."""
    found = {"sample_weight": model.get("weight"), "groups": model.get("groups")}
    return {argument: table[name] for argument, name in found.items() if name is not None}


def fit(
    target: str, features: Any, label: pl.Series, params: dict[str, Any], task: Task, more: Mapping[str, pl.Series] | None = None
) -> Any:
    """Call the project's training function. ``more``: columns that it gets by name, as far as it takes them.

    Raises StepError when what it returns cannot predict.
    """
    with user_code():
        function = project_functions.load(target)
    kinds = project_functions.parameter_types(function)
    wanted = [*kinds.values(), Any, Any]
    taken = {
        n: table_arguments.column(c, kinds.get(n, Any)) for n, c in (more or {}).items() if project_functions.takes(function, n)
    }
    if isinstance(features, pl.DataFrame):
        features = table_arguments.convert(features, wanted[0])
    with user_code():
        returned = function(features, table_arguments.column(label, wanted[1]), **params, **taken)
        fitted = TorchModel(returned, task) if is_module(returned) else wrap_bare(returned, task)
        if isinstance(fitted, TorchModel):
            fitted.prove(features[:SHOWN_ROWS], len(getattr(fitted, "classes_", ())) or label.n_unique())
    if not (hasattr(fitted, "predict") or hasattr(fitted, "predict_proba")):
        raise StepError(
            f"returned {type(fitted).__name__}; a training function returns something with predict or predict_proba", where=target
        )
    return fitted


def describe(model: dict[str, Any], inputs: tuple[Input, ...], train: pl.DataFrame, label: pl.Series, fitted: Any) -> Signature:
    """The signature: kinds and ranges from the training rows, classes from the model, in the order of its columns."""
    task = Task(model["task"])
    classes = _classes(fitted, label) if task.definition.has_classes else ()
    ranged = tuple(_add_range(i, train[i.name]) for i in inputs)
    return Signature(ranged, task, classes, model["key"], model.get("event_time"))


def with_nulls(signature: Signature, train: pl.DataFrame, model: forms.Original) -> Signature:
    """Whether each input may be null: it was in training, or the model answers with a number when it is."""
    sample = train.head(PROBED)
    doubtful = [i.name for i in signature.inputs if train[i.name].null_count() == 0]
    if _answers(model, sample.with_columns(_null(train, name) for name in doubtful)):
        refused = []
    else:
        refused = [name for name in doubtful if not _answers(model, sample.with_columns(_null(train, name)))]
    return replace(signature, inputs=tuple(replace(i, nullable=i.name not in refused) for i in signature.inputs))


def save(fitted: Any, path: Path) -> None:
    """Raises StepError for a model that holds what cannot be pickled."""
    try:
        joblib.dump(fitted, path)
    except Exception as error:  # pickling runs the model's own code: it may raise anything
        raise StepError(
            f"the model cannot be saved: {type(error).__name__}: {error}",
            hint="Use functions and classes that are defined at the top of a module; no lambdas, no open files.",
        ) from error


def _answers(model: forms.Original, rows: pl.DataFrame) -> bool:
    try:
        return bool(np.isfinite(model.predict(rows)).all())
    except BaseException:  # noqa: BLE001 - whatever it raises, the answer is no
        return False


def _null(train: pl.DataFrame, name: str) -> pl.Expr:
    return pl.lit(None, dtype=train.schema[name]).alias(name)


def _add_range(entry: Input, values: pl.Series) -> Input:
    if entry.kind in (Kind.STRING, Kind.BOOLEAN) or values.null_count() == len(values):
        return entry
    return replace(entry, low=float(values.min()), high=float(values.max()))  # type: ignore[arg-type]  # numbers, not all null


def _classes(fitted: Any, label: pl.Series) -> tuple[str, ...]:
    known = getattr(fitted, "classes_", None)
    values = label.unique().sort().to_list() if known is None else list(known)
    return tuple(class_text(value) for value in values)


def _label_rate(label: pl.Series, signature: Signature) -> float | None:
    if not signature.task.definition.two_classes:
        return None
    positive = [count for value, count in label.value_counts().iter_rows() if class_text(value) == signature.classes[-1]]
    return float(sum(positive)) / len(label)
