"""The daemon's metrics for a monitoring system: turns, gates, quality, drift, incidents; Prometheus text (format 0.0.4)."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from noria.kernel import background
from noria.kernel.verdict import Outcome
from noria.monitor.records import Window
from noria.pipeline.turn_record import TurnOutcome
from noria.views.status import StatusView
from noria.views.totals import Totals

PASSED = frozenset({"released", "rolling out", "promoted", "rolled back", "held", "superseded", "not released"})
INCIDENTS = (  # kinds of events that somebody should look at
    "daemon.trouble",
    "audit.broken",
    "environment.rolled_back",
    "rollout.rolled_back",
    "data.unreadable",
    "project.unreadable",
    "log.damaged",
    "blob.damaged",
    "job.dead",
    "probation.harm",
)
Sample = tuple[dict[str, str], float]


def render(view: StatusView, totals: Totals) -> str:
    """One look at the ledger; each sample carries ``project``."""
    parts = (_turns(view, totals), _serving(view, totals), _quality(view), _incidents(view, totals), _daemon(view))
    lines: list[str] = []
    for name, kind, text, samples in itertools.chain.from_iterable(parts):
        lines += (f"# HELP {name} {text}", f"# TYPE {name} {kind}")
        lines += (f"{name}{{{_labels({'project': view.project} | labels)}}} {value:.10g}" for labels, value in samples)
    return "\n".join((*lines, ""))


Family = tuple[str, str, str, list[Sample]]


def _turns(view: StatusView, totals: Totals) -> Iterable[Family]:
    counted: list[Sample] = [({"outcome": outcome}, n) for outcome, n in sorted(totals.turns.items())]
    yield "noria_turns_total", "counter", "Turns by their outcome.", counted
    passed = sum(n for outcome, n in totals.turns.items() if outcome in PASSED)
    gates: list[Sample] = [
        ({"verdict": "pass"}, passed),
        ({"verdict": "fail"}, totals.turns.get(TurnOutcome.GATE_FAILED, 0)),
        ({"verdict": "not enough data"}, totals.turns.get(TurnOutcome.NOT_ENOUGH_DATA, 0)),
    ]
    yield "noria_gates_total", "counter", "Candidates that were measured, by the verdict of their gates.", gates
    yield from _gates(totals)
    yield "noria_turn_user_seconds_total", "counter", "Seconds in the project's own code, over all turns.", [({}, totals.user_s)]
    last = [turn for turn in view.turns if turn.ended_at is not None][:1]
    ended: list[Sample] = [({"outcome": str(turn.outcome)}, turn.ended_at or 0.0) for turn in last]
    yield "noria_last_turn_timestamp_seconds", "gauge", "When the newest turn that is over ended.", ended
    yield "noria_triggers_waiting", "gauge", "Triggers that no turn has taken yet.", [({}, view.waiting_triggers)]
    data: list[Sample] = [({"verdict": verdict}, n) for verdict, n in sorted(totals.deliveries.items())]
    yield "noria_deliveries_total", "counter", "Data files that arrived, by outcome.", data
    yield "noria_quarantined_rows", "gauge", "Rows of files in quarantine.", [({}, view.quarantined_rows)]


def _gates(totals: Totals) -> Iterable[Family]:
    """Each gate as it judged the newest candidate. A gate that could not be measured has no value."""
    named = [({"environment": totals.gates_of, "gate": found.gate}, found) for found in totals.gates]
    verdicts: list[Sample] = [
        (labels | {"verdict": str(verdict)}, float(found.outcome == verdict)) for labels, found in named for verdict in Outcome
    ]
    yield "noria_gate_verdict", "gauge", "The last verdict of each gate: 1 for the verdict it gave.", verdicts
    values: list[Sample] = [
        (labels | {"metric": found.metric}, found.value) for labels, found in named if found.value is not None
    ]
    yield "noria_gate_value", "gauge", "The value that each gate last judged.", values


def _serving(view: StatusView, totals: Totals) -> Iterable[Family]:
    routed = [(e, e.route) for e in view.environments if e.route is not None]
    serves: list[Sample] = [({"environment": e.name, "release": r.champion_version}, float(not e.trouble)) for e, r in routed]
    yield "noria_release_serves", "gauge", "The champion of an environment: 1 when it answers.", serves
    measured: list[Sample] = [
        ({"environment": e.name, "release": r.champion_version, "metric": metric}, value)
        for e, r in routed
        if e.release is not None
        for metric, value in e.release.metrics.items()
    ]
    yield "noria_release_metric", "gauge", "The metrics of the serving release on its held-out rows.", measured
    shares: list[Sample] = [
        ({"environment": e.name, "release": e.canary.rollout.release, "state": str(e.canary.rollout.state)}, e.canary.share)
        for e in view.environments
        if e.canary is not None
    ]
    yield "noria_rollout_share", "gauge", "The share of requests that a candidate answers.", shares
    rollouts: list[Sample] = [({"state": state}, n) for state, n in sorted(totals.rollouts.items())]
    yield "noria_rollouts", "gauge", "Rollouts by state.", rollouts
    releases: list[Sample] = [({"state": state}, n) for state, n in sorted(totals.releases.items())]
    yield "noria_releases", "gauge", "Releases, and how many of them are barred.", releases


def _quality(view: StatusView) -> Iterable[Family]:
    """The newest window of each release in each environment."""
    newest: dict[tuple[str, str, str], Window] = {}
    for window in view.windows:  # oldest first
        newest[window.environment, window.release, window.metric] = window
    named = [({"environment": w.environment, "release": w.release}, w) for w in newest.values()]
    for name, text, read in (
        ("noria_quality", "The mean loss of a release in the newest window.", lambda w: w.value),
        ("noria_quality_reference", "The mean loss of the same release on its held-out rows.", lambda w: w.reference),
        ("noria_quality_p_value", "How likely such a window is if quality has not sunk.", lambda w: w.p_value),
        ("noria_quality_labelled", "Predictions of the window that have a label.", lambda w: float(w.labelled)),
        ("noria_quality_window_timestamp_seconds", "When the window ended, on the project clock.", lambda w: w.end),
    ):
        yield name, "gauge", text, [(labels | {"metric": w.metric}, read(w)) for labels, w in named]
    drift: list[Sample] = [(labels | {"column": w.drift_column}, w.drift_score) for labels, w in named if w.drift_column]
    yield "noria_drift_score", "gauge", "The score of the input that drifted most in the newest window.", drift


def _incidents(view: StatusView, totals: Totals) -> Iterable[Family]:
    alerts: list[Sample] = [({"kind": kind}, n) for kind, n in sorted(({"quality": 0, "drift": 0} | totals.alerts).items())]
    yield "noria_alerts_total", "counter", "Alerts that the monitor raised.", alerts
    newest: list[Sample] = (
        [({"kind": view.alerts[0].kind, "release": view.alerts[0].release}, view.alerts[0].at)] if view.alerts else []
    )
    yield "noria_last_alert_timestamp_seconds", "gauge", "When the newest alert was raised, on the project clock.", newest
    found: list[Sample] = [({"kind": kind}, totals.events.get(kind, 0)) for kind in INCIDENTS]
    yield "noria_incidents_total", "counter", "Events that somebody should look at, by kind.", found


def _daemon(view: StatusView) -> Iterable[Family]:
    yield "noria_server_up", "gauge", "Whether the model server answers.", [({}, float(view.around.server))]
    yield "noria_standstill", "gauge", "1 when the daemon decides nothing any more.", [({}, float(bool(view.around.standstill)))]
    errors: list[Sample] = [({"thread": name}, n) for name, n in sorted(background.errors().items())]
    yield "noria_thread_errors_total", "counter", "Errors in the daemon's threads, which went on.", errors
    yield (
        "noria_threads_ended",
        "gauge",
        "Threads of the daemon that ended unexpectedly.",
        [({}, len(background.ended_threads()))],
    )


def _labels(labels: dict[str, str]) -> str:
    return ",".join(f'{name}="{_escape(value)}"' for name, value in labels.items())


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
