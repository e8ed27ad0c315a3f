"""The keys of a dataset's rows, where its contract says which columns identify one: no file may repeat those of another."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from noria.config import DataSource
from noria.data import files
from noria.data.formats import DatasetFile
from noria.data.table import TableType

if TYPE_CHECKING:
    import polars as pl


def hold_over_files(source: DataSource) -> bool:
    """Whether they do; by a ``key``, a newer row takes the place of an older one."""
    return source.contract is not None and bool(source.contract.unique) and not source.key


def read_keys(source: DataSource, kind: TableType, accepted: Iterable[DatasetFile]) -> pl.DataFrame | None:
    """The keys of these files; None of none. Raises DataError where one lacks the columns."""
    assert source.contract is not None, "asked where keys hold over files"
    columns = list(source.contract.key_columns)
    parts = [files.read_table(each.path, columns, name=each.name, kind=kind, dialect=source.csv) for each in accepted]
    if not parts:
        return None
    import polars as pl

    return pl.concat(parts, how="vertical_relaxed")
