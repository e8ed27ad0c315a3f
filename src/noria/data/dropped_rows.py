"""The good rows of a file that its contract refuses as a whole: the dataset gets a file of them, in the same format."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from noria.config import DataSource
from noria.data import files, formats
from noria.data.formats import OpenedFile
from noria.data.snapshot import RefusalReason
from noria.data.table_types import TypeDecision
from noria.kernel.errors import DataError
from noria.storage.context import StoreContext
from noria.storage.disk import full_disk

if TYPE_CHECKING:
    import polars as pl

    from noria.data.judge_dropped_rows import DroppedRows


class AcceptedRows(msgspec.Struct, frozen=True):
    """The good rows of a file as they were stored, and what was dropped of it."""

    digest: str  # of the file of good rows
    size_bytes: int
    rows: int
    failing: pl.DataFrame  # the dropped rows, each with its reasons
    reasons: tuple[RefusalReason, ...]
    text: str


def accept_good_rows(
    context: StoreContext, source: DataSource, decided: TypeDecision, opened: OpenedFile, divided: DroppedRows
) -> AcceptedRows | str:
    """Store the good rows of a refused file; or why they cannot be accepted alone."""
    try:
        digest, size_bytes = store_rows(context, source, decided, opened, divided.good)
    except DataError as error:
        return f"its good rows cannot be accepted alone: {error.message}"
    return AcceptedRows(digest, size_bytes, int(divided.good.sum()), divided.failing, divided.reasons, divided.text)


def store_rows(
    context: StoreContext, source: DataSource, decided: TypeDecision, opened: OpenedFile, good: pl.Series
) -> tuple[str, int]:
    """Store the accepted rows as a file of the same format, which reads as the same rows; equal rows make equal bytes. Its digest
    and size.

    Raises DataError where the format cannot be written, or would not read so.
    """
    folder = context.state / "work"
    folder.mkdir(parents=True, exist_ok=True)
    with full_disk(folder), tempfile.TemporaryDirectory(dir=folder, prefix="good-rows-") as temporary:
        path = Path(temporary) / f"rows{''.join(Path(opened.name).suffixes[-2:])}"
        formats.write_table(path, opened.table.filter(good), source.csv)
        written, misfits = formats.fit_columns(files.open_table(path, opened.name, source.csv), decided.type, source.csv)
        meant = formats.fit_columns(opened, decided.type, source.csv)[0].filter(good)
        if misfits or written.schema != meant.schema or not written.equals(meant):
            raise DataError("they would not read the same when written in the format of the file", where=opened.name)
        return context.blobs.put_file(path), path.stat().st_size
