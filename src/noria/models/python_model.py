"""How a model in Python is asked: it gets the kind of table that it was trained with, and its answers come out in one shape.

Training, search, parity, evaluation and the host processes of the model server ask through here, so that what one of them takes
for an answer, all do. ``models.signature`` says what the answers mean.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from noria.kernel.errors import StepError
from noria.kernel.words import plural
from noria.models import project_functions
from noria.models.signature import Kind, Signature, class_text
from noria.models.user_time import user_code

DTYPES: dict[Kind, pl.DataType] = {
    Kind.STRING: pl.String(),
    Kind.NUMBER: pl.Float64(),
    Kind.INTEGER: pl.Int64(),
    Kind.BOOLEAN: pl.Boolean(),
}
KINDS = {  # the package that an annotation's type is of, or what its text begins with -> the kind of table
    "pandas": "pandas",
    "pd": "pandas",
    "numpy": "numpy",
    "np": "numpy",
    "NDArray": "numpy",
    "pyarrow": "arrow",
    "pa": "arrow",
}
SUM_OFF = 1e-3  # how far the probabilities of a row may be from 1 together
SINGLES = 5  # rows that are asked alone before a model counts as one that answers no single row


class ShapeError(StepError):
    """A model's answers have a shape that its task does not have."""


class TableKinds(msgspec.Struct, frozen=True):
    """The kinds of table that the project's functions take: ``polars``, ``lazy``, ``pandas``, ``numpy``, ``arrow``, ``lists``.

    Releases from before they were recorded say nothing: they were asked with Polars.
    """

    features: str = "polars"
    model: str = "polars"


def kind_of_table(annotation: Any) -> str:
    """What an annotation asks for; Polars where it asks for no table. Also of the text of one that only type checkers resolve."""
    if annotation is pl.LazyFrame:
        return "lazy"
    if annotation is dict or getattr(annotation, "__origin__", None) is dict:
        return "lists"
    if isinstance(annotation, str):
        head = annotation.strip("'\" ").partition("[")[0]
        return "lazy" if head.endswith("LazyFrame") else KINDS.get(head.partition(".")[0], "polars")
    return KINDS.get(getattr(annotation, "__module__", "").partition(".")[0], "polars")


def as_kind(table: pl.DataFrame, kind: str) -> Any:
    """The table as a Polars (eager or lazy) or pandas frame, an Arrow table, a NumPy array or a dict of lists."""
    if kind == "lazy":
        return table.lazy()
    if kind == "lists":
        return table.to_dict(as_series=False)
    if kind == "pandas":
        return table.to_pandas()
    if kind == "arrow":
        return table.to_arrow()
    return table.to_numpy() if kind == "numpy" else table


def rows_of(columns: Mapping[str, Sequence[Any]], signature: Signature) -> pl.DataFrame:
    """Values of a request as the table of inputs that ``PythonModel`` takes."""
    return pl.DataFrame([pl.Series(i.name, columns[i.name], dtype=DTYPES[i.kind], strict=False) for i in signature.inputs])


