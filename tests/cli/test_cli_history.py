"""status, runs, releases, show, audit and doctor over a ledger that was written through the stores."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from noria import config
from noria.cli import execute
from noria.config import loading
from noria.data.snapshot import Delivery, FilePin
from noria.data.store import DataStore
from noria.delivery.rollout_record import Analysis, GuardStatus, Interval, Rollout, RolloutState
from noria.delivery.rollout_store import RolloutStore
from noria.kernel import names
from noria.kernel.pins import Pins
from noria.kernel.trigger import TriggerKind
from noria.kernel.verdict import Outcome, Reason
from noria.monitor.records import Alert, Window
from noria.monitor.store import AlertStore, QualityStore
from noria.pipeline.run import Run, StepRecord, StepState
from noria.pipeline.run_store import RunStore
from noria.pipeline.trigger_store import TriggerStore
from noria.pipeline.turn_record import TurnOutcome
from noria.pipeline.turn_store import TurnStore
from noria.releases.release import ServedForm
from noria.releases.store import ReleaseStore
from noria.serving.route import Route
from noria.serving.route_store import RouteStore
from noria.serving.tallies import Tally
from noria.storage.clock import ClockStore
from noria.storage.ledger import Ledger
from noria.views.runtime_status import StatusContext
from noria.views.status import read

PROJECT = "pumps"
COMMIT = "9f2c41d0" * 5
EVIDENCE: dict[str, Any] = {
    "evaluation": {
        "rows": 400,
        "positives": 101,
        "metrics": {"roc_auc": {"value": 0.8123, "low": 0.7801, "high": 0.8412, "n": 400}},
        "versus": {"roc_auc": {"champion": 0.8001, "difference": 0.0122, "low": -0.0031, "high": 0.0277, "n": 400}},
        "champion": "v1",
        "slices": {},
        "latency_p50_ms": 0.041,
        "latency_p99_ms": 0.093,
        "model_size_mb": 0.31,
        "holdout": "a fifth of the rows by their key: 400 rows",
        "champion_note": "",
    },
    "gate": {
        "outcome": "pass",
        "reasons": [{"code": "gate.threshold", "text": "roc_auc 0.812 >= 0.65", "outcome": "pass", "numbers": {"value": 0.812}}],
    },
    "parity": {"form": "compiled", "rows": 400, "largest_difference": 3e-7, "latency_p99_ms": 0.093},
    "params": {"train": {"seed": 0, "max_iter": 120}},
    "environment": {"python": "3.11.7", "platform": "linux", "packages": {"numpy": "2.1", "polars": "1.34"}},
    "training": {"split": {"kind": "hash", "sentence": "a fifth of the rows by their key: 400 rows"}},
    "data": {
        "readings": {
            "dataset": "readings",
            "digest": "d" * 64,
            "files": [{"name": "data/readings-01.csv", "digest": "e" * 64, "size_bytes": 9, "rows": 2000}],
        }
    },
}


@dataclass
class Told:
    """A home with one release in production, a canary, a quarantined file and an alert."""

    home: Path
    turn_id: str
    run_id: str
    delivery_id: str
    digests: list[str]


def pins() -> Pins:
    return Pins(COMMIT, None, {"readings": "d" * 64}, "1" * 64, "2" * 64, "3" * 64)


def write(home: Path) -> Told:
    with closing(Ledger.open(home / ".noria")) as ledger:
        ledger.projects.ensure(PROJECT, str(home))
        TriggerStore(ledger, PROJECT).add(TriggerKind.DATA, "data/readings-01.csv arrived")
        turn = TurnStore(ledger, PROJECT).start()
        assert turn is not None
        run_id, digests = names.new_id("run"), ["a" * 64, "b" * 64]
        step = StepRecord(
            "train", StepState.RAN, Reason("step.first", "it never ran before"), "k" * 64, "f" * 64, 1.25, 0.9, 210.0
        )
        RunStore(ledger, PROJECT).put(
            Run(
                run_id,
                PROJECT,
                turn.id,
                pins(),
                turn.started_at,
                turn.started_at + 3,
                "promoted",
                "all is well",
                (step,),
                {"roc_auc": 0.8123},
            )
        )
        TurnStore(ledger, PROJECT).update(
            turn.id,
            outcome=TurnOutcome.PROMOTED,
            reason="v1 serves all of production: first release",
            run_id=run_id,
            release="v1",
            overhead_s=0.612,
        )
        for digest, turn_id in zip(digests, (turn.id, None), strict=True):
            ReleaseStore(ledger, PROJECT).seal(
                digest, run_id, turn_id, ServedForm.COMPILED, COMMIT, {"roc_auc": 0.8123, "brier": 0.14}, digest
            )
        first = FilePin("data/readings-01.csv", "e" * 64, 9, 2000)
        DataStore(ledger, PROJECT).deliver(
            Delivery(
                names.new_id("delivery"),
                "readings",
                first.name,
                first.digest,
                2000,
                2000,
                0,
                True,
                "2,000 rows meet the contract",
                at=1000.0,
            ),
            first,
        )
        refused = Delivery(
            names.new_id("delivery"),
            "readings",
            "data/readings-02.csv",
            "9" * 64,
            1500,
            0,
            1500,
            False,
            "vibration_mm_s: 1,500 values lie above 60",
            1500,
            "8" * 64,
            2000.0,
        )
        DataStore(ledger, PROJECT).deliver(refused, None)
        (accepted,) = DataStore(ledger, PROJECT).deliveries(dataset="readings")[1:]
        for kind, one in (("data.accepted", accepted), ("data.quarantined", refused)):
            ledger.events.append(PROJECT, kind, one.id, f"{one.name}: {one.reason}", {"digest": one.digest})
        rollout = Rollout(
            "rollout-1", PROJECT, "production", None, "v2", digests[1], RolloutState.CANARY, 0, turn.started_at, None,
            "v2 takes 5 % of production, beside v1",
            (Interval(0.05, Tally(950, 0, 2), Tally(50, 1, 0), 2), Interval(0.05, Tally(1900, 1, 1), Tally(100, 0, 3), 2)),
            before="v1", plan=("5 % of traffic", "100 % of traffic"),
            look=Analysis(
                0.0, "errors: 1 of 2 events on the canary", (GuardStatus("errors", "1 of 2 events", 3.2, 200.0, 1e7, 20.0),)
            ),
        )  # fmt: skip
        RolloutStore(ledger, PROJECT).start(rollout)
        RouteStore(ledger, PROJECT).put(
            Route(PROJECT, "production", 0, digests[0], "v1", digests[1], "v2", 0.05, rollout_id="rollout-1")
        )
        RouteStore(ledger, PROJECT).put(Route("another", "production", 0, "c" * 64, "v7"))
        QualityStore(ledger, PROJECT).put(
            Window(PROJECT, "production", "v1", 0.0, 86_400.0, "brier", 900, 800, 0.171, 0.14, 0.0001)
        )
        AlertStore(ledger, PROJECT).add(Alert("alert-1", PROJECT, "quality", "v1", "brier 0.171 against 0.14", 86_400.0))
        for version, digest in zip(("v1", "v2"), digests, strict=True):
            ledger.events.append(PROJECT, "release.sealed", version, f"{version} sealed", {"digest": digest})
        promoted = {"environment": "production", "digest": digests[0]}
        ledger.events.append(PROJECT, "rollout.promoted", "v1", "v1 serves all of production", promoted)
        ledger.events.append("another", "turn.started", "x", "not ours")
        ledger.events.append(PROJECT, "rollout.started", "rollout-1", "v2 takes 5 % of production", {"share": 0.05})
    return Told(home, turn.id, run_id, refused.id, digests)


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Told:
    monkeypatch.delenv("NORIA_HOME", raising=False)
    (tmp_path / "noria.yaml").write_text(f"project: {PROJECT}\n")
    story = write(tmp_path)
    evidence = tmp_path / ".noria" / "releases" / story.digests[0] / "evidence"
    evidence.mkdir(parents=True)
    for name, facts in EVIDENCE.items():
        (evidence / f"{name}.json").write_text(json.dumps(facts))
    return story


@pytest.fixture
def say(told: Told, capsys: pytest.CaptureFixture[str]):
    def run(*arguments: str, code: int = 0) -> str:
        assert execute(["-C", str(told.home), *arguments]) == code
        captured = capsys.readouterr()
        return captured.out + captured.err

    return run


def test_the_view_reads_one_project_only(told: Told) -> None:
    with closing(Ledger.open(told.home / ".noria")) as ledger:
        view = read(ledger, PROJECT, StatusContext(environments=("staging", "production"), steps={"production": (0.05, 1.0)}))
    assert [e.name for e in view.environments] == ["staging", "production"]
    staging, production = view.environments
    assert staging.route is None
    assert production.route is not None
    assert production.route.champion_version == "v1"
    assert production.canary is not None
    assert (production.canary.candidate, production.canary.champion) == (Tally(150, 1, 3), Tally(2850, 1, 3))
    assert (production.canary.share, production.canary.steps) == (0.05, (0.05, 1.0))
    assert (view.quarantined_rows, view.waiting_triggers, view.clock.wall) == (1500, 0, True)
    assert all(e.project == PROJECT for e in view.events)
    assert [d.accepted for d in view.deliveries] == [False, True]


def test_the_clock_of_a_replay(told: Told) -> None:
    with closing(Ledger.open(told.home / ".noria")) as ledger:
        ClockStore(ledger, PROJECT).set(1_364_774_400.0, 3600.0)
        view = read(ledger, PROJECT, StatusContext())
    assert (view.clock.wall, view.clock.speed) == (False, 3600.0)
    assert 0 <= view.clock.at - 1_364_774_400.0 < 3600 * 60


def test_rollout(say) -> None:
    text = say("rollout")
    for needed in (
        "v2 in production: canary",
        "5 % beside v1; 150 requests, 1 error, 3 slow so far",
        "[5 % of traffic], 100 % of traffic",
        "3.2 of 200",
        ">1,000,000 of 20",
    ):
        assert needed in text
    document = json.loads(say("rollout", "--json"))
    assert document["rollout"]["look"]["guards"][0]["cleared"] is True
    assert document["rollout"]["look"]["guards"][0]["harmful"] is False
    assert document["ended"] == []
    assert "there was no rollout in staging" in say("rollout", "-e", "staging", code=2)


def test_status(say) -> None:
    text = say("status")
    for needed in (
        "production  v1",
        "v2 canary at 5 %: errors: 1 of 2 events on the canary",
        "promoted",
        "612 ms",
        "brier 0.171",
        "1,500 rows",
        "v1 serves all of production",
    ):
        assert needed in text
    document = json.loads(say("status", "--json"))
    assert document["environments"][0]["canary"]["candidate"] == {"requests": 150, "errors": 1, "slow": 3, "both": 0}
    assert document["turns"][0]["outcome"] == "promoted"
    assert document["quarantined_rows"] == 1500


def test_runs_and_releases(say, told: Told) -> None:
    assert told.run_id in say("runs")
    (turn,) = json.loads(say("runs", "--json"))["turns"]
    assert (turn["number"], turn["run_id"], turn["release"]) == (1, told.run_id, "v1")
    releases = json.loads(say("releases", "--json"))["releases"]
    assert [(r["version"], r["serves"]) for r in releases] == [("v2", []), ("v1", ["production"])]
    assert "serves production" in say("releases")
    assert len(json.loads(say("releases", "--json", "--limit", "1"))["releases"]) == 1


@pytest.mark.parametrize("ref", ["v1", "aaaaaaaa"])
def test_show_a_release(say, told: Told, ref: str) -> None:
    text = say("show", ref)
    for needed in (
        "v1", "a" * 64, "serves   production", COMMIT, "2,000 rows in 1 file",
        "data/readings-01.csv arrived", "0.8123", "0.7801 to 0.8412",
        "+0.0122 (-0.0031 to +0.0277)", "against v1", "roc_auc 0.812 >= 0.65", "it never ran before", "3e-07",
        "python 3.11.7", "2 packages",
        "seed=0", "800 of 900", "a fifth of the rows",
    ):  # fmt: skip
        assert needed in text, needed
    document = json.loads(say("show", ref, "--json"))
    assert document["missing"] == ["steps", "reference"]
    assert document["gate"] == EVIDENCE["gate"]
    assert document["run"]["steps"][0]["reason"]["text"] == "it never ran before"


def test_show_a_release_whose_bundle_is_gone(say) -> None:
    text = say("show", "v2")
    assert "Not in the bundle" in text
    assert "evaluation, gate, parity" in text
    assert "canary" in text
    assert json.loads(say("show", "v2", "--json"))["rollouts"][0]["totals"]["candidate"] == {
        "requests": 150,
        "errors": 1,
        "slow": 3,
        "both": 0,
    }


def test_show_a_torn_piece_of_evidence(say, told: Told) -> None:
    (told.home / ".noria" / "releases" / told.digests[0] / "evidence" / "gate.json").write_text('{"outcome": "pa')
    assert "gate" in json.loads(say("show", "v1", "--json"))["missing"]


def test_show_turn_run_and_delivery(say, told: Told) -> None:
    for ref in ("1", told.turn_id):
        text = say("show", ref)
        assert "612 ms" in text
        assert "it never ran before" in text
    assert "0.8123" in say("show", told.run_id)
    delivery = say("show", told.delivery_id)
    assert "1,500 in = 0 passed + 1,500 quarantined" in delivery
    assert "vibration_mm_s: 1,500 values lie above 60" in delivery


@pytest.mark.parametrize("ref", ["v9", "99", "run-nope", "turn-nope", "delivery-nope", "nonsense", "%", "abc"])
def test_show_what_is_not_there(say, ref: str) -> None:
    text = say("show", ref, code=2)
    assert "there is no" in text
    assert "Traceback" not in text


def test_audit(say, told: Told) -> None:
    events = json.loads(say("audit", "log", "--json"))["events"]
    delivered, sealed = ["data.accepted", "data.quarantined"], ["release.sealed", "release.sealed"]
    story = ["turn.started", *delivered, *sealed, "rollout.promoted", "rollout.started"]
    assert [e["kind"] for e in events] == story
    assert len(json.loads(say("audit", "log", "--json", "--limit", "1"))["events"]) == 1
    assert json.loads(say("audit", "verify", "--json"))["ok"] is True
    with closing(sqlite3.connect(told.home / ".noria" / "ledger.db")) as link:
        link.execute("UPDATE events SET text = 'nothing happened' WHERE seq = 2")
        link.commit()
    document = json.loads(say("audit", "verify", "--json", code=1))
    assert (document["ok"], document["first_bad_seq"]) == (False, 2)
    assert "FAIL  audit chain" in say("doctor", code=1)


def test_outcomes_that_are_not_good_have_words_too() -> None:
    from noria.console.page import tone

    tones = {outcome: tone(outcome) for outcome in TurnOutcome}
    assert tones[TurnOutcome.GATE_FAILED] == tones[TurnOutcome.ERROR] == "bad"
    assert set(tones.values()) == {"good", "busy", "quiet", "warn", "bad"}
    assert Outcome.PASS == "pass"


@pytest.mark.parametrize(
    ("arguments", "asked", "read"),
    [
        (["status"], 0, 0),
        (["audit", "log"], 0, 0),
        (["data", "log", "readings"], 0, 0),
        (["runs"], 0, 0),
        (["releases"], 1, 1),
        (["show", "v1"], 1, 1),
        (["rollout"], 0, 0),
        (["data", "quarantine"], 0, 0),
        (["predictions"], 1, 1),
        (["approve", "v2"], 2, 1),
        (["rollout", "hold"], 2, 1),
        (["rollback"], 2, 1),
        (["rollout", "abort"], 2, 1),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_how_often_a_command_reads_the_project(
    told: Told, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: list[str], asked: int, read: int
) -> None:
    """What only needs the ledger reads no project file; nothing reads one twice."""
    os.utime(told.home / "noria.yaml", (1.0, 1.0))
    loads, reads = [], []
    load, read_it = config.load, loading._read
    monkeypatch.setattr(config, "load", lambda *given, **more: (loads.append(1), load(*given, **more))[1])
    monkeypatch.setattr(loading, "_read", lambda *given: (reads.append(1), read_it(*given))[1])
    assert execute(["-C", str(told.home), *arguments]) == 0, capsys.readouterr()
    assert (len(loads), len(reads)) == (asked, read), capsys.readouterr()
