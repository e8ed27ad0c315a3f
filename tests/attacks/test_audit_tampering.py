"""What somebody does to the ledger is found: events that are gone or changed, and rows that no event bears out."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from noria import cli
from noria.data.snapshot import Delivery, FilePin
from noria.data.store import DataStore
from noria.delivery.approval_store import ApprovalStore
from noria.kernel.pins import Pins
from noria.kernel.trigger import TriggerKind
from noria.kernel.verdict import Outcome, Reason
from noria.pipeline.run import Run, StepRecord, StepState
from noria.pipeline.run_store import RunStore
from noria.pipeline.trigger_store import TriggerStore
from noria.pipeline.turn_record import TurnOutcome
from noria.pipeline.turn_store import TurnStore
from noria.releases import signing
from noria.releases.release import ServedForm
from noria.releases.store import ReleaseStore
from noria.serving.route import Route
from noria.serving.route_store import RouteStore
from noria.storage.heads import FILE
from noria.storage.ledger import Ledger
from noria.trust import audit

GOOD, OTHER = "a" * 64, "b" * 64


def opened(state: Path) -> Ledger:
    ledger = Ledger.open(state)
    ledger.head.keep(partial(signing.sign, state))
    return ledger


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A ledger with two releases, the second of which was rolled back, and an approval."""
    folder = tmp_path / ".noria"
    with closing(opened(folder)) as ledger:
        ledger.projects.ensure("p", str(tmp_path))
        for version, digest in (("v1", GOOD), ("v2", OTHER)):
            ReleaseStore(ledger, "p").seal(digest, f"run-{version}", None, ServedForm.COMPILED, "c", {}, digest)
            ledger.events.append("p", "release.sealed", version, f"{version} sealed", {"digest": digest})
            with ledger.transaction():
                RouteStore(ledger, "p").put(Route("p", "production", 0, digest, version))
                facts = {"environment": "production", "digest": digest}
                ledger.events.append("p", "rollout.promoted", version, f"{version} serves", facts)
        with ledger.transaction():
            RouteStore(ledger, "p").put(Route("p", "production", 0, GOOD, "v1"))
            text = "production rolled back from v2 to v1: it was bad"
            ReleaseStore(ledger, "p").bar("v2", text)
            ledger.events.append("p", "environment.rolled_back", "production", text, {"champion": GOOD})
        ApprovalStore(ledger, "p").add("v1", "production", "cli:anna")
        text = "cli:anna approves of v1 for production"
        ledger.events.append("p", "release.approved", "v1", text, {"environment": "production"}, actor="cli:anna")
    return folder


@pytest.fixture
def worked(state: Path) -> Path:
    """That ledger, with files that arrived, and a turn that failed its gate."""
    with closing(opened(state)) as ledger:
        deliver(ledger, "rows.csv", GOOD, True, {"digest": GOOD})
        deliver(ledger, "bad.csv", OTHER, False, {"digest": OTHER})
        deliver(ledger, "kept.bin", GOOD, True, {"files": 1})
        fail_gate(ledger)
    assert verified(state).ok
    return state


def deliver(ledger: Ledger, name: str, digest: str, accepted: bool, facts: dict[str, Any]) -> None:
    """As the check does: many files that nobody reads have one event of their dataset."""
    delivery = Delivery(f"delivery-{name}", "d", name, digest, 1, int(accepted), int(not accepted), accepted, "why", at=1.0)
    DataStore(ledger, "p").deliver(delivery, FilePin(name, digest, 1, 1) if accepted else None)
    subject = "d" if "files" in facts else delivery.id
    ledger.events.append("p", f"data.{'accepted' if accepted else 'quarantined'}", subject, f"{name} arrived", facts)