class PythonModel:
    """A trained model behind its features. ``rows`` are tables of the signature's inputs, as ``rows_of`` makes them."""

    def __init__(
        self, model: Any, features: Callable[[Any], Any] | None, signature: Signature, frames: TableKinds | None = None
    ) -> None:
        self.model = model
        self._features = features
        self._signature = signature
        self._frames = frames or TableKinds()

    def answers(self, rows: pl.DataFrame) -> NDArray[np.float64]:
        """Values [n] of a regression; of a classification probabilities [n, classes], in the order of the signature's classes.

        Raises StepError for answers of another shape, and whatever the project's code raises.
        """
        table = self._table(rows)
        if self._signature.task.definition.has_classes and hasattr(self.model, "predict_proba"):
            return shape_answers(self.model.predict_proba(table), self._signature, rows.height)
        said = self.model.predict(table)
        if not self._signature.task.definition.has_classes:
            return shape_answers(said, self._signature, rows.height)
        return np.eye(len(self._signature.classes))[places(said, self._signature, rows.height)]

    def predicted_classes(self, rows: pl.DataFrame) -> NDArray[np.intp]:
        """The places [n] of the classes that ``predict`` says. Raises as ``answers``; AttributeError where there is none."""
        return places(self.model.predict(self._table(rows)), self._signature, rows.height)

    def served_answers(self, rows: pl.DataFrame) -> NDArray[np.float64]:
        """What a server gets: the answers, where the model decides itself with the place of its class behind them."""
        found = self.answers(rows)
        return np.column_stack([found, self.predicted_classes(rows)]) if self._signature.says_class else found

    def _table(self, rows: pl.DataFrame) -> Any:
        made = with_features(self._features, rows, self._frames)
        return as_kind(made, self._frames.model) if isinstance(made, pl.DataFrame) else made

    def prove(self, rows: pl.DataFrame, where: str) -> None:
        """Raise StepError when the model does not answer rows that it was trained on, together or one alone.

        What is refused here would fail each request; the error says what to change.
        """
        try:
            found = self.answers(rows)
            self._single(rows)
        except StepError as error:
            raise StepError(error.message, where=where, hint=error.hint) from error
        except BaseException as error:  # whatever the project's code raises, a panic too: it does not answer
            text = (str(error).strip().splitlines() or [""])[0][:300]
            raise StepError(
                f"the model does not answer the rows it was trained on: {type(error).__name__}: {text}",
                where=where,
                hint="It is asked with the inputs alone, as the kind of table that `train` (or `features`) is annotated with; "
                "what `train` does to the table before it fits belongs into `features`, or into the model.",
            ) from error
        _demand_finite(found, self._signature, where)

    def _single(self, rows: pl.DataFrame) -> None:
        """One row alone has the shape that is due, too. What the project's code raises for one row may be that row's trouble."""
        failed: BaseException | None = None
        for at in range(min(SINGLES, rows.height)):
            try:
                self.answers(rows.slice(at, 1))
            except StepError:
                raise
            except BaseException as error:  # noqa: BLE001 - asking runs the project's code: it may raise anything
                failed = error
            else:
                return
        if failed is not None:
            raise failed


def load_tables(files: Mapping[str, Path | str]) -> dict[str, pl.DataFrame]:
    """Further tables of a model by name, from the Parquet files that training left."""
    return {name: pl.read_parquet(Path(path), glob=False) for name, path in files.items()}


def bind_features(
    features: Callable[..., Any] | None, parameters: Mapping[str, Any], tables: Mapping[str, pl.DataFrame]
) -> Callable[[Any], Any] | None:
    """``features`` with what it takes by name beside its rows: parameters, and tables of the kind that it is annotated with.

    Whoever asks a model binds here, so that a request meets the arguments of the training.
    """
    if features is None or not (parameters or tables):
        return features
    kinds = project_functions.parameter_types(features)
    given = {**parameters, **{name: as_kind(table, kind_of_table(kinds.get(name, Any))) for name, table in tables.items()}}
    return partial(features, **{n: v for n, v in given.items() if project_functions.takes(features, n, after=1)})


def with_features(features: Callable[[Any], Any] | None, rows: pl.DataFrame, frames: TableKinds) -> Any:
    """What the model is trained on and asked with. Raises StepError when ``features`` adds or drops rows."""
    if features is None:
        return rows
    with user_code():
        table = features(as_kind(rows, frames.features))
        if isinstance(table, pl.LazyFrame):
            table = table.collect()
    height = rows.height if isinstance(table, dict) or not hasattr(table, "__len__") else len(table)
    if height != rows.height:
        raise StepError(f"features returned {plural(height, 'row')} for {rows.height:,}: it works row by row")
    return table


def shape_answers(raw: Any, signature: Signature, n: int) -> NDArray[np.float64]:
    """Answers for ``n`` rows as [n] (regression) or [n, classes]. Raises StepError when they have no such shape."""
    values, classes = numbers(raw), len(signature.classes)
    single = values.size == n and (values.ndim == 0 or len(values) == n)
    if not signature.task.definition.has_classes:
        if single:
            return values.reshape(n)
        due = "one number a row: [n], or [n, 1]"
    else:
        if values.shape == (n, classes):
            return values[:, _order(raw, signature)]
        if n == 1 and values.shape == (classes,):  # squeezed
            return values.reshape(1, classes)
        if single and signature.task.definition.two_classes:
            return np.column_stack([1.0 - values.reshape(n), values.reshape(n)])
        due = f"a probability of each of the {classes} classes a row: [n, {classes}]"
    raise ShapeError(
        f"the model answered shape {values.shape} for {n:,} rows of a {signature.task} task", hint=f"Let it answer {due}."
    )


