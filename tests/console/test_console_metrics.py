"""The daemon's numbers, as a monitoring system reads them."""

from __future__ import annotations

import re
from pathlib import Path

from console_story import view
from msgspec.structs import replace

from noria.console import metrics
from noria.pipeline.turn_record import TurnOutcome
from noria.storage.ledger import Ledger
from noria.views.totals import Totals, TotalStore

LINE = re.compile(r'^(noria_[a-z_]+)\{((?:[a-z_]+="(?:[^"\\\n]|\\["\\n])*",?)+)\} (-?[0-9.e+-]+)$')
FOUND = Totals(
    turns={str(TurnOutcome.PROMOTED): 4, str(TurnOutcome.GATE_FAILED): 2, str(TurnOutcome.NOT_ENOUGH_DATA): 1},
    alerts={"drift": 3},
    events={"daemon.trouble": 5, "release.sealed": 9},
    rollouts={"promoted": 4},
    deliveries={"accepted": 7, "quarantined": 1},
    releases={"sealed": 4, "barred": 1},
    user_s=12.5,
)


def test_turns_gates_quality_drift_and_incidents_are_exported() -> None:
    """Number 16: the daemon exports turns, gates, quality, drift, incidents at the console's `/metrics`."""
    seen = view()
    lines = metrics.render(seen, FOUND).splitlines()
    samples = [line for line in lines if not line.startswith("#")]
    assert [line for line in samples if not LINE.match(line)] == []
    assert all(f'project="{seen.project}"' in line for line in samples)
    named = f'project="{seen.project}"'
    for line in (
        f'noria_turns_total{{{named},outcome="gate failed"}} 2',
        f'noria_gates_total{{{named},verdict="pass"}} 4',
        f'noria_gates_total{{{named},verdict="fail"}} 2',
        f'noria_gates_total{{{named},verdict="not enough data"}} 1',
        f'noria_alerts_total{{{named},kind="drift"}} 3',
        f'noria_alerts_total{{{named},kind="quality"}} 0',
        f'noria_incidents_total{{{named},kind="daemon.trouble"}} 5',
        f'noria_deliveries_total{{{named},verdict="quarantined"}} 1',
    ):
        assert line in samples
    families = {line.split()[2] for line in lines if line.startswith("# TYPE")}
    assert {"noria_quality", "noria_drift_score", "noria_release_serves", "noria_thread_errors_total"} <= families
    newest = max((w for w in seen.windows), key=lambda w: w.end)
    assert any(line.startswith("noria_quality{") and line.endswith(f" {newest.value:.10g}") for line in samples)


def test_labels_of_any_text_are_one_line() -> None:
    odd = replace(view(), project='a"b\\c\nd')
    for line in metrics.render(odd, Totals()).splitlines():
        assert line.startswith("#") or LINE.match(line), line


def test_the_ledger_counts_what_there_is(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path)
    ledger.projects.ensure("p", str(tmp_path))
    assert TotalStore(ledger, "p").read() == Totals(events=TotalStore(ledger, "p").read().events)
    ledger.close()
