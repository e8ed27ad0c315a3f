"""A model that was trained elsewhere: read, described, compiled where it converts, and asked.

``python -m noria.models.foreign_model JOB.json``: a process of its own, because a damaged file may end the library that reads it,
and because a pickle runs its own code. It leaves ``result.json`` beside the job.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import joblib
import msgspec
import numpy as np
import polars as pl
from msgspec.structs import replace

from noria.config import document
from noria.data import formats
from noria.kernel import orphans
from noria.kernel.errors import ConfigError, DataError, NoriaError, RefusedError, StepError, UsageError
from noria.kernel.task import Task
from noria.kernel.words import plural
from noria.models import class_rule, columns, conversion, forms, training, weights
from noria.models.frameworks import files, written_with
from noria.models.frameworks.bare import Bare, Face, OnCategories, OnMatrix, knows_categories
from noria.models.frameworks.model_file import ModelFile, UnusableError
from noria.models.golden import GOLDEN
from noria.models.python_model import DTYPES, ShapeError
from noria.models.signature import Input, Kind, Signature, class_text

MADE_UP = 200  # rows
SAMPLED = 2000  # rows of the sample that the forms are compared on
SUM = 1e-3  # how far probabilities may be from 1 together
ASK_NAMES = "Name them: --sample rows.csv with the columns, or --signature signature.yaml."


class ForeignInput(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An input in signature.yaml."""

    name: str
    type: Kind = Kind.NUMBER
    nullable: bool | None = None
    low: float | None = None
    high: float | None = None


