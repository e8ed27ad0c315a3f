"""The step that asks a packaged model whether it behaves as the project says."""

from __future__ import annotations

import shutil
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from noria.evaluation.score_step import sealed_form
from noria.kernel.behaviour import Behaviour, BehaviourKind, BehaviourResult
from noria.kernel.errors import NoriaError
from noria.kernel.words import number
from noria.models import columns, forms, project_functions
from noria.models.python_model import DTYPES
from noria.models.signature import Signature
from noria.models.user_time import user_code
from noria.pipeline.executors.child import explain
from noria.releases.bundle import read_manifest

ROWS = 5_000  # held-out rows that are looked at, spread over all of them
VALUES = 10  # of an input that are put into every row
EXAMPLES = 3
Floats = NDArray[np.float64]


class AskedModel(msgspec.Struct, frozen=True):
    """The candidate, and the held-out rows as it takes them."""

    form: forms.Form
    signature: Signature
    rows: pl.DataFrame
    stride: int = 1  # each so-manieth held-out row is among them

    def predict(self, rows: pl.DataFrame) -> Floats:
        """As evaluation predicts; of several classes [n, k]."""
        return self.form.predict(columns.frame(rows, self.signature.inputs))


class NotRunError(ValueError):
    """Why a behaviour cannot be asked for, in words."""


class NothingToAskError(ValueError):
    """Why no row can show the behaviour, in words."""