def fail_gate(ledger: Ledger) -> None:
    """As a turn does whose candidate was measured and refused."""
    TriggerStore(ledger, "p").add(TriggerKind.MANUAL, "by hand")
    turn = TurnStore(ledger, "p").start()
    assert turn is not None
    TurnStore(ledger, "p").update(turn.id, outcome=TurnOutcome.GATE_FAILED, reason="too bad", run_id="run-7")
    pins = Pins("c" * 40, None, {"d": GOOD}, "params", "config", "environment")
    step = StepRecord("train", StepState.RAN, Reason(Outcome.PASS, "new"), "key", "output", peak_rss_mb=float("nan"))
    metrics = {"auc": 0.51, "loss": float("inf"), "share": 0.1 + 0.2}
    RunStore(ledger, "p").put(Run("run-7", "p", turn.id, pins, 1.0, 2.0, "gate failed", steps=(step,), metrics=metrics))
    facts = {
        "outcome": "gate failed",
        "run": "run-7",
        "run_digest": audit.run_digest(RunStore(ledger, "p").get("run-7")),
    }
    ledger.events.append("p", "turn.ended", turn.id, "turn 1 gate failed: too bad", facts)


def verified(state: Path) -> audit.Audit:
    with closing(Ledger.open(state)) as ledger:
        return audit.verify(ledger, state)


def changed(state: Path, *statements: str) -> audit.Audit:
    with closing(sqlite3.connect(state / "ledger.db")) as database, database:
        for statement in statements:
            database.execute(statement)
    return verified(state)


def test_a_whole_log_is_verified_and_its_end_is_signed(state: Path) -> None:
    found = verified(state)
    assert found.ok
    assert (found.events, found.unsigned) == (6, 0)
    assert found.text == "6 events, the chain holds, and its end is the one that was signed"
    assert os.stat(state / FILE).st_size == 512


ATTACKS = {
    "the last event is gone": (["DELETE FROM events WHERE seq > 5"], "the last 1 of 6 events are gone: so many were signed"),
    "all events are gone": (["DELETE FROM events"], "all of 6 events are gone"),
    "an event is changed": (["UPDATE events SET text = 'v9' WHERE seq = 3"], "event 3 was changed"),
    "an event in the middle is gone": (["DELETE FROM events WHERE seq = 3"], "one before it is missing"),
    "another champion": ([f"UPDATE routes SET champion = '{OTHER}' WHERE revision = 3"], "by the events it is v1"),
    "a route more": (
        [f"INSERT INTO routes SELECT project, environment, 9, '{OTHER}', 'v2', candidate, candidate_version, share, previous, "
         "previous_version, rollout_id, slow_ms, deadline_ms, shadow, sticky FROM routes WHERE revision = 3"],
        "v2 is to serve production; by the events it is v1",
    ),
    "another bundle": (["UPDATE releases SET digest = 'cc' WHERE version = 'v1'"], "v1 is not the bundle that was sealed"),
    "a release more": (
        ["INSERT INTO releases SELECT project, 3, 'v3', 'dd', run_id, 't', form, created_at, \"commit\", metrics, NULL, "
         "pins_identity FROM releases WHERE version = 'v1'"],
        "v3 is in no event: nobody sealed it",
    ),
    "a release is gone": (["DELETE FROM releases WHERE version = 'v2'"], "v2 was sealed, but is no longer in the ledger"),
    "a bar is gone": (["UPDATE releases SET barred = NULL"], "v2 is not barred any more, and nobody lifted the bar"),
    "a bar that nobody set": (["UPDATE releases SET barred = 'x' WHERE version = 'v1'"], "v1 is barred, and no event says why"),
    "an approval more": (
        ["INSERT INTO approvals VALUES ('p', 'v2', 'production', 'cli:bert', 0)"],
        "an approval of v2 for production by cli:bert is in no event",
    ),
}  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_was_done_to_the_ledger_is_found(state: Path, attack: str) -> None:
    """Number 51: the chain held when its last events, or all, were gone, and with forged rows of state."""
    statements, words = ATTACKS[attack]
    found = changed(state, *statements)
    assert not found.ok
    assert any(words in problem for problem in found.problems), found.problems