class ForeignDescription(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """signature.yaml."""

    inputs: list[ForeignInput]
    task: Task | None = None
    classes: list[str | int | bool] = []
    key: str | None = None
    event_time: str | None = None


def run(job: dict[str, Any]) -> dict[str, Any]:
    """The job: ``file``, ``kind``, ``folder`` to leave the model in, and what the person said: ``signature``, ``sample`` (files),
    ``label``, ``task``, ``classes``, ``key``, ``event_time``, ``trusted``; None or empty where nothing was said.

    Returns ``form``, ``reason``, ``signature``, ``framework``, ``parity``, ``rows`` (which ones the forms were compared on),
    ``derived``, ``notes`` and ``warnings`` (sentences), ``written_with`` and ``read_with`` (library: version),
    ``latency_p50_ms``, ``latency_p99_ms``.
    """
    told = _read_description(job["signature"])
    task = Task(job["task"]) if job["task"] else told.task if told else None
    classes = job["classes"] or ([class_text(c) for c in told.classes] if told else [])
    sample = _sample(job["sample"], job["label"])
    written = written_with.versions(Path(job["file"]), job["kind"])
    differs = written_with.differing(written)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of versions, which are compared here
            known = files.read(Path(job["file"]), job["kind"], task, classes, job["trusted"])
        signature, derived = make_signature(known, told, sample, classes, job)
        rows, shown = _comparison_rows(sample, signature)
        original = _original(known, signature, rows, sample is None and told is None)
    except UnusableError as error:
        raise _likely(error, written, differs) from error
    signature = _nullable(signature, told, rows, original)
    said = {t.name for t in told.inputs if t.nullable is not None} if told else set()
    tried = [i.name for i in signature.inputs if i.nullable and i.name not in said and not rows[i.name].null_count()]
    made = _package_model(known, original.with_signature(signature), signature, rows, Path(job["folder"]), tried)
    return {
        **made,
        "framework": known.framework,
        "rows": shown,
        "derived": derived,
        "notes": list(known.notes),
        "written_with": written,
        "read_with": written | differs,
        "warnings": [_warning(written, differs)] if differs else [],
    }


def _warning(written: dict[str, str], differs: dict[str, str]) -> str:
    said, cure = written_with.sentence(written, differs), written_with.cure(written, differs)
    return f"{said}: it may answer otherwise than where it was trained; {cure} serves it with what it was saved by"


def _likely(error: UnusableError, written: dict[str, str], differs: dict[str, str]) -> DataError:
    """The same, with the likely cause, where the file was saved by another version."""
    if not differs:
        return error
    hint = f"{written_with.cure(written, differs)}, here and where it is served; or save it again by the installed version."
    return UnusableError(f"{error.message}; {written_with.sentence(written, differs)}: likely the cause", hint=hint)


# --- the signature


def make_signature(
    known: ModelFile, told: ForeignDescription | None, sample: pl.DataFrame | None, classes: Sequence[str], job: dict[str, Any]
) -> tuple[Signature, list[str]]:
    """What a request carries: as the person says, else as the model and the sample tell; and what was derived from which.

    Raises UsageError for what cannot be known, RefusedError where they disagree.
    """
    derived: list[str] = []
    if known.task is None:
        hint = "Say --task regression, or --task binary --classes NO,YES, or --task multiclass --classes A,B,C."
        why = f": {known.unsure}" if known.unsure else ""
        raise UsageError(f"the model does not say what its answers mean{why}", hint=hint)
    if told is not None:
        inputs = _as_told(known, told)
    else:
        names, source = _names(known, sample)
        inputs = tuple(_input(name, known, sample) for name in names)
        types = "types from the sample" if sample is not None else "types from the model"
        derived.append(f"names of inputs from {source}, {types}")
    if known.width is not None and len(inputs) != known.width:
        raise RefusedError(f"the model takes {plural(known.width, 'input')}, and {len(inputs)} are named", hint=ASK_NAMES)
    labels = _classes(known, classes, derived)
    key = job["key"] or (told.key if told else None)
    event_time = job["event_time"] or (told.event_time if told else None)
    taken = {i.name for i in inputs}
    if len(taken) < len(inputs):
        raise UsageError("an input is named twice")
    derived.append(f"task {known.task} from " + ("you" if job["task"] or (told and told.task) else "the model"))
    return Signature(inputs, known.task, labels, key, event_time), derived


def _read_description(path: str | None) -> ForeignDescription | None:
    if path is None:
        return None
    try:
        said = document.read(Path(path).read_bytes(), path).plain()
        return msgspec.convert(said, type=ForeignDescription)
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", where=path) from error
    except ConfigError as error:
        raise UsageError(error.message, where=error.where, hint=error.hint) from error
    except msgspec.ValidationError as error:
        hint = "inputs: [{name: age, type: number}, ...], task: binary, classes: [no, yes]"
        raise UsageError(f"is no signature: {error}", where=path, hint=hint) from error


def _sample(path: str | None, label: str | None) -> pl.DataFrame | None:
    if path is None:
        return None
    table = formats.read_table(Path(path), dialect=formats.as_it_looks(Path(path)))
    if not table.height:
        raise DataError("has no rows", where=path)
    if label is not None and label not in table.columns:
        raise DataError(f"has no column {label}, which --label names", where=path)
    return table.drop(label) if label is not None else table


def _names(known: ModelFile, sample: pl.DataFrame | None) -> tuple[tuple[str, ...], str]:
    if known.names:
        if sample is None:
            return known.names, "the model"
        alike = {name.replace(" ", "_"): name for name in sample.columns}  # LightGBM writes spaces as _
        missing = [name for name in known.names if name not in sample.columns and name not in alike]
        if missing:
            has = ", ".join(sample.columns[:20])
            raise RefusedError(f"the model takes {', '.join(missing)}, which the sample does not have", hint=f"It has: {has}.")
        if known.kinds:  # a graph is asked by its own names
            return known.names, "the model"
        return tuple(name if name in sample.columns else alike[name] for name in known.names), "the model"
    if sample is None:
        count = f"its {plural(known.width, 'input')}" if known.width else "its inputs"
        raise UsageError(f"the names of {count} are not in the model", hint=ASK_NAMES)
    if known.width is not None and sample.width != known.width:
        hint = "Leave out what is no input, and name the label with --label; or give --signature signature.yaml."
        text = f"the model takes {plural(known.width, 'input')}, and the sample has {plural(sample.width, 'column')}"
        text += f": {', '.join(sample.columns[:20])}"
        raise RefusedError(text, hint=hint)
    return tuple(sample.columns), "the sample, in its order"


def _input(name: str, known: ModelFile, sample: pl.DataFrame | None) -> Input:
    """A column of numbers takes whole ones and others: that a sample has only whole ones proves nothing."""
    due = known.kinds.get(name, known.kind)
    if sample is None:
        return Input(name, due or Kind.NUMBER)
    values = sample[name]
    kind = columns.kind_of(name, values.dtype)
    if (
        due is Kind.INTEGER
        and kind is Kind.NUMBER
        and values.drop_nulls().is_finite().all()
        and (values.drop_nulls() % 1 == 0).all()
    ):
        kind = Kind.INTEGER
    elif due is not Kind.INTEGER and kind is Kind.INTEGER:
        kind = Kind.NUMBER
    if due is not None and kind is not due and (Kind.STRING in (kind, due) or due is Kind.INTEGER):
        raise RefusedError(f"the model takes {name} as {due}, and the sample has {_odd_one(values, due)}")
    if kind is not Kind.NUMBER or values.null_count() == len(values):
        return Input(name, kind)
    return Input(name, kind, low=float(values.min()), high=float(values.max()))  # type: ignore[arg-type]  # numbers


def _odd_one(values: pl.Series, due: Kind) -> str:
    """A value that is not of the kind, with the column's type."""
    held = values.drop_nulls()
    odd = held.filter(held % 1 != 0) if due is Kind.INTEGER and held.dtype.is_float() else held
    return f"{values.dtype}" + (f", such as {odd[0]!r}" if len(odd) else "")


def _as_told(known: ModelFile, told: ForeignDescription) -> tuple[Input, ...]:
    inputs = {t.name: Input(t.name, t.type, t.nullable is not False, t.low, t.high) for t in told.inputs}
    if not known.names:
        return tuple(inputs.values())
    odd = sorted(set(known.names) - inputs.keys()) + sorted(inputs.keys() - set(known.names))
    if odd:
        raise RefusedError(
            f"the signature and the model do not agree on {', '.join(odd)}", hint=f"The model takes: {_list(known.names)}."
        )
    return tuple(inputs[name] for name in known.names)


def _classes(known: ModelFile, classes: Sequence[str], derived: list[str]) -> tuple[str, ...]:
    definition = known.task.definition if known.task is not None else None
    if definition is not None and not definition.has_classes:
        return ()
    found = tuple(classes) or known.classes
    if not classes:
        derived.append(f"classes {_list(found)} from the model" if found else "")
    if definition is not None and definition.two_classes and len(found) != 2:
        raise UsageError(
            f"a binary task has two classes, not {len(found)}", hint="Name them in the model's order: --classes NO,YES"
        )
    if len(found) < 2 or (known.classes and len(found) != len(known.classes)):
        due = f"{len(known.classes)} classes" if known.classes else "classes that its file does not name"
        raise UsageError(
            f"the model has {due}, and {len(found)} are named", hint="In the order of its probabilities: --classes A,B,C"
        )
    if len(set(found)) < len(found):
        raise UsageError("a class is named twice")
    return found


def _list(names: Sequence[str]) -> str:
    return ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")


def _comparison_rows(sample: pl.DataFrame | None, signature: Signature) -> tuple[pl.DataFrame, str]:
    """The rows that both forms are asked: those of the sample, and made-up ones where they are few or none."""
    if sample is None:
        return made_up_rows(signature), f"{MADE_UP} made-up rows"
    rows = columns.frame(sample.head(SAMPLED), signature.inputs)
    text = f"{plural(rows.height, 'row')} of the sample"
    numbers = all(i.kind in (Kind.NUMBER, Kind.INTEGER) for i in signature.inputs)  # texts cannot be made up: few are known
    if rows.height >= MADE_UP or not numbers:
        return rows, text
    return pl.concat([rows, made_up_rows(signature)]), f"{text} and {MADE_UP} made-up rows"


def made_up_rows(signature: Signature) -> pl.DataFrame:
    """Rows of the signature's kinds, within its ranges where it has some; equal for equal signatures."""
    rng = np.random.default_rng(0)
    made = []
    for entry in signature.inputs:
        low, high = (v if v is not None else other for v, other in ((entry.low, -3.0), (entry.high, 3.0)))
        numbers = rng.uniform(low, high, MADE_UP) * (1 if entry.low is not None else rng.choice([1.0, 10.0, 100.0], MADE_UP))
        values: dict[Kind, Any] = {
            Kind.STRING: rng.choice(["", "a", "b"], MADE_UP).tolist(),
            Kind.BOOLEAN: rng.choice([True, False], MADE_UP).tolist(),
            Kind.INTEGER: np.floor(numbers).astype(np.int64),
            Kind.NUMBER: numbers,
        }
        made.append(pl.Series(entry.name, values[entry.kind], dtype=DTYPES[entry.kind]))
    return pl.DataFrame(made)


def _nullable(signature: Signature, told: ForeignDescription | None, rows: pl.DataFrame, original: forms.Original) -> Signature:
    """Where nothing was said, an input may be null when it was in the sample, or when the model answers all the same."""
    said = {t.name: t.nullable for t in told.inputs if t.nullable is not None} if told else {}
    tried = training.with_nulls(signature, rows, original)
    return replace(signature, inputs=tuple(replace(i, nullable=said.get(i.name, i.nullable)) for i in tried.inputs))


# --- the model


def _original(known: ModelFile, signature: Signature, rows: pl.DataFrame, derived_alone: bool) -> forms.Original:
    """The model in the way in which it can be asked. Raises RefusedError when it answers no row."""
    tried = []
    model = known.model
    for one in _ways(model, signature):
        original = forms.Original(one, None, signature)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", UserWarning)  # "fitted without feature names": then ask without
                answers = original.predict(rows)
        except StepError as error:
            _demand_single(error)
            tried.append(error.message)
            continue
        except BaseException as error:  # noqa: BLE001 - whatever the model raises means that it is not asked like that
            tried.append(f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:300]}")
            continue
        _demand_answers(answers, signature)
        return original
    hint = "Give rows that it takes (--sample), or say what it takes (--signature)."
    if derived_alone:
        hint = f"Its inputs were taken as {_kinds(signature)}, as nothing says otherwise. {hint}"
    cause = next((text for text in tried if "feature names" not in text), tried[-1])
    raise UnusableError(f"the model does not answer rows of this signature: {cause}", hint=hint)