def run(job: dict[str, Any]) -> dict[str, Any]:
    """The job: ``bundle`` (a folder with manifest and model), ``rows`` (an Arrow file), ``behaviours`` (records),
    ``folder``.

    Returns ``behaviours``: a result for each. Inputs of failing rows are printed, for the step's log alone.
    """
    bundle = Path(job["folder"]) / "bundle"
    shutil.copytree(job["bundle"], bundle)  # inputs are links, and a bundle has none
    manifest = read_manifest(bundle)
    rows = columns.frame(pl.read_ipc(job["rows"]), manifest.signature.inputs)
    stride = max(1, -(-rows.height // ROWS))
    asked = AskedModel(sealed_form(bundle, manifest), manifest.signature, rows.gather_every(stride), stride)
    behaviours = msgspec.convert(job["behaviours"], tuple[Behaviour, ...])
    return {"behaviours": [msgspec.to_builtins(ask(asked, one)) for one in behaviours]}


def ask(model: AskedModel, behaviour: Behaviour) -> BehaviourResult:
    """Whether the model behaves so. What raises is a result, too."""
    found = BehaviourResult(behaviour.name, behaviour.words, 0, 0, behaviour.allow)
    try:
        rows, fails, texts = KINDS[behaviour.kind](model, behaviour)
    except NothingToAskError as error:
        return msgspec.structs.replace(found, few=str(error))
    except NotRunError as error:
        return msgspec.structs.replace(found, problem=str(error))
    except Exception as error:  # noqa: BLE001 - the project's code may raise anything
        traceback.print_exc()
        why = error.message if isinstance(error, NoriaError) else explain(error, [Path.cwd(), Path.cwd() / "src"])
        return msgspec.structs.replace(found, problem=f"{f'{behaviour.subject} ' if behaviour.subject else ''}{why}")
    places = np.flatnonzero(fails)[:EXAMPLES].tolist()
    stride = model.stride if rows is not None else 1
    examples = tuple(f"row {place * stride + 1}{texts(place)}" for place in places)
    for place, example in zip(places, examples, strict=True):
        print(f"{behaviour.name}: {example} {rows.row(place, named=True) if rows is not None else ''}")
    return msgspec.structs.replace(found, rows=len(fails), failing=int(fails.sum()), examples=examples)


Asked = tuple[pl.DataFrame | None, NDArray[np.bool_], Callable[[int], str]]  # rows, which fail, a text for each


def _ignores(model: AskedModel, behaviour: Behaviour) -> Asked:
    before = model.predict(model.rows)
    answers = [model.predict(changed) for changed in _changed(model.rows, behaviour.subject, model.signature)]
    moved = np.stack([_distance(after, before) for after in answers])
    worst = moved.argmax(axis=0)

    def text(place: int) -> str:
        if before.ndim > 1:
            return f" (moves by {number(moved[worst[place], place])})"
        return f" ({number(before[place])} becomes {number(answers[worst[place]][place])})"

    return model.rows, moved.max(axis=0) > behaviour.by + 1e-9, text


def _distance(after: Floats, before: Floats) -> Floats:
    moved: Floats = np.abs(after - before)
    return moved.max(axis=1) if moved.ndim > 1 else moved


def _directed(model: AskedModel, behaviour: Behaviour) -> Asked:
    """Every value is put into every row, in rising order: nowhere may the prediction go the other way by more than ``by``."""
    name = behaviour.subject
    if name in model.rows.columns and not (model.rows.schema[name].is_numeric() or model.rows.schema[name] == pl.Boolean):
        raise NotRunError(f"{name} is {model.rows.schema[name]}: only a number has a direction")
    sign = 1 if behaviour.kind is BehaviourKind.RISES_WITH else -1
    answers = np.stack([sign * model.predict(changed) for changed in _changed(model.rows, name, model.signature)])
    highest = np.maximum.accumulate(answers, axis=0)
    drops = (highest - answers).max(axis=0)

    def text(place: int) -> str:
        return f" (moves the other way by {number(drops[place])})"

    return model.rows, drops > behaviour.by + 1e-9, text


def _changed(rows: pl.DataFrame, name: str, signature: Signature) -> list[pl.DataFrame]:
    """The rows with each of some values of an input in all of them; numbers in rising order."""
    if name not in rows.columns:
        raise NotRunError(f"there is no input {name}; inputs are {', '.join(rows.columns)}")
    known = rows[name].drop_nulls()
    values = known.unique().sort()
    if known.dtype.is_numeric() and len(values) > VALUES:
        quantiles = [known.quantile(share, "nearest") for share in np.linspace(0.0, 1.0, VALUES)]
        values = pl.Series(name, quantiles).unique().sort()
    elif len(values) > VALUES:
        values = known.value_counts(sort=True)[name].head(VALUES)
    if len(values) < 2:
        raise NothingToAskError(f"{name} has {'no value' if values.is_empty() else 'one value'} in {rows.height:,} held-out rows")
    kind = rows.schema[name]
    return [rows.with_columns(pl.lit(value, dtype=kind).alias(name)) for value in values.cast(kind).to_list()]


def _given(model: AskedModel, behaviour: Behaviour) -> Asked:
    names = [one.name for one in model.signature.inputs]
    strange = sorted({name for row in behaviour.rows for name in row} - set(names))
    if strange:
        raise NotRunError(f"there is no input {strange[0]}; inputs are {', '.join(names)}")
    cells = {one.name: [row.get(one.name) for row in behaviour.rows] for one in model.signature.inputs}
    try:
        rows = pl.DataFrame({one.name: pl.Series(cells[one.name], dtype=DTYPES[one.kind]) for one in model.signature.inputs})
    except (TypeError, pl.exceptions.PolarsError) as error:
        raise NotRunError(f"a given row does not fit the inputs: {str(error).splitlines()[0]}") from None
    if behaviour.between is not None:
        low, high = behaviour.between
        found = model.predict(rows)
        answers = [number(value) for value in found.tolist()]
        fails = ~((found >= low) & (found <= high))
    else:
        classes = model.signature.classes
        if behaviour.expect not in classes:
            raise NotRunError(f"there is no class {behaviour.expect}; classes are {', '.join(classes)}")
        answers = [classes[place] for place in model.form.called_classes(rows).tolist()]
        fails = np.array([answer != behaviour.expect for answer in answers])

    def text(place: int) -> str:  # these rows stand in noria.yaml: they are shown
        row = ", ".join(f"{name}={value!r}" for name, value in behaviour.rows[place].items()) or "all empty"
        return f" ({row}: {answers[place]})"

    return None, fails, text


def _call(model: AskedModel, behaviour: Behaviour) -> Asked:
    with user_code():
        returned = project_functions.load(behaviour.subject)(model.rows, model.predict)
    holds = _booleans(returned)
    if holds is None:
        what = f"{behaviour.subject} returned {type(returned).__name__}; it returns for each row whether it behaves"
        raise NotRunError(what)
    if not len(holds):
        raise NothingToAskError(f"{behaviour.subject} looked at no row")
    rows = model.rows if len(holds) == model.rows.height else None
    return rows, ~holds, lambda place: ""


def _booleans(returned: object) -> NDArray[np.bool_] | None:
    """True and false, for one row or several; None for anything else, a missing value among them."""
    if isinstance(returned, pl.Series):
        returned = returned.to_list()
    if not isinstance(returned, bool | np.bool_ | Sequence | np.ndarray) and not hasattr(returned, "__array__"):
        return None
    found = np.atleast_1d(np.asarray(returned))
    return found if found.dtype == np.bool_ and found.ndim == 1 else None


KINDS: dict[BehaviourKind, Callable[[AskedModel, Behaviour], Asked]] = {
    BehaviourKind.IGNORES: _ignores,
    BehaviourKind.RISES_WITH: _directed,
    BehaviourKind.FALLS_WITH: _directed,
    BehaviourKind.GIVEN: _given,
    BehaviourKind.CALL: _call,
}
