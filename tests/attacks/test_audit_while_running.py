"""An audit log that is changed while the daemon works: it decides nothing any more, and says so."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from noria import cli
from noria.daemon import Daemon
from noria.delivery.context import DeliveryContext
from noria.kernel.errors import StoppedError, StoreError
from noria.releases import signing
from noria.storage.lease import HeldJob
from noria.storage.ledger import Ledger
from noria.trust import audit
from noria.trust.audit import ChainWatch
from noria.views.runtime_status import identity


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with closing(Ledger.open(tmp_path / ".noria")) as made:
        made.head.keep(partial(signing.sign, tmp_path / ".noria"))
        made.projects.ensure("p", str(tmp_path))
        for number in range(600):
            made.events.append("p", "run.noted", f"run-{number}", "a note")
        yield made


def change(state: Path, statement: str) -> None:
    with closing(sqlite3.connect(state / "ledger.db")) as database, database:
        database.execute(statement)


def begun(ledger: Ledger) -> ChainWatch:
    guard = ChainWatch(ledger, ledger.database.path.parent)
    assert guard.begin() == ""
    return guard


def test_a_look_reads_what_is_new_and_a_few_of_the_old(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Number 34: the chain is watched at the cost of what is new, not of all that ever was."""
    guard = begun(ledger)
    ledger.events.append("p", "run.noted", "run-new", "a note")
    read: list[int] = []
    asked = ledger.database.rows

    def rows(sql: str, values: Any = ()) -> list[sqlite3.Row]:
        found = asked(sql, values)
        read.append(len(found))
        return found

    monkeypatch.setattr(ledger.database, "rows", rows)
    assert guard.look() == ""
    assert sum(read) <= audit.AGAIN + 3


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("UPDATE events SET text = 'all was well' WHERE seq = 601", "event 601 was changed"),
        ("UPDATE events SET text = 'all was well' WHERE seq = 600", "event 600 was changed"),
        ("UPDATE events SET text = 'all was well' WHERE seq = 3", "event 3 was changed"),
        ("DELETE FROM events WHERE seq >= 599", "event 600 is missing"),
        ("DELETE FROM events", "event 600 is missing"),
    ],
)
def test_a_change_of_new_and_of_old_events_is_noticed(ledger: Ledger, statement: str, words: str) -> None:
    """Number 34: the newest at once, an older one within a few looks."""
    guard = begun(ledger)
    ledger.events.append("p", "run.noted", "run-new", "a note")
    change(ledger.database.path.parent, statement)
    looks = [guard.look() for _ in range(4)]
    assert any(words in text for text in looks), looks


def test_a_head_that_is_taken_away_is_noticed(ledger: Ledger) -> None:
    """Number 34: the signed head is looked at each time."""
    guard, state = begun(ledger), ledger.database.path.parent
    (state / "audit.head").unlink()
    assert "was taken away" in guard.look()


def test_a_log_that_others_write_to_meanwhile_is_whole(ledger: Ledger) -> None:
    """Number 34: a daemon must not stand still because a command appends at the same time."""
    guard, state = begun(ledger), ledger.database.path.parent
    other, stop = Ledger.open(state), threading.Event()
    other.head.keep(partial(signing.sign, state))

    def write() -> None:
        while not stop.is_set():
            other.events.append("p", "run.noted", "run-other", "a note")

    thread = threading.Thread(target=write)
    thread.start()
    try:
        assert [guard.look() for _ in range(60)] == [""] * 60
        assert all(audit.verify(ledger, state).ok for _ in range(3))
    finally:
        stop.set()
        thread.join()
        other.close()


def daemon_on(ledger: Ledger) -> Daemon:
    state = ledger.database.path.parent
    events: list[tuple[str, str, str]] = []
    facts = SimpleNamespace(name="p", state=state, ledger=ledger, events=events)
    facts.event = lambda kind, subject, text: events.append((kind, subject, text))
    daemon = Daemon.__new__(Daemon)
    daemon.context, daemon.stopping, daemon.standstill = cast(Any, facts), threading.Event(), ""
    daemon.addresses, daemon._chain_watch = {"console": "http://127.0.0.1:1"}, ChainWatch(ledger, state)
    return daemon