def _ways(model: Any, signature: Signature) -> tuple[Any, ...]:
    """A model that knows categories must get them: asked otherwise it may answer, and something else."""
    if isinstance(model, Face):
        return (model,)
    text = any(i.kind is Kind.STRING for i in signature.inputs)
    return (OnCategories(model),) if text and knows_categories(model) else (model, OnMatrix(model))


def _kinds(signature: Signature) -> str:
    return " and ".join(
        dict.fromkeys({Kind.STRING: "text", Kind.BOOLEAN: "booleans"}.get(i.kind, "numbers") for i in signature.inputs)
    )


def _demand_single(error: StepError) -> None:
    """Raise RefusedError for answers of several values a row: no other rows would change that."""
    if isinstance(error, ShapeError):
        raise RefusedError(f"{error.message}: it predicts something else than one answer a row", hint=error.hint) from error


def _demand_answers(answers: Any, signature: Signature) -> None:
    if not signature.task.definition.has_classes:
        return
    given = answers[np.isfinite(answers).reshape(len(answers), -1).all(axis=1)]
    apart = np.abs(given.sum(axis=1) - 1).max(initial=0.0) if given.ndim == 2 else 0.0
    if given.min(initial=0.0) < -SUM or given.max(initial=0.0) > 1 + SUM or apart > SUM:
        hint = "Put a softmax or a sigmoid at its end; or import it with --task regression."
        raise RefusedError("the model's answers are no probabilities: they leave 0 to 1, or do not sum to 1", hint=hint)


