"""Quarantine in people's hands: the rows for which a file was refused, in a file that they can open."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from noria.data.holding_store import HoldingStore
from noria.data.kept_versions import erased_files
from noria.data.snapshot import Delivery
from noria.kernel import names
from noria.kernel.errors import DataError, NotFoundError, RefusedError, UsageError
from noria.storage.context import StoreContext
from noria.storage.disk import full_disk

if TYPE_CHECKING:
    import polars as pl

SUFFIXES = (".parquet", ".csv", ".jsonl", ".ndjson")


def sample(context: StoreContext, reference: str, into: Path) -> tuple[Delivery, int]:
    """Write the failing rows that were kept of a refused file, each with its reason; the delivery, and how many rows that were.

    The suffix of ``into`` says how. Raises UsageError for another one, NotFoundError when no rows are kept, RefusedError when
    there is such a file.
    """
    writer = _writer(into)
    delivery = HoldingStore.of(context).delivery(reference)
    table = _rows(context, delivery)
    if into.exists():
        raise RefusedError(f"{into} exists already", hint="Name another file, or remove it.")
    if not into.parent.is_dir():
        raise NotFoundError(f"there is no folder {into.parent}", where=str(into))
    fresh = into.with_name(f".{into.name}.{names.new_id('x')}")
    try:
        with full_disk(into.parent):
            fresh.touch(mode=0o600)  # only its owner may read rows of data
            writer(table, fresh)
            fresh.rename(into)
    finally:
        fresh.unlink(missing_ok=True)
    return delivery, table.height


def _writer(into: Path) -> Callable[[pl.DataFrame, Path], None]:
    writers = {".parquet": _parquet, ".csv": _csv, ".jsonl": _lines, ".ndjson": _lines}
    if into.suffix.lower() not in writers:
        raise UsageError(f"{into.name} has no suffix that says how to write rows", hint=f"One of {', '.join(SUFFIXES)}.")
    return writers[into.suffix.lower()]


def _rows(context: StoreContext, delivery: Delivery) -> pl.DataFrame:
    if delivery.accepted:
        raise NotFoundError(f"{delivery.name} was accepted: no row of it failed")
    if delivery.sample_digest is None:
        raise NotFoundError(f"no row of {delivery.name} is to blame: {delivery.reason}")
    try:
        content = context.blobs.read(delivery.sample_digest)
    except NotFoundError:
        if delivery.sample_digest in erased_files(context.ledger):
            raise NotFoundError(f"the sample of {delivery.name} was erased") from None
        hint = "`noria gc` keeps samples for 30 days, or as long as --keep says."
        raise NotFoundError(f"the sample of {delivery.name} is no longer kept", hint=hint) from None
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