def numbers(raw: Any) -> NDArray[np.float64]:
    """What a model answered, whatever it is in, as float64; what is masked or missing is NaN. Raises StepError for no number."""
    try:
        found = _plain(raw)
        texts = found.dtype.kind in "USMmc" or (found.dtype.kind == "O" and any(isinstance(v, str) for v in found.flat))
        if not texts:
            return found.astype(np.float64)
        shown = repr(found.ravel()[:1].tolist())[1:-1]
    except (TypeError, ValueError) as error:
        raise StepError(f"the model answered no numbers: {str(error).splitlines()[0][:200]}", hint=NUMBERS) from error
    raise StepError(f"the model answered no numbers: {shown[:80]}", hint=NUMBERS)


NUMBERS = "Let it answer an array of numbers: for a regression its values, else probabilities."


def _plain(raw: Any) -> NDArray[Any]:
    module = type(raw).__module__.partition(".")[0]
    if module == "torch":
        raw = raw.detach().cpu()
    if hasattr(raw, "toarray"):  # a sparse matrix
        raw = raw.toarray()
    if isinstance(raw, np.ma.MaskedArray):
        return np.ma.filled(raw.astype(np.float64), np.nan)
    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(raw, pandas.DataFrame | pandas.Series):
        raw = raw.to_numpy()
        return np.where(pandas.isna(raw), np.nan, raw) if raw.dtype.kind == "O" else raw
    if module == "pyarrow" and hasattr(raw, "to_pandas"):
        return np.asarray(raw.to_pandas())
    return np.asarray(raw.to_numpy() if hasattr(raw, "to_numpy") else raw)


def _order(raw: Any, signature: Signature) -> list[int]:
    """The places of the classes among the columns: a frame whose columns are named like the classes may have them otherwise."""
    names = [class_text(name) for name in getattr(raw, "columns", ())]
    named = sorted(names) == sorted(signature.classes)
    return [names.index(name) for name in signature.classes] if named else list(range(len(signature.classes)))


def places(said: Any, signature: Signature, n: int) -> NDArray[np.intp]:
    """The places [n] of predicted classes. Raises StepError for what is none of the classes."""
    found = np.asarray(said.to_numpy() if hasattr(said, "to_numpy") else said)
    if found.size != n:
        raise StepError(f"the model predicted shape {found.shape} for {n:,} rows", hint="Let it predict one class a row: [n].")
    known = {name: place for place, name in enumerate(signature.classes)}
    values = found.reshape(n).tolist()
    strange = next((value for value in values if class_text(value) not in known), values)
    if strange is not values:
        raise StepError(
            f"the model predicted {strange!r}, which is none of its classes: {', '.join(signature.classes)}",
            hint="Probabilities belong into `predict_proba`.",
        )
    return np.array([known[class_text(value)] for value in values], dtype=np.intp)


def _demand_finite(found: NDArray[np.float64], signature: Signature, where: str) -> None:
    each = found.reshape(len(found), -1)
    finite = each[np.isfinite(each).all(axis=1)]
    if not len(finite):
        hint = "What is masked or missing counts as no number."
        raise StepError(
            f"the model answers no finite number to any of {plural(len(found), 'training row')}", where=where, hint=hint
        )
    if not signature.task.definition.has_classes:
        return
    low, high, off = float(finite.min()), float(finite.max()), float(np.abs(finite.sum(axis=1) - 1.0).max())
    if low < -SUM_OFF or high > 1.0 + SUM_OFF or off > SUM_OFF:
        raise StepError(
            f"the model answers no probabilities: numbers from {low:.4g} to {high:.4g}; rows sum up to 1 only within {off:.2g}",
            where=where,
            hint="Let `predict_proba` answer probabilities that sum up to 1: a softmax or a sigmoid at the model's end.",
        )
