"""Models that were saved as Python objects (pickle, joblib, skops): loaded; what is no model is refused with the cause."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from noria.kernel.errors import DataError, NoriaError, RefusedError
from noria.kernel.task import Task, task_of_classes
from noria.kernel.words import plural
from noria.models.frameworks import catboost, statsmodels
from noria.models.frameworks.file_kinds import AGAIN, TO_ONNX_KERAS, TO_ONNX_TORCH
from noria.models.frameworks.model_file import ModelFile, UnusableError, missing, version
from noria.models.frameworks.torch import is_module
from noria.models.signature import class_text

ENDED = ("exhausted", "truncated", "EOF", "Ran out of input")
DISTRIBUTIONS = {"sklearn": "scikit-learn", "xgboost": "xgboost-cpu", "cv2": "opencv-python", "yaml": "pyyaml", "PIL": "pillow"}
LOST = re.compile(r"(?:Can't|Cannot) get attribute '(?P<name>[^']+)' on <module '(?P<module>[\w.]+)'")
SAVED = 'Save the object that `fit` returned: joblib.dump(model, "model.joblib")'
CLOUD = 'cloudpickle keeps the code as well: cloudpickle.dump(model, open("model.pkl", "wb")).'
OWN_CODE = (
    "If it is a package: pip install {name}, here and where the release is served. If it is code of your project: an imported "
    "model has none; its classes must come from installed packages, or train it as a project (`noria init`)."
)


def load_skops(path: Path, trusted: Sequence[str]) -> Any:
    try:
        import skops.io
    except ImportError as error:
        raise missing("skops", "skops") from error
    try:
        unknown = sorted(set(skops.io.get_untrusted_types(file=str(path))) - set(trusted))
    except zipfile.BadZipFile as error:
        raise DataError("is not a whole skops file: it may be cut off", hint=AGAIN) from error
    except Exception as error:  # whatever the container's reader raises, it cannot be read
        raise DataError(f"is not a whole skops file: {type(error).__name__}: {str(error)[:300]}") from error
    if unknown:
        hint = "If you know them: " + " ".join(f"--trust {name}" for name in unknown)
        raise RefusedError(f"it holds types that skops does not know as safe: {', '.join(unknown)}", hint=hint)
    try:
        return skops.io.load(str(path), trusted=list(trusted))
    except ImportError as error:
        raise _not_there(error) from error
    except Exception as error:  # its state is restored by foreign classes, which may raise anything
        raise UnusableError(f"cannot be loaded: {type(error).__name__}: {str(error)[:300]}") from error


def load_pickle(path: Path) -> Any:
    """Runs the code that is in the file: only for a file that a person vouches for, in a process of its own."""
    import joblib

    try:
        return joblib.load(path)
    except ImportError as error:
        raise _not_there(error) from error
    except Exception as error:  # unpickling runs any code: it may raise anything
        raise _not_loaded(error) from error


def _not_there(error: ImportError) -> NoriaError:
    """A module that the file names, or what it names in a module."""
    name = error.name or "?"
    top = name.partition(".")[0]
    if importlib.util.find_spec(top) is not None:
        lost = re.search(r"cannot import name '([^']+)'", str(error))
        what = f"{lost[1]} in {name}" if lost else name
        return UnusableError(
            f"it needs {what}, which {_installed_version(top)} does not have", hint=f"It was saved by another version of {top}."
        )
    hint = OWN_CODE.format(name=DISTRIBUTIONS.get(top, top))
    if top in ("keras", "tensorflow"):
        export = TO_ONNX_KERAS.format(name="model.keras")
        hint = f"Export it to ONNX where Keras is installed, K being the number of inputs: {export}"
    elif top == "torch":
        hint = f"Export it to ONNX where PyTorch is installed, K being the number of inputs: {TO_ONNX_TORCH}"
    elif top in DISTRIBUTIONS or top in ("catboost", "statsmodels", "lightgbm", "cloudpickle"):
        hint = f"Install it here and where the release is served: pip install {DISTRIBUTIONS.get(top, top)}"
    return RefusedError(f"it needs the module {name}, which is not installed here", hint=hint)


def _installed_version(module: str) -> str:
    try:
        return f"the installed {module} {importlib.metadata.version(DISTRIBUTIONS.get(module, module))}"
    except importlib.metadata.PackageNotFoundError:
        return f"the installed {module}"


def _not_loaded(error: Exception) -> NoriaError:
    lost = LOST.search(str(error))
    main = getattr(sys.modules["__main__"], "__spec__", None)
    if lost and lost["module"] in ("__main__", main.name if main else ""):
        text = f"it needs `{lost['name']}`, which the script or notebook that saved it defined: a pickle keeps its name alone"
        return RefusedError(text, hint=f"Put it into an installed package and save the model again. {CLOUD}")
    if lost:
        top = lost["module"].partition(".")[0]
        text = f"it needs {lost['module']}.{lost['name']}, which {_installed_version(top)} does not have"
        return UnusableError(text, hint=f"It was saved by another version of {top}.")
    text = f"{type(error).__name__}: {str(error)[:300]}"
    cut_off = any(word in str(error) for word in ENDED)  # pickle and its kin have no class for it
    if isinstance(error, EOFError) or cut_off:
        return DataError(f"is cut off: it ends in the middle of the object ({text})", hint=AGAIN)
    return UnusableError(f"cannot be unpickled: {text}")


def describe_model(model: Any, kind: str, task: Task | None) -> ModelFile:
    """What a loaded object tells of itself. Raises DataError, RefusedError with the cause where it cannot be served."""
    if statsmodels.is_result(model):
        return statsmodels.describe_results(model, task)
    demand_model(model)
    package = type(model).__module__.partition(".")[0]
    classes = tuple(class_text(value) for value in _classes(model))
    found = task or _task_of(model, classes)
    if package == "catboost":
        return catboost.describe_model(model, found, classes)
    names = tuple(map(str, getattr(model, "feature_names_in_", ())))
    width = getattr(model, "n_features_in_", None)
    notes: tuple[str, ...] = ()
    if classes and not hasattr(model, "predict_proba"):
        notes = ("it has no `predict_proba`: answers are a class alone, with the probability 1",)
    return ModelFile(
        model, version(DISTRIBUTIONS["sklearn"] if package == "sklearn" else package), names,
        int(width) if width is not None else None, found, classes, notes=notes, unsure=_unsure(model),
    )  # fmt: skip


def demand_model(model: Any) -> None:
    """Raise unless it is something fitted that predicts one answer a row."""
    _demand_object(model)
    name = type(model).__name__
    if name == "Booster":
        raise RefusedError(
            f"it holds a bare booster of {type(model).__module__.partition('.')[0]}",
            hint="Save it in its own format (save_model) and import that file: it says more, and needs no trust.",
        )
    if is_module(model):
        hint = f"Export it to ONNX, and import that, K being the number of inputs: {TO_ONNX_TORCH}"
        raise RefusedError(f"it holds a PyTorch module ({name}), which does not say what it takes", hint=hint)
    if not hasattr(model, "predict"):
        _refuse_without_predict(model)
    if not _is_fitted(model):
        raise DataError(f"holds a {name} that was never fitted, which has no `predict` to ask", hint=SAVED)
    classes = _classes(model)
    if _several(classes):
        raise RefusedError(
            f"its {name} predicts {plural(len(classes), 'label')} a row, and a release answers one", hint=_ONE_EACH
        )
    if len(classes) == 1:
        hint = "Fit it on rows of all classes."
        raise RefusedError(f"it knows one class alone, {class_text(classes[0])}: it was fitted on rows of that class", hint=hint)


_ONE_EACH = "Save a model for each label (of a MultiOutputClassifier: one of model.estimators_), and import each into a project."


def _demand_object(model: Any) -> None:
    """Raise for what is no model at all."""
    if isinstance(model, type):
        raise DataError(f"holds the class {model.__name__} itself, not a fitted model of it", hint=SAVED)
    if isinstance(model, dict | list | tuple):
        entries = list(model.items())[:20] if isinstance(model, dict) else list(enumerate(model[:20]))
        inside = next((f"found[{key!r}]" for key, value in entries if hasattr(value, "predict")), None)
        shown = (
            f" with the keys {', '.join(map(str, list(model)[:5]))}" if isinstance(model, dict) else f" of {len(model)} entries"
        )
        text = f"holds a {type(model).__name__}{shown}, which has no `predict`: it is no model"
        save = f'found = joblib.load(FILE); joblib.dump({inside}, "model.joblib")'
        raise DataError(text, hint=f"A model is in it; save that alone: {save}" if inside else SAVED)
    if type(model).__name__ in ("ndarray", "DataFrame", "Series") and not hasattr(model, "predict"):
        raise DataError(
            f"holds a {type(model).__name__} {getattr(model, 'shape', '')}: data, not a model, so it has no `predict`"
        )
    if callable(model) and not hasattr(model, "predict") and hasattr(model, "__name__"):
        raise DataError(f"holds the function {model.__name__}, which has no `predict`: it is no model", hint=SAVED)


def _refuse_without_predict(model: Any) -> None:
    name, hint = type(model).__name__, SAVED
    text = f"holds a {name}, which has no `predict`"
    if getattr(model, "refit", True) is False:
        text, hint = f"{text}: it was told refit=False, so it kept no fitted model", "Search with refit=True, and save it again."
    elif getattr(getattr(model, "model", None), "__module__", "").startswith("statsmodels"):
        text = f"{text} that takes rows"
    elif hasattr(model, "transform"):
        text, hint = f"{text}: it transforms rows", "Save the pipeline that ends with a model: make_pipeline(transformer, model)."
    raise DataError(text, hint=hint)


def _is_fitted(model: Any) -> bool:
    """Also true of what cannot be told: only scikit-learn's own rule is asked."""
    from sklearn.base import BaseEstimator
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    if not isinstance(model, BaseEstimator):
        return not (hasattr(model, "is_fitted") and callable(model.is_fitted) and not model.is_fitted())
    try:
        check_is_fitted(model)
    except NotFittedError:
        return False
    except Exception:  # noqa: BLE001 - a foreign estimator may not follow the rule
        return True
    return True


