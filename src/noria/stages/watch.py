"""Watch: quality of what was answered, by window and release, as labels come in; inputs against the training profile."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl

from noria import names
from noria.config import Project
from noria.decide import drift, quality
from noria.decide.retrain import Breach
from noria.domain.profile import Profile
from noria.domain.quality import Alert, Window
from noria.domain.signature import Signature, Task
from noria.domain.verdict import Outcome, Verdict
from noria.errors import NotFoundError
from noria.stages import served
from noria.stages.line import Line
from noria.stages.measure import DAY_S, Reference, units
from noria.stats import metrics, profile
from noria.store import labels
from noria.store.predictions import Feedback, LogReader, Prediction


@dataclass(slots=True)
class Watch:
    """What the monitor of one environment has read of the prediction log, and since when each release answers.

    A release's windows begin on the day (UTC) of its first prediction; a window is judged when it ended a label delay ago.
    """

    environment: str
    reader: LogReader
    records: list[Prediction | Feedback] = field(default_factory=list)
    due: dict[str, float] = field(default_factory=dict)  # release -> start of its next window, project time

    @classmethod
    def of(cls, line: Line, environment: str) -> Watch:
        """A monitor that goes on after the windows that the ledger knows."""
        due: dict[str, float] = {}
        for window in line.ledger.quality.windows(line.name, limit=1000):
            if window.environment == environment:
                due[window.release] = max(window.end, due.get(window.release, 0.0))
        return cls(environment, LogReader(line.state / "log" / environment), due=due)


def watch(line: Line, project: Project, monitor: Watch) -> tuple[Breach, ...]:
    """Judge every window that is due; the breaches found, each already an alert in the ledger."""
    fresh = monitor.reader.poll()
    monitor.records += fresh
    for record in fresh:
        if isinstance(record, Prediction) and record.release not in monitor.due:
            monitor.due[record.release] = _at(record) // DAY_S * DAY_S
    ended = line.ledger.clock.now(line.name) - project.monitor.label_delay_s
    windows = [(release, start) for release, start in monitor.due.items() if start + project.monitor.every_s <= ended]
    if not windows:
        return ()
    table = _timed(labels.labelled_table(monitor.records))
    breaches: list[Breach] = []
    for release, start in sorted(windows, key=lambda w: w[1]):
        end = start + project.monitor.every_s
        rows = table.filter((pl.col("release") == release) & (pl.col("_at") >= start) & (pl.col("_at") < end))
        if not rows.is_empty():
            breaches += _judge(line, project, monitor.environment, release, (start, end), rows)
        monitor.due[release] = end
    _forget(monitor)
    return tuple(breaches)


def _timed(table: pl.DataFrame) -> pl.DataFrame:
    """With the project time of each prediction."""
    times = [served.moment(event_time, at) for event_time, at in table.select("event_time", "at").iter_rows()]
    return table.with_columns(pl.Series("_at", times, dtype=pl.Float64))


def _forget(monitor: Watch) -> None:
    """Let go of predictions whose windows are judged, and of the labels that belong to them."""
    kept = [r for r in monitor.records if isinstance(r, Prediction) and _at(r) >= monitor.due[r.release]]
    ids, keys = {r.id for r in kept}, {r.key for r in kept}
    labels_kept = [r for r in monitor.records if isinstance(r, Feedback) and (r.id in ids if r.id else r.key in keys)]
    monitor.records = [*kept, *labels_kept]


def _at(record: Prediction) -> float:
    return served.moment(record.event_time, record.at)


def _judge(
    line: Line, project: Project, environment: str, release: str, window: tuple[float, float], rows: pl.DataFrame
) -> list[Breach]:
    try:
        bundle = line.bundle(line.ledger.releases.get(line.name, release).digest)
    except NotFoundError:
        return []  # a log from elsewhere: nothing to compare with
    measured = bundle / "evidence" / "reference.json"
    if not measured.is_file():
        return []  # an imported release: nothing was measured that it could be compared with
    reference = msgspec.json.decode(measured.read_bytes(), type=Reference)
    signature = msgspec.convert(msgspec.json.decode((bundle / "manifest.json").read_bytes())["signature"], Signature)
    losses, labelled = _losses(signature, reference, rows.filter(pl.col("label").is_not_null()))
    ruling = quality.judge(
        losses,
        labelled=labelled,
        reference_mean=reference.mean,
        reference_sd=reference.sd,
        reference_n=reference.n,
        policy=project.monitor,
        metric=reference.metric,
        unit="days" if signature.event_time else "rows",
    )
    drifted = _drift(bundle, project, rows)
    line.ledger.quality.put(
        Window(
            project=line.name,
            environment=environment,
            release=release,
            start=window[0],
            end=window[1],
            metric=reference.metric,
            predictions=estimated(rows),
            labelled=labelled,
            value=ruling.value,
            reference=reference.mean,
            p_value=ruling.p_value,
            drift_score=drifted.scores.get(drifted.worst, 0.0) if drifted else 0.0,
            drift_column=drifted.worst if drifted else "",
        )
    )
    found = [("quality", ruling.verdict)] + ([("drift", drifted.verdict)] if drifted else [])
    return [_raise(line, kind, release, verdict) for kind, verdict in found if verdict.outcome is Outcome.FAIL]


def estimated(rows: pl.DataFrame) -> int:
    """How many predictions there were: of a sample each row stands for several."""
    return round((1 / rows["sample"]).sum()) if "sample" in rows.columns else rows.height


def _losses(signature: Signature, reference: Reference, rows: pl.DataFrame) -> tuple[Any, int]:
    """The losses of the window's units, as the holdout's reference was computed, and the number of labelled rows behind them."""
    if signature.task is Task.MULTICLASS:
        return np.array([], dtype=np.float64), 0  # the log's output is a class, not its probability
    rows = rows.with_columns(pl.col("label", "output").cast(pl.Float64, strict=False)).drop_nulls(["label", "output"])
    if rows.is_empty():
        return np.array([], dtype=np.float64), 0
    losses = metrics.row_losses(reference.metric, signature.task, rows["label"].to_numpy(), rows["output"].to_numpy())
    return units(losses, rows["_at"] // DAY_S if signature.event_time else None), rows.height


def _drift(bundle: Path, project: Project, rows: pl.DataFrame) -> drift.DriftRuling | None:
    kept = bundle / "evidence" / "profile.json"
    content = msgspec.json.decode(kept.read_bytes()) if kept.is_file() else None
    if not content:
        return None
    reference = msgspec.convert(content, Profile)
    hidden = project.serving.log.redact
    known = [name for name in reference.columns if name in rows.columns and name not in hidden]
    current = profile.summarise(rows.select(known), reference)
    return drift.judge(reference, current, project.monitor.drift)


def _raise(line: Line, kind: str, release: str, verdict: Verdict) -> Breach:
    text = verdict.sentence()
    with line.ledger.transaction():
        line.ledger.alerts.add(Alert(names.new_id("alert"), line.name, kind, release, text, line.ledger.clock.now(line.name)))
        line.event(f"monitor.{kind}", release, f"{release}: {text}")
    return Breach(kind, release, text)
