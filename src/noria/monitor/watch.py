"""Watches the quality of predictions by window and release as labels arrive, and compares inputs with the training profile."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import numpy as np

from noria.config import Project
from noria.delivery.context import DeliveryContext
from noria.kernel import names
from noria.kernel.errors import NotFoundError, StoreError
from noria.kernel.policy import MonitorPolicy
from noria.kernel.verdict import Outcome, Verdict
from noria.kernel.words import lasting
from noria.monitor import judge_drift, judge_quality
from noria.monitor.accumulator import FORMAT, AccumulatorState, Gauge, ReleaseWindows, RunningMoments, Span, WindowAccumulator
from noria.monitor.judge_retraining import Breach
from noria.monitor.records import Alert, Window
from noria.monitor.store import AlertStore, QualityStore
from noria.predictions.damage import tell_damage
from noria.predictions.reader import LogReader
from noria.releases.bundle import read_manifest
from noria.releases.evidence import Reference
from noria.releases.store import ReleaseStore
from noria.stats import calendar
from noria.stats.profile_records import Profile
from noria.storage.clock import ClockStore
from noria.storage.disk import write_whole

PART_BYTES = 1 << 20  # of the log that are read at a time
WORK_S = 0.3  # for one check: the daemon has other work, too
SAVE_S = 60.0  # between two times that the notes are written down, where no window was judged


class EnvironmentMonitor:
    """The monitor of one environment: what it has read of the prediction log, kept in `log/ENVIRONMENT/PROJECT.watched`.

    Windows of a release begin on the day (UTC) of its first prediction; one is judged when it ended a label delay ago, and again
    when predictions of its time came later.
    """

    def __init__(self, context: DeliveryContext, project: Project, environment: str) -> None:
        self.environment = environment
        self.file = context.state / "log" / environment / f"{context.name}.watched"
        self.every_s = project.monitor.every_s
        self._context = context
        self._hidden = frozenset(project.serving.log.redact)
        self._gauges: dict[str, Gauge] = {}
        notes = self._read_saved() or self._begin_state()
        self.reader = LogReader(self.file.parent, places=notes.places, project=context.name)
        self.fold = WindowAccumulator(notes, self.gauge, self._arrival_time)
        self._saved_at = time.monotonic()
        self._news = False

    @property
    def notes(self) -> AccumulatorState:
        return self.fold.notes

    def _read_saved(self) -> AccumulatorState | None:
        """The state that an earlier monitor saved; None when there is none, or it is for other windows."""
        try:
            notes = msgspec.msgpack.decode(self.file.read_bytes(), type=AccumulatorState)
        except (OSError, msgspec.DecodeError):
            return None  # the log has everything: it is read again
        fits = (notes.format, notes.project, notes.every_s) == (FORMAT, self._context.name, self.every_s)
        return notes if fits else None

    def _begin_state(self) -> AccumulatorState:
        """A new state with nothing read; windows that the ledger has as judged are not judged again."""
        notes = AccumulatorState(self._context.name, self.every_s)
        for release, end in QualityStore.of(self._context).judged_until(self.environment).items():
            notes.releases[release] = ReleaseWindows(end, judged_until=end)
        return notes

    def fits(self, project: Project) -> bool:
        """Whether it watches by the current settings."""
        return (self.every_s, self._hidden) == (project.monitor.every_s, frozenset(project.serving.log.redact))

    def gauge(self, release: str) -> Gauge | None:
        """What a release is measured by; None: it is from elsewhere, or was imported, and there is nothing to compare with."""
        found = self._gauges.get(release)
        if found is None and (found := gauge_of(self._context, release, self._hidden)) is not None:
            self._gauges[release] = found
        return found

    def _arrival_time(self, at: float, moment: float) -> float:
        """The project's time at a wall time; of one before the clock was set the row's own time."""
        clock = ClockStore.of(self._context).read()
        if clock is None:
            return at
        return clock.now(at) if at >= clock.wall else moment

    def read(self) -> bool:
        """Take in what is new, for about WORK_S; whether all of it was read by now."""
        until, now = time.monotonic() + WORK_S, ClockStore.of(self._context).now()
        while True:
            self._news = bool(self.fold.take(self.reader.poll_parts(PART_BYTES), now)) or self._news
            if not self.reader.behind:
                self.notes.caught_up = True
                return True
            if time.monotonic() > until:
                return False

    def save(self, *, now: bool = False) -> None:
        """Saves the state, if it changed and it is time. Raises DiskFullError."""
        if not now and not (self._news and time.monotonic() - self._saved_at >= SAVE_S):
            return
        self.notes.places = self.reader.places()
        if self.notes.caught_up:
            self.fold.forget_early()
        write_whole(self.file, msgspec.msgpack.encode(self.notes), 0o600, fleeting="the log has everything: it is read again")
        self._news, self._saved_at = False, time.monotonic()


def gauge_of(context: DeliveryContext, release: str, hidden: frozenset[str]) -> Gauge | None:
    try:
        bundle = context.bundle(ReleaseStore.of(context).get(release).digest)
        measured = (bundle / "evidence" / "reference.json").read_bytes()
        signature = read_manifest(bundle, bundle.name).signature
    except (NotFoundError, FileNotFoundError, StoreError):  # a bundle that is gone or damaged: `noria data verify` tells of it
        return None
    return Gauge(signature, msgspec.json.decode(measured, type=Reference), _profile(bundle, hidden))


def _profile(bundle: Path, hidden: frozenset[str]) -> Profile | None:
    kept = bundle / "evidence" / "profile.json"
    content = msgspec.json.decode(kept.read_bytes()) if kept.is_file() else None
    if not content:
        return None
    known = msgspec.convert(content, Profile)
    return Profile(known.rows, {n: c for n, c in known.columns.items() if n not in hidden}, known.wander)


def watch(context: DeliveryContext, project: Project, monitor: EnvironmentMonitor) -> tuple[Breach, ...]:
    """Judges every window that is due; returns the breaches, each already an alert in the ledger."""
    all_read = monitor.read()
    tell_damage(context, monitor.environment, monitor.reader.damage(), monitor.notes.told)
    breaches: list[Breach] = []
    judged = False
    if all_read:
        for release, span in monitor.fold.due(project.monitor.label_delay_s, ClockStore.of(context).now()):
            gauge, judged = monitor.gauge(release), True
            if gauge is None:
                monitor.fold.drop_waiting(release, span)  # its bundle is gone: nothing is left to compare with
            else:
                breaches += _judge(context, project.monitor, monitor, release, gauge, span)
    monitor.save(now=judged)
    return tuple(breaches)


def _judge(
    context: DeliveryContext, policy: MonitorPolicy, monitor: EnvironmentMonitor, release: str, gauge: Gauge, span: Span
) -> list[Breach]:
    again = span.judged
    monitor.fold.close(release, span, gauge)
    units, labelled, back_s = judged_units(monitor.notes.releases[release], span, gauge, policy)
    reference = judge_quality.Units(gauge.reference.n, gauge.reference.mean, gauge.reference.sd)
    unit = "days" if gauge.is_by_day else "rows"
    ruling = judge_quality.judge(units, labelled, reference, policy, gauge.reference.metric, unit)
    drifted = _drift(monitor.notes.releases[release], gauge, span, policy)
    window = Window(
        project=context.name,
        environment=monitor.environment,
        release=release,
        start=span.start,
        end=span.end,
        metric=gauge.reference.metric,
        predictions=round(span.estimated),
        labelled=labelled,
        value=ruling.value,
        reference=gauge.reference.mean,
        p_value=ruling.p_value,
        drift_score=drifted.scores.get(drifted.worst, 0.0) if drifted else 0.0,
        drift_column=drifted.worst if drifted else "",
    )
    if QualityStore.of(context).has_equal(window):
        return []  # by a monitor that died before it wrote its notes down: its alerts stand
    QualityStore.of(context).put(window)
    if span.conflicts and not again:
        _tell_conflicts(context, release, span)
    found = [("quality", ruling.verdict)] + ([("drift", drifted.verdict)] if drifted else [])
    sank = [(kind, verdict) for kind, verdict in found if verdict.outcome is Outcome.FAIL and kind not in span.raised]
    span.raised += [kind for kind, _ in sank]
    back = f", over the newest {lasting(back_s)}" if back_s > span.end - span.start else ""
    return [_raise(context, kind, release, verdict, back if kind == "quality" else "") for kind, verdict in sank]


def judged_units(held: ReleaseWindows, span: Span, gauge: Gauge, policy: MonitorPolicy) -> tuple[judge_quality.Units, int, float]:
    """Returns the units by which a window is judged, the labelled rows behind them, and how far back they reach from its end.

    A window that is too short to decide is judged together with those before it: a week where days are the units, and as many
    more as give enough labels. Which they are depends on counts alone, not on how well the release did.
    """
    units: dict[float, RunningMoments] = {}
    back_s = 0.0
    for other in sorted((s for s in held.spans.values() if s.end <= span.end), key=lambda s: -s.end):
        reach = span.end - other.start
        days, labelled = len(units), sum(unit.n for unit in units.values())
        short = gauge.is_by_day and reach <= judge_quality.LOOK_BACK_S
        enough = reach > judge_quality.FARTHEST_S or judge_quality.enough(days, labelled, policy, by_day=gauge.is_by_day)
        if enough and other is not span and not short:
            break
        for unit, found in other.units.items():
            units.setdefault(unit, RunningMoments()).add(found)
        back_s = reach
    labelled = sum(unit.n for unit in units.values())
    whole = (
        RunningMoments.of(np.array([unit.mean for unit in units.values()]))
        if gauge.is_by_day
        else units.get(0.0, RunningMoments())
    )
    return judge_quality.Units(whole.n, whole.mean, whole.sd), labelled, back_s


def _drift(held: ReleaseWindows, gauge: Gauge, span: Span, policy: MonitorPolicy) -> judge_drift.DriftRuling | None:
    if gauge.profile is None:
        return None
    seen = {name: (held.looked, np.array(agree)) for name, agree in held.agreements.items()}
    following = calendar.time_parts(seen, gauge.profile.columns)
    return judge_drift.judge(gauge.profile, span.inputs, policy.drift, every_s=span.end - span.start, calendar=following)


def _tell_conflicts(context: DeliveryContext, release: str, span: Span) -> None:
    count, labelled = span.conflicts, span.labelled
    text = f"{release}: {count:,} of {labelled:,} labelled predictions of a window got labels that differ; the last one counts"
    context.event("labels.conflict", release, text, conflicts=count, labelled=labelled, start=span.start, end=span.end)


def _raise(context: DeliveryContext, kind: str, release: str, verdict: Verdict, back: str) -> Breach:
    text = verdict.sentence() + back
    with context.ledger.transaction():
        AlertStore.of(context).add(Alert(names.new_id("alert"), context.name, kind, release, text, ClockStore.of(context).now()))
        context.event(f"monitor.{kind}", release, f"{release}: {text}")
    return Breach(kind, release, text)