WHAT_MOVES_ON = SimpleNamespace(while_broken=False, starts_turn=False, perform=lambda context, actor, values: {"done": True})
WHAT_BRINGS_BACK = SimpleNamespace(while_broken=True, starts_turn=False, perform=lambda context, actor, values: {"done": True})


def test_over_a_broken_chain_nothing_is_decided_and_everybody_is_told(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Number 34: the daemon refuses to go on over a broken audit chain and says so: status, doctor, events."""
    daemon, state = daemon_on(ledger), tmp_path / ".noria"
    daemon._demand_chain()
    turned: list[int] = []
    step = daemon._unless_broken(lambda: float(turned.append(1) or 0.0))
    daemon._check_chain()
    step()
    assert daemon.act(cast(Any, WHAT_MOVES_ON), {}, "api") == {"done": True}
    change(state, "UPDATE events SET text = 'all was well' WHERE seq = 3")
    for _ in range(5):  # by then it has come to the old events again
        daemon._check_chain()
    step()
    assert turned == [1], "no turn starts, no rollout goes on"
    assert "event 3 was changed" in daemon.standstill
    assert [kind for kind, *_ in daemon.context.events] == ["audit.broken"]  # type: ignore[attr-defined]  # of the stand-in
    with pytest.raises(StoreError, match="event 3 was changed"):
        daemon.act(cast(Any, WHAT_MOVES_ON), {}, "api")
    assert daemon.act(cast(Any, WHAT_BRINGS_BACK), {}, "api") == {"done": True}
    with pytest.raises(StoreError, match="event 3 was changed"):
        daemon._demand_chain()
    facts = json.loads((state / "daemon.json").read_text())
    assert (facts["pid"], facts["folder"]) == (os.getpid(), identity(state))

    (tmp_path / "noria.yaml").write_text("project: p\n")
    monkeypatch.chdir(tmp_path)
    assert cli.execute(["status", "--json"]) == 0
    assert "event 3 was changed" in json.loads(capsys.readouterr().out)["standstill"]
    assert cli.execute(["status"]) == 0
    assert "daemon   halted: the audit log was changed: event 3" in capsys.readouterr().out
    cli.execute(["doctor", "--json"])
    checks = {check["name"]: check for check in json.loads(capsys.readouterr().out)["checks"]}
    assert checks["daemon"]["state"] == checks["audit chain"]["state"] == "fail"
    assert "is halted" in checks["daemon"]["text"]


def test_what_is_in_hand_stops_before_its_next_change_of_state(ledger: Ledger) -> None:
    """Number 34: a turn or a rollout that was begun does not end in a promotion."""
    daemon = daemon_on(ledger)
    none = cast(Any, None)
    line = DeliveryContext(*[none] * 6, executor=none, places=none, server=none, driver=none, check_lease=daemon._stop_if_halted)
    with HeldJob.claim(ledger, "p", "turn", "p") as held:  # type: ignore[union-attr]  # nobody else has it
        held.over(line).check_lease()
        daemon.standstill = "the audit log was changed: event 3"
        with pytest.raises(StoppedError, match="event 3"):
            held.over(line).check_lease()
        held.finish("")


def test_state_that_a_person_accepted_lets_the_daemon_start(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Number 34: a way on, where a row is not what the events say and nobody has a backup."""
    daemon, state = daemon_on(ledger), tmp_path / ".noria"
    change(state, "INSERT INTO approvals VALUES ('p', 'v2', 'production', 'cli:bert', 0)")
    with pytest.raises(StoreError, match="an approval of v2"):
        daemon._demand_chain()
    (tmp_path / "noria.yaml").write_text("project: p\n")
    monkeypatch.chdir(tmp_path)
    assert cli.execute(["audit", "accept"]) == 0
    assert "an approval of v2" in capsys.readouterr().out
    daemon._demand_chain()