def _package_model(
    known: ModelFile, original: forms.Original, signature: Signature, rows: pl.DataFrame, folder: Path, tried: Sequence[str]
) -> dict[str, Any]:
    if class_rule.decides(original.model, signature):
        signature = replace(signature, decision=class_rule.rule(original, rows, signature))
        original = original.with_signature(signature)
    inner = forms.Original(known.model, None, signature)
    made = conversion.convert_model(inner.model, original, signature, rows, "rows", tried)
    signature = made.signature
    form: forms.Form = original.with_signature(signature)
    if made.content:
        weights.save(made.content, folder / conversion.COMPILED)
        form = forms.Compiled(folder / conversion.COMPILED, signature)
    elif isinstance(known.model, Bare) and known.model.kind == "onnx":
        raise RefusedError(f"the graph cannot be served: {made.reason.removeprefix('hosted: ')}")
    else:
        _keep(original.model, folder / "model.joblib")
    (folder / GOLDEN).write_bytes(msgspec.json.encode(conversion.golden(form, signature)))
    p50, p99 = forms.latency(form, rows)
    return {
        **made.facts(),
        "latency_p50_ms": p50,
        "latency_p99_ms": p99,
    }


def _keep(model: Any, path: Path) -> None:
    """Raises RefusedError for what cannot be saved. What cloudpickle saved with its code (a lambda), it saves again."""
    try:
        joblib.dump(model, path)
    except Exception as error:  # pickling runs the model's own code: it may raise anything
        text = f"it is to be hosted, and cannot be saved again: {type(error).__name__}: {str(error)[:300]}"
        cloudpickle = sys.modules.get("cloudpickle")
        if cloudpickle is None:
            raise RefusedError(text, hint="Use functions and classes that installed packages define.") from error
        path.write_bytes(cloudpickle.dumps(model))


def main(path: Path) -> int:
    orphans.die_with_parent()
    job = json.loads(path.read_bytes())
    try:
        result = run(job)
    except NoriaError as error:
        result = {"error": type(error).__name__, "message": error.message, "where": error.where, "hint": error.hint}
        result["beside"] = list(getattr(error, "names", ()))  # weights that the graph names, and that were not copied
    except MemoryError:
        result = {"error": "DataError", "message": "there is not enough memory to load it", "where": None, "hint": None}
    except BaseException as error:  # noqa: BLE001 - loading and asking it runs foreign code: any error is its answer
        text = f"{type(error).__name__}: {str(error)[:500]}"
        result = {"error": "DataError", "message": f"cannot be used: {text}", "where": None, "hint": None}
    path.with_name("result.json").write_text(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