FORGED = {
    "a refused file is accepted": (
        ["UPDATE deliveries SET accepted = 1 WHERE name = 'bad.csv'",
         f"INSERT INTO files SELECT project, dataset, 'bad.csv', '{OTHER}', 1, 1, NULL, NULL FROM files WHERE name = 'rows.csv'"],
        "bad.csv was quarantined; the ledger says otherwise",
    ),
    "a refused file is released": (
        ["INSERT INTO quarantine_decisions VALUES ('p', 'delivery-bad.csv', 'released', 'cli:eve', 'so', 1.0, '')"],
        "that cli:eve released delivery-bad.csv is in no event",
    ),
    "another content in a file's place": (
        [f"UPDATE files SET digest = '{OTHER}' WHERE name = 'rows.csv'"],
        "rows.csv counts as accepted into d, and never arrived with this content",
    ),
    "another content, all over": (
        [f"UPDATE {table} SET digest = '{OTHER}' WHERE name = 'rows.csv'" for table in ("files", "deliveries")],
        "rows.csv has not the content that was judged: bbbbbbbbbbbb, not aaaaaaaaaaaa",
    ),
    "a file more": (
        [text for table in ("deliveries", "files") for text in (
            f"CREATE TEMP TABLE new_{table} AS SELECT * FROM {table} WHERE name = 'kept.bin'",
            f"UPDATE new_{table} SET name = 'x'" + (", id = 'delivery-x'" if table == "deliveries" else ""),
            f"INSERT INTO {table} SELECT * FROM new_{table}",
        )],
        "d has 1 judged file more than its events say",
    ),
    "a turn that passed": (["UPDATE turns SET outcome = 'promoted'"], "turn 1 is promoted; by the events it is gate failed"),
    "a turn that never ended": (["UPDATE turns SET outcome = 'running'"], "turn 1 is running; by the events it is gate failed"),
    "a turn more": (
        ["INSERT INTO turns (id, project, number, triggers, trigger, started_at, stage, outcome, reason, user_s) "
         "SELECT 'turn-x', project, 2, triggers, trigger, started_at, stage, outcome, reason, user_s FROM turns"],
        "turn 2 is in no event: nobody started it",
    ),
    "a turn is gone": (["DELETE FROM turns"], "started, but is no longer in the ledger"),
    "a better metric": (
        ["UPDATE runs SET metrics = replace(metrics, '0.51', '0.91')"],
        "run run-7 is not the one that was recorded at the end of its turn",
    ),
    "another commit": (
        ["UPDATE runs SET pins = replace(pins, 'ccccc', 'ddddd')"],
        "run run-7 is not the one that was recorded at the end of its turn",
    ),
    "a run is gone": (["DELETE FROM runs"], "run run-7 was recorded, but is no longer in the ledger"),
}  # fmt: skip


@pytest.mark.parametrize("attack", FORGED)
def test_forged_rows_of_files_turns_and_runs_are_found(worked: Path, attack: str) -> None:
    """Number 51: what arrived, how a turn ended, and what its run measured are checked against the events, too."""
    statements, words = FORGED[attack]
    assert any(words in problem for problem in changed(worked, *statements).problems), verified(worked).problems


def test_the_evidence_is_not_overwritten_by_what_comes_after(state: Path) -> None:
    """Number 51: who goes on after a truncation must not sign it."""
    before = (state / FILE).read_bytes()
    changed(state, "DELETE FROM events WHERE seq > 4")
    with closing(opened(state)) as ledger:
        for number in range(4):
            ledger.events.append("p", "run.noted", f"run-{number}", "a note")
    assert (state / FILE).read_bytes() == before
    assert verified(state).problems[0] == "event 6 is another one than was signed"


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda head: head.unlink(), "was taken away"),
        (lambda head: head.write_bytes(b""), "was taken away"),
        (lambda head: head.write_bytes(b"x" * 512), "is damaged"),
        (lambda head: head.write_bytes(head.read_bytes().replace(b'"seq":6', b'"seq":5')), "signature"),
    ],
)
def test_a_head_that_was_touched_is_told_and_not_made_again(state: Path, damage: Callable[[Path], object], words: str) -> None:
    """Number 51: else whoever cuts the log would take its head away, too."""
    damage(state / FILE)
    with closing(opened(state)) as ledger:
        ledger.events.append("p", "run.noted", "run-1", "a note")
    (problem,) = verified(state).problems
    assert words in problem


