"""Drafts a first project from a table. Guesses are conservative, and stand in the files that people edit."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Collection
from pathlib import Path

import msgspec
import polars as pl
from msgspec.structs import replace

from noria.cli import contract_text, drafted_gates
from noria.data import contents, draft_contract, judge_repeats
from noria.data.contents import Contents
from noria.data.judge_repeats import RepeatedRows
from noria.data.table import ColumnKind
from noria.kernel.dialect import PLAIN, Dialect
from noria.kernel.errors import DataError, NoriaError, UsageError
from noria.kernel.task import Task
from noria.kernel.task_definition import LabelFacts
from noria.kernel.tasks import DEFINITIONS
from noria.kernel.tasks.multiclass import CLASSES_MOST
from noria.kernel.words import plural

ROWS_LEAST = 50  # fewer cannot be split, trained and judged
SIDE_LEAST = 10  # held-out rows, as a split demands
LINEAR_BELOW = 1000  # rows; with fewer, trees only learn the noise
TEXT_DISTINCT = 0.5  # a text column with more distinct values than this share of the rows is free text
EXAMPLES = 8
FREE_TEXT_FROM = 50  # distinct values below which a text is never called free
ESTIMATORS = {  # (linear, of classes)
    (True, False): "Ridge",
    (True, True): "LogisticRegression",
    (False, False): "HistGradientBoostingRegressor",
    (False, True): "HistGradientBoostingClassifier",
}


class DraftedColumn(msgspec.Struct, frozen=True):
    """One column, and values of it that occur."""

    name: str
    kind: str  # int, float, string, bool, datetime, date
    examples: list[object] = []


class ProjectDraft(msgspec.Struct, frozen=True):
    """Everything that the templates need."""

    dataset: str
    source: str
    file_name: str
    rows: int
    contract: str  # the file
    inputs: tuple[DraftedColumn, ...]
    left_out: tuple[tuple[str, str], ...]  # name, why
    label: DraftedColumn
    task: Task
    why_task: str
    key: str | None
    event_time: str | None
    holdout: tuple[str, str]  # what noria.yaml says of it, why
    gates: tuple[tuple[str, str], ...]  # gate, why
    repeats: str = ""  # of a file beside it that holds the same rows, as whole exports do
    few: str = ""  # what so few rows can and cannot show; empty where there are enough
    dialect: Dialect = PLAIN

    @property
    def csv(self) -> dict[str, str]:
        """What noria.yaml has to say of how the file is written."""
        usual = {"separator": "", "encoding": PLAIN.encoding, "decimal": PLAIN.decimal}
        return {name: value for name, other in usual.items() if (value := getattr(self.dialect, name)) != other}

    @property
    def text(self) -> list[str]:
        return [c.name for c in self.inputs if c.kind == "string"]

    @property
    def numbers(self) -> list[str]:
        return [c.name for c in self.inputs if c.kind != "string"]

    @property
    def linear(self) -> bool:
        """Few rows: a linear model. It needs imputed numbers, and a missing truth value has no median."""
        return self.rows < LINEAR_BELOW and all(c.kind != "bool" for c in self.inputs)

    @property
    def estimator(self) -> str:
        return ESTIMATORS[(self.linear, self.task.definition.has_classes)]

    @property
    def preprocessing(self) -> list[str]:
        """What model.py imports from sklearn.preprocessing."""
        return ["OneHotEncoder"] * bool(self.text) + ["StandardScaler"] * bool(self.linear and self.numbers)

    @property
    def transformers(self) -> str:
        """The arguments of make_column_transformer."""
        numbers = "(scaled, NUMBERS)" if self.linear else '("passthrough", NUMBERS)'
        return ", ".join(["(one_hot, TEXT)"] * bool(self.text) + [numbers] * bool(self.numbers))

    @property
    def request(self) -> str:
        """A request as the command line takes it: JSON without a single quote."""
        return json.dumps({c.name: c.examples[0] for c in self.inputs}).replace("'", "\\u0027")


def read(path: Path) -> Contents:
    """The table in a data file; raises UsageError when there is none, DataError when it cannot be used."""
    if not path.is_file():
        raise UsageError(f"there is no file {path}", hint="--data takes a CSV or Parquet file.")
    found = contents.read_file(path)
    if found.table.height < ROWS_LEAST:
        raise DataError(f"{found.table.height} rows are too few: a model needs at least {ROWS_LEAST}", where=str(path))
    amounts = [name for name, dtype in found.table.schema.items() if dtype.is_decimal()]
    return replace(found, table=found.table.with_columns(pl.col(amounts).cast(pl.Float64)))


def beside(path: Path) -> RepeatedRows | None:
    """What the file holds once more of the one before it, among those beside it whose names differ in digits alone."""
    alike = judge_repeats.DIGITS.sub("0", path.name)
    there = [one for one in path.parent.iterdir() if judge_repeats.DIGITS.sub("0", one.name) == alike and one.is_file()]
    ordered = judge_repeats.by_age(one.name for one in there)
    if len(ordered) < 2:
        return None
    place = max(1, ordered.index(path.name))
    try:
        before, after = (read(path.with_name(name)).table for name in ordered[place - 1 : place + 1])
    except NoriaError:
        return None  # another kind of file: `noria check` tells, where it is to be read
    if before.schema != after.schema:
        return None
    first, second = ordered[place - 1 : place + 1]
    return judge_repeats.judge(judge_repeats.prints(first, before, ()), judge_repeats.prints(second, after, ()), ())


def draft(given: pl.DataFrame | Contents, path: Path, source: str, label: str, dataset: str) -> ProjectDraft:
    """Drafts a project that predicts ``label``; raises UsageError, DataError."""
    found = given if isinstance(given, Contents) else Contents(given)
    table = found.table
    _demand_label(table, path, label)
    known = table.filter(pl.col(label).is_not_null())
    _demand_finite(known[label], str(path))
    task, why = infer_task(known[label], str(path))
    key, event_time = draft_contract.key_column(table, but=label), _event_time(table, label)
    chosen, left_out = _choose(table, {label, key, event_time}, found.undecided)
    if not chosen:
        raise DataError("no column is left as an input", where=str(path), hint=_why_not(left_out))
    columns = {name: _drafted(table[name]) for name in table.columns}
    is_class = task.definition.has_classes
    contract = draft_contract.draft(
        found.comparable, types=found.type.columns, undecided=found.undecided, label=label, classes=is_class
    )
    return ProjectDraft(
        dataset=dataset,
        source=source,
        file_name=path.name,
        rows=table.height,
        contract=contract_text.draft_text(contract, f"{path.name} ({plural(table.height, 'row')})"),
        inputs=tuple(columns[name] for name in chosen),
        left_out=tuple(left_out),
        label=columns[label],
        task=task,
        why_task=why,
        key=key,
        event_time=event_time,
        holdout=_holdout(known, label, key, event_time, task),
        gates=drafted_gates.gates(task, known[label], drafted_gates.holdout_rows(known.height)),
        few=drafted_gates.few_words(task, known[label]),
        dialect=found.dialect,
    )


def _demand_finite(label: pl.Series, where: str) -> None:
    infinite = int(label.is_infinite().sum()) if label.dtype.is_float() else 0
    if infinite:
        raise DataError(
            f"the label {label.name!r} is infinite in {plural(infinite, 'row')}, which cannot be learned", where=where
        )


def _demand_label(table: pl.DataFrame, path: Path, label: str) -> None:
    if label in table.columns:
        return
    near = difflib.get_close_matches(label, table.columns, 1, cutoff=0.5)
    hint = f"Did you mean {near[0]!r}?" if near else f"The columns are: {', '.join(table.columns[:20])}."
    raise UsageError(f"there is no column {label!r}", where=str(path), hint=hint)


def infer_task(label: pl.Series, where: str) -> tuple[Task, str]:
    """The task and one line that says why; raises DataError when nothing can be learned from the label."""
    distinct = label.n_unique()
    if label.len() == 0 or distinct < 2:
        value = f": {label[0]!r}" if label.len() else ""
        raise DataError(f"the label {label.name!r} has only one value{value}; there is nothing to learn", where=where)
    whole = label.dtype.is_integer() or (label.dtype.is_float() and bool((label == label.round()).all()))
    classes = label.dtype in (pl.String, pl.Boolean, pl.Categorical) or whole
    facts = LabelFacts(label.name, distinct, label.dtype.is_numeric(), classes)
    for name, definition in DEFINITIONS.items():
        why = definition.suits(facts)
        if why is not None:
            return Task(name), why
    raise DataError(
        f"the label {label.name!r} has {plural(distinct, 'different value')} of type {label.dtype}",
        where=where,
        hint=f"A label of classes has at most {CLASSES_MOST} of them; an amount must be a number.",
    )


def _event_time(table: pl.DataFrame, label: str) -> str | None:
    """The first column with a time, or else a date, in every row; one that differs between rows."""
    whole = [c for c in table.get_columns() if c.name != label and c.null_count() == 0 and c.n_unique() > 1]
    times = [c.name for c in whole if isinstance(c.dtype, pl.Datetime)] + [c.name for c in whole if c.dtype == pl.Date]
    return next(iter(times), None)


def _holdout(known: pl.DataFrame, label: str, key: str | None, event_time: str | None, task: Task) -> tuple[str, str]:
    """The newest rows by event time, as the model will be asked of times after its own; a share where that cannot be."""
    share = drafted_gates.holdout_share(known.height)
    drawn = f"fraction: {share:g}"
    same = "a share of the keys" if key else "a share of the rows; equal rows stay on one side"
    if event_time is None:
        return drawn, same
    at = known[event_time].cast(pl.Datetime("us")).dt.epoch("s")
    newest, cut = int(at.max()), int(at.quantile(1 - share, "nearest"))  # type: ignore[arg-type]  # of whole numbers, none missing
    unit, length_s = ("h", 3600) if newest - cut < 3 * 86400 else ("d", 86400)
    span = max(1, math.ceil((newest - cut) / length_s))
    late = at > newest - span * length_s
    held, trained = known[label].filter(late), known[label].filter(~late)
    few = not SIDE_LEAST <= held.len() <= 2 * share * known.height
    if few or (task.definition.has_classes and held.n_unique() != trained.n_unique()):
        return drawn, f"{same}; the newest by {event_time} are too few, too many, or not of every class"
    return f"last: {span}{unit}", f"the newest rows by {event_time}: the model is asked of times after its own"


def _choose(
    table: pl.DataFrame, taken: set[str | None], undecided: Collection[str] = ()
) -> tuple[list[str], list[tuple[str, str]]]:
    chosen, left_out = [], []
    for place, column in enumerate(table.get_columns()):
        if column.name in taken:
            continue
        why = "a date: is it day or month that stands first?" if column.name in undecided else _useless(column)
        if not why and place == 0 and draft_contract.is_row_number(column):
            why = "the number of the row"
        if why:
            left_out.append((column.name, why))
        else:
            chosen.append(column.name)
    return chosen, left_out


def _useless(column: pl.Series) -> str:
    """Returns why a column is not used as an input, or an empty text."""
    distinct = column.drop_nulls().n_unique()
    if distinct == 0:
        return "empty"
    if distinct == 1:
        return "constant"
    if column.dtype.is_temporal():
        return "a time; derive features from it"
    if column.dtype == pl.String and distinct > max(FREE_TEXT_FROM, TEXT_DISTINCT * column.len()):
        return plural(distinct, "different text")
    if not (column.dtype.is_numeric() or column.dtype in (pl.String, pl.Boolean)):
        return f"of type {column.dtype}"
    infinite = int(column.is_infinite().sum()) if column.dtype.is_float() else 0
    return f"{infinite:,} infinite values, which no request can carry" if infinite else ""


def _drafted(column: pl.Series) -> DraftedColumn:
    kind = draft_contract.kind_of(column.dtype)
    shown = kind is not None and kind not in (ColumnKind.DATE, ColumnKind.DATETIME)
    other = "bytes" if column.dtype == pl.Binary else "other"
    values = column.drop_nulls().unique(maintain_order=True).head(EXAMPLES).to_list() if shown else []
    return DraftedColumn(column.name, kind or other, values)


def _why_not(left_out: list[tuple[str, str]]) -> str:
    return "; ".join(f"{name}: {why}" for name, why in left_out)[:300]
