"""The values that the references of a dataset's contract may name: those of the accepted files of other datasets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from noria.config import DataSource
from noria.data import files, retyped, table_types
from noria.data.formats import DatasetFile
from noria.data.referenced_values import ReferencedColumn, ReferencedValues
from noria.data.table import TableType
from noria.kernel.contract import ColumnReference
from noria.kernel.errors import DataError
from noria.storage.context import StoreContext

if TYPE_CHECKING:
    import polars as pl

REFERENCES = "contract.references"  # the code of a reason
Read = Callable[[ColumnReference, str], ReferencedColumn]


class ReferencedRows:
    """What the files of one dataset may refer to. A column of another dataset is read once: nothing is added to it meanwhile."""

    def __init__(self, context: StoreContext, data: Mapping[str, DataSource], source: DataSource) -> None:
        self._context, self._data, self._source = context, data, source
        self._known: dict[ColumnReference, ReferencedColumn] = {}

    def beside(self, name: str) -> ReferencedValues | None:
        """For a file of this name; of its own dataset, the values of all other files. None where it refers to nothing."""
        return values_of(self._source, name, self._column)

    def _column(self, one: ColumnReference, name: str) -> ReferencedColumn:
        if one not in self._known or one.dataset == self._source.name:
            self._known[one] = self._read(one, name)
        return self._known[one]

    def _read(self, one: ColumnReference, name: str) -> ReferencedColumn:
        if (source := self._data.get(one.dataset)) is None:  # the contract in force is older than noria.yaml
            return ReferencedColumn(problem=f"noria.yaml has no dataset {one.dataset}")
        accepted = retyped.files_beside(self._context, source, name if one.dataset == self._source.name else "")
        kind = table_types.of(self._context, source) if accepted else None
        return read_column(one, source, kind, accepted)


def values_of(source: DataSource, name: str, column: Read) -> ReferencedValues | None:
    """What the references of a file's contract may name, each as ``column`` reads it."""
    references = source.references
    if not references:
        return None
    return ReferencedValues(source.name, {one: column(one, name) for one in references})


def read_column(
    one: ColumnReference, source: DataSource, kind: TableType | None, accepted: Iterable[DatasetFile]
) -> ReferencedColumn:
    """The values of a column of accepted files, or why there are none."""
    return of_parts(one, [file_values(source, kind, each, one.key) for each in accepted])


def of_parts(one: ColumnReference, files_values: Sequence[pl.Series | None]) -> ReferencedColumn:
    """What a reference may name, by the values of each accepted file, None of one without the column."""
    if not files_values:
        return ReferencedColumn(problem=f"{one.dataset} has no accepted file yet")
    parts = [values for values in files_values if values is not None]
    return ReferencedColumn(together(parts)) if parts else ReferencedColumn(problem=f"{one.dataset} has no column {one.key}")


def file_values(source: DataSource, kind: TableType | None, each: DatasetFile, column: str) -> pl.Series | None:
    """The values of a column of one file, None where the file does not have it. Raises DataError where it cannot be read."""
    try:
        return files.read_table(each.path, [column], name=each.name, kind=kind, dialect=source.csv)[column]
    except DataError:
        if column in files.open_table(each.path, each.name, source.csv).table.columns:
            raise
        return None


def together(parts: Iterable[pl.Series]) -> pl.Series:
    """The values of several files, each once; NaN is missing."""
    import polars as pl
    import polars.selectors as cs

    tables = [part.alias("value").to_frame() for part in parts]
    return pl.concat(tables, how="vertical_relaxed").with_columns(cs.float().fill_nan(None)).unique().to_series().drop_nulls()