def _several(classes: Any) -> bool:
    return bool(len(classes)) and hasattr(classes[0], "__len__") and not isinstance(classes[0], str | bytes)


def _classes(model: Any) -> Sequence[Any]:
    found: Any = getattr(model, "classes_", ())
    return found if found is not None else ()


def _task_of(model: Any, classes: Sequence[str]) -> Task | None:
    from sklearn.base import is_classifier, is_regressor

    if classes:
        return task_of_classes(len(classes))
    if type(model).__name__.endswith("Ranker"):
        return None
    try:
        if is_classifier(model):
            return Task.MULTICLASS
        return Task.REGRESSION if is_regressor(model) else None
    except Exception:  # noqa: BLE001 - an object that is no estimator: nothing is known of it
        return None


def _unsure(model: Any) -> str:
    """Why the task of an object cannot be told."""
    name = type(model).__name__
    if name.endswith("Ranker"):
        return f"{name} scores rows for their order in a group; `--task regression` serves the scores as numbers"
    kind = getattr(model, "_estimator_type", None)
    if kind == "clusterer" or hasattr(model, "cluster_centers_"):
        return f"{name} numbers clusters, which are neither classes nor values; `--task regression` serves the numbers"
    if kind == "outlier_detector" or hasattr(model, "offset_"):
        return f"{name} says -1 of an outlier, else 1; `--task regression` serves these numbers"
    return f"{name} does not say whether it classifies"
