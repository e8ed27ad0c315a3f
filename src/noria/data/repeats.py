"""Repeats: does the newest file of a dataset hold the rows of the one before it once more?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from noria.config import DataSource
from noria.data import files, table_types
from noria.data.arrival import Arrival
from noria.data.store import DataStore
from noria.storage.context import StoreContext

if TYPE_CHECKING:
    import polars as pl

    from noria.data.judge_repeats import RepeatedRows
    from noria.data.snapshot import FilePin


def say(context: StoreContext, source: DataSource, arrivals: Sequence[Arrival]) -> None:
    """Say it of the newest file that arrived and was accepted. One file stands in memory at a time."""
    standing = DataStore.of(context).accepted_files(source.name)
    came = [one.name for one in arrivals if one.name in standing and standing[one.name].arrived_as == one.digest]
    if not came or len(standing) < 2:
        return
    found = newest(list(standing), came, source.key, _reader(context, source, standing))
    if found is not None:
        facts = {"dataset": source.name, "file": found.name, "before": found.before, "rows": found.repeated}
        context.event("data.repeats", source.name, found.words(source.name), **facts, differing=found.differing)


def newest(
    standing: Sequence[str], came: Sequence[str], key: Sequence[str], read: Callable[[str], pl.DataFrame]
) -> RepeatedRows | None:
    """The newest of the files that came, beside the one before it by name."""
    from noria.data import judge_repeats  # NumPy and Polars: loaded once a table is to be read

    ordered = judge_repeats.by_age(standing)
    place = max(ordered.index(name) for name in came)
    if place == 0:
        return None
    before, after = (judge_repeats.prints(name, read(name), key) for name in ordered[place - 1 : place + 1])
    return judge_repeats.judge(before, after, key)


def _reader(context: StoreContext, source: DataSource, standing: Mapping[str, FilePin]) -> Callable[[str], pl.DataFrame]:
    kind = table_types.of(context, source)

    def read(name: str) -> pl.DataFrame:
        blob = context.named_blob(standing[name].digest, name)
        return files.read_table(blob, name=name, kind=kind, dialect=source.csv)

    return read
