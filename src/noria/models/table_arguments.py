"""Tables in and out of step processes: files to what a function is annotated with, results to deterministic bytes."""

from __future__ import annotations

import json
import sys
import typing
from pathlib import Path
from typing import Any

import joblib
import msgspec
import numpy as np
import polars as pl

from noria.data import files, judge_repeats
from noria.data.table import TableType
from noria.kernel.dialect import Dialect
from noria.kernel.errors import StepError
from noria.kernel.words import plural
from noria.models.python_model import as_kind, kind_of_table

RETURNS = "a step returns a table (Polars, pandas, Arrow), a NumPy array, a model or JSON values"


def argument(facts: dict[str, Any], kind: Any = Any) -> Any:
    """One argument of a step, as the type ``kind`` where that is a table's type or a path.

    ``facts`` is {"kind": "table", "files": [...]}, {"kind": "output", "path": ..., "format": ...},
    {"kind": "value", "value": ...} or {"kind": "wide", "items": {label: facts}}, or
    {"kind": "folder", "path": ...} for a dataset of files that are no tables.
    Raises DataError for files that cannot be read.
    """
    if facts["kind"] == "value":
        return facts["value"]
    if facts["kind"] == "wide":  # all that a foreach stands for
        return {label: argument(inner, kind=_inner(kind)) for label, inner in facts["items"].items()}
    paths = [Path(name) for name in facts.get("files", [facts.get("path")])]
    if facts["kind"] == "folder":
        return paths[0]
    if kind is Path:
        return _single(paths)
    if facts.get("format") == "file":
        return paths[0]
    if facts.get("format") == "json":
        return json.loads(paths[0].read_bytes())
    if facts.get("format") == "numpy":
        return np.load(paths[0], allow_pickle=False)
    if facts.get("format") == "model":
        return joblib.load(paths[0])  # an earlier step of this very installation wrote it
    if facts["kind"] == "output":
        return convert(pl.scan_ipc(paths[0], glob=False).collect(), kind)  # Noria's own, whatever its name
    return convert(_table(facts, paths), kind)


def _table(facts: dict[str, Any], paths: list[Path]) -> pl.DataFrame:
    """The files one below the other, by the types that were decided for their dataset."""
    if not paths:
        return pl.DataFrame()
    named = facts.get("names") or [path.name for path in paths]
    parts = [files.DatasetFile(name, path) for name, path in zip(named, paths, strict=True)]
    kind = msgspec.convert(facts["type"], TableType) if "type" in facts else None
    dialect = msgspec.convert(facts.get("dialect", {}), Dialect)
    if not facts.get("key"):
        return files.read_tables(parts, kind, dialect)
    named_parts = {part.name: part for part in parts}
    newest_first = reversed(judge_repeats.by_age(named_parts))
    table, gone = judge_repeats.newest_rows(
        (files.read_tables([named_parts[n]], kind, dialect) for n in newest_first), facts["key"]
    )
    assert table is not None, "there are files"
    if gone:
        print(f"{gone:,} rows gave way to newer ones with the same {', '.join(facts['key'])}: {table.height:,} stand", flush=True)
    return table


def _inner(kind: Any) -> Any:
    """``T`` of ``dict[str, T]``."""
    inner = typing.get_args(kind)
    return inner[1] if len(inner) == 2 else Any


def convert(table: pl.DataFrame, kind: Any) -> Any:
    """The table as what a function is annotated with."""
    return as_kind(table, kind_of_table(kind))


def column(series: pl.Series, kind: Any) -> Any:
    """A column as a Polars or pandas series, or a NumPy array; Polars unless told otherwise."""
    family = kind_of_table(kind)
    if family == "pandas":
        return series.to_pandas()
    return series.to_numpy() if family == "numpy" else series


def as_table(result: object) -> pl.DataFrame | None:
    """A returned table as Polars; None when it is no table. A pandas index that has names becomes columns, another is left out.

    Raises StepError for an index that is called like a column.
    """
    if isinstance(result, pl.DataFrame):
        return result
    if isinstance(result, pl.LazyFrame):
        return result.collect()
    pandas, pyarrow = sys.modules.get("pandas"), sys.modules.get("pyarrow")
    if pandas is not None and isinstance(result, pandas.DataFrame):
        return pl.from_pandas(_with_index(result))
    if pyarrow is not None and isinstance(result, pyarrow.Table):
        made = pl.from_arrow(result)
        assert isinstance(made, pl.DataFrame)
        return made
    return None


def _with_index(frame: Any) -> Any:
    """``groupby("plan").agg(...)`` and ``set_index("cust")`` keep their names in the index."""
    named = [name for name in frame.index.names if name is not None]
    if not named:
        return frame
    twice = [name for name in named if name in frame.columns]
    if twice:
        raise StepError(
            f"the index and a column are both called {twice[0]!r}",
            hint="Rename one: frame.rename_axis(index=...), or reset_index().",
        )
    return frame.reset_index()


def write(result: object, path: Path) -> dict[str, Any]:
    """Write a step's result; the facts about it: ``format``, for a table ``rows`` and ``columns``, for an array ``shape``.

    Raises StepError when it is neither a table, an array of plain values, a model nor JSON.
    """
    table = as_table(result)
    if table is not None:
        write_arrow(table, path)
        return {"format": "arrow", "rows": table.height, "columns": table.columns}
    if hasattr(result, "item") and getattr(result, "shape", None) == ():
        result = result.item()  # a NumPy scalar
    if isinstance(result, np.ndarray) and not result.dtype.hasobject:
        with path.open("wb") as file:
            np.save(file, result, allow_pickle=False)
        return {"format": "numpy", "shape": list(result.shape)}
    if hasattr(result, "predict") or hasattr(result, "transform"):
        return _write_model(result, path)
    if not isinstance(result, dict | list | tuple | str | int | float):
        raise StepError(f"returned {type(result).__name__}; {RETURNS}")
    try:
        path.write_text(json.dumps(result, sort_keys=True))
    except (TypeError, ValueError) as error:
        raise StepError(f"returned a {type(result).__name__} that is not JSON ({error}); {RETURNS}") from error
    return {"format": "json"}


def _write_model(model: object, path: Path) -> dict[str, Any]:
    try:
        joblib.dump(model, path)
    except Exception as error:  # pickling runs the model's own code: it may raise anything
        raise StepError(
            f"the {type(model).__name__} it returned cannot be saved: {type(error).__name__}: {error}",
            hint="Use functions and classes that are defined at the top of a module; no lambdas, no open files.",
        ) from error
    return {"format": "model"}


def write_arrow(table: pl.DataFrame, path: Path) -> None:
    """An uncompressed Arrow file whose bytes depend on the content alone.

    One chunk, and text in contiguous buffers (the oldest layout): how a column came about leaves no trace in its buffers.
    """
    table.rechunk().write_ipc(path, compression="uncompressed", compat_level=pl.CompatLevel.oldest())


def _single(paths: list[Path]) -> Path:
    if len(paths) != 1:
        raise StepError(
            f"has {plural(len(paths), 'file')} and the function asks for one path",
            hint="Annotate the argument with pl.DataFrame.",
        )
    return paths[0]