def test_a_head_of_a_stranger_s_key_is_none(state: Path, tmp_path: Path) -> None:
    """Number 51: a cut log with a head that was signed anew, with another key."""
    changed(state, "DELETE FROM events WHERE seq > 4", "UPDATE releases SET barred = NULL", "DELETE FROM approvals")
    signing.public_key(tmp_path / "stranger")
    with closing(Ledger.open(state)) as ledger:
        ledger.head.accept(partial(signing.sign, tmp_path / "stranger"))
    assert "the signature of the chain's head does not verify" in verified(state).problems


def test_a_ledger_of_before_is_signed_at_its_next_event(tmp_path: Path) -> None:
    with closing(Ledger.open(tmp_path)) as ledger:
        ledger.events.append("p", "run.noted", "run-1", "a note")
    found = verified(tmp_path)
    assert found.ok
    assert "its end is not signed yet" in found.text
    with closing(opened(tmp_path)) as ledger, ledger.transaction():
        ledger.events.append("p", "run.noted", "run-2", "a note")
        ledger.events.append("p", "run.noted", "run-3", "a note")
    assert (verified(tmp_path).ok, verified(tmp_path).unsigned) == (True, 0)


def test_an_event_that_was_undone_is_not_signed(state: Path) -> None:
    with closing(opened(state)) as ledger:
        with suppress(KeyError), ledger.transaction():
            ledger.events.append("p", "run.noted", "run-2", "a note")
            raise KeyError
        ApprovalStore(ledger, "p").add("v1", "production", "cli:anna")
    assert verified(state).ok


def test_a_read_only_medium_is_verified_as_it_lies(state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Number 51: an audit of a mounted backup, of a ledger that was not closed."""
    with closing(opened(state)) as ledger:
        ledger.events.append("p", "run.noted", "run-2", "a note")
        shutil.copytree(state, tmp_path / "mounted")
    assert (tmp_path / "mounted/ledger.db-wal").stat().st_size > 0
    asked = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: "mounted" not in str(path) and asked(path, mode))

    def seen() -> dict[str, int]:  # the journal's index holds locks of readers too, where the system lets them
        return {path.name: path.stat().st_mtime_ns for path in (tmp_path / "mounted").iterdir() if path.suffix != ".db-shm"}

    before = seen()
    found = verified(tmp_path / "mounted")
    assert (found.ok, found.events) == (True, 7)
    assert seen() == before


def test_the_commands_tell_it_and_a_person_may_accept_it(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Number 51: what a person sees, and the way on when there is no backup."""
    (tmp_path / "noria.yaml").write_text("project: p\n")
    monkeypatch.chdir(tmp_path)

    def noria(*arguments: str, code: int = 0) -> Any:
        assert cli.execute([*arguments, "--json"]) == code, capsys.readouterr().out
        return json.loads(capsys.readouterr().out)

    assert noria("audit", "verify")["ok"]
    assert noria("audit", "accept", code=1)["error"]["message"] == "nothing is wrong with the log"
    changed(state, "DELETE FROM events WHERE seq = 6", "DELETE FROM approvals")
    said = noria("audit", "verify", code=1)
    assert said["problems"] == ["the last 1 of 6 events are gone: so many were signed"]
    checks = {check["name"]: check for check in noria("doctor", code=1)["checks"]}
    assert checks["audit chain"]["text"] == said["text"]
    noria("audit", "accept")
    assert noria("audit", "verify")["events"] == 6
    assert "the last 1 of 6 events are gone" in noria("audit", "log", "--limit", "1")["events"][0]["text"]
    (state / "ledger.db").unlink()
    assert noria("audit", "verify", code=4)["error"]["message"] == "the ledger is missing, and its events were signed"


def test_work_that_goes_on_meanwhile_is_no_forgery(worked: Path) -> None:
    """Number 51: rows and events that come while they are compared are compared as of one moment."""
    enough, begun = threading.Event(), threading.Event()

    def work() -> None:
        with closing(opened(worked)) as other:
            while not enough.is_set():
                TriggerStore(other, "p").add(TriggerKind.MANUAL, "by hand")
                assert TurnStore(other, "p").start() is not None
                begun.set()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert begun.wait(60)
        with closing(Ledger.open(worked)) as ledger:
            assert [audit.verify(ledger, worked).text for _ in range(20) if not audit.verify(ledger, worked).ok] == []
    finally:
        enough.set()
        thread.join()
