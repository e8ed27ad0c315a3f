"""Results of statsmodels, with the face of an estimator. Light: hosts load this file to unpickle what it dresses."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from noria.kernel.errors import RefusedError
from noria.kernel.task import Task
from noria.models.frameworks.bare import Answering, matrix
from noria.models.frameworks.model_file import ModelFile, version
from noria.models.signature import Kind, class_text

if TYPE_CHECKING:
    from noria.models.frameworks.model_file import ModelFile

BINARY = ("Logit", "Probit")
SEVERAL = ("MNLogit", "OrderedModel")
UNNAMED = re.compile(r"x\d+")  # what statsmodels calls columns that had no names
WORD = re.compile(r"[A-Za-z_]\w*|(?<=Q\(['\"])[^'\"]+")


class StatsModel(Answering):
    """Results that predict rows. The constant that was added to the columns is added here, too; of a formula the columns are
    those that it names."""

    library = "statsmodels"

    def __init__(self, results: Any, task: Task) -> None:
        self.results, self.task = results, task
        self.formula = getattr(results.model, "formula", None) is not None
        self.constant = None if self.formula else constant(results)

    def predict_proba(self, table: Any) -> NDArray[np.float64]:
        """[n, classes]."""
        found = self._answers(table)
        return np.column_stack([1.0 - found, found]) if found.ndim == 1 else found

    def _answers(self, table: Any) -> NDArray[np.float64]:
        if self.formula:
            return np.asarray(self.results.predict(table.to_pandas()), dtype=np.float64)
        rows = matrix(table)
        if self.constant is not None:
            rows = np.insert(rows, self.constant, 1.0, axis=1)
        return np.asarray(self.results.predict(rows), dtype=np.float64)


def is_result(model: object) -> bool:
    """Whether it is what `fit` of statsmodels returned. statsmodels is not imported for that."""
    made = type(model).__module__.partition(".")[0] == "statsmodels"
    return made and hasattr(model, "model") and hasattr(model, "params") and hasattr(model, "predict")


def constant(results: Any) -> int | None:
    """The place of the column that `add_constant` added."""
    place = getattr(results.model.data, "const_idx", None)
    return int(place) if place is not None and results.model.exog_names[place] == "const" else None


def describe_results(results: Any, task: Task | None) -> ModelFile:
    """What results tell of themselves. Raises RefusedError for those that do not predict rows."""
    model = results.model
    name = type(model).__name__
    if ".tsa." in type(model).__module__ and hasattr(results, "forecast"):
        hint = "Noria serves models that answer rows: give lags and calendar as columns, and fit a model of rows."
        raise RefusedError(f"its {name} forecasts a series from its own past; it answers no rows", hint=hint)
    found = task or _task(model)
    names, kinds = _of_formula(results) if getattr(model, "formula", None) is not None else (_columns(results), {})
    width = len(names)
    named = () if not kinds and all(UNNAMED.fullmatch(one) for one in names) else names
    added = not kinds and constant(results) is not None
    notes = ("its constant is added to each row; requests do not carry it",) if added else ()
    return ModelFile(
        StatsModel(results, found), version("statsmodels"), named, width, found, _classes(results, found), kinds, notes,
    )  # fmt: skip


def _task(model: Any) -> Task:
    if type(model).__name__ in SEVERAL:
        return Task.MULTICLASS
    binomial = type(getattr(model, "family", None)).__name__ == "Binomial"
    return Task.BINARY if binomial or type(model).__name__ in BINARY else Task.REGRESSION


def _classes(results: Any, task: Task) -> tuple[str, ...]:
    if task is Task.MULTICLASS:
        named: Any = getattr(results.model, "_ynames_map", None) or getattr(results.model, "labels", ())
        return tuple(class_text(value) for value in (named.values() if isinstance(named, dict) else named))
    return ("0", "1") if task is Task.BINARY else ()


def _columns(results: Any) -> tuple[str, ...]:
    left_out = constant(results)
    return tuple(str(name) for place, name in enumerate(results.model.exog_names) if place != left_out)


def _of_formula(results: Any) -> tuple[tuple[str, ...], dict[str, Kind]]:
    """The columns that a formula names on its right side, with their kinds as the training rows have them."""
    frame = getattr(results.model.data, "frame", None)
    if frame is None:
        hint = "Save it with its data: results.save(FILE), without remove_data."
        raise RefusedError("its training rows were removed, and without them the columns of its formula are not known", hint=hint)
    right = str(results.model.formula).partition("~")[2]
    words = [match.group() for match in WORD.finditer(right)]
    names = tuple(dict.fromkeys(word for word in words if word in frame.columns))
    return names, {name: Kind.NUMBER if frame[name].dtype.kind in "iufb" else Kind.STRING for name in names}
