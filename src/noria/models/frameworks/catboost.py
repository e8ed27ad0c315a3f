"""CatBoost: its own files, its estimators, and its way to ONNX. Light: hosts load this file to unpickle what it dresses."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from noria.kernel.errors import DataError, NoriaError, RefusedError
from noria.kernel.task import Task, task_of_classes
from noria.models.frameworks.bare import Face
from noria.models.frameworks.model_file import ModelFile, missing, version
from noria.models.signature import Kind, Signature, class_text

if TYPE_CHECKING:
    import polars as pl

    from noria.models.frameworks.model_file import ModelFile

CLASSIFIES = ("Logloss", "CrossEntropy", "MultiClass", "MultiClassOneVsAll", "Focal")
REGRESSES = (
    "RMSE", "MAE", "Quantile", "LogLinQuantile", "Expectile", "Poisson", "MAPE", "Lq", "Huber", "Tweedie", "LogCosh", "Cox",
)  # fmt: skip
PLACES = ("0", "1", "2")  # names of columns that had none are their places


class CatBoostModel(Face):
    """An estimator that is asked with texts and whole numbers where it takes categories."""

    library = "catboost"

    def __init__(self, model: Any) -> None:
        self.model = model
        self.categories = frozenset(model.get_cat_feature_indices()) | frozenset(model.get_text_feature_indices())
        if len(_classes(model)):
            self.classes_ = list(_classes(model))
            self.predict_proba = self._predict_proba

    def predict(self, table: Any) -> Any:
        return np.asarray(self.model.predict(self._rows(table), thread_count=1)).reshape(len(table), -1).squeeze(axis=1)

    def _predict_proba(self, table: Any) -> Any:
        return self.model.predict_proba(self._rows(table), thread_count=1)

    def _rows(self, table: Any) -> NDArray[Any]:
        if not self.categories:
            return np.asarray(table.to_numpy() if hasattr(table, "to_numpy") else table, dtype=np.float64)
        columns = [table[name].to_list() for name in table.columns]
        made = np.empty((len(table), len(columns)), dtype=object)
        for place, values in enumerate(columns):
            made[:, place] = [_category(v) for v in values] if place in self.categories else values
        return made

    def __getstate__(self) -> dict[str, Any]:
        return {"model": self.model}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["model"])  # type: ignore[misc]  # what it can do depends on the model


def _category(value: Any) -> Any:
    """Categories are texts or whole numbers; a null stays one, which CatBoost refuses."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def read(path: Path, task: Task | None) -> ModelFile:
    """A file that CatBoost's ``save_model`` wrote, ``.cbm`` or ``.json``. Raises DataError, RefusedError."""
    try:
        import catboost
    except ImportError as error:
        raise missing("catboost", "catboost") from error
    form = "json" if path.suffix == ".json" else "cbm"
    try:
        plain = catboost.CatBoost().load_model(str(path), format=form)
        said = json.loads(dict(plain.get_metadata().items()).get("params", "{}")).get("loss_function", {})
        loss = str(said.get("type", ""))
        kinds = {True: catboost.CatBoostClassifier, False: catboost.CatBoostRegressor}
        wanted = kinds[bool(len(_classes(plain)))]
        model = wanted().load_model(str(path), format=form) if task is not None or loss in CLASSIFIES + REGRESSES else plain
    except (catboost.CatBoostError, ValueError) as error:
        raise DataError(f"is not a whole CatBoost model: {str(error).strip().splitlines()[0][:300]}") from error
    classes = tuple(class_text(value) for value in _classes(model))
    found = task
    if found is None and classes:
        found = task_of_classes(len(classes))
    elif found is None and loss in REGRESSES:
        found = Task.REGRESSION
    return describe_model(model, found, classes, f"its loss is {loss or 'not known'}")


def describe_model(model: Any, task: Task | None, classes: Sequence[str], unsure: str = "") -> ModelFile:
    """What an estimator tells."""
    names = list(model.feature_names_ or [])
    if not names:
        raise DataError("holds a CatBoost model that was never fitted")
    if model.get_text_feature_indices() or model.get_embedding_feature_indices():
        raise RefusedError("it takes texts or embeddings as features, which CatBoost alone computes from training data")
    named = () if names == [str(place) for place in range(len(names))] else tuple(names)
    categories = [names[place] for place in model.get_cat_feature_indices()]
    kinds = {name: Kind.NUMBER for name in named if name not in categories} if named else {}
    why = unsure or f"{type(model).__name__} does not say whether it classifies"
    return ModelFile(
        CatBoostModel(model), version("catboost"), named, len(names), task, tuple(classes), {} if categories else kinds,
        unsure=why,
    )  # fmt: skip


class CatBoostFramework:
    """Estimators by the exporter that CatBoost brings with it."""

    name = "catboost"

    def matches(self, model: object) -> bool:
        return isinstance(model, CatBoostModel) or type(model).__module__.partition(".")[0] == "catboost"

    def compile(self, model: Any, signature: Signature, sample: pl.DataFrame) -> bytes:
        """Raises NoriaError for categories, CatBoostError for what else it does not export."""
        import onnx

        from noria.models.frameworks import graph_files, graphs  # as onnx

        inner = model.model if isinstance(model, CatBoostModel) else model
        if inner.get_cat_feature_indices():
            raise NoriaError("CatBoost exports no categories")
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "model.onnx"
            inner.save_model(str(target), format="onnx")
            made = onnx.load(str(target))
        graph_files.normalise(made)
        del made.metadata_props[:]  # when and where it was trained: equal models have equal bytes
        output = graph_files.choose_output(made, signature.task, len(signature.classes))
        del made.graph.output[:]
        made.graph.output.append(output)
        return graphs.finish_graph(made, signature)


def _classes(model: Any) -> Sequence[Any]:
    found: Any = model.classes_
    return found if found is not None else ()
