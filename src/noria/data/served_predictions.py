"""Served predictions and their labels as a dataset: the loop can train on what it answered."""

from __future__ import annotations

import io
from datetime import UTC, datetime

from noria.config import DataSource
from noria.data.snapshot import FilePin, Snapshot
from noria.data.store import DataStore
from noria.kernel import names
from noria.kernel.words import plural
from noria.storage.context import StoreContext


def is_log(source: str) -> bool:
    """Whether a dataset's source is the prediction log of an environment."""
    return source.startswith("log:")


def snapshot(context: StoreContext, source: DataSource, taken: str | None, *, anew: bool) -> Snapshot:
    """The labelled predictions as one Parquet file.

    ``taken``: the version that this turn has fixed already. It is taken ``anew`` when the schedule or the monitor started the
    turn; otherwise the newest snapshot there is stands, so that a commit or a delivery is compared on rows that do not depend
    on the minute it came in.
    """
    if taken is not None:
        return DataStore.of(context).snapshot(taken)
    newest = DataStore.of(context).latest_snapshot(source.name)
    erased = newest is not None and not all(context.blobs.exists(pin.digest) for pin in newest.files)
    if newest is None or anew or erased:
        newest = _export(context, source)
        DataStore.of(context).put_snapshot(newest)
    return newest


def _export(context: StoreContext, source: DataSource) -> Snapshot:
    import polars as pl  # tables are read only when the log is taken in

    from noria.predictions import log_query  # Polars: only where the log is a dataset

    environment = source.source.removeprefix("log:")
    found = log_query.scan(context.state / "log" / environment, context.name)
    table = log_query.training(found).collect(engine="streaming")
    _tell(context, source, environment, found.damage.words, int((table["_labels"] > 1).sum()))
    times = [moment(event_time, at) for event_time, at in table.select("event_time", "at").iter_rows()]
    table = table.drop("_labels").with_columns(
        event_time=pl.from_epoch(pl.Series(times, dtype=pl.Float64) * 1e6, time_unit="us").dt.replace_time_zone("UTC")
    )
    buffer = io.BytesIO()
    table.sort("id").write_parquet(buffer, compression="zstd", statistics=False)
    content = buffer.getvalue()
    pin = FilePin(f"log/{environment}.parquet", context.blobs.put_bytes(content), len(content), table.height)
    return Snapshot(source.name, log_digest(source.name, pin), (pin,))


def _tell(context: StoreContext, source: DataSource, environment: str, damage: str, conflicts: int) -> None:
    """What a model that is trained on the log should be known to lack, or to have been told in two ways."""
    if damage:
        text = f"{source.name}: of {environment}'s prediction log {damage} cannot be read; the lost rows are not trained on"
        context.event("log.damaged", source.name, text)
    if conflicts:
        text = f"{source.name}: {plural(conflicts, 'prediction')} got labels that differ; the last one counts"
        context.event("labels.conflict", source.name, text, conflicts=conflicts)


def log_digest(dataset: str, pin: FilePin) -> str:
    """The identity of a version of a log, which is one file."""
    return names.digest_bytes(f"{dataset}\n{pin.name}\n{pin.digest}\n".encode())


def moment(event_time: str | None, at: float) -> float:
    """Project time of a prediction: the request's event time where it carried one, else when it was answered."""
    if event_time is None:
        return at
    try:
        found = datetime.fromisoformat(event_time)
    except ValueError:
        return at
    return found.replace(tzinfo=found.tzinfo or UTC).timestamp()
