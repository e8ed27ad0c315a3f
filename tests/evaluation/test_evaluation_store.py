"""A turn that measured a candidate keeps its evaluation and its gates as a typed record, released or not."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from noria.evaluation.records import Assessment
from noria.evaluation.store import EvaluationStore, read_evaluation
from noria.kernel.errors import StoreError
from noria.kernel.verdict import GateVerdict, Outcome, Reason
from noria.pipeline.turn_store import TurnStore
from noria.releases.evidence import Evaluation
from noria.stats.curve_records import EvaluationCurves, Points, RankCurves, ReleaseCurves
from noria.stats.measures import Comparison, Measure
from noria.storage.connection import migrations, split
from noria.storage.ledger import Ledger
from noria.views.totals import TotalStore

EVALUATION = Evaluation(
    rows=400,
    positives=101,
    metrics={"roc_auc": Measure(0.61, 0.55, 0.67, 400, 101), "brier": Measure(math.nan, math.nan, math.nan, 0)},
    versus={"roc_auc": Comparison(0.8, -0.19, -0.25, -0.13, 400, differing=7)},
    champion="v3",
    slices={"origin": {"JFK": {"roc_auc": Measure(0.5, 0.4, 0.6, 100)}}},
    latency_rounds_ms=(1.5, 2.5),
    holdout="a fifth of the rows",
    champion_note="",
    remarks=("hour predicts the label alone",),
)
FAILED = Assessment(
    turn_id="turn-1",
    project="p",
    run_id="run-1",
    environment="production",
    evaluation=EVALUATION,
    outcome=Outcome.FAIL,
    reasons=(Reason("gate.threshold", "roc_auc 0.610 < 0.65", Outcome.FAIL, {"value": 0.61}),),
    gates=(GateVerdict("roc_auc >= 0.65", "roc_auc", "fail", 0.61, "roc_auc 0.610 < 0.65"),),
    at=1000.0,
)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with closing(Ledger.open(tmp_path / "state")) as found:
        yield found


def same(a: Assessment | None, b: Assessment) -> bool:
    """Equal, where NaN is NaN."""
    if a is None:
        return False
    plain = Evaluation(rows=0, positives=0, metrics={})
    return a.facts() == b.facts() and replace(a, evaluation=plain) == replace(b, evaluation=plain)


def test_it_comes_back_as_it_was_kept(ledger: Ledger) -> None:
    store = EvaluationStore(ledger, "p")
    assert same(store.put(FAILED), FAILED)
    assert same(store.of_turn("turn-1"), FAILED)
    assert same(store.of_run("run-1"), FAILED)
    assert list(store.of_turns(["turn-1", "turn-2"])) == ["turn-1"]
    assert store.of_turns([]) == {}
    assert store.of_turn("turn-2") is EvaluationStore(ledger, "q").of_run("run-1") is None


def test_curves_stand_beside_it(ledger: Ledger) -> None:
    store = EvaluationStore(ledger, "p")
    line = Points((0.0, 1.0), (0.0, 1.0))
    ranked = (RankCurves("1", 101, line, line, line, (0.1, 0.9)),)
    curves = EvaluationCurves("binary", "late", 400, ReleaseCurves(ranks=ranked), positives=0.25)
    store.put(FAILED, curves)
    store.put(FAILED, replace(curves, rows=1))  # the turn runs again: the first stand
    assert store.curves("turn-1") == curves
    assert store.curves("turn-2") is None
    ledger.database.execute("UPDATE evaluation_curves SET curves = '{'")
    with pytest.raises(StoreError, match="a row of evaluation_curves cannot be read"):
        store.curves("turn-1")


def test_the_first_of_a_turn_stands_and_the_newest_of_a_project_is_told(ledger: Ledger) -> None:
    store = EvaluationStore(ledger, "p")
    store.put(FAILED)
    assert same(store.put(replace(FAILED, outcome=Outcome.PASS)), FAILED)
    later = store.put(replace(FAILED, turn_id="turn-2", run_id="run-2", at=2000.0))
    store.put(replace(FAILED, turn_id="turn-3", project="q", at=3000.0))
    assert same(store.newest(), later)
    assert TotalStore(ledger, "p").read().gates == FAILED.gates
    assert TotalStore(ledger, "p").read().gates_of == "production"


def test_documents_hold_null_where_nothing_could_be_measured() -> None:
    facts = FAILED.facts()
    unknown = dict.fromkeys(("value", "low", "high", "positives", "groups", "unit", "widened", "freedom"))
    assert facts["evaluation"]["metrics"]["brier"] == unknown | {"n": 0, "counts": "row"}
    assert (facts["gate"]["outcome"], facts["gate"]["gates"][0]["gate"]) == ("fail", "roc_auc >= 0.65")
    assert replace(FAILED, outcome=None).facts()["gate"] is None
    json.dumps(facts, allow_nan=False)


def test_what_an_older_ledger_holds_is_still_read(tmp_path: Path) -> None:
    """Until schema 9 they stood as JSON among what a turn fixed for itself, and what is damaged keeps nothing from opening."""
    state = tmp_path / "state"
    state.mkdir()
    due = FAILED.facts()
    records = [
        ("turn-1", "pin", '{"run_id": "run-1"}'),
        ("turn-1", "evaluate", json.dumps(due["evaluation"])),
        ("turn-1", "gate", json.dumps(due["gate"])),
        ("turn-2", "evaluate", json.dumps(due["evaluation"])),
        ("turn-2", "gate", '{"outcome": '),
        ("turn-3", "evaluate", "{"),
    ]
    with closing(sqlite3.connect(state / "ledger.db")) as old:
        for script in migrations()[:9]:
            for statement in split(script):
                old.execute(statement)
        old.execute("PRAGMA user_version = 9")
        old.executemany("INSERT INTO turn_records (turn_id, stage, facts, project) VALUES (?, ?, ?, 'p')", records)
        old.commit()
    with closing(Ledger.open(state)) as ledger:
        store = EvaluationStore(ledger, "p")
        assert same(store.of_turn("turn-1"), replace(FAILED, at=0.0))
        assert same(store.of_turn("turn-2"), Assessment("turn-2", "p", "", "", EVALUATION))
        assert store.of_turn("turn-3") is None
        assert TurnStore(ledger, "p").recorded("turn-1", "pin") == {"run_id": "run-1"}
        assert TurnStore(ledger, "p").recorded("turn-1", "evaluate") is None


def test_groups_are_stored_and_what_was_stored_without_them_is_read() -> None:
    grouped = Measure(0.7, 0.6, 0.8, 700, 90, groups=7, unit="day", widened=2.1, freedom=6.0)
    beside = Comparison(0.7, 0.0, -0.1, 0.1, 700, groups=7, unit="day", widened=2.1, freedom=6.0)
    kept = replace(EVALUATION, metrics={"roc_auc": grouped}, versus={"roc_auc": beside})
    facts = json.loads(msgspec.json.encode(kept))
    found = read_evaluation(facts)
    assert (found.metrics, found.versus) == (kept.metrics, kept.versus)
    for name in ("groups", "unit", "widened", "freedom"):
        del facts["metrics"]["roc_auc"][name], facts["versus"]["roc_auc"][name]
    old = read_evaluation(facts)
    assert old.metrics["roc_auc"] == Measure(0.7, 0.6, 0.8, 700, 90)
    assert old.versus["roc_auc"] == Comparison(0.7, 0.0, -0.1, 0.1, 700)
