"""Served predictions and their labels as a dataset: the loop can train on what it answered."""

from __future__ import annotations

import io
from datetime import UTC, datetime

from noria import names
from noria.config import DataSource
from noria.domain.data import FilePin, Snapshot
from noria.domain.trigger import TriggerKind
from noria.stages.line import Line, Sheet


def is_log(source: str) -> bool:
    """Whether a dataset's source is the prediction log of an environment."""
    return source.startswith("log:")


def snapshot(line: Line, sheet: Sheet, source: DataSource) -> Snapshot:
    """The labelled predictions as one Parquet file.

    It is taken anew when the schedule or the monitor started the turn; otherwise the newest snapshot there is stands, so that
    a commit or a delivery is compared on rows that do not depend on the minute it came in.
    """
    taken = line.ledger.turns.recorded(sheet.turn.id, f"served.{source.name}")
    if taken is not None:
        return line.ledger.data.snapshot(str(taken["digest"]))
    newest = line.ledger.data.latest_snapshot(line.name, source.name)
    kinds = {t.kind for t in line.ledger.triggers.of_turn(sheet.turn.id)}
    refresh = bool(kinds & {TriggerKind.BREACH, TriggerKind.SCHEDULE})
    erased = newest is not None and not all(line.blobs.exists(pin.digest) for pin in newest.files)
    if newest is None or refresh or erased:
        newest = _export(line, source)
        line.ledger.data.put_snapshot(line.name, newest)
    line.ledger.turns.record(sheet.turn.id, f"served.{source.name}", {"digest": newest.digest})
    return newest


def _export(line: Line, source: DataSource) -> Snapshot:
    import polars as pl  # tables are read only when the log is taken in

    from noria.store import labels, predictions

    environment = source.source.removeprefix("log:")
    table = labels.labelled_table(predictions.read_all(line.state / "log" / environment)).filter(pl.col("label").is_not_null())
    times = [moment(event_time, at) for event_time, at in table.select("event_time", "at").iter_rows()]
    table = table.with_columns(
        event_time=pl.from_epoch(pl.Series(times, dtype=pl.Float64) * 1e6, time_unit="us").dt.replace_time_zone("UTC")
    )
    buffer = io.BytesIO()
    table.sort("id").write_parquet(buffer, compression="zstd", statistics=False)
    content = buffer.getvalue()
    pin = FilePin(f"log/{environment}.parquet", line.blobs.put_bytes(content), len(content), table.height)
    return Snapshot(source.name, log_digest(source.name, pin), (pin,))


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
