"""Further tables that a model needs to predict (``model.also``), on their way into training: kept as Parquet, given by name."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from noria.kernel.errors import StepError
from noria.models import project_functions, table_arguments

FOLDER = "also"  # of a step's outputs, and of a bundle


def file_of(name: str) -> str:
    """Where a table lies below the folder of a step or of a bundle."""
    return f"{FOLDER}/{name}.parquet"


def read(facts: Mapping[str, dict[str, Any]]) -> dict[str, pl.DataFrame]:
    """The tables by name, as the sealed files will hold them. ``facts``: see ``table_arguments.argument``.

    Raises StepError for the result of a step that is no table.
    """
    found = {}
    for name, one in facts.items():
        table = table_arguments.argument(one)
        if not isinstance(table, pl.DataFrame):
            hint = f"Let the step {name} return a table; a parameter is a value that no step makes."
            raise StepError(f"{name!r} is {type(table).__name__}, not a table", where="model.also", hint=hint)
        sealed = io.BytesIO()
        _write(table, sealed)
        sealed.seek(0)
        found[name] = pl.read_parquet(sealed)  # what training sees is what the release will see
    return found


def save(tables: Mapping[str, pl.DataFrame], folder: Path) -> None:
    """Write each to its file below ``folder``."""
    for name, table in tables.items():
        (folder / file_of(name)).parent.mkdir(exist_ok=True)
        _write(table, folder / file_of(name))


def for_training(tables: Mapping[str, pl.DataFrame], target: str) -> dict[str, Any]:
    """What the training function ``target`` takes of them by name, as the kind that each argument is annotated with."""
    if not tables:
        return {}
    function = project_functions.load(target)
    kinds = project_functions.parameter_types(function)
    taken = [name for name in tables if project_functions.takes(function, name, after=2)]
    return {name: table_arguments.convert(tables[name], kinds.get(name, Any)) for name in taken}


def _write(table: pl.DataFrame, target: Path | io.BytesIO) -> None:
    """Its bytes depend on the content alone."""
    table.rechunk().write_parquet(target, compression="zstd")
