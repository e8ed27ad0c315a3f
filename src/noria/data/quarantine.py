"""Quarantine in people's hands: why a file was refused, and its failing rows, shown or in a file that they can open."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from noria.data.kept_versions import erased_files
from noria.data.quarantine_store import QuarantineStore
from noria.data.snapshot import Delivery, RefusalReason
from noria.kernel.errors import DataError, NotFoundError, RefusedError, UsageError
from noria.storage.context import StoreContext
from noria.storage.disk import whole_path

if TYPE_CHECKING:
    import polars as pl

SUFFIXES = (".parquet", ".csv", ".jsonl", ".ndjson")


def reasons(delivery: Delivery) -> tuple[RefusalReason, ...]:
    """Why a file was refused, or rows of it were; of deliveries before there were counts, one sentence."""
    return delivery.reasons or (RefusalReason("", delivery.reason, delivery.failing_rows or None),)


def first_rows(context: StoreContext, delivery: Delivery, count: int) -> list[dict[str, object]]:
    """The first failing rows, each with its reason. Raises NotFoundError when no rows are kept."""
    return _rows(context, delivery).head(count).to_dicts()


def export(context: StoreContext, reference: str, into: Path) -> tuple[Delivery, int]:
    """Write the failing rows of a refused file, each with its reason; the delivery, and how many rows that were.

    The suffix of ``into`` says how. Raises UsageError for another one, NotFoundError when no rows are kept, RefusedError when
    there is such a file.
    """
    writer = _writer(into)
    delivery = QuarantineStore.of(context).delivery(reference)
    table = _rows(context, delivery)
    if into.exists():
        raise RefusedError(f"{into} already exists", hint="Name another file, or remove it.")
    if not into.parent.is_dir():
        raise NotFoundError(f"there is no folder {into.parent}", where=str(into))
    with whole_path(into, 0o600) as fresh:  # only its owner may read rows of data
        writer(table, fresh)
    return delivery, table.height


def _writer(into: Path) -> Callable[[pl.DataFrame, Path], None]:
    writers = {".parquet": _parquet, ".csv": _csv, ".jsonl": _lines, ".ndjson": _lines}
    if into.suffix.lower() not in writers:
        raise UsageError(f"{into.name} has no suffix that says how to write rows", hint=f"One of {', '.join(SUFFIXES)}.")
    return writers[into.suffix.lower()]


def _rows(context: StoreContext, delivery: Delivery) -> pl.DataFrame:
    if delivery.accepted and not delivery.rows_quarantined:
        raise NotFoundError(f"{delivery.name} was accepted: no row of it failed")
    if delivery.sample_digest is None:
        raise NotFoundError(f"no single row of {delivery.name} failed: {delivery.reason}")
    try:
        content = context.blobs.read(delivery.sample_digest)
    except NotFoundError:
        if delivery.sample_digest in erased_files(context.ledger):
            raise NotFoundError(f"the failing rows of {delivery.name} were erased") from None
        hint = "`noria gc` keeps them for 30 days, or as long as --keep says, and not at all when the file was discarded."
        raise NotFoundError(f"the failing rows of {delivery.name} are no longer kept", hint=hint) from None
    import polars as pl  # only where rows are read

    return pl.read_parquet(content)


def _parquet(table: pl.DataFrame, path: Path) -> None:
    table.write_parquet(path, compression="zstd")


def _csv(table: pl.DataFrame, path: Path) -> None:
    nested = [name for name, kind in table.schema.items() if kind.is_nested()]
    if nested:
        raise DataError(f"CSV cannot hold the values of {', '.join(nested)}", hint="Name a .parquet or .jsonl file.")
    from noria.data.formats.formulas import harmless  # Polars: only where rows are written

    harmless(table.lazy()).collect().write_csv(path)


def _lines(table: pl.DataFrame, path: Path) -> None:
    table.write_ndjson(path)
