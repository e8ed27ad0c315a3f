"""Model files that were written elsewhere: read, and what they say about themselves. Called in a process that may die of it."""

from __future__ import annotations

import importlib.metadata
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from noria.adapters.frameworks.bare import dressed
from noria.domain.signature import Kind, Task, class_text
from noria.errors import DataError, RefusedError

SUFFIXES = {
    ".onnx": "onnx",
    ".txt": "lightgbm",
    ".lgb": "lightgbm",
    ".json": "xgboost",
    ".ubj": "xgboost",
    ".skops": "skops",
    ".joblib": "pickle",
    ".pkl": "pickle",
    ".pickle": "pickle",
}
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


@dataclass(frozen=True, slots=True)
class Known:
    """A model, and what its file tells; what it does not tell is empty or None."""

    model: Any
    framework: str  # "lightgbm 4.7.0"
    names: tuple[str, ...] = ()
    width: int | None = None  # how many inputs it takes
    task: Task | None = None
    classes: tuple[str, ...] = ()
    kinds: dict[str, Kind] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def read(path: Path, kind: str, task: Task | None, classes: Sequence[str], trusted: Sequence[str]) -> Known:
    """The model in a file of a known kind; ``task`` and ``classes`` as the person says, where said.

    Raises DataError for what cannot be read, RefusedError for types that nobody trusts; a pickle does whatever its code does.
    """
    if kind == "onnx":
        from noria.adapters.frameworks import graph_files

        return graph_files.read(path, task, classes)
    readers = {"lightgbm": _lightgbm, "xgboost": _xgboost}
    if kind in readers:
        return readers[kind](path, task)
    model = _skops(path, trusted) if kind == "skops" else _pickle(path)
    return _estimator(model, kind, task)


def version(package: str) -> str:
    """``lightgbm 4.7.0``; XGBoost is also known as xgboost-cpu."""
    for name in (package, f"{package}-cpu"):
        try:
            return f"{package} {importlib.metadata.version(name)}"
        except importlib.metadata.PackageNotFoundError:
            continue
    return package


EXTRAS = {"boosters": "lightgbm xgboost-cpu onnxmltools", "skops": "skops"}  # what the extras of these names bring


def missing(package: str, extra: str) -> RefusedError:
    return RefusedError(f"{package} is not installed", hint=f"Install it: pip install {EXTRAS[extra]}")


def _lightgbm(path: Path, task: Task | None) -> Known:
    try:
        import lightgbm
    except ImportError as error:
        raise missing("lightgbm", "boosters") from error
    try:
        booster = lightgbm.Booster(model_file=str(path))
        objective = str(booster.dump_model(num_iteration=1).get("objective", "none")).split(" ")[0]
    except lightgbm.basic.LightGBMError as error:
        raise DataError(f"is not a whole LightGBM model: {error}") from error
    width, found = booster.num_feature(), task or _task(objective)
    classes = _numbered(found, booster.num_model_per_iteration())
    return Known(_bare(booster, found), version("lightgbm"), _names(booster.feature_name()), width, found, classes)


def _xgboost(path: Path, task: Task | None) -> Known:
    try:
        import xgboost
    except ImportError as error:
        raise missing("xgboost", "boosters") from error
    booster = xgboost.Booster()
    try:
        booster.load_model(str(path))
        learner = json.loads(booster.save_config())["learner"]
    except (xgboost.core.XGBoostError, ValueError, KeyError) as error:
        text = str(error).strip().splitlines() or [""]
        raise DataError(f"is not a whole XGBoost model: {text[0][:300]}") from error
    if not booster.num_features():
        raise DataError("is not a whole XGBoost model: it takes no features")
    found = task or _task(str(learner["objective"]["name"]))
    classes = _numbered(found, int(learner["learner_model_param"]["num_class"]))
    names = _names(booster.feature_names or [])
    return Known(_bare(booster, found), version("xgboost"), names, booster.num_features(), found, classes)


def _task(objective: str) -> Task | None:
    if objective in NO_ANSWERS:
        hint = "Train it with binary:logistic or multi:softprob; they are the same model with other answers."
        raise RefusedError(f"its objective {objective} answers no probabilities", hint=hint)
    return next((task for begin, task in BOOSTER_TASKS.items() if objective.startswith(begin)), None)


def _numbered(task: Task | None, count: int) -> tuple[str, ...]:
    if task is Task.BINARY:
        return ("0", "1")
    return tuple(map(str, range(count))) if task is Task.MULTICLASS else ()


def _names(found: Sequence[str]) -> tuple[str, ...]:
    return () if all(PLACEHOLDER.fullmatch(name) for name in found) else tuple(found)


def _bare(booster: Any, task: Task | None) -> Any:
    return dressed(booster, task) if task is not None else booster


def _skops(path: Path, trusted: Sequence[str]) -> Any:
    try:
        import skops.io
    except ImportError as error:
        raise missing("skops", "skops") from error
    try:
        unknown = sorted(set(skops.io.get_untrusted_types(file=str(path))) - set(trusted))
    except Exception as error:  # whatever the container's reader raises, it cannot be read
        raise DataError(f"is not a whole skops file: {type(error).__name__}: {str(error)[:300]}") from error
    if unknown:
        hint = "If you know them: " + " ".join(f"--trust {name}" for name in unknown)
        raise RefusedError(f"it holds types that skops does not know as safe: {', '.join(unknown)}", hint=hint)
    try:
        return skops.io.load(str(path), trusted=list(trusted))
    except ImportError as error:
        raise RefusedError(f"it needs {error.name}, which is not installed here") from error
    except Exception as error:  # its state is restored by foreign classes, which may raise anything
        raise DataError(f"cannot be loaded: {type(error).__name__}: {str(error)[:300]}") from error


def _pickle(path: Path) -> Any:
    """Runs the code that is in the file: only for a file that a person vouches for, in a process of its own."""
    import joblib

    try:
        return joblib.load(path)
    except ImportError as error:
        hint = "An imported model has no project code: its classes must come from installed packages."
        raise RefusedError(f"it needs the module {error.name}, which is not installed here", hint=hint) from error
    except Exception as error:  # unpickling runs any code: it may raise anything
        raise DataError(f"cannot be unpickled: {type(error).__name__}: {str(error)[:300]}") from error


def _estimator(model: Any, kind: str, task: Task | None) -> Known:
    if type(model).__name__ == "Booster":
        raise RefusedError(
            f"it holds a bare booster of {type(model).__module__.partition('.')[0]}",
            hint="Save it in its own format (save_model) and import that file: it says more, and needs no trust.",
        )
    if not hasattr(model, "predict"):
        raise DataError(f"holds a {type(model).__name__}, which has no `predict`")
    package = type(model).__module__.partition(".")[0]
    classes = tuple(class_text(value) for value in getattr(model, "classes_", ()))
    found = task or _task_of(model, classes)
    names = tuple(map(str, getattr(model, "feature_names_in_", ())))
    width = getattr(model, "n_features_in_", None)
    notes = (f"read as {kind}",)
    label = version("scikit-learn") if package == "sklearn" else version(package)
    return Known(model, label, names, int(width) if width is not None else None, found, classes, notes=notes)


def _task_of(model: Any, classes: Sequence[str]) -> Task | None:
    from sklearn.base import is_classifier, is_regressor

    if classes or is_classifier(model):
        return Task.BINARY if len(classes) == 2 else Task.MULTICLASS
    try:
        return Task.REGRESSION if is_regressor(model) else None
    except Exception:  # noqa: BLE001 - an object that is no estimator: nothing is known of it
        return None
